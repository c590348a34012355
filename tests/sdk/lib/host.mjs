// What the host shows of us: processes, mounts, files and descriptors. It reads and compares; it changes nothing.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { until } from './wait.mjs'

export const BASE = '/media/startos'
export const STATE = '/run/start-container'
export const DATA = '/var/lib/start-container'

/** Every live process (zombies are not) as `{ pid, start, args }`; `start` tells a reused pid from the old one. */
export function processes() {
  const found = []
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = fs.readFileSync(`/proc/${name}/stat`, 'latin1')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (fields[0] === 'Z' || fields[0] === 'X') continue
      const args = fs.readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0').slice(0, -1)
      if (args.length === 0) continue
      found.push({ pid: Number(name), start: fields[19], args })
    } catch (e) {
      if (e.code !== 'ENOENT' && e.code !== 'ESRCH') throw e
    }
  }
  return found
}

let marks = 0

/** A word that occurs in no other process's arguments. */
export function marker() {
  marks += 1
  return `mark-${process.pid}-${Date.now()}-${marks}`
}

const carriers = mark =>
  processes().filter(p => p.args.includes(mark) && path.basename(p.args[0]) !== 'start-container')

/** The commands with `mark` as one of their arguments; start-container and its init, which repeat them, are left out. */
export const marked = mark => carriers(mark).filter(p => p.args[0] !== 'init')

/** Whether nothing with `mark` is left, not even an init; only the clients, which the test itself started, may be. */
export const gone = mark => carriers(mark).length === 0

/** The mount table of this process, one line per mount. */
export function mounts() {
  return fs.readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n').sort()
}

/** The mount points at or below `dir`, as `{ point, type }`. */
export function mountsBelow(dir) {
  return mounts()
    .map(line => {
      const [left, right] = line.split(' - ')
      return { point: left.split(' ')[4], type: right.split(' ')[0] }
    })
    .filter(m => m.point === dir || m.point.startsWith(`${dir}/`))
}

/**
 * Every path below `dir` with its type, mode, owner and size; what goes away while it is listed is left out. What the
 * kernel shows in a container (its processes, and /sys with what is mounted there) is no file that is left behind, and
 * cannot always be listed.
 */
export function tree(dir) {
  const found = []
  const walk = at => {
    const s = fs.lstatSync(at)
    const size = s.isFile() ? s.size : '-'
    const isKernels = /\/subcontainers\/[^/]+\/(proc|sys)$/.test(at)
    const names = s.isDirectory() && !isKernels ? fs.readdirSync(at).sort() : []
    found.push(`${at} ${s.mode.toString(8)} ${s.uid}:${s.gid} ${size}`)
    for (const name of names) present(path.join(at, name))
  }
  const present = at => {
    try {
      walk(at)
    } catch (e) {
      if (e.code !== 'ENOENT') throw e
    }
  }
  present(dir)
  return found
}

/** Everything that a container may leave behind on this host. */
export function snapshot() {
  return {
    mounts: mounts(),
    processes: processes()
      .map(p => `${p.pid}@${p.start} ${p.args.join(' ')}`)
      .sort(),
    state: tree(STATE),
    data: tree(DATA),
    subcontainers: tree(`${BASE}/subcontainers`),
    descriptors: descriptors().length,
  }
}

/** What this process's descriptors are; the one that reads the list is not counted. */
export function descriptors() {
  return fs.readdirSync('/proc/self/fd').flatMap(fd => {
    try {
      return [`${fd} ${fs.readlinkSync(`/proc/self/fd/${fd}`)}`]
    } catch {
      return []
    }
  })
}

/** What differs between two snapshots, one line each: "+" is new, "-" is gone. */
function differences(before, now) {
  const lines = part => (Array.isArray(part) ? part : [`${part}`])
  return Object.keys(before).flatMap(key => {
    const [old, fresh] = [lines(before[key]), lines(now[key])]
    return [
      ...fresh.filter(line => !old.includes(line)).map(line => `+ ${key}: ${line}`),
      ...old.filter(line => !fresh.includes(line)).map(line => `- ${key}: ${line}`),
    ]
  })
}

/** Waits until the host is as it was in `before`; what still differs after the deadline is the failure. */
export async function asBefore(before, ms = 15_000) {
  let left = []
  const same = () => {
    left = differences(before, snapshot())
    return left.length === 0
  }
  await until('the host as it was before', same, ms).catch(e => assert.fail(left.join('\n') || e))
}
