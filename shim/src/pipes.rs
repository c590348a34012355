//! The caller's pipes as streams of a process: they become its user's, who otherwise could not open `/dev/stdout` or
//! `/proc/self/fd/1`, as many programs do that log there. An engine has made them for the container. Nothing else changes its owner: a file,
//! a device or a socket is somebody's.

use std::io;
use std::os::fd::AsFd as _;

use nix::unistd::{Gid, Pid, Uid, fchown};

use crate::plan::{IdMaps, Plan};
use crate::stdio::{StreamKind, kinds};

/// Gives them away, as far as we may, before the process of the plan executes anything; it is in its user namespace by now.
pub(crate) fn give(plan: Plan<'_>, pid: Pid) {
    let owner = plan
        .process()
        .zip(IdMaps::of(pid))
        .and_then(|(process, maps)| maps.outside(process.uid, process.gid));
    let (Some((uid, gid)), None) = (owner, plan.stdio().terminal) else {
        return;
    };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    for (stream, kind) in streams.into_iter().zip(kinds()) {
        if kind == StreamKind::Pipe {
            // Who is not root may give nothing away, and its container has no other user that could need it.
            let _ = fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
    }
}
