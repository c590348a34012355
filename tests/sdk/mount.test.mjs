// Every kind of mount that the client can emit. Version 2.0.9 knows volumes, assets and pointers (another package's
// volume); the kind for backups that older clients had is gone, which the first test here holds fast.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import test from 'node:test'
import { Mounts, SubContainer, dependencyVolume, newEffects, newVolume, withSub } from './lib/client.mjs'
import { BASE, mountsBelow } from './lib/host.mjs'
import { PLAIN } from './lib/image.mjs'
import { kernel, need } from './lib/need.mjs'
import { sh } from './lib/scripts.mjs'
import { finished, gather } from './lib/wait.mjs'

const cat = async (sub, file) => (await sub.execFail(['cat', file])).stdout

/** A fresh directory of the assets. */
function newAssets(name) {
  const dir = `${BASE}/assets/${name}`
  fs.rmSync(dir, { recursive: true, force: true })
  fs.mkdirSync(dir, { recursive: true })
  return dir
}

/** A fresh volume of another package. */
function newDependency(packageId, volumeId) {
  const dir = dependencyVolume(packageId, volumeId)
  fs.rmSync(dir, { recursive: true, force: true })
  fs.mkdirSync(dir, { recursive: true })
  return dir
}

test('the client knows three kinds of mount: volume, assets and dependency', () => {
  const kinds = Object.getOwnPropertyNames(Mounts.prototype).filter(name => name.startsWith('mount'))
  assert.deepEqual(kinds.sort(), ['mountAssets', 'mountDependency', 'mountVolume'])
})

test('a volume is mounted, as a whole and by subpath, and missing ones are made', async () => {
  const dir = await newVolume('main')
  fs.mkdirSync(`${dir}/sub/dir`, { recursive: true })
  fs.writeFileSync(`${dir}/file`, 'top')
  fs.writeFileSync(`${dir}/sub/dir/file`, 'below')
  const mounts = Mounts.of()
    .mountVolume({ volumeId: 'main', mountpoint: '/whole', readonly: false })
    .mountVolume({ volumeId: 'main', subpath: 'sub/dir', mountpoint: '/part', readonly: false })
    .mountVolume({ volumeId: 'main', subpath: '/sub', mountpoint: 'no-slash', readonly: false })
    .mountVolume({ volumeId: 'main', subpath: 'made/now', mountpoint: '/made/there', readonly: false })
  await withSub(
    'volume',
    async sub => {
      assert.equal(await cat(sub, '/whole/file'), 'top')
      assert.equal(await cat(sub, '/part/file'), 'below')
      assert.equal(await cat(sub, '/no-slash/dir/file'), 'below')
      await sub.execFail(sh('echo written > /made/there/file'))
      assert.equal(fs.readFileSync(`${dir}/made/now/file`, 'utf8'), 'written\n')
      assert.equal(await cat(sub, '/whole/made/now/file'), 'written\n')
    },
    { mounts },
  )
})

test('a file is mounted on a file: by type, by infer, and over an empty directory', async () => {
  const dir = await newVolume('files')
  fs.writeFileSync(`${dir}/conf`, 'settings')
  fs.mkdirSync(`${dir}/folder`)
  fs.writeFileSync(`${dir}/folder/x`, 'in folder')
  const volume = (subpath, mountpoint, type) => ({ volumeId: 'files', subpath, mountpoint, readonly: false, type })
  const mounts = Mounts.of()
    .mountVolume(volume('conf', '/etc/app.conf', 'file'))
    .mountVolume(volume('conf', '/srv/deep/inferred.conf', 'infer'))
    .mountVolume(volume('folder', '/inferred-folder', 'infer'))
    .mountVolume(volume('conf', '/usr/bin', 'file'))
    .mountVolume(volume('not/yet', '/etc/new.conf', 'file'))
  await withSub(
    'files',
    async sub => {
      for (const file of ['/etc/app.conf', '/srv/deep/inferred.conf', '/usr/bin']) {
        assert.equal(await cat(sub, file), 'settings')
      }
      assert.equal(await cat(sub, '/inferred-folder/x'), 'in folder')
      await sub.execFail(sh('echo changed > /etc/app.conf; echo fresh > /etc/new.conf'))
      assert.equal(fs.readFileSync(`${dir}/conf`, 'utf8'), 'changed\n')
      assert.equal(fs.readFileSync(`${dir}/not/yet`, 'utf8'), 'fresh\n')
    },
    { mounts },
  )
})

test('assets are mounted: directory, subpath and file', async () => {
  const dir = newAssets('pack')
  fs.mkdirSync(`${dir}/scripts`)
  fs.writeFileSync(`${dir}/scripts/run`, 'run me')
  const mounts = Mounts.of()
    .mountAssets({ mountpoint: '/assets' })
    .mountAssets({ mountpoint: '/scripts', subpath: 'pack/scripts' })
    .mountAssets({ mountpoint: '/run-file', subpath: '/pack/scripts/run', type: 'file' })
  await withSub(
    'assets',
    async sub => {
      assert.equal(await cat(sub, '/assets/pack/scripts/run'), 'run me')
      assert.equal(await cat(sub, '/scripts/run'), 'run me')
      assert.equal(await cat(sub, '/run-file'), 'run me')
    },
    { mounts },
  )
})

test("another package's volume is mounted, read-only where asked, as directory and as file", async () => {
  const dir = newDependency('database', 'main')
  fs.mkdirSync(`${dir}/public`)
  fs.writeFileSync(`${dir}/public/cert`, 'cert')
  const pointer = (mountpoint, readonly, subpath, type) => ({
    dependencyId: 'database',
    volumeId: 'main',
    mountpoint,
    readonly,
    subpath,
    type,
  })
  const mounts = Mounts.of()
    .mountDependency(pointer('/db', false, null))
    .mountDependency(pointer('/db-read', true, 'public'))
    .mountDependency(pointer('/etc/cert', true, 'public/cert', 'file'))
  await withSub(
    'pointer',
    async sub => {
      assert.equal(await cat(sub, '/db/public/cert'), 'cert')
      assert.equal(await cat(sub, '/db-read/cert'), 'cert')
      assert.equal(await cat(sub, '/etc/cert'), 'cert')
      await sub.execFail(sh('echo ok > /db/written'))
      for (const file of ['/db-read/x', '/etc/cert']) {
        const result = await sub.exec(sh('echo no > "$0"', file))
        assert.notEqual(result.exitCode, 0)
        assert.match(result.stderr, /Read-only file system/)
      }
    },
    { mounts },
  )
  assert.equal(fs.readFileSync(`${dir}/written`, 'utf8'), 'ok\n')
  assert.equal(fs.readFileSync(`${dir}/public/cert`, 'utf8'), 'cert')
})

test('mount points nest, in either order', async () => {
  const [outer, inner] = [await newVolume('outer'), await newVolume('inner')]
  fs.writeFileSync(`${outer}/file`, 'outer')
  fs.writeFileSync(`${inner}/file`, 'inner')
  const mounts = Mounts.of()
    .mountVolume({ volumeId: 'outer', mountpoint: '/data', readonly: false })
    .mountVolume({ volumeId: 'inner', mountpoint: '/data/inner', readonly: false })
    .mountVolume({ volumeId: 'outer', mountpoint: '/data/inner/again', readonly: false })
  await withSub(
    'nested',
    async sub => {
      const { stdout } = await sub.execFail(['cat', '/data/file', '/data/inner/file', '/data/inner/again/file'])
      assert.equal(stdout, 'outerinnerouter')
    },
    { mounts },
  )
  assert.deepEqual(fs.readdirSync(outer).sort(), ['file', 'inner'])
  assert.equal(fs.readFileSync(`${inner}/file`, 'utf8'), 'inner')
})

test('a recursive source brings its own mounts along', async () => {
  const outer = await newVolume('tree')
  fs.mkdirSync(`${outer}/below`)
  execFileSync('mount', ['-t', 'tmpfs', 'below', `${outer}/below`])
  try {
    fs.writeFileSync(`${outer}/below/file`, 'from the mount')
    const mounts = Mounts.of().mountVolume({ volumeId: 'tree', mountpoint: '/tree', readonly: false })
    await withSub('tree', async sub => assert.equal(await cat(sub, '/tree/below/file'), 'from the mount'), { mounts })
    assert.equal(fs.readFileSync(`${outer}/below/file`, 'utf8'), 'from the mount')
  } finally {
    execFileSync('umount', [`${outer}/below`])
  }
})

test('mounts made after launch are seen by running commands, by new ones and by a launched one', async () => {
  const dir = await newVolume('late')
  fs.writeFileSync(`${dir}/file`, 'late')
  const waiting = sh('echo ready; until [ -e /late/file ]; do usleep 10000; done; cat /late/file')
  await withSub('late', async sub => {
    const running = await sub.spawn(waiting, { stdio: 'pipe' })
    await gather(running.stdout).has('ready')
    const end = finished(running)
    await sub.mount(Mounts.of().mountVolume({ volumeId: 'late', mountpoint: '/late', readonly: false }))
    assert.equal((await end).code, 0)
    assert.equal(await cat(sub, '/late/file'), 'late')
    await sub.launch(
      sh(
        'exec > /out; cat /late/file; until [ -e /later/file ]; do usleep 10000; done; cat /later/file; echo; exec sleep 3600',
      ),
    )
    await sub.mount(Mounts.of().mountVolume({ volumeId: 'late', mountpoint: '/later', readonly: false }))
    await sub.execFail(sh('until grep -q "^latelate$" /out; do usleep 10000; done'))
  })
})

test('the same mountpoint twice is refused by the client', () => {
  const twice = Mounts.of()
    .mountVolume({ volumeId: 'a', mountpoint: '/x', readonly: false })
    .mountVolume({ volumeId: 'b', mountpoint: '/x', readonly: false })
  assert.throws(() => twice.build(), /cannot mount more than once/)
})

test('an idmap of one id shows and stores the other one', async t => {
  if (!need(t, kernel(6, 3), 'Linux 6.3, which idmaps tmpfs')) return
  const dir = await newVolume('mapped')
  fs.writeFileSync(`${dir}/file`, 'mine', { mode: 0o600 })
  fs.chownSync(`${dir}/file`, 1000, 1000)
  fs.chownSync(dir, 1000, 1000)
  const mounts = Mounts.of().mountVolume({
    volumeId: 'mapped',
    mountpoint: '/data',
    readonly: false,
    idmap: [{ fromId: 1000, toId: 0 }],
  })
  await withSub(
    'mapped',
    async sub => {
      assert.equal((await sub.execFail(['stat', '-c', '%u:%g', '/data/file'])).stdout, '0:0\n')
      await sub.execFail(sh('echo new > /data/new'))
      await sub.mount(Mounts.of().mountVolume({ volumeId: 'mapped', mountpoint: '/as-is', readonly: false }))
      assert.equal((await sub.execFail(['stat', '-c', '%u', '/as-is/file'])).stdout, '1000\n')
    },
    { mounts },
  )
  const { uid, gid } = fs.statSync(`${dir}/new`)
  assert.deepEqual([uid, gid], [1000, 1000])
  assert.equal(fs.statSync(`${dir}/file`).uid, 1000)
})

test('an idmap of several ranges, of a file, of assets and of a pointer', async t => {
  if (!need(t, kernel(6, 3), 'Linux 6.3, which idmaps tmpfs')) return
  const [dir, assets, dependency] = [await newVolume('ranges'), newAssets('ranges'), newDependency('other', 'main')]
  for (const [name, id] of [
    ['low', 5],
    ['high', 70],
    ['outside', 4000],
  ]) {
    for (const at of [dir, assets, dependency]) {
      fs.writeFileSync(`${at}/${name}`, name)
      fs.chownSync(`${at}/${name}`, id, id)
    }
  }
  const idmap = [
    { fromId: 0, toId: 500, range: 10 },
    { fromId: 70, toId: 0 },
  ]
  const mounts = Mounts.of()
    .mountVolume({ volumeId: 'ranges', mountpoint: '/volume', readonly: false, idmap })
    .mountVolume({ volumeId: 'ranges', subpath: 'low', mountpoint: '/low', readonly: false, type: 'file', idmap })
    .mountAssets({ subpath: 'ranges', mountpoint: '/assets', idmap })
    .mountDependency({
      dependencyId: 'other',
      volumeId: 'main',
      subpath: null,
      mountpoint: '/pointer',
      readonly: true,
      idmap,
    })
  await withSub(
    'ranges',
    async sub => {
      const owner = async file => (await sub.execFail(['stat', '-c', '%u:%g', file])).stdout.trim()
      for (const at of ['/volume', '/assets', '/pointer']) {
        assert.equal(await owner(`${at}/low`), '505:505')
        assert.equal(await owner(`${at}/high`), '0:0')
        assert.equal(await owner(`${at}/outside`), '65534:65534')
      }
      assert.equal(await owner('/low'), '505:505')
    },
    { mounts },
  )
})

test('a mount that fails names the reason, and the container works on', async () => {
  const dir = await newVolume('plain')
  await withSub('failing', async sub => {
    await sub.execFail(['true'])
    const before = mountsBelow(sub.rootfs)
    const mounts = Mounts.of().mountVolume({
      volumeId: 'plain',
      mountpoint: '/data',
      readonly: false,
      idmap: [{ fromId: 0, toId: 0, range: 0 }],
    })
    await assert.rejects(sub.mount(mounts), error => {
      assert.equal(error.code, 125)
      assert.match(error.stderr, /idmap|0:0:0/)
      return true
    })
    assert.deepEqual(mountsBelow(sub.rootfs), before)
    assert.equal((await sub.execFail(['echo', 'alive'])).stdout, 'alive\n')
  })
  assert.deepEqual(fs.readdirSync(dir), [])
})

test('sharedRun shows /run of the client, and only when asked', async () => {
  fs.writeFileSync('/run/only-outside', 'seen')
  try {
    const see = sub => sub.exec(['cat', '/run/only-outside'])
    const options = [newEffects(), { imageId: PLAIN, sharedRun: true }, null, 'run']
    const shared = await SubContainer.withTemp(...options, see)
    assert.equal(shared.stdout, 'seen')
    assert.notEqual((await withSub('no-run', see)).exitCode, 0)
  } finally {
    fs.rmSync('/run/only-outside')
  }
})
