// launch: the command as process 1, how it stops, what replaces what, and its options.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { withSub } from './lib/client.mjs'
import { gone, marked, marker, mountsBelow } from './lib/host.mjs'
import { SERVICE } from './lib/image.mjs'
import { loaded } from './lib/load.mjs'
import { TREE_SIZE, onSignal, sh, tree } from './lib/scripts.mjs'
import { exited, finished, until } from './lib/wait.mjs'

const CHILD = fileURLToPath(new URL('./lib/child.mjs', import.meta.url))

/** Waits for a file below the root filesystem to have a whole line and gives its text. */
async function written(sub, file) {
  const at = sub.subpath(file)
  await until(`${file} to be written`, () => fs.existsSync(at) && fs.readFileSync(at, 'utf8').endsWith('\n'))
  return fs.readFileSync(at, 'utf8')
}

/** Runs the client program with pipes as stdio; what it launches inherits them. */
const client = request =>
  finished(spawn(process.execPath, [CHILD, JSON.stringify(request)], { stdio: ['ignore', 'pipe', 'pipe'] }))

test('a launched command is process 1 itself', async () => {
  await withSub('init', async sub => {
    await sub.launch(sh('echo $$ > /pid; exec sleep 3600'))
    assert.equal(await written(sub, '/pid'), '1\n')
    await until('sleep as process 1', async () => {
      const { stdout } = await sub.exec(['cat', '/proc/1/cmdline'])
      return stdout === 'sleep\x003600\x00'
    })
  })
})

test("a launched command's exit code and signal are the client's", async () => {
  await withSub('codes', async sub => {
    for (const code of [0, 1, 77, 255]) {
      const leader = await sub.launch(sh(`exit ${code}`))
      assert.deepEqual(await exited(leader), { code, signal: null })
    }
  })
})

async function stopsOnTerm() {
  await withSub('stubborn', async sub => {
    const leader = await sub.launch(sh('echo up > /up; exec sleep 3600'))
    await written(sub, '/up')
    leader.kill('SIGTERM')
    // The client would send SIGKILL after 30 s; within that it must have ended in a way that counts as a clean stop.
    const { code, signal } = await exited(leader, 20_000)
    assert.ok(code === 0 || code === 143 || signal === 'SIGTERM', `${code} ${signal}`)
  })
}

test('SIGTERM stops a launched command that does not catch it', stopsOnTerm)

test('SIGTERM stops a launched command that does not catch it on a fully loaded machine', () => loaded(stopsOnTerm))

test('SIGTERM reaches a launched command that catches it, whose exit code counts', async () => {
  await withSub('polite', async sub => {
    const leader = await sub.launch(sh(`trap 'echo bye > /bye; exit 7' TERM; echo up > /up; while :; do sleep 1; done`))
    await written(sub, '/up')
    leader.kill('SIGTERM')
    assert.deepEqual(await exited(leader), { code: 7, signal: null })
    assert.equal(fs.readFileSync(sub.subpath('/bye'), 'utf8'), 'bye\n')
  })
})

test('signals to the launch process reach the command', async () => {
  await withSub('signals', async sub => {
    for (const name of ['USR1', 'USR2', 'HUP', 'INT', 'QUIT']) {
      fs.rmSync(sub.subpath('/out'), { force: true })
      const [, , text, arg] = onSignal(name)
      const leader = await sub.launch(sh(`exec > /out; ${text}`, arg))
      await written(sub, '/out')
      leader.kill(`SIG${name}`)
      assert.deepEqual(await exited(leader), { code: 3, signal: null })
      assert.equal(fs.readFileSync(sub.subpath('/out'), 'utf8'), `ready\ngot ${name}\n`)
    }
  })
})

test('the idle leader ends with 0, promptly, on SIGTERM', async () => {
  await withSub('idle', async sub => {
    await sub.execFail(['true'])
    sub.leader.kill('SIGTERM')
    assert.deepEqual(await exited(sub.leader, 10_000), { code: 0, signal: null })
  })
})

test('a second launch replaces the first leader and everything in it, with one procfs', async () => {
  await withSub('relaunch', async sub => {
    const [first, second] = [marker(), marker()]
    const old = await sub.launch(tree(first))
    await until('the first tree', () => marked(first).length >= TREE_SIZE)
    const leader = await sub.launch(tree(second))
    await until('the second tree', () => marked(second).length >= TREE_SIZE)
    await exited(old)
    assert.ok(gone(first))
    assert.equal(leader.exitCode, null)
    assert.deepEqual(mountsBelow(`${sub.rootfs}/proc`), [{ point: `${sub.rootfs}/proc`, type: 'proc' }])
    assert.match((await sub.execFail(['cat', '/proc/1/cmdline'])).stdout, new RegExp(second))
  })
})

test('SIGKILL of the launch process takes the whole container down', async () => {
  const mark = marker()
  await withSub('killed', async sub => {
    const leader = await sub.launch(tree(mark))
    await until('the tree', () => marked(mark).length >= TREE_SIZE)
    const exec = await sub.spawn(tree(mark), { stdio: 'pipe' })
    await until('both trees', () => marked(mark).length >= 2 * TREE_SIZE)
    leader.kill('SIGKILL')
    await exited(leader)
    await until('everything in the container to be gone', () => gone(mark))
    await exited(exec)
  })
})

test('launch works again after a leader that was killed', async () => {
  await withSub('again', async sub => {
    const leader = await sub.launch(['sleep', '3600'])
    leader.kill('SIGKILL')
    await exited(leader)
    await sub.launch(sh('echo again > /again; exec sleep 3600'))
    assert.equal(await written(sub, '/again'), 'again\n')
    assert.equal((await sub.execFail(['echo', 'alive'])).stdout, 'alive\n')
    assert.deepEqual(mountsBelow(`${sub.rootfs}/proc`), [{ point: `${sub.rootfs}/proc`, type: 'proc' }])
  })
})

test('launch takes user, cwd and env like exec, and its defaults from the image', async () => {
  const print = sh('{ id -un; pwd; echo "$GREETING"; echo "$MORE"; } > /tmp/new; mv /tmp/new /tmp/who; exec sleep 3600')
  await withSub(
    'options',
    async sub => {
      await sub.launch(print)
      assert.equal(await written(sub, '/tmp/who'), 'app\n/srv/app\ngood day = guten Tag\n\n')
      await sub.execFail(['rm', '/tmp/who'])
      await sub.launch(print, { user: 'root', cwd: '/usr', env: { MORE: 'x y', PATH: '/bin:/usr/bin' } })
      assert.equal(await written(sub, '/tmp/who'), 'root\n/usr\ngood day = guten Tag\nx y\n')
    },
    { imageId: SERVICE },
  )
})

test('mounts that were made before a relaunch are there after it', async () => {
  await withSub('kept', async sub => {
    await sub.execFail(['true'])
    const before = mountsBelow(sub.rootfs).map(m => m.point)
    await sub.launch(sh('{ ls /dev/null /sys/kernel; echo done; } > /new; mv /new /seen; exec sleep 3600'))
    assert.match(await written(sub, '/seen'), /^\/dev\/null\n.*\nsecurity\n.*done\n$/s)
    assert.deepEqual(
      mountsBelow(sub.rootfs)
        .map(m => m.point)
        .sort(),
      before.sort(),
    )
  })
})

test('a launched command can open /dev/stdout and /dev/stderr when its stdio are sockets', async () => {
  for (const user of ['root', 'app']) {
    const command = sh('echo plain; echo out > /dev/stdout; echo err > /dev/stderr; exit 9')
    const result = await client({ verb: 'launch', command, options: { user } })
    assert.equal(result.stdout.toString(), 'plain\nout\n')
    assert.equal(result.stderr.toString(), 'err\n')
    assert.equal(result.code, 9)
  }
})

test('everything that a launched command wrote arrives although it ends at once', async () => {
  const result = await client({ verb: 'launch', command: sh('seq 1 50000') })
  assert.equal(result.stdout.toString(), Array.from({ length: 50000 }, (_, i) => `${i + 1}\n`).join(''))
})

test('an inherited stdout reaches the caller from a spawned command', async () => {
  const result = await client({ verb: 'spawn', command: sh('seq 1 50000; echo end > /dev/stderr') })
  assert.equal(result.stdout.toString(), Array.from({ length: 50000 }, (_, i) => `${i + 1}\n`).join(''))
  assert.equal(result.stderr.toString(), 'end\n')
})

test('exec right after launch waits for the new leader', async () => {
  await withSub('eager', async sub => {
    for (let i = 0; i < 10; i += 1) {
      const mark = marker()
      await sub.launch(sh('exec sleep 3600', mark))
      assert.equal((await sub.execFail(['echo', 'here'])).stdout, 'here\n')
    }
  })
})
