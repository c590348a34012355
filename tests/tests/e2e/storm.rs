//! CONTRACT 3 and 6: commands that are run while their container is replaced again and again.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use tests::{World, until};

/// Two threads that run commands find every moment of a replacement in so many.
const REPLACEMENTS: usize = 30;

#[test]
fn a_command_runs_in_one_container_or_the_next() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let mut leader = world.launch(&root);
    let storm = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let run = || {
            while storm.load(Ordering::Relaxed) {
                let done = world.exec(&root).sh("echo ran").done();
                // Killed with the container it was in: the only way not to end well.
                if done.signal() == Some(Signal::SIGKILL as i32) {
                    continue;
                }
                assert_eq!(done.expect_ok(), "ran");
            }
        };
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(run)).collect();
        for _ in 0..REPLACEMENTS {
            let next = world.launch(&root);
            let replaced = std::mem::replace(&mut leader, next);
            // It takes its procfs along, so what is there next is the next one's.
            replaced.into_client().finish().expect_code(0);
            until("proc/1", || root.join("proc/1").exists().then_some(()));
        }
        storm.store(false, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("every command ran or was killed");
        }
    });
    leader.stop().expect_code(0);
    world.destroy(&root);
}
