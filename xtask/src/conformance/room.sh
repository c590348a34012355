#!/bin/sh
# room.sh SECONDS WORD...: runs a command where whatever it leaves can be found and ended, and two of it do not meet: in PID and
# mount namespaces, and in a cgroup of every hierarchy that a cgroup namespace shows as the root of them all. After that
# many seconds it is killed (exit status 124, or 137 when it took SIGKILL).
set -u
seconds=$1
shift
name=conformance-$$

# Where the hierarchies are mounted, and which each is: `/sys/fs/cgroup/cpu cgroup cpu`.
hierarchies=$(awk '$5 ~ "^/sys/fs/cgroup" {
    for (i = 6; $i != "-"; i++);
    if ($(i + 1) == "cgroup2") { print $5, $(i + 1), "-" }
    else if ($(i + 1) == "cgroup") { sub("^rw,", "", $(i + 3)); print $5, $(i + 1), $(i + 3) }
}' /proc/self/mountinfo)

enter() {
    while read -r top kind controllers; do
        mkdir "$top/$name" || return
        # What a cgroup of version 1 does not have from the one above it.
        case ,$controllers, in
            *,cpuset,*)
                cat "$top/cpuset.cpus" > "$top/$name/cpuset.cpus"
                cat "$top/cpuset.mems" > "$top/$name/cpuset.mems"
                ;;
            *,cpu,*)
                # What is given to one is not there for others, who may have it already.
                [ ! -e "$top/$name/cpu.rt_runtime_us" ] || echo 600000 2> /dev/null > "$top/$name/cpu.rt_runtime_us"
                ;;
        esac
        # With version 2 a cgroup has only the controllers that are handed down to it. Not all can be everywhere.
        if [ "$kind" = cgroup2 ]; then
            for controller in $(cat "$top/cgroup.controllers"); do
                echo "+$controller" > "$top/cgroup.subtree_control"
            done 2> /dev/null
        fi
        echo 0 > "$top/$name/cgroup.procs" || return
    done << END
$hierarchies
END
}

# Runs in the cgroup namespace. A cgroup of version 2 with processes cannot hand controllers down, not even one that a namespace
# shows as the root of all: nobody stays in it.
between='
    while read -r top kind controllers; do
        [ "$kind" = cgroup ] || { mkdir "$top/$ROOM/caller" && echo 0 > "$top/$ROOM/caller/cgroup.procs"; } || exit
    done << END
$HIERARCHIES
END
    exec timeout --kill-after=5 "$ROOM_SECONDS" unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        sh -c "$ROOM_INSIDE" room "$@"
'

# Runs inside: sees only these cgroups, and lets nothing stand still that is to end with the PID namespace.
inside='
    while read -r top kind controllers; do
        umount "$top" || exit
    done << END
$HIERARCHIES
END
    # Of several hierarchies the directory that they are mounted in is no hierarchy, and some make cgroups there all the same.
    case "$HIERARCHIES" in
        "/sys/fs/cgroup "*) ;;
        *) mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup || exit ;;
    esac
    while read -r top kind controllers; do
        mkdir -p "$top" && mount -t "$kind" -o "$(echo "$controllers" | sed s/^-$/rw/)" "$kind" "$top" || exit
    done << END
$HIERARCHIES
END
    "$@"
    status=$?
    find /sys/fs/cgroup -name freezer.state -exec sh -c "echo THAWED > \$1" sh {} \; 2>/dev/null
    exit $status
'

# Some runtimes give the caller's streams to the user of the container, and so the host's null device.
owner=$(stat -c %u:%g /dev/null)
(
    enter || exit
    export HIERARCHIES="$hierarchies" ROOM="$name" ROOM_SECONDS="$seconds" ROOM_INSIDE="$inside"
    exec unshare --cgroup sh -c "$between" room "$@"
)
status=$?
chown "$owner" /dev/null

# The kernel takes a moment to end what was killed.
echo "$hierarchies" | while read -r top kind controllers; do
    tries=100
    while [ -d "$top/$name" ] && [ $tries -gt 0 ]; do
        find "$top/$name" -name freezer.state -exec sh -c 'echo THAWED > "$1"' sh {} \; 2>/dev/null
        find "$top/$name" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        tries=$((tries - 1))
    done
    [ ! -d "$top/$name" ] || echo "$top/$name cannot be removed: $(cat "$top/$name/cgroup.procs")" >&2
done
exit $status
