// Signals to the exec client, timeouts and aborts: what arrives, what ends, and what must not notice.

import assert from 'node:assert/strict'
import test, { after, before } from 'node:test'
import { SubContainer, newEffects } from './lib/client.mjs'
import { gone, marked, marker } from './lib/host.mjs'
import { PLAIN } from './lib/image.mjs'
import { loaded } from './lib/load.mjs'
import { TREE_SIZE, killMarked, onSignal, parents, sh, single, tree } from './lib/scripts.mjs'
import { exited, finished, gather, pass, until } from './lib/wait.mjs'

let sub

before(async () => {
  sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'signals')
})

after(async () => {
  await sub?.destroy()
})

const FORWARDED = 'ABRT ALRM CONT HUP INT IO PIPE PROF QUIT TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM'.split(' ')

for (const name of FORWARDED) {
  test(`SIG${name} to the exec client reaches the command`, async () => {
    const child = await sub.spawn(onSignal(name), { stdio: 'pipe' })
    const out = gather(child.stdout)
    await out.has('ready')
    child.kill(`SIG${name}`)
    assert.deepEqual(await exited(child), { code: 3, signal: null })
    await out.has(`got ${name}`)
  })
}

test('a command without a trap dies of the signal that its client was sent, and so does the client', async () => {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1']) {
    const mark = marker()
    const child = await sub.spawn(single(mark), { stdio: 'pipe' })
    await gather(child.stdout).has('ready')
    child.kill(signal)
    assert.deepEqual(await exited(child), { code: null, signal })
    await until('the command to be gone', () => gone(mark))
  }
})

test('a signal right after spawn ends client and command', async () => {
  for (let round = 0; round < 10; round += 1) {
    for (const signal of ['SIGTERM', 'SIGUSR1', 'SIGKILL']) {
      const mark = marker()
      const child = await sub.spawn(single(mark), { stdio: 'pipe' })
      child.kill(signal)
      assert.deepEqual(await exited(child), { code: null, signal })
      await until('the command to be gone', () => gone(mark))
    }
  }
})

test('kill(0) inside stays inside', async () => {
  const other = await sub.spawn(onSignal('TERM'), { stdio: 'pipe' })
  await gather(other.stdout).has('ready')
  const { stdout } = await sub.execFail(sh('trap "" TERM HUP; kill -TERM 0; kill -HUP 0; echo alive'))
  assert.equal(stdout, 'alive\n')
  const leader = sub.leader
  assert.deepEqual([other.exitCode, other.signalCode, leader.exitCode, leader.signalCode], [null, null, null, null])
  other.kill('SIGTERM')
  assert.equal((await exited(other)).code, 3)
})

test('each exec is a session of its own', async () => {
  const session = async () => (await sub.execFail(sh('cut -d" " -f1,5,6 /proc/$$/stat'))).stdout.trim().split(' ')
  const [pid, group, id] = await session()
  assert.deepEqual([group, id], [pid, pid])
  assert.notEqual((await session())[2], id)
})

async function timeout() {
  const mark = marker()
  const running = sub.exec(tree(mark), {}, 4000)
  await until('the whole tree', () => marked(mark).length >= TREE_SIZE)
  const result = await running
  assert.deepEqual([result.exitCode, result.exitSignal], [null, 'SIGKILL'])
  await until('the whole tree to be gone', () => gone(mark), 5000)
}

test('a timeout ends the whole tree, also what called setsid and what forked twice', timeout)

test('a timeout ends the whole tree on a fully loaded machine', () => loaded(timeout))

test('an abort ends the whole tree', async () => {
  const mark = marker()
  const abort = new AbortController()
  const running = sub.exec(tree(mark), {}, null, abort)
  await until('the whole tree', () => marked(mark).length >= TREE_SIZE)
  abort.abort()
  assert.equal((await running).exitSignal, 'SIGKILL')
  await until('the whole tree to be gone', () => gone(mark), 5000)
})

test('an abort of one exec leaves the others and the leader alone', async () => {
  const [doomed, spared] = [marker(), marker()]
  const abort = new AbortController()
  const running = sub.exec(tree(doomed), {}, null, abort)
  const other = await sub.spawn(tree(spared), { stdio: 'pipe' })
  await until('both trees', () => marked(doomed).length >= TREE_SIZE && marked(spared).length >= TREE_SIZE)
  abort.abort()
  await running
  await until('the aborted tree to be gone', () => gone(doomed), 5000)
  assert.ok(marked(spared).length >= TREE_SIZE)
  assert.equal((await sub.execFail(['echo', 'alive'])).stdout, 'alive\n')
  other.kill('SIGKILL')
  await until('the other tree to be gone', () => gone(spared), 5000)
})

test('an abort at any moment of an exec leaves no process', async () => {
  const mark = marker()
  for (let i = 0; i < 40; i += 1) {
    const child = await sub.spawn(tree(mark), { stdio: 'pipe' })
    pass(i * 0.2)
    child.kill('SIGKILL')
    await exited(child)
  }
  await until('no process of any round', () => gone(mark))
})

test('the daemon of a command that ended belongs to process 1', async () => {
  const mark = marker()
  const daemon = sh('sh -c "while :; do sleep 3600; done" "$0" > /dev/null 2>&1 < /dev/null & echo up', mark)
  const result = await finished(await sub.spawn(daemon, { stdio: 'pipe' }))
  assert.deepEqual([result.code, result.stdout.toString()], [0, 'up\n'])
  await until('process 1 as its parent', async () => (await sub.execFail(parents(mark))).stdout === '1\n')
  assert.equal(marked(mark).length, 1)
  await sub.execFail(killMarked(mark))
  await until('the daemon to be gone', () => gone(mark))
})
