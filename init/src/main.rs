//! PID 1 of a container and the last program before the workload: no std, no libc, no memory of its own.
//!
//! It finds everything on the stack that the kernel made for it (see `protocol`).
//! It is executed from a sealed memfd, so `/proc/self/exe` of whatever runs before the workload leads to nothing that
//! can be written.
#![no_std]
#![no_main]
#![no_builtins]

mod attend;
mod last_steps;
mod mem;
mod pid1;
mod policy;
mod protocol;
mod sys;

use last_steps::Command;
use protocol::{Record, Role, SPEC_ARGUMENT, Spec, Step};
use sys::CStr;

const PR_SET_NAME: usize = 15;

/// A failed step: where, and the errno.
type Failed = (Step, i32);

/// The part of the stack that the kernel fills: argc, then argv and envp, each ended by null.
#[derive(Clone, Copy)]
struct Stack(*const usize);

impl Stack {
    fn argument_count(self) -> usize {
        // SAFETY: the entry point passed the initial stack pointer, and argc is what lies there.
        unsafe { *self.0 }
    }

    /// The address of `argv[index]`; `index` may be one past the arguments, which is the null that ends them.
    fn argument_slot(self, index: usize) -> sys::Vector {
        // SAFETY: argv follows argc and has argc + 1 entries, which the callers stay within.
        unsafe { self.0.add(1 + index) }.cast()
    }

    fn environment(self) -> sys::Vector {
        self.argument_slot(self.argument_count() + 1)
    }

    /// The SPEC argument.
    fn spec(self) -> Option<&'static [u8]> {
        if self.argument_count() <= SPEC_ARGUMENT {
            return None;
        }
        // SAFETY: the slot lies within argv.
        let text: CStr = unsafe { *self.argument_slot(SPEC_ARGUMENT) };
        let mut length = 0;
        // SAFETY: the kernel ends every argument with a zero byte, and `length` has not passed it.
        while unsafe { *text.add(length) } != 0 {
            length += 1;
        }
        // SAFETY: these bytes are ours for the life of the process and nobody writes to them.
        Some(unsafe { core::slice::from_raw_parts(text, length) })
    }
}

/// Where the entry point jumps to, with the initial stack pointer.
extern "C" fn main(stack: *const usize) -> ! {
    let stack = Stack(stack);
    let Some((spec, groups)) = stack.spec().and_then(Spec::decode) else {
        // Without a SPEC nobody has told where to report: somebody executed init by hand.
        sys::exit(125)
    };
    // The kernel has named us after the memfd. A failure costs nothing but the name.
    let _ = sys::prctl(PR_SET_NAME, c"init".as_ptr().addr());
    // The shim has blocked what it forwards; from here on everything waits until it is asked for, SIGCHLD too.
    if let Err(errno) = sys::set_signal_mask(u64::MAX) {
        fail(&spec, (Step::Signals, errno));
    }
    let command = Command::new(stack, &spec);
    match spec.role {
        Role::Idle => pid1::idle(&spec),
        Role::Run => fail(&spec, last_steps::become_command(&spec, groups, &command)),
        Role::Supervise => pid1::supervise(&spec, groups, &command),
        Role::Attend => attend::attend(&spec, groups, &command),
    }
}

/// Reports a failed step and ends.
fn fail(spec: &Spec, (step, errno): Failed) -> ! {
    let errno = u16::try_from(errno).unwrap_or(u16::MAX);
    sys::write(
        spec.report,
        &Record::InitFailed(step as u16, errno).to_bytes(),
    );
    sys::exit(125)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(125)
}
