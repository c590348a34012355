// exec, execFail and writeFile: results, users, directories, variables and names.

import assert from 'node:assert/strict'
import fs from 'node:fs/promises'
import test, { after, before } from 'node:test'
import { ExitError, SubContainer, newEffects } from './lib/client.mjs'
import { PLAIN, SERVICE } from './lib/image.mjs'
import { sh } from './lib/scripts.mjs'
import { exited, finished } from './lib/wait.mjs'

let plain
let service

before(async () => {
  plain = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'plain')
  service = await SubContainer.eager(newEffects(), { imageId: SERVICE }, null, 'service')
})

after(async () => {
  await plain?.destroy()
  await service?.destroy()
})

test('exec gives stdout, stderr and the exit code apart', async () => {
  const result = await plain.exec(sh('echo out; echo err >&2; exit 42'))
  assert.equal(result.stdout, 'out\n')
  assert.equal(result.stderr, 'err\n')
  assert.equal(result.exitCode, 42)
  assert.equal(result.exitSignal, null)
})

test('every exit code from 0 to 255 arrives unchanged', async () => {
  for (const code of [0, 1, 2, 63, 64, 77, 123, 124, 125, 126, 127, 128, 129, 137, 143, 200, 254, 255]) {
    const result = await plain.exec(sh(`exit ${code}`))
    assert.deepEqual([result.exitCode, result.exitSignal], [code, null])
  }
})

test('death by a signal is death by that signal', async () => {
  for (const signal of ['SIGTERM', 'SIGKILL', 'SIGUSR1', 'SIGHUP', 'SIGSEGV', 'SIGABRT', 'SIGPIPE']) {
    const result = await plain.exec(sh(`kill -${signal.slice(3)} $$`))
    assert.deepEqual([result.exitCode, result.exitSignal], [null, signal])
  }
})

test('execFail throws the exit code, the signal and both outputs', async () => {
  await assert.rejects(plain.execFail(sh('echo o; echo e >&2; exit 3')), error => {
    assert.ok(error instanceof ExitError)
    assert.equal(error.result.exitCode, 3)
    assert.equal(error.result.stdout, 'o\n')
    assert.equal(error.result.stderr, 'e\n')
    return true
  })
  await assert.rejects(plain.execFail(sh('kill -TERM $$')), /terminated with signal SIGTERM/)
  assert.equal((await plain.execFail(['true'])).stdout, '')
})

test('a command that is not there ends with 127 and one that cannot run with 126, with nothing on stdout', async () => {
  const missing = await plain.exec(['no-such-command'])
  assert.equal(missing.exitCode, 127)
  assert.equal(missing.stdout, '')
  assert.match(missing.stderr, /no-such-command/)
  await plain.writeFile('/tmp/plain-text', 'nothing to run')
  const denied = await plain.exec(['/tmp/plain-text'])
  assert.equal(denied.exitCode, 126)
  assert.equal(denied.stdout, '')
  assert.match(denied.stderr, /plain-text/)
})

test('arguments are verbatim: options, empty, spaces, newlines, 400 of them and one of 120 kB', async () => {
  const words = ['--user=x', '-e', '', ' a  b ', 'new\nline', '--', 'ünïcode', '$HOME', '*']
  const print = sh('for w in "$@"; do printf "%s|" "$w"; done', 'sh')
  assert.equal((await plain.execFail([...print, ...words])).stdout, words.map(w => `${w}|`).join(''))
  const many = Array.from({ length: 400 }, (_, i) => `n${i}`)
  assert.equal((await plain.execFail([...print, ...many])).stdout, many.map(w => `${w}|`).join(''))
  const long = 'x'.repeat(120_000)
  assert.equal((await plain.execFail(['echo', long])).stdout, `${long}\n`)
})

test('root is the default user, with the groups of the image and none of the caller', async () => {
  const status = (await plain.execFail(['cat', '/proc/self/status'])).stdout
  assert.match(status, /^Uid:\t0\t0\t0\t0$/m)
  assert.match(status, /^Gid:\t0\t0\t0\t0$/m)
  assert.match(status, /^Groups:\t0? ?$/m)
})

test('the user option switches to the uid, group and supplementary groups of the image', async () => {
  for (const user of ['app', '1000']) {
    const status = (await plain.execFail(['cat', '/proc/self/status'], { user })).stdout
    assert.match(status, /^Uid:\t1000\t1000\t1000\t1000$/m)
    assert.match(status, /^Gid:\t1000\t1000\t1000\t1000$/m)
    assert.deepEqual(/^Groups:\t(.*)$/m.exec(status)[1].trim().split(' ').sort(), ['1000', '2000'])
    assert.equal((await plain.execFail(sh('echo $HOME; id -un'), { user })).stdout, '/home/app\napp\n')
  }
})

test('an unknown number is that uid with group 0 and HOME=/', async () => {
  const { stdout } = await plain.execFail(sh('id -u; id -g; echo $HOME'), { user: '4321' })
  assert.equal(stdout, '4321\n0\n/\n')
})

test('user:group takes both', async () => {
  const { stdout } = await plain.execFail(sh('id -u; id -g'), { user: 'app:nogroup' })
  assert.equal(stdout, '1000\n65534\n')
})

test('an unknown user name is refused and runs nothing', async () => {
  const result = await plain.exec(['touch', '/tmp/ran'], { user: 'stranger' })
  assert.equal(result.exitCode, 125)
  assert.match(result.stderr, /stranger/)
  await assert.rejects(fs.stat(plain.subpath('/tmp/ran')), { code: 'ENOENT' })
})

test('the way back to root is closed after the switch', async () => {
  const { stdout } = await plain.execFail(['cat', '/proc/self/status'], { user: 'app' })
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) assert.match(stdout, new RegExp(`^${set}:\t0+$`, 'm'))
})

test('the cwd option is the working directory, and a missing one is an error that runs nothing', async () => {
  assert.equal((await plain.execFail(['pwd'])).stdout, '/\n')
  assert.equal((await plain.execFail(['pwd'], { cwd: '/usr/bin' })).stdout, '/usr/bin\n')
  const result = await plain.exec(['touch', '/tmp/ran'], { cwd: '/no/such/dir' })
  assert.equal(result.exitCode, 125)
  assert.match(result.stderr, /\/no\/such\/dir/)
  await assert.rejects(fs.stat(plain.subpath('/tmp/ran')), { code: 'ENOENT' })
})

test("the image's user, working directory and variables are the defaults", async () => {
  const { stdout } = await service.execFail(sh('id -un; pwd; echo "$GREETING"; echo $HOME'))
  assert.equal(stdout, 'app\n/srv/app\ngood day = guten Tag\n/home/app\n')
  assert.equal((await service.execFail(['id', '-u'], { user: 'root' })).stdout, '0\n')
  assert.equal((await service.execFail(['pwd'], { cwd: '/' })).stdout, '/\n')
})

test('the env option wins over the image, the image over what is inherited', async () => {
  process.env.SDK_INHERITED = 'from the caller'
  process.env.GREETING = 'from the caller'
  try {
    const print = sh('echo "$SDK_INHERITED"; echo "$GREETING"; echo "$PATH"')
    const image = await service.execFail(print)
    assert.equal(image.stdout, 'from the caller\ngood day = guten Tag\n/usr/local/bin:/usr/bin:/bin\n')
    const option = await service.execFail(print, { env: { GREETING: 'a=b "c" $d' } })
    assert.equal(option.stdout, '\na=b "c" $d\n/usr/local/bin:/usr/bin:/bin\n')
  } finally {
    delete process.env.SDK_INHERITED
    delete process.env.GREETING
  }
})

test("a service's LD_PRELOAD and RUST_LOG steer nothing", async () => {
  const result = await plain.execFail(sh('echo "$RUST_LOG"'), {
    env: { LD_PRELOAD: '/no/such/library.so', RUST_LOG: 'trace', HOME: '/nowhere' },
  })
  assert.equal(result.stdout, 'trace\n')
  assert.equal(result.stderr, '')
})

test('umask is 0022, no signal is blocked or ignored, and only 0, 1 and 2 are open', async () => {
  assert.equal((await plain.execFail(sh('umask'))).stdout, '0022\n')
  // The fourth one is ls's own, on the directory that it reads.
  assert.deepEqual((await plain.execFail(['ls', '/proc/self/fd'])).stdout.trim().split('\n'), ['0', '1', '2', '3'])
  const status = (await plain.execFail(['cat', '/proc/self/status'])).stdout
  assert.match(status, /^SigBlk:\t0+$/m)
  assert.match(status, /^SigIgn:\t0+$/m)
})

test('writeFile makes the parents, and running commands see the file', async () => {
  await plain.writeFile('/deep/er/still/file', Buffer.from([0, 255, 10]), { mode: 0o640 })
  const { stdout } = await plain.execFail(['od', '-An', '-tx1', '/deep/er/still/file'])
  assert.equal(stdout.trim(), '00 ff 0a')
  assert.equal((await plain.execFail(['stat', '-c', '%a %u', '/deep/er/still/file'])).stdout, '640 0\n')
})

test('what one exec writes the next one sees', async () => {
  await plain.execFail(sh('mkdir /scratch && echo kept > /scratch/file'))
  assert.equal((await plain.execFail(['cat', '/scratch/file'])).stdout, 'kept\n')
})

test('exec without a running leader fails within seconds', async () => {
  const sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'leaderless')
  try {
    await sub.execFail(['true'])
    sub.leader.kill('SIGKILL')
    await exited(sub.leader)
    const result = await finished(await sub.spawn(['true'], { stdio: 'pipe' }), 20_000)
    assert.equal(result.code, 125)
    assert.equal(result.stdout.toString(), '')
    assert.match(result.stderr.toString(), /leader|launch|running/)
  } finally {
    await sub.destroy()
  }
})
