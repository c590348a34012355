# Enters the root filesystem of the LXC-like container and runs a command in it: ROOT DIRECTORY COMMAND…
# It is root in a user namespace of its own, and process 1 of its PID namespace, so it stays to reap orphans.
set -eu
root=$1 dir=$2
shift 2

# Mounts that came from the more privileged namespace are locked; a recursive bind of them has an unlocked root.
mount --rbind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom tty; do
    : > "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t mqueue mqueue dev/mqueue
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 media media
mkdir media/old
pivot_root . media/old
cd /
umount -l /media/old
rmdir /media/old
hostname sdk-lxc
cd "$dir"
"$@"
exit $?
