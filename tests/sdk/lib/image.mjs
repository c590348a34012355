// Makes the test images: busybox with a few users, as an OCI image layout, imported by start-container itself.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { gzipSync } from 'node:zlib'
import { program } from './need.mjs'
import { Tar } from './tar.mjs'

/** The image without any settings of its own, and the one with a user, a working directory, variables and a command. */
export const PLAIN = 'busybox'
export const SERVICE = 'service'

const PASSWD = `root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
`
const GROUP = `root:x:0:
nogroup:x:65534:
app:x:1000:
extra:x:2000:app
`
const PATH_IN_IMAGE = '/usr/local/bin:/usr/bin:/bin'

/** Whether the ELF file asks for a dynamic loader (PT_INTERP), which the image would not have. */
function dynamic(file) {
  const elf = fs.readFileSync(file)
  if (elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2) throw new Error(`${file} is not a 64-bit ELF program`)
  const table = Number(elf.readBigUInt64LE(32))
  const size = elf.readUInt16LE(54)
  const count = elf.readUInt16LE(56)
  for (let i = 0; i < count; i += 1) if (elf.readUInt32LE(table + i * size) === 3) return true
  return false
}

function busybox() {
  const file = program('busybox')
  if (!file) throw new Error('busybox is not installed; apt-get install busybox-static')
  if (dynamic(file)) throw new Error(`${file} is not static; apt-get install busybox-static`)
  return fs.realpathSync(file)
}

function layer() {
  const tar = new Tar()
  for (const dir of ['bin', 'dev', 'etc', 'proc', 'sys', 'run', 'srv', 'usr', 'usr/bin', 'var', 'home']) tar.dir(dir)
  tar.dir('root', { mode: 0o700 })
  tar.dir('tmp', { mode: 0o1777 })
  tar.dir('home/app', { uid: 1000, gid: 1000 })
  tar.dir('srv/app', { uid: 1000, gid: 1000 })
  tar.file('etc/passwd', PASSWD).file('etc/group', GROUP)
  const file = busybox()
  tar.file('bin/busybox', fs.readFileSync(file), { mode: 0o755 })
  const applets = execFileSync(file, ['--list'], { encoding: 'utf8' }).trim().split('\n')
  for (const applet of applets) if (applet !== 'busybox') tar.link(`bin/${applet}`, 'busybox')
  return tar.bytes()
}

const sha256 = bytes => createHash('sha256').update(bytes).digest('hex')

/** Writes an OCI image layout with one layer and the given `config` (the `config` object of an image configuration). */
function layout(dir, tar, config) {
  const blobs = path.join(dir, 'blobs/sha256')
  fs.mkdirSync(blobs, { recursive: true })
  const blob = (mediaType, bytes) => {
    const hex = sha256(bytes)
    fs.writeFileSync(path.join(blobs, hex), bytes)
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length }
  }
  const json = (mediaType, value) => blob(mediaType, Buffer.from(JSON.stringify(value)))
  const compressed = blob('application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(tar, { level: 1 }))
  const configuration = json('application/vnd.oci.image.config.v1+json', {
    architecture: { x64: 'amd64', arm64: 'arm64', riscv64: 'riscv64' }[process.arch],
    os: 'linux',
    config,
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(tar)}`] },
  })
  const manifest = json('application/vnd.oci.image.manifest.v1+json', {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: configuration,
    layers: [compressed],
  })
  fs.writeFileSync(path.join(dir, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  fs.writeFileSync(path.join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }))
}

/** Imports both images into the default base directory; `scratch` takes the layouts and is the caller's to remove. */
export function importImages(scratch) {
  const tar = layer()
  const images = {
    [PLAIN]: { Env: [`PATH=${PATH_IN_IMAGE}`] },
    [SERVICE]: {
      User: 'app',
      WorkingDir: '/srv/app',
      Env: [`PATH=${PATH_IN_IMAGE}`, 'GREETING=good day = guten Tag'],
      Entrypoint: ['/bin/sh', '-c'],
      Cmd: ['exec sleep 3600'],
    },
  }
  for (const [id, config] of Object.entries(images)) {
    const dir = path.join(scratch, `layout-${id}`)
    layout(dir, tar, config)
    execFileSync('start-container', ['image', 'import', dir, '--id', id], { stdio: ['ignore', 'inherit', 'inherit'] })
  }
}
