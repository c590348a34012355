// What both launchers share: the binary, the client, a scratch directory, and a private mount and PID namespace in
// which everything runs. When the first process in there ends, the kernel ends the rest, so nothing stays on the host.

import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const HERE = path.dirname(path.dirname(fileURLToPath(import.meta.url)))

const DEADLINE_S = Number(process.env.SDK_DEADLINE_S ?? 1500)

/** The binary under test: START_CONTAINER_BIN, or the release build of this repository. */
function binary() {
  const built = `target/${{ x64: 'x86_64', arm64: 'aarch64', riscv64: 'riscv64gc' }[process.arch]}-unknown-linux-gnu/release`
  const file = process.env.START_CONTAINER_BIN ?? path.resolve(HERE, '../..', built, 'start-container')
  if (!fs.existsSync(file)) throw new Error(`${file} does not exist; build it or set START_CONTAINER_BIN`)
  return file
}

/** Installs the pinned client when it is not there. */
function installClient() {
  if (fs.existsSync(path.join(HERE, 'node_modules/@start9labs/start-sdk/package.json'))) return
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: HERE, stdio: 'inherit' })
}

/** Which test files to run: those named on the command line, or all in the given directories. */
export function testFiles(...dirs) {
  const named = process.argv.slice(2)
  if (named.length > 0) return named.map(name => path.resolve(name))
  return dirs.flatMap(dir =>
    fs
      .readdirSync(path.join(HERE, dir))
      .filter(f => f.endsWith('.test.mjs'))
      .sort()
      .map(f => path.join(HERE, dir, f)),
  )
}

/**
 * Runs `node PROGRAM SCRATCH ARGS…` in its own mount and PID namespaces and exits the way it did. `sh` is their first
 * process, because it reaps the orphans that reparent to it and Node does not.
 */
export async function launch(program, args) {
  if (process.getuid() !== 0) throw new Error('these tests mount, so they must be started by root')
  const bin = binary()
  installClient()
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'start-container-sdk-'))
  // In the LXC-like run the root inside is not the owner of this directory and must still get through it.
  fs.chmodSync(scratch, 0o755)
  for (const dir of ['mem', 'data', 'root']) fs.mkdirSync(path.join(scratch, dir))
  fs.copyFileSync(bin, path.join(scratch, 'start-container'))
  fs.chmodSync(path.join(scratch, 'start-container'), 0o755)
  const inner = ['sh', '-c', '"$@"; exit $?', 'sh', process.execPath, path.join(HERE, 'lib', program), scratch, ...args]
  const flags = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc']
  const child = spawn('unshare', [...flags, ...inner], { cwd: HERE, stdio: ['ignore', 'inherit', 'inherit'] })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill('SIGKILL'))
  const timer = setTimeout(() => {
    console.error(`the tests did not end within ${DEADLINE_S} s; ending them`)
    child.kill('SIGKILL')
  }, DEADLINE_S * 1000)
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      if (signal) console.error(`the tests were ended by ${signal}`)
      resolve(signal ? 1 : code)
    })
  })
  clearTimeout(timer)
  // The mounts went away with their namespace, so this reaches nothing but the scratch directory itself.
  fs.rmSync(scratch, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  process.exitCode = code
}
