// A terminal as stdio: the client runs on a pseudo-terminal that `script` makes, and the command on one of its own.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { scratch } from './lib/fifo.mjs'
import { need, program } from './lib/need.mjs'
import { sh } from './lib/scripts.mjs'
import { loaded } from './lib/load.mjs'
import { exited, finished, gather, until } from './lib/wait.mjs'

const CHILD = fileURLToPath(new URL('./lib/child.mjs', import.meta.url))

/** Runs the client program on a terminal of 33 x 77: the `script` process, what it shows, and a file with the client's pid. */
function onTerminal(t, request) {
  const dir = scratch(t)
  const pid = path.join(dir, 'pid')
  const tty = path.join(dir, 'tty')
  const line = 'tty > "$TTY_FILE"; stty rows 33 cols 77; exec "$NODE" "$CHILD" "$REQUEST"'
  const child = spawn('script', ['-qec', line, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      ...process.env,
      SHELL: '/bin/sh',
      NODE: process.execPath,
      CHILD,
      REQUEST: JSON.stringify({ terminal: true, ...request }),
      PID_FILE: pid,
      TTY_FILE: tty,
    },
  })
  t.after(() => child.kill('SIGKILL'))
  return { child, screen: gather(child.stdout), pid, tty: () => fs.readFileSync(tty, 'utf8').trim() }
}

const haveScript = t => need(t, program('script') && program('stty'), 'the programs script and stty')

async function terminal(t) {
  const command = sh('tty; test -t 0 && test -t 1 && test -t 2 && echo all three; stty size; exit 7')
  const { child, screen } = onTerminal(t, { verb: 'spawn', command })
  assert.equal((await exited(child, 60_000)).code, 7)
  await screen.has('all three')
  assert.match(screen.text(), /^33 77\r?$/m)
  assert.match(screen.text(), /terminal as before/)
}

test('a terminal as stdio is a terminal inside, of the same size, and as before afterwards', async t => {
  if (haveScript(t)) await terminal(t)
})

test('a terminal as stdio works on a fully loaded machine', async t => {
  if (haveScript(t)) await loaded(() => terminal(t))
})

test('^C on the terminal is SIGINT for the command and not for the client', async t => {
  if (!haveScript(t)) return
  const command = sh(`trap 'echo got int; exit 5' INT; echo ready; while :; do sleep 1; done`)
  const { child, screen } = onTerminal(t, { verb: 'spawn', command })
  await screen.has('ready')
  child.stdin.write('\x03')
  assert.equal((await exited(child, 60_000)).code, 5)
  await screen.has('got int')
  await screen.has('terminal as before')
})

test('^D on the terminal is the end of the input', async t => {
  if (!haveScript(t)) return
  const { child, screen } = onTerminal(t, { verb: 'spawn', command: sh('echo ready; wc -l; exit 6') })
  await screen.has('ready')
  child.stdin.write('one\ntwo\n')
  child.stdin.write('\x04')
  assert.equal((await exited(child, 60_000)).code, 6)
  await screen.has('2')
})

test('a new size of the terminal reaches the command with SIGWINCH', async t => {
  if (!haveScript(t)) return
  const command = sh(`trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 1; done`)
  const { child, screen, tty } = onTerminal(t, { verb: 'spawn', command })
  await screen.has('ready')
  execFileSync('stty', ['-F', tty(), 'rows', '41', 'cols', '99'])
  assert.equal((await exited(child, 60_000)).code, 4)
  await screen.has('41 99')
})

test('the terminal is as before when the exec client is ended by a signal', async t => {
  if (!haveScript(t)) return
  const { child, screen, pid } = onTerminal(t, { verb: 'spawn', command: sh('echo ready; exec sleep 3600') })
  await screen.has('ready')
  await until('the pid', () => fs.existsSync(pid) && fs.readFileSync(pid, 'utf8') !== '')
  process.kill(Number(fs.readFileSync(pid, 'utf8')), 'SIGTERM')
  assert.equal((await exited(child, 60_000)).code, 200)
  await screen.has('terminal as before')
})

test('output on a terminal is complete', async t => {
  if (!haveScript(t)) return
  const { child } = onTerminal(t, { verb: 'spawn', command: sh('seq 1 20000') })
  const { stdout } = await finished(child, 60_000)
  const lines = stdout
    .toString()
    .split('\r\n')
    .filter(line => /^\d+$/.test(line))
  assert.equal(lines.join(' '), Array.from({ length: 20000 }, (_, i) => i + 1).join(' '))
})

test('a launched command on a terminal has a terminal of that size', async t => {
  if (!haveScript(t)) return
  const { child, screen } = onTerminal(t, { verb: 'launch', command: sh('echo $$; test -t 1 && stty size; exit 7') })
  assert.equal((await exited(child, 60_000)).code, 7)
  assert.match(screen.text(), /^1\r?$/m)
  assert.match(screen.text(), /^33 77\r?$/m)
})
