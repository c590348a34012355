//! PID 1 of a container and the last program before the workload: no std, no libc, no memory of its own.
//!
//! It finds everything on the stack that the kernel made for it (see `protocol`).
//! It is executed from a sealed memfd, so `/proc/self/exe` of whatever runs before the workload leads to nothing that
//! can be written.
#![no_std]
#![no_main]
#![no_builtins]
// Without libc there is nobody else to do it.
#![allow(unsafe_code)]
#![expect(
    unreachable_pub,
    reason = "policy and protocol are public in the library"
)]

mod attend;
mod last_steps;
mod mem;
mod pid1;
mod policy;
#[expect(dead_code, reason = "the shim's half of it")]
mod protocol;
mod sys;

use last_steps::Command;
use protocol::{ALL_CAPABILITIES, Groups, Record, Role, SPEC_ARGUMENT, Spec, Step};
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

    /// Blanks all arguments but the name, and the environment: they are the command's, which has its own copy by now.
    /// Otherwise `pkill -f` inside would find us by the command's words, and its secrets would be in two places.
    fn forget_command(self) {
        let arguments = self.argument_count().saturating_sub(1);
        forget(self.argument_slot(1), arguments);
        forget(self.environment(), usize::MAX);
    }

    /// The SPEC argument.
    fn spec(self) -> Option<&'static [u8]> {
        if self.argument_count() <= SPEC_ARGUMENT {
            return None;
        }
        // SAFETY: the slot lies within argv.
        let text: CStr = unsafe { *self.argument_slot(SPEC_ARGUMENT) };
        let length = length(text);
        // SAFETY: these bytes are ours for the life of the process and nobody writes to them.
        Some(unsafe { core::slice::from_raw_parts(text, length) })
    }
}

/// The length of an argument, which may not be null.
fn length(text: CStr) -> usize {
    let mut length = 0;
    // SAFETY: the kernel ends every argument with a zero byte, and `length` has not passed it.
    while unsafe { *text.wrapping_add(length) } != 0 {
        length += 1;
    }
    length
}

/// Blanks up to `limit` strings of a vector that ends with null.
fn forget(vector: sys::Vector, limit: usize) {
    for index in 0..limit {
        // SAFETY: no null has been seen so far, so this entry exists.
        let mut text = unsafe { *vector.wrapping_add(index) }.cast_mut();
        if text.is_null() {
            return;
        }
        // SAFETY: the kernel ends every string with a zero byte, and `text` has not passed it.
        while unsafe { *text } != 0 {
            // SAFETY: the initial stack is ours to write to, and nothing refers to these bytes any more.
            unsafe { *text = 0 };
            // SAFETY: at most one past the string's last byte, which is its zero.
            text = unsafe { text.add(1) };
        }
    }
}

/// Where the entry point jumps to, with the initial stack pointer.
extern "C" fn main(stack: *const usize) -> ! {
    let stack = Stack(stack);
    let Some((mut spec, groups)) = stack.spec().and_then(Spec::decode) else {
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
    last_steps::renounce(&spec).unwrap_or_else(|failed| fail(&spec, failed));
    match spec.role {
        Role::Idle => {
            stack.forget_command();
            keep_only_kill(&spec).unwrap_or_else(|failed| fail(&spec, failed));
            pid1::idle(&spec)
        }
        Role::Run => {
            let failed = last_steps::become_command(&mut spec, groups, &command);
            fail(&spec, failed)
        }
        Role::Supervise => {
            let child = start(&mut spec, groups, &command, stack);
            pid1::supervise(&spec, child)
        }
        Role::Attend => {
            attend::prepare().unwrap_or_else(|failed| fail(&spec, failed));
            let child = start(&mut spec, groups, &command, stack);
            attend::watch(&spec, child)
        }
    }
}

/// Forks the process that becomes the command.
fn start(spec: &mut Spec, groups: Groups<'_>, command: &Command, stack: Stack) -> i32 {
    match sys::fork() {
        Ok(0) => {
            let failed = last_steps::become_command(spec, groups, command);
            fail(spec, failed)
        }
        Ok(child) => {
            stack.forget_command();
            keep_only_kill(spec).unwrap_or_else(|failed| fail(spec, failed));
            child
        }
        Err(errno) => fail(spec, (Step::Fork, errno)),
    }
}

/// Where the command is confined, what stays of us beside it keeps what it takes to signal a process of another user
/// and nothing else, and cannot be traced: nobody in there gains by taking us over.
fn keep_only_kill(spec: &Spec) -> Result<(), Failed> {
    const PR_SET_DUMPABLE: usize = 4;
    const CAP_KILL: u64 = 1 << 5;
    if spec.capabilities == ALL_CAPABILITIES {
        return Ok(());
    }
    sys::prctl(PR_SET_DUMPABLE, 0)
        .and_then(|()| sys::limit_capabilities(CAP_KILL))
        .map_err(|errno| (Step::Capabilities, errno))
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
