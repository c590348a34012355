// Runs in a mount namespace whose mounts are all shared: a container's whole life with execs, killed and destroyed,
// then the mount table must be what it was. A recursive bind of a shared /dev is in the peer group of the original, so
// unmounting it carelessly takes the machine's own /dev/pts away.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { Mounts, newEffects, newVolume, SubContainer, withSub } from './client.mjs'
import { mounts, mountsBelow, asBefore, snapshot } from './host.mjs'
import { PLAIN } from './image.mjs'
import { exited } from './wait.mjs'

const shared = mounts().filter(line => / shared:\d+/.test(line)).length
assert.equal(shared, mounts().length, 'every mount is shared')

await newVolume('shared')
const volume = Mounts.of().mountVolume({ volumeId: 'shared', mountpoint: '/data', readonly: false })
await withSub('first', sub => sub.execFail(['true']), { mounts: volume })

const before = snapshot()
await withSub(
  'whole',
  async sub => {
    await sub.execFail(['sh', '-c', 'echo x > /data/x; test -c /dev/null && test -d /sys/kernel'])
    assert.ok(mountsBelow(sub.rootfs).length > 5)
    await sub.launch(['sleep', '3600'])
    await sub.execFail(['true'])
  },
  { mounts: volume },
)
const killed = await SubContainer.eager(newEffects(), { imageId: PLAIN }, volume, 'killed')
await killed.execFail(['true'])
killed.leader.kill('SIGKILL')
await exited(killed.leader)
await killed.destroy()
await asBefore(before)

for (const dir of ['/dev/pts', '/sys/kernel', '/proc/self']) assert.ok(fs.readdirSync(dir).length > 0, dir)
assert.equal(fs.readFileSync('/media/startos/volumes/shared/x', 'utf8'), 'x\n')
console.log('the shared mounts are as before')
