// Many lives, one after the other and eight at a time, that must leave nothing at all. SDK_CYCLES says how many.

import assert from 'node:assert/strict'
import test from 'node:test'
import { Mounts, newVolume, withSub } from './lib/client.mjs'
import { asBefore, snapshot } from './lib/host.mjs'
import { pool } from './lib/load.mjs'

const CYCLES = Number(process.env.SDK_CYCLES ?? 1000)

test('withTemp cycles leave mounts, processes, state and descriptors as they were', { timeout: 900_000 }, async t => {
  await newVolume('cycles')
  const mounts = Mounts.of().mountVolume({ volumeId: 'cycles', mountpoint: '/data', readonly: false })
  const cycle = i =>
    withSub(
      `cycle-${i}`,
      async sub => {
        const { stdout } = await sub.execFail(['sh', '-c', 'echo $0 > /data/$0; cat /data/$0', `${i}`], {}, 120_000)
        assert.equal(stdout, `${i}\n`)
      },
      { mounts },
    )
  await cycle('warm')
  const before = snapshot()
  const start = Date.now()
  await pool(CYCLES, 8, cycle)
  t.diagnostic(`${CYCLES} cycles, eight at a time, in ${((Date.now() - start) / 1000).toFixed(1)} s`)
  await asBefore(before, 60_000)
})
