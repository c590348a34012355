// Shell commands that several tests run inside a container. They run under busybox's sh.

/** `sh -c TEXT` with `args` as $0, $1, … */
export const sh = (text, ...args) => ['sh', '-c', text, ...args]

/** Prints "ready" and blocks; on the signal named by $0 prints "got NAME" and exits 3. */
export const onSignal = name =>
  sh(`sleep 3600 & trap 'echo got $0; kill $!; exit 3' "$0"; echo ready; while :; do wait $!; done`, name)

/**
 * A tree that is hard to kill: the command itself, a child, one in a session of its own, and one whose parents have
 * all left. Each carries `mark` as an argument; four processes in all. It prints "ready" when all are started.
 */
export const tree = mark =>
  sh(
    `idle='trap "" TERM INT HUP; while :; do sleep 3600; done'
     sh -c "$idle" "$0" &
     setsid sh -c "$idle" "$0" &
     (setsid sh -c "$idle" "$0" &)
     echo ready
     while :; do sleep 3600; done`,
    mark,
  )

/** How many processes of `tree` carry its mark. */
export const TREE_SIZE = 4

/** Prints the parent of every other process that carries $0 as an argument. */
export const parents = mark =>
  sh(
    `for p in /proc/[0-9]*; do
       if [ $p != /proc/$$ ] && grep -q "$0" $p/cmdline; then cut -d' ' -f4 $p/stat; fi
     done
     true`,
    mark,
  )

/** Kills every other process that carries $0 as an argument. */
export const killMarked = mark =>
  sh(
    `for p in /proc/[0-9]*; do
       if [ $p != /proc/$$ ] && grep -q "$0" $p/cmdline; then kill -9 \${p#/proc/}; fi
     done
     true`,
    mark,
  )
