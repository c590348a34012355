// From create to destroy with each of the client's factories, and what it relies on in between.

import assert from 'node:assert/strict'
import fs from 'node:fs/promises'
import test from 'node:test'
import { Mounts, SubContainer, newEffects, newVolume, withSub } from './lib/client.mjs'
import { BASE, asBefore, marked, marker, mountsBelow, snapshot } from './lib/host.mjs'
import { PLAIN } from './lib/image.mjs'
import { sh, tree, TREE_SIZE } from './lib/scripts.mjs'
import { gather, until } from './lib/wait.mjs'

test('of makes nothing before the first use, then one container for all uses', async () => {
  const before = snapshot()
  const sub = SubContainer.of(newEffects(), { imageId: PLAIN }, null, 'lazy')
  await asBefore(before)
  const [a, b] = await Promise.all([sub.exec(['cat', '/etc/passwd']), sub.exec(['hostname'])])
  assert.match(a.stdout, /^root:/)
  assert.equal(b.exitCode, 0)
  assert.deepEqual(await fs.readdir(`${BASE}/subcontainers`), [await sub.guid])
  await sub.destroy()
  await asBefore(before)
})

test('eager gives a root filesystem below the base directory whose last component is the guid', async () => {
  const sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'eager')
  try {
    assert.equal(sub.rootfs, `${BASE}/subcontainers/${sub.guid}`)
    assert.equal(sub.subpath('etc/hostname'), `${sub.rootfs}/etc/hostname`)
    assert.ok((await fs.readFile(sub.subpath('/etc/hostname'), 'utf8')).trim().length > 0)
    assert.match(await fs.readFile(sub.subpath('/etc/hosts'), 'utf8'), /^127\.0\.0\.1\s.*localhost/m)
    const resolv = await fs.readFile('/etc/resolv.conf', 'utf8')
    assert.equal((await sub.execFail(['cat', '/etc/resolv.conf'])).stdout, resolv)
  } finally {
    await sub.destroy()
  }
})

test('withTemp returns what its function returns and leaves nothing', async () => {
  const before = snapshot()
  const answer = await withSub('temp', async sub => (await sub.execFail(['echo', 'forty-two'])).stdout)
  assert.equal(answer, 'forty-two\n')
  await asBefore(before)
})

test('withTemp leaves nothing when its function fails', async () => {
  const before = snapshot()
  await assert.rejects(
    withSub('temp', async sub => {
      await sub.execFail(sh('exit 9'))
    }),
    /failed with exit code 9/,
  )
  await asBefore(before)
})

test('a mount that cannot be made fails eager and leaves nothing', async () => {
  const before = snapshot()
  await fs.writeFile(`${BASE}/volumes/plain-file`, 'not a directory')
  const mounts = Mounts.of().mountVolume({
    volumeId: 'plain-file',
    subpath: 'below/it',
    mountpoint: '/data',
    readonly: false,
  })
  await assert.rejects(SubContainer.eager(newEffects(), { imageId: PLAIN }, mounts, 'broken'))
  await asBefore(before)
  await fs.rm(`${BASE}/volumes/plain-file`)
})

test('an unknown image is refused by name and leaves nothing', async () => {
  const before = snapshot()
  await assert.rejects(SubContainer.eager(newEffects(), { imageId: 'no-such-image' }, null, 'none'), error => {
    assert.equal(error.code, 125)
    assert.match(error.stderr, /no-such-image/)
    return true
  })
  await asBefore(before)
})

test('a second destroy does nothing and a hold postpones the first', async () => {
  const before = snapshot()
  const sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'held')
  const release = sub.hold()
  await sub.destroy()
  assert.equal((await sub.execFail(['echo', 'still here'])).stdout, 'still here\n')
  await release()
  await sub.destroy()
  await asBefore(before)
})

test('the end of the effects scope destroys what was created under it', async () => {
  const before = snapshot()
  const effects = newEffects()
  await SubContainer.eager(effects, { imageId: PLAIN }, null, 'one')
  await SubContainer.eager(effects, { imageId: PLAIN }, null, 'two')
  effects.leave()
  await asBefore(before)
})

test('two containers of one image do not see each other', async () => {
  await withSub('left', left =>
    withSub('right', async right => {
      await left.writeFile('/tmp/only-left', 'x')
      assert.equal((await left.execFail(['cat', '/tmp/only-left'])).stdout, 'x')
      assert.equal((await right.exec(['cat', '/tmp/only-left'])).exitCode, 1)
      await right.execFail(['rm', '/etc/group'])
      assert.equal((await left.exec(['cat', '/etc/group'])).exitCode, 0)
    }),
  )
})

test('exactly one procfs is mounted at ROOTFS/proc and shows the container alone', async () => {
  await withSub('proc', async sub => {
    await sub.execFail(['true'])
    const proc = mountsBelow(`${sub.rootfs}/proc`)
    assert.deepEqual(proc, [{ point: `${sub.rootfs}/proc`, type: 'proc' }])
    const mark = marker()
    const child = await sub.spawn(tree(mark), { stdio: 'pipe' })
    await gather(child.stdout).has('ready')
    await until('the tree', () => marked(mark).length === TREE_SIZE)
    const inside = (await fs.readdir(`${sub.rootfs}/proc`)).filter(name => /^\d+$/.test(name))
    assert.ok(inside.includes('1'))
    const seen = (await sub.execFail(['cat', '/proc/1/cmdline', `/proc/self/status`])).stdout
    assert.ok(!seen.includes('node'))
    child.kill('SIGKILL')
  })
})

test('the leader idles as process 1 and reaps orphans', async () => {
  await withSub('reaper', async sub => {
    await sub.execFail(sh('i=0; while [ $i -lt 100 ]; do (sh -c "exit 0" &); i=$((i+1)); done'))
    const states = async () => {
      const pids = (await fs.readdir(`${sub.rootfs}/proc`)).filter(name => /^\d+$/.test(name))
      const read = pid => fs.readFile(`${sub.rootfs}/proc/${pid}/stat`, 'latin1').catch(() => '')
      return Promise.all(pids.map(read))
    }
    await until('no process but the leader', async () => (await states()).filter(s => s !== '').length === 1)
  })
})

test('volumes keep their content when the container is destroyed with live mounts', async () => {
  const dir = await newVolume('kept')
  await fs.mkdir(`${dir}/deep/er`, { recursive: true })
  await fs.writeFile(`${dir}/deep/er/file`, 'precious')
  const mounts = Mounts.of()
    .mountVolume({ volumeId: 'kept', mountpoint: '/data', readonly: false })
    .mountVolume({ volumeId: 'kept', subpath: 'deep', mountpoint: '/data/deep', readonly: false })
  await withSub('keeper', sub => sub.execFail(sh('echo new > /data/new; rm -rf /tmp')), { mounts })
  assert.equal(await fs.readFile(`${dir}/deep/er/file`, 'utf8'), 'precious')
  assert.equal(await fs.readFile(`${dir}/new`, 'utf8'), 'new\n')
})
