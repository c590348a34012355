// Runs the tests of this directory with the published client on this machine as it is: `node run.mjs [FILE…]`.
// START_CONTAINER_BIN names the binary, SDK_CYCLES the withTemp cycles, REQUIRE=all turns skips into failures.

import { launch, testFiles } from './lib/launcher.mjs'

await launch('inside.mjs', ['host', ...testFiles('.')])
