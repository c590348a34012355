// What a command reads and writes, byte for byte, through sockets, pipes and files.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import test, { after, before } from 'node:test'
import { SubContainer, newEffects } from './lib/client.mjs'
import { inputPipe, outputPipe, scratch } from './lib/fifo.mjs'
import { gone, marked, marker } from './lib/host.mjs'
import { PLAIN } from './lib/image.mjs'
import { loaded, pool } from './lib/load.mjs'
import { killMarked, sh } from './lib/scripts.mjs'
import { finished, gather, until, within } from './lib/wait.mjs'

let sub

before(async () => {
  sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'stdio')
})

after(async () => {
  await sub?.destroy()
})

/** `size` bytes of text without a period that a lost or repeated chunk could hide in. */
const text = size =>
  randomBytes(Math.ceil((size * 3) / 4))
    .toString('base64')
    .slice(0, size)

/** Compares without printing megabytes of difference. */
function same(actual, expected) {
  const [a, b] = [Buffer.from(actual), Buffer.from(expected)]
  assert.equal(a.length, b.length, 'length')
  assert.ok(a.equals(b), 'the bytes differ')
}

test('/dev/stdout and /dev/stderr can be opened by root and by another user', async () => {
  for (const user of ['root', 'app']) {
    const result = await sub.execFail(sh('echo out > /dev/stdout; echo err > /dev/stderr; echo on >> /dev/stdout'), {
      user,
    })
    assert.equal(result.stdout, 'out\non\n')
    assert.equal(result.stderr, 'err\n')
  }
})

test('/dev/stdin can be opened by root and by another user', async () => {
  for (const user of ['root', 'app']) {
    const result = await sub.execFail(sh('cat < /dev/stdin'), { user, input: 'through the door\n' })
    assert.equal(result.stdout, 'through the door\n')
  }
})

test('10 MB through cat come back byte for byte', async () => {
  const input = text(10_000_000)
  same((await sub.execFail(['cat'], { input }, 120_000)).stdout, input)
})

test('10 MB of binary come back to a caller that reads nothing until it has written everything', async () => {
  const input = randomBytes(10_000_000)
  const child = await sub.spawn(['cat'], { stdio: 'pipe' })
  await within(
    60_000,
    'everything to be written',
    new Promise((resolve, reject) => {
      child.stdin.on('error', reject)
      child.stdin.end(input, resolve)
    }),
  )
  const result = await finished(child)
  assert.equal(result.code, 0)
  same(result.stdout, input)
  assert.equal(result.stderr.length, 0)
})

async function outputsOnExit() {
  const files = Array.from({ length: 8 }, () => text(190_000))
  await Promise.all(files.map((data, i) => sub.writeFile(`/tmp/out-${i}`, data)))
  await pool(100, 8, async i => {
    const result = await sub.exec(['cat', `/tmp/out-${i % 8}`], {}, 120_000)
    assert.deepEqual([result.exitCode, result.exitSignal], [0, null])
    same(result.stdout, files[i % 8])
  })
}

test('100 outputs of 190 kB, eight at a time, are complete when the client sees the exit', outputsOnExit)

test('100 outputs of 190 kB are complete on a fully loaded machine', () => loaded(outputsOnExit))

test('what a command writes while the client computes is complete when the client sees its exit', async () => {
  const compute = ms => {
    for (const end = Date.now() + ms; Date.now() < end; );
  }
  const mark = marker()
  const slow = sub.exec(sh('while [ ! -e /tmp/now ]; do sleep 0.1; done; echo out; echo err >&2; exit 3', mark))
  await until('the command to run', () => marked(mark).length === 1)
  // Its line and its end come in one round of the event loop, in which the line is handled first. The client then reaps
  // whatever has ended by then, without another look at what can be read.
  const other = spawn('echo', ['now'])
  const handled = new Promise(resolve =>
    other.stdout.once('data', () => {
      fs.writeFileSync(sub.subpath('/tmp/now'), '')
      compute(3000)
      resolve()
    }),
  )
  compute(500)
  await within(30_000, 'the line', handled)
  const { stdout, stderr, exitCode } = await slow
  assert.deepEqual([stdout, stderr, exitCode], ['out\n', 'err\n', 3])
})

test('stdout and stderr are both complete and apart when a command fills both', async () => {
  const [out, err] = [text(150_000), text(150_000)]
  await sub.writeFile('/tmp/both-out', out)
  await sub.writeFile('/tmp/both-err', err)
  for (let i = 0; i < 10; i += 1) {
    const result = await sub.exec(sh('cat /tmp/both-err >&2 & cat /tmp/both-out; wait'))
    same(result.stdout, out)
    same(result.stderr, err)
  }
})

test('the end of stdin reaches the command, and a command that reads none of its input ends', async () => {
  assert.equal((await sub.execFail(['wc', '-c'], { input: 'abc' })).stdout.trim(), '3')
  const child = await sub.spawn(['true'], { stdio: 'pipe' })
  child.stdin.on('error', () => {})
  child.stdin.write(Buffer.alloc(300_000))
  assert.equal((await finished(child)).code, 0)
})

test('a reader that goes away ends the writer as a broken pipe does', async () => {
  const child = await sub.spawn(['yes'], { stdio: 'pipe' })
  await within(15_000, 'output', new Promise(resolve => child.stdout.once('data', resolve)))
  child.stdout.destroy()
  const result = await within(
    30_000,
    'the writer to end',
    new Promise(resolve => child.once('exit', (code, signal) => resolve({ code, signal }))),
  )
  assert.ok(result.signal === 'SIGPIPE' || result.code > 0, JSON.stringify(result))
})

async function everyKindOfStdio(t) {
  const dir = scratch(t)
  const data = text(500_000)

  const pipesIn = inputPipe(dir, 'in', data)
  const pipesOut = outputPipe(dir, 'out')
  const pipesErr = outputPipe(dir, 'err')
  const piped = await sub.spawn(sh('echo side >&2; echo again > /dev/stderr; cat'), {
    stdio: [pipesIn.fd, pipesOut.fd, pipesErr.fd],
  })
  for (const pipe of [pipesIn, pipesOut, pipesErr]) pipe.given()
  assert.equal((await finished(piped)).code, 0)
  same(await pipesOut.all(), data)
  assert.equal((await pipesErr.all()).toString(), 'side\nagain\n')
  await pipesIn.end()

  const [inFile, outFile] = ['file-in', 'file-out'].map(name => path.join(dir, name))
  fs.writeFileSync(inFile, data)
  fs.writeFileSync(outFile, '', { mode: 0o600 })
  const [inFd, outFd] = [fs.openSync(inFile, 'r'), fs.openSync(outFile, 'r+')]
  const filed = await sub.spawn(['cat'], { stdio: [inFd, outFd, 'pipe'], user: 'app' })
  for (const fd of [inFd, outFd]) fs.closeSync(fd)
  assert.equal((await finished(filed)).code, 0)
  same(fs.readFileSync(outFile), data)
  const { mode, uid } = fs.statSync(outFile)
  assert.deepEqual([(mode & 0o777).toString(8), uid], ['600', 0])

  const socketed = await sub.spawn(['cat'], { stdio: 'pipe' })
  socketed.stdin.end(data)
  same((await finished(socketed)).stdout, data)
}

test('pipes, files and sockets as stdio carry every byte, and files keep owner and mode', everyKindOfStdio)

test('pipes, files and sockets as stdio carry every byte on a fully loaded machine', t =>
  loaded(() => everyKindOfStdio(t)))

test('/dev/null stays /dev/null and keeps its owner and mode', async () => {
  const before = fs.statSync('/dev/null')
  const child = await sub.spawn(sh('(stat -L -c "%t:%T" /proc/$$/fd/0 /proc/$$/fd/1) >&2; true'), {
    stdio: ['ignore', 'ignore', 'pipe'],
    user: 'app',
  })
  assert.equal((await finished(child)).stderr.toString(), '1:3\n1:3\n')
  const after = fs.statSync('/dev/null')
  assert.deepEqual([after.mode, after.uid, after.gid], [before.mode, before.uid, before.gid])
})

test('one socket for stdout and stderr keeps their order', async t => {
  const dir = scratch(t)
  const pipe = outputPipe(dir, 'both')
  const child = await sub.spawn(sh('for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done'), {
    stdio: ['ignore', pipe.fd, pipe.fd],
  })
  pipe.given()
  await finished(child)
  assert.equal((await pipe.all()).toString(), [1, 2, 3, 4, 5].map(i => `o${i}\ne${i}\n`).join(''))
})

test('exec returns at once while a background child holds stdout, and that child lives and writes on', async () => {
  const mark = marker()
  const daemon = `trap "echo broken > /tmp/broken" PIPE
    until [ -e /tmp/go ]; do usleep 10000; done
    head -c 300000 /dev/zero && head -c 300000 /dev/zero >&2 && echo fine > /tmp/wrote
    while :; do sleep 3600; done`
  const result = await within(
    25_000,
    'exec to return',
    sub.exec(sh(`sh -c '${daemon}' "$0" & echo started`, mark), {}, null),
  )
  assert.deepEqual([result.exitCode, result.exitSignal, result.stdout], [0, null, 'started\n'])
  assert.ok(marked(mark).length >= 1)
  await sub.writeFile('/tmp/go', '')
  await until('the daemon to have written 600 kB', () => fs.existsSync(sub.subpath('/tmp/wrote')))
  assert.ok(!fs.existsSync(sub.subpath('/tmp/broken')))
  assert.ok(marked(mark).length >= 1)
  await sub.execFail(killMarked(mark))
  await until('the daemon to be gone', () => gone(mark))
})

test('spawn streams output while the command runs and takes input as it comes', async () => {
  const child = await sub.spawn(sh('while read line; do echo "got $line"; done'), { stdio: 'pipe' })
  const out = gather(child.stdout)
  for (const word of ['one', 'two', 'three']) {
    child.stdin.write(`${word}\n`)
    await out.has(`got ${word}\n`)
  }
  child.stdin.end()
  assert.equal((await finished(child)).code, 0)
})
