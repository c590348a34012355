//! What the end-to-end tests stand on: a world of its own for every test, the real binary, and a view of the host.
//!
//! A test makes a [`World`] (its own directories, images and containers), runs the binary in it ([`Run`], [`Client`],
//! [`Launch`]) and compares the host before and after ([`Snapshot`]). Nothing here replaces a part of the runtime:
//! the kernel, the binary and the commands inside are the real ones. Waiting is done in [`until`], with a deadline.
//!
//! Needs root, because mounts and namespaces are the subject; without it a test says so and ends, and with
//! `REQUIRE=all` in the environment it fails instead.

mod bundle;
mod client;
mod container;
pub mod engine;
pub mod front;
mod golden;
mod host;
pub mod hostile;
mod image;
mod layered;
mod loop_device;
mod mounts;
pub mod pack;
pub mod probe;
mod pty;
pub mod registry;
mod run;
mod sentinel;
pub mod tree;
mod world;

pub use bundle::{Bundle, without_hosts};
pub use client::{Client, Done};
pub use container::{Launch, Rootfs};
pub use golden::assert_golden;
pub use host::{
    Process, Snapshot, bare_host, cgroups_of, lacking, linux_is_before, mounts_below, processes_of,
};
pub use image::{Image, erofs, squashfs, write_file};
pub use layered::{Layered, opaque, whiteout};
pub use loop_device::LoopDevice;
pub use mounts::{merge, own_mounts};
pub use pty::Pty;
pub use run::{Run, Wire};
pub use sentinel::Sentinel;
pub use world::{World, binary, install, tool};

use std::time::{Duration, Instant};

/// How long anything may take that a test waits for; long enough for a loaded or an emulated machine, short enough to end a hang.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Polls `probe` until it gives a value.
///
/// # Panics
/// With `what` when [`DEADLINE`] is over.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} for {what}");
        pause();
    }
}

/// Gives up the processor for a moment; only for loops that have a deadline.
fn pause() {
    let _ = nix::poll::poll(&mut [], 2_u8);
}

/// Burns `time` without sleeping: for tests that act at a random moment rather than wait for an event.
pub fn spin(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// A small generator with a fixed sequence per seed, so that a failing moment can be tried again.
pub struct Seeded(u64);

impl Seeded {
    /// The sequence that belongs to `seed`, or to the number in the environment variable `SEED`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(seed);
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
