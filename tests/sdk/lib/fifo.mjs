// Real pipes as a child's stdio. Node itself only gives socketpairs, so a FIFO with a `cat` at its other end is used.

import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { finished, within } from './wait.mjs'

/** A fresh directory for one test; it is removed after `t`. */
export function scratch(t) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'case-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A pipe that takes a child's output: `fd` for its stdio, `given()` once it was spawned, `all()` for every byte. */
export function outputPipe(dir, name) {
  const file = path.join(dir, name)
  execFileSync('mkfifo', [file])
  const cat = spawn('cat', [file], { stdio: ['ignore', 'pipe', 'inherit'] })
  const end = finished(cat)
  const fd = fs.openSync(file, fs.constants.O_WRONLY)
  return { fd, given: () => fs.closeSync(fd), all: async () => (await end).stdout }
}

/** A pipe that a child reads `bytes` from, up to end of file: `fd` for its stdio, `given()` once it was spawned. */
export function inputPipe(dir, name, bytes) {
  const file = path.join(dir, name)
  execFileSync('mkfifo', [file])
  fs.writeFileSync(`${file}.bytes`, bytes)
  const cat = spawn('sh', ['-c', 'exec cat "$1" > "$2"', 'sh', `${file}.bytes`, file], { stdio: 'inherit' })
  const end = finished(cat)
  const fd = fs.openSync(file, fs.constants.O_RDONLY)
  return { fd, given: () => fs.closeSync(fd), end: () => within(30_000, `the writer of ${file}`, end) }
}
