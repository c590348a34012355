#!/bin/sh
# What the machine does: unpacks the tests from the third disk, runs them with their output on the second serial port, says
# how they ended, and turns the machine off.
stty -F /dev/ttyS1 raw -echo
exec > /dev/ttyS1 2>&1
# As a machine has them where somebody is logged in.
modprobe -a fuse loop
tar --extract --file=/dev/vdc --directory=/
. /vm/words
echo "kernel $(uname -r), $(systemctl --version | head -n 1), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
cd /
"$TESTS" --show-output --test-threads=2 $FILTERS
echo "the tests ended with $?"
sync
systemctl poweroff --force --force
