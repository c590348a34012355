// Shell commands that several tests run inside a container. They run under busybox's sh.

/** `sh -c TEXT` with `args` as $0, $1, … */
export const sh = (text, ...args) => ['sh', '-c', text, ...args]

/** Prints "ready" and blocks; on the signal named by $0 prints "got NAME" and exits 3. */
export const onSignal = name =>
  sh(`sleep 3600 & trap 'echo got $0; kill $!; exit 3' "$0"; echo ready; while :; do wait $!; done`, name)

/** One process without children that carries `mark` as an argument; it prints "ready" and ends by any signal. */
export const single = mark => sh('cd /tmp; : > "$0"; echo ready; exec tail -f "$0"', mark)

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

/** Runs `action` with $p set for every other command that carries `mark`; the inits, which repeat it, are left out. */
const eachMarked = (mark, action) =>
  sh(
    `for p in /proc/[0-9]*; do
       case $p in /proc/$$) continue; esac
       case $(tr '\\0' ' ' < $p/cmdline) in init*) ;; *"$0"*) ${action} ;; esac
     done 2> /dev/null
     true`,
    mark,
  )

/** Prints the parent of every other command that carries `mark`. */
export const parents = mark => eachMarked(mark, `cut -d' ' -f4 $p/stat`)

/** Kills every other command that carries `mark`. */
export const killMarked = mark => eachMarked(mark, 'kill -9 ${p#/proc/}')
