#!/bin/busybox sh
# The machine's first program: finds the disks and hands over to systemd.
busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    busybox insmod "$module"
done
tries=100
while [ ! -b /dev/vdc ] && [ "$tries" -gt 0 ]; do
    tries=$((tries - 1))
    busybox sleep 0.1
done
busybox mount -t ext4 /dev/vda /root
busybox mount -t ext4 -o ro /dev/vdb /root/usr/lib/modules
busybox mount --move /dev /root/dev
exec busybox switch_root /root /sbin/init
