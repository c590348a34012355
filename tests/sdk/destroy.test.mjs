// destroy: nothing of the container is left and nothing of the host is gone, whatever was going on.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { Mounts, SubContainer, newEffects, newVolume, startContainer, withSub } from './lib/client.mjs'
import { BASE, asBefore, gone, marked, marker, mountsBelow, snapshot, tree as listing } from './lib/host.mjs'
import { PLAIN } from './lib/image.mjs'
import { pool } from './lib/load.mjs'
import { TREE_SIZE, sh, tree } from './lib/scripts.mjs'
import { exited, finished, gather, pass, until } from './lib/wait.mjs'

const SHARED = fileURLToPath(new URL('./lib/shared.mjs', import.meta.url))

test('destroy leaves no process, mount, file or descriptor, and the volume as it was', async () => {
  const dir = await newVolume('whole')
  fs.mkdirSync(`${dir}/a/b`, { recursive: true })
  fs.writeFileSync(`${dir}/a/b/c`, 'content')
  const [volume, before] = [listing(dir), snapshot()]
  const mounts = Mounts.of()
    .mountVolume({ volumeId: 'whole', mountpoint: '/data', readonly: false })
    .mountVolume({ volumeId: 'whole', subpath: 'a', mountpoint: '/data/a', readonly: false })
  await withSub(
    'whole',
    async sub => {
      await sub.execFail(sh('dd if=/dev/zero of=/big bs=1M count=5 2> /dev/null; mkdir -p /x/y; ln -s / /x/y/root'))
      await sub.execFail(sh('setsid sh -c "while :; do sleep 3600; done" > /dev/null 2>&1 & true'))
    },
    { mounts },
  )
  await asBefore(before)
  assert.deepEqual(listing(dir), volume)
})

test('destroy while commands run ends them all', async () => {
  const before = snapshot()
  const mark = marker()
  const sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'busy')
  const children = []
  for (let i = 0; i < 5; i += 1) children.push(await sub.spawn(tree(mark), { stdio: 'pipe' }))
  const execs = Array.from({ length: 5 }, () => sub.exec(tree(mark), {}, null))
  await until('ten trees', () => marked(mark).length >= 10 * TREE_SIZE)
  for (const child of children) child.stdout.resume()
  await sub.destroy()
  const ends = await Promise.all([...children.map(child => exited(child)), ...execs])
  for (const end of ends) assert.notEqual(end.code ?? end.exitCode, 0)
  assert.ok(gone(mark))
  await asBefore(before)
})

test('destroy while execs are being started leaves nothing', async () => {
  const before = snapshot()
  const sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'racing')
  await sub.execFail(['true'])
  const execs = Array.from({ length: 30 }, () => sub.exec(['sleep', '3600'], {}, 60_000))
  await sub.destroy()
  for (const end of await Promise.all(execs)) assert.ok(end.exitCode !== 0)
  await asBefore(before)
})

test('destroy right after the leader was started leaves nothing', async () => {
  const before = snapshot()
  await pool(20, 4, async () => {
    const sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'quick')
    await sub.destroy()
  })
  await asBefore(before)
})

test('destroy after the launch process was killed leaves nothing', async () => {
  const before = snapshot()
  const mark = marker()
  const sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'killed')
  const child = await sub.spawn(tree(mark), { stdio: 'pipe' })
  await gather(child.stdout).has('ready')
  sub.leader.kill('SIGKILL')
  await exited(sub.leader)
  await sub.destroy()
  await exited(child)
  assert.ok(gone(mark))
  await asBefore(before)
})

test('a launch killed at any moment, then destroyed, leaves nothing', async () => {
  const before = snapshot()
  const mark = marker()
  for (let round = 0; round < 30; round += 1) {
    const { stdout } = await startContainer('subcontainer', 'create-fs', PLAIN, 'moment')
    const rootfs = stdout.trim()
    const launch = spawn('start-container', ['subcontainer', 'launch', rootfs, ...tree(mark)], { stdio: 'ignore' })
    pass(round * 0.3)
    launch.kill('SIGKILL')
    await exited(launch)
    await startContainer('subcontainer', 'destroy-fs', rootfs.split('/').pop())
    assert.deepEqual(mountsBelow(rootfs), [])
  }
  await until('no process of any round', () => gone(mark))
  await asBefore(before)
})

test('destroy-fs twice and of a guid that never was: the first succeeds again, the second touches nothing', async () => {
  const before = snapshot()
  const { stdout } = await startContainer('subcontainer', 'create-fs', PLAIN, 'twice')
  const guid = stdout.trim().split('/').pop()
  await startContainer('subcontainer', 'destroy-fs', guid)
  await startContainer('subcontainer', 'destroy-fs', guid)
  await assert.rejects(startContainer('subcontainer', 'destroy-fs', '../images'), { code: 125 })
  assert.ok(fs.existsSync(`${BASE}/images/${PLAIN}.json`))
  await asBefore(before)
})

test("the machine's own /dev/pts and /sys survive when all mounts are shared", async () => {
  const inner = 'mount --make-rshared / && exec "$@"'
  const args = ['--mount', '--propagation', 'private', 'sh', '-c', inner, 'sh', process.execPath, SHARED]
  const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const result = await finished(child, 120_000)
  assert.equal(result.code, 0, result.stderr.toString())
  assert.match(result.stdout.toString(), /the shared mounts are as before/)
  assert.ok(fs.readdirSync('/dev/pts').length > 0)
  assert.ok(fs.existsSync('/sys/kernel'))
})
