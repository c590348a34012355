#!/bin/sh
# What the machine does: unpacks the tests from the third disk, runs what that says with its output on the second serial port,
# says how it ended, and turns the machine off.
stty -F /dev/ttyS1 raw -echo
exec > /dev/ttyS1 2>&1
# As a machine has them where somebody is logged in.
modprobe -a fuse loop
tar --extract --file=/dev/vdc --directory=/
echo "kernel $(uname -r), $(systemctl --version | head -n 1), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
sh /vm/words
echo "the tests ended with $?"
sync
systemctl poweroff --force --force
