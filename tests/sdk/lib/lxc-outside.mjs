// Builds the LXC-like container around inside.mjs: a user namespace with shifted ids, whose root filesystem is an
// idmapped bind of the machine's own. Arguments: SCRATCH FILE…
//
// Nobody else can do this part: the idmap of the machine's filesystem needs root in the initial user namespace.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { HERE } from './launcher.mjs'
import { kernel } from './need.mjs'
import { until } from './wait.mjs'

const FIRST = 100_000
const COUNT = 65_536

const [scratch, ...files] = process.argv.slice(2)
const root = path.join(scratch, 'root')

/** The mount point that `file` lies on. */
function mountPoint(file) {
  let at = fs.realpathSync(file)
  const { dev } = fs.statSync(at)
  while (at !== '/' && fs.statSync(path.dirname(at)).dev === dev) at = path.dirname(at)
  return at
}

/** Shows the filesystem at `point` below the new root with its ids shifted, so that id 0 there is id 0 inside. */
function shifted(point) {
  const args = ['bind-mount', '--source', point, '--target', path.join(root, point), '--idmap', `0:${FIRST}:${COUNT}`]
  execFileSync(path.join(scratch, 'start-container'), args, { stdio: 'inherit' })
}

function skip(reason) {
  console.log(`skipped: the client inside an LXC-like container: ${reason}`)
  process.exit(process.env.REQUIRE === 'all' ? 1 : 0)
}

if (!kernel(6, 3)) skip('needs Linux 6.3, which idmaps tmpfs')
if (fs.readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/)[2] !== '4294967295')
  skip('needs the initial user namespace')

const points = new Set(['/', '/usr/bin', HERE, process.execPath, scratch].map(mountPoint))
try {
  for (const point of [...points].sort()) shifted(point)
} catch (e) {
  skip(`the machine's filesystem cannot be idmapped: ${e.message}`)
}

// Process 1 of the user namespace: it only holds the namespace while its maps are written from outside.
const holder = spawn('unshare', ['--user', 'sleep', 'infinity'], { stdio: ['ignore', 'inherit', 'inherit'] })
const user = `/proc/${holder.pid}/ns/user`
const ours = fs.readlinkSync('/proc/self/ns/user')
await until('the new user namespace', () => fs.readlinkSync(user) !== ours)
for (const map of ['uid_map', 'gid_map']) fs.writeFileSync(`/proc/${holder.pid}/${map}`, `0 ${FIRST} ${COUNT}\n`)

// The script travels as an argument: its file may lie where the shifted root cannot read yet.
const script = fs.readFileSync(path.join(HERE, 'lib/lxc-root.sh'), 'utf8')
const inside = [process.execPath, path.join(HERE, 'lib/inside.mjs'), scratch, 'lxc', ...files]
const namespaces = ['--mount', '--pid', '--ipc', '--uts', '--cgroup', '--net', '--fork', '--kill-child']
const enter = [`--user=${user}`, '--setuid', '0', '--setgid', '0', 'unshare', ...namespaces]
const { status, error } = spawnSync('nsenter', [...enter, 'sh', '-c', script, 'sh', root, HERE, ...inside], {
  cwd: '/',
  stdio: ['ignore', 'inherit', 'inherit'],
})
holder.kill('SIGKILL')
if (error) throw error
process.exitCode = status ?? 1
