// Runs the same tests with the whole client inside an LXC-like container, production's situation: `node lxc.mjs
// [FILE…]`. Ids are shifted by 100000, the root filesystem is idmapped, and every namespace is the container's own.

import { launch, testFiles } from './lib/launcher.mjs'

await launch('lxc-outside.mjs', testFiles('.', 'lxc'))
