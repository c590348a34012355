// Many at once: containers and commands, on an idle and on a fully loaded machine.

import assert from 'node:assert/strict'
import test from 'node:test'
import { SubContainer, newEffects } from './lib/client.mjs'
import { asBefore, snapshot } from './lib/host.mjs'
import { PLAIN } from './lib/image.mjs'
import { loaded } from './lib/load.mjs'
import { sh } from './lib/scripts.mjs'

/** Makes `count` containers at once and destroys all that came to be, also when one did not. */
async function containers(count, use) {
  const made = await Promise.allSettled(
    Array.from({ length: count }, (_, i) => SubContainer.eager(newEffects(), { imageId: PLAIN }, null, `many-${i}`)),
  )
  const subs = made.filter(m => m.status === 'fulfilled').map(m => m.value)
  try {
    for (const m of made) if (m.status === 'rejected') throw m.reason
    await use(subs)
  } finally {
    await Promise.all(subs.map(sub => sub.destroy()))
  }
}

async function twenty() {
  const before = snapshot()
  await containers(20, async subs => {
    const names = await Promise.all(
      subs.map(async (sub, i) => {
        await sub.writeFile('/name', `container ${i}`)
        return (await sub.execFail(['cat', '/name'])).stdout
      }),
    )
    assert.deepEqual(
      names,
      subs.map((_, i) => `container ${i}`),
    )
    assert.equal(new Set(subs.map(sub => sub.guid)).size, 20)
  })
  await asBefore(before)
}

async function threeTimesFifty() {
  const before = snapshot()
  await containers(3, async subs => {
    const runs = subs.flatMap((sub, c) =>
      Array.from({ length: 50 }, async (_, i) => {
        const print = sh('echo "out $0 $1"; echo "err $0 $1" >&2; exit $1', `${c}`, `${i}`)
        const result = await sub.exec(print, i % 2 ? { user: 'app' } : {}, 120_000)
        assert.deepEqual(
          [result.stdout, result.stderr, result.exitCode, result.exitSignal],
          [`out ${c} ${i}\n`, `err ${c} ${i}\n`, i, null],
        )
      }),
    )
    await Promise.all(runs)
  })
  await asBefore(before)
}

test('20 containers at once', twenty)

test('20 containers at once on a fully loaded machine', () => loaded(twenty))

test('3 x 50 execs at once', threeTimesFifty)

test('3 x 50 execs at once on a fully loaded machine', () => loaded(threeTimesFifty))
