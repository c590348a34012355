// Writes a ustar archive in memory, enough for a test image. It reads no archive and knows no long names.

const BLOCK = 512

const octal = (value, width) => value.toString(8).padStart(width - 1, '0') + '\0'

function header({ name, type, mode, uid = 0, gid = 0, size = 0, link = '' }) {
  if (Buffer.byteLength(name) > 100 || Buffer.byteLength(link) > 100) throw new Error(`too long for ustar: ${name}`)
  const block = Buffer.alloc(BLOCK)
  block.write(name, 0)
  block.write(octal(mode, 8), 100)
  block.write(octal(uid, 8), 108)
  block.write(octal(gid, 8), 116)
  block.write(octal(size, 12), 124)
  block.write(octal(1_700_000_000, 12), 136)
  block.fill(' ', 148, 156)
  block.write(type, 156)
  block.write(link, 157)
  block.write('ustar\0' + '00', 257, 'latin1')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(sum.toString(8).padStart(6, '0') + '\0 ', 148)
  return block
}

/** An archive under construction. Names are relative, without a leading slash. */
export class Tar {
  #parts = []

  dir(name, { mode = 0o755, uid = 0, gid = 0 } = {}) {
    this.#parts.push(header({ name: `${name}/`, type: '5', mode, uid, gid }))
    return this
  }

  file(name, data, { mode = 0o644, uid = 0, gid = 0 } = {}) {
    const bytes = Buffer.from(data)
    const rest = (BLOCK - (bytes.length % BLOCK)) % BLOCK
    this.#parts.push(header({ name, type: '0', mode, uid, gid, size: bytes.length }), bytes, Buffer.alloc(rest))
    return this
  }

  link(name, target) {
    this.#parts.push(header({ name, type: '2', mode: 0o777, link: target }))
    return this
  }

  bytes() {
    return Buffer.concat([...this.#parts, Buffer.alloc(2 * BLOCK)])
  }
}
