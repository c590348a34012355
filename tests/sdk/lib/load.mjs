// A fully loaded machine: busy loops while a test runs.

import { spawn } from 'node:child_process'
import { exited } from './wait.mjs'

/** Runs `use` while `loops` processes compute; they are gone when it returns. */
export async function loaded(use, loops = 4) {
  const busy = Array.from({ length: loops }, () => spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' }))
  try {
    return await use()
  } finally {
    for (const child of busy) child.kill('SIGKILL')
    await Promise.all(busy.map(child => exited(child)))
  }
}

/** Runs `work(i)` for i below `count`, at most `width` at a time. */
export async function pool(count, width, work) {
  let next = 0
  const worker = async () => {
    while (next < count) {
      const i = next
      next += 1
      await work(i)
    }
  }
  await Promise.all(Array.from({ length: Math.min(width, count) }, worker))
}
