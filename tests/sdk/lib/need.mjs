// What a test needs from the machine. A missing thing skips the test with its reason; with REQUIRE=all it fails it.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'

/** True when `present`; otherwise skips the test `t` (or throws, with REQUIRE=all), naming what is missing. */
export function need(t, present, what) {
  if (present) return true
  if (process.env.REQUIRE === 'all') throw new Error(`this machine lacks ${what}, and REQUIRE=all is set`)
  console.log(`skipped: ${t.name}: this machine lacks ${what}`)
  t.skip(`lacks ${what}`)
  return false
}

/** Whether the kernel is at least `major.minor`. */
export function kernel(major, minor) {
  const [a, b] = fs
    .readFileSync('/proc/sys/kernel/osrelease', 'utf8')
    .split('.')
    .map(n => parseInt(n, 10))
  return a > major || (a === major && b >= minor)
}

/** The path of a program, or null. */
export function program(name) {
  try {
    return execFileSync('sh', ['-c', 'command -v "$1"', 'sh', name], { encoding: 'utf8' }).trim()
  } catch {
    return null
  }
}
