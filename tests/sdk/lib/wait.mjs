// Waiting with a deadline: every wait in these tests has a condition and an end, and says what it waited for.

import { setTimeout as delay } from 'node:timers/promises'

/** Polls `condition` (5 ms apart) until it answers something true, which is returned; rejects after `ms`. */
export async function until(what, condition, ms = 15_000) {
  const end = Date.now() + ms
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain for: ${what}`)
    await delay(5)
  }
}

/** Rejects when `promise` is not settled after `ms`. */
export async function within(ms, what, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for: ${what}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** How a child process ended: `{ code, signal }`, also when it has ended before this was called. */
export function exited(child, ms = 30_000) {
  const ended = new Promise((resolve, reject) => {
    const now = () => resolve({ code: child.exitCode, signal: child.signalCode })
    if (child.exitCode !== null || child.signalCode !== null) return now()
    child.once('exit', now)
    child.once('error', reject)
  })
  return within(ms, `the end of ${child.spawnargs.join(' ')}`, ended)
}

/** Collects the chunks of a stream; `.text()` and `.bytes()` give what has arrived so far. */
export function gather(stream) {
  const chunks = []
  stream.on('data', chunk => chunks.push(chunk))
  return {
    bytes: () => Buffer.concat(chunks),
    text: () => Buffer.concat(chunks).toString(),
    has(part, ms) {
      return until(`output with ${JSON.stringify(part)}`, () => this.text().includes(part), ms)
    },
  }
}

/** Runs a child to its end with both outputs collected: `{ code, signal, stdout, stderr }` (Buffers), on 'close'. */
export async function finished(child, ms = 60_000) {
  const stdout = child.stdout && gather(child.stdout)
  const stderr = child.stderr && gather(child.stderr)
  const closed = new Promise((resolve, reject) => {
    child.once('close', (code, signal) => resolve({ code, signal }))
    child.once('error', reject)
  })
  const end = await within(ms, `the end of ${child.spawnargs.join(' ')}`, closed)
  return { ...end, stdout: stdout?.bytes(), stderr: stderr?.bytes() }
}

/** Lets `ms` pass, to a fraction of a millisecond: chooses the moment of a kill, waits for nothing. */
export function pass(ms) {
  const end = performance.now() + ms
  while (performance.now() < end);
}
