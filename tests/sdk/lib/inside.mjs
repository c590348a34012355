// Runs in the private namespaces: gives the client its fixed places (/media/startos, /run/start-container,
// /var/lib/start-container, /usr/bin/start-container) without touching the machine's own, imports the images, and
// runs the test files one after the other. Arguments: SCRATCH host|lxc FILE…

import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { BASE, DATA, STATE } from './host.mjs'
import { PLAIN, importImages } from './image.mjs'

const OVERLAYFS_MAGIC = 0x794c7630

const [scratch, situation, ...files] = process.argv.slice(2)
const memory = path.join(scratch, 'mem')

const mount = (...args) => execFileSync('mount', args, { stdio: 'inherit' })

/** Makes `dir` writable for this namespace alone: what is written goes to memory, the machine's directory stays. */
function cover(dir) {
  const layers = path.join(memory, 'cover', dir.replaceAll('/', '-'))
  for (const name of ['upper', 'work']) fs.mkdirSync(path.join(layers, name), { recursive: true })
  const options = [`lowerdir=${dir}`, `upperdir=${layers}/upper`, `workdir=${layers}/work`]
  if (situation === 'lxc') options.push('userxattr')
  mount('-t', 'overlay', '-o', options.join(','), 'cover', dir)
}

function tmpfs(dir, mode) {
  fs.mkdirSync(dir, { recursive: true })
  mount('-t', 'tmpfs', '-o', `mode=${mode}`, 'tmpfs', dir)
}

/** One whole life, after which the directories that start-container keeps for good are there. */
function warmUp() {
  const run = (...args) => execFileSync('start-container', ['subcontainer', ...args], { encoding: 'utf8' })
  const rootfs = run('create-fs', PLAIN, 'warm-up').trim()
  run('launch', rootfs, 'true')
  run('destroy-fs', path.basename(rootfs))
}

tmpfs(memory, '755')
for (const dir of ['/media', '/run', '/var/lib', '/usr/bin']) cover(dir)
tmpfs(BASE, '755')
for (const dir of ['images', 'volumes', 'assets', 'subcontainers']) fs.mkdirSync(path.join(BASE, dir))
tmpfs(STATE, '700')
// An overlay's upper directory cannot lie on another overlay, which is what the disk is inside most containers.
if (situation === 'lxc' || fs.statfsSync(scratch).type === OVERLAYFS_MAGIC) {
  tmpfs(DATA, '700')
} else {
  // It is there already where start-container is installed.
  fs.mkdirSync(DATA, { recursive: true, mode: 0o700 })
  mount('--bind', path.join(scratch, 'data'), DATA)
}
if (fs.existsSync('/etc/start-container')) tmpfs('/etc/start-container', '755')
// The client's own `env` option is the whole environment of start-container, often without PATH: only the places that
// the C library searches by itself will do.
fs.copyFileSync(path.join(scratch, 'start-container'), '/usr/bin/start-container')
fs.chmodSync('/usr/bin/start-container', 0o755)

const temp = path.join(memory, 'tmp')
fs.mkdirSync(temp)
importImages(temp)
warmUp()

const flags = ['--test', '--test-concurrency=1', '--test-timeout=300000', '--test-reporter=spec']
const env = { ...process.env, TMPDIR: temp, SDK_SITUATION: situation }
const { status, signal, error } = spawnSync(process.execPath, [...flags, ...files], {
  stdio: ['ignore', 'inherit', 'inherit'],
  env,
})
if (error) throw error
if (signal) console.error(`the test runner was ended by ${signal}`)
process.exitCode = status ?? 1
