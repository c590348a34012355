// What only the LXC-like container can show: the client's situation in production. Ids are shifted, nothing here owns
// the machine's filesystem, and start-container must add no user namespace and drop nothing.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import test, { after, before } from 'node:test'
import { Mounts, SubContainer, newEffects, newVolume, startContainer, withSub } from '../lib/client.mjs'
import { BASE, mountsBelow } from '../lib/host.mjs'
import { PLAIN } from '../lib/image.mjs'
import { sh } from '../lib/scripts.mjs'

let sub

before(async () => {
  sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'lxc')
})

after(async () => {
  await sub?.destroy()
})

test('the client runs in a user namespace with shifted ids and owns its root filesystem', () => {
  assert.deepEqual(fs.readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/), ['0', '100000', '65536'])
  assert.equal(process.getuid(), 0)
  assert.equal(fs.statSync('/etc/passwd').uid, 0)
})

test('the container shares the user, network and UTS namespaces of the client, and has the others of its own', async () => {
  const names = ['user', 'net', 'uts', 'pid', 'mnt', 'ipc', 'cgroup']
  const { stdout } = await sub.execFail(sh('for n in "$@"; do readlink /proc/self/ns/$n; done', 'sh', ...names))
  const inside = stdout.trim().split('\n')
  const same = names.filter((name, i) => fs.readlinkSync(`/proc/self/ns/${name}`) === inside[i])
  assert.deepEqual(same, ['user', 'net', 'uts'])
})

test('root inside keeps every capability, so services configure the network and bind port 80', async () => {
  const mine = /^CapBnd:\t(.*)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]
  const status = (await sub.execFail(['cat', '/proc/self/status'])).stdout
  for (const set of ['CapPrm', 'CapEff', 'CapBnd']) assert.match(status, new RegExp(`^${set}:\t${mine}$`, 'm'))
  await sub.execFail(['ip', 'link', 'set', 'lo', 'up'])
  await sub.execFail(['httpd', '-p', '127.0.0.1:80', '-h', '/etc'])
  assert.match((await sub.execFail(['wget', '-q', '-O', '-', 'http://127.0.0.1/passwd'])).stdout, /^root:/)
})

test('a user inside can make user namespaces, as nested podman does', async () => {
  const { stdout } = await sub.execFail(sh('unshare -U cat /proc/self/uid_map; echo ok'), { user: 'app' })
  assert.equal(stdout, 'ok\n')
  assert.equal(
    (await sub.execFail(sh('unshare -Urm sh -c "mount -t tmpfs x /tmp && id -u"'), { user: 'app' })).stdout,
    '0\n',
  )
})

test('mounts made inside are seen by the next exec and do not appear outside', async () => {
  await sub.execFail(sh('mkdir /inner && mount -t tmpfs inner /inner && echo kept > /inner/file'))
  assert.equal((await sub.execFail(['cat', '/inner/file'])).stdout, 'kept\n')
  assert.deepEqual(fs.readdirSync(sub.subpath('/inner')), [])
  assert.deepEqual(mountsBelow(sub.subpath('/inner')), [])
})

test('an idmap on a filesystem of the machine is refused by name and mounts nothing', async () => {
  const target = `${BASE}/refused`
  const args = ['bind-mount', '--source', '/etc', '--target', target, '--recursive', '--idmap', '1000:0:1']
  await assert.rejects(startContainer(...args), error => {
    assert.equal(error.code, 125)
    assert.match(error.stderr, /EPERM/)
    assert.match(error.stderr, /\/etc/)
    assert.match(error.stderr, /hint:/)
    return true
  })
  assert.deepEqual(mountsBelow(target), [])
  fs.rmSync(target, { recursive: true, force: true })
})

test('an idmap on a filesystem mounted inside works, and a plain bind of the machine works', async () => {
  const dir = await newVolume('inside')
  fs.writeFileSync(`${dir}/file`, 'x')
  fs.chownSync(`${dir}/file`, 1000, 1000)
  const mounts = Mounts.of().mountVolume({
    volumeId: 'inside',
    mountpoint: '/data',
    readonly: false,
    idmap: [{ fromId: 1000, toId: 33, range: 2 }],
  })
  await withSub(
    'mapped',
    async mapped => {
      assert.equal((await mapped.execFail(['stat', '-c', '%u:%g', '/data/file'])).stdout, '33:33\n')
      await startContainer('bind-mount', '--source', '/etc', '--target', mapped.subpath('/host-etc'), '--recursive')
      assert.match((await mapped.execFail(['cat', '/host-etc/passwd'])).stdout, /^root:/)
    },
    { mounts },
  )
})
