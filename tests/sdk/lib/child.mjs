// A client program of its own, whose stdio is the test's to choose: starts a container, runs one command in it with
// stdio 'inherit' through `spawn` or `launch`, and ends with the command's exit code.
// Argument: JSON { verb, command, options, terminal }. PID_FILE takes the pid of its start-container process; with
// `terminal` it also says whether the terminal's settings are the same afterwards.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { SubContainer, newEffects } from './client.mjs'
import { PLAIN } from './image.mjs'
import { exited } from './wait.mjs'

const { verb, command, options = {}, terminal = false } = JSON.parse(process.argv[2])
const settings = () => execFileSync('stty', ['-g'], { stdio: ['inherit', 'pipe', 'inherit'], encoding: 'utf8' })

const sub = await SubContainer.eager(newEffects(), { imageId: PLAIN }, null, 'child')
let end
try {
  const before = terminal && settings()
  const child = await (verb === 'launch'
    ? sub.launch(command, options)
    : sub.spawn(command, { stdio: 'inherit', ...options }))
  if (process.env.PID_FILE) fs.writeFileSync(process.env.PID_FILE, String(child.pid))
  end = await exited(child, 120_000)
  if (terminal) console.log(settings() === before ? '\nterminal as before' : '\nterminal changed')
} finally {
  await sub.destroy()
}
process.exitCode = end.code ?? 200
