// The published client and the `effects` it is given: what the StartOS host side does for it, done with start-container.

import { execFile } from 'node:child_process'
import fs from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { promisify } from 'node:util'
import { BASE } from './host.mjs'
import { PLAIN } from './image.mjs'

const require = createRequire(import.meta.url)
export const { SubContainer } = require('@start9labs/start-sdk')
export const { Mounts } = require('@start9labs/start-sdk/lib/mainFn/Mounts.js')
export const { ExitError } = require('@start9labs/start-sdk/lib/util/SubContainer.js')

/** Runs start-container to its end; rejects, with its stderr in the message, when it fails. */
export const startContainer = (...args) => promisify(execFile)('start-container', args)

/** Where the host side keeps the volumes of other packages in these tests; a pointer mount leads there. */
export const dependencyVolume = (packageId, volumeId) => `${BASE}/packages/${packageId}/${volumeId}`

/** Mounts another package's volume, as the host side does: the client has only made a directory at `location`. */
async function mountPointer({ location, target }) {
  const source = path.join(dependencyVolume(target.packageId, target.volumeId), target.subpath ?? '')
  const isFile = target.filetype === 'file' || (target.filetype === 'infer' && (await fs.stat(source)).isFile())
  const args = ['bind-mount', '--source', source, '--target', location, '--recursive']
  if (isFile) {
    await fs.rmdir(location)
    args.push('--file')
  }
  if (target.readonly) args.push('--readonly')
  for (const i of target.idmap) args.push('--idmap', `${i.fromId}:${i.toId}:${i.range}`)
  await startContainer(...args)
}

/** A fresh effects object; `leave()` plays the end of the client's effects scope. */
export function newEffects() {
  const onLeave = []
  return {
    subcontainer: {
      async createFs({ imageId, name }) {
        const { stdout } = await startContainer('subcontainer', 'create-fs', imageId, ...(name ? [name] : []))
        const rootfs = stdout.trim()
        return [rootfs, path.basename(rootfs)]
      },
      async destroyFs({ guid }) {
        await startContainer('subcontainer', 'destroy-fs', guid)
      },
    },
    mount: mountPointer,
    onLeaveContext(action) {
      onLeave.push(action)
    },
    leave() {
      for (const action of onLeave.splice(0)) action()
    },
  }
}

/** Runs `use` with a fresh container and destroys it: the client's own withTemp. */
export function withSub(name, use, { imageId = PLAIN, mounts = null, effects = newEffects() } = {}) {
  return SubContainer.withTemp(effects, { imageId }, mounts, name, use)
}

/** A fresh, empty directory of a volume, with its id. */
export async function newVolume(volumeId) {
  const dir = `${BASE}/volumes/${volumeId}`
  await fs.rm(dir, { recursive: true, force: true })
  await fs.mkdir(dir, { recursive: true })
  return dir
}
