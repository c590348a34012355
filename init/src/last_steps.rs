//! What happens between init and the command: session, descriptors, ids, directory, label, seccomp, capabilities, signals,
//! the wait for a start that comes later, `execve`.
//!
//! Everything here runs in the process that becomes the command. Nothing returns but the step that failed.

use crate::policy::{EACCES, decimal, signal, tries_next_candidate};
use crate::protocol::{ALL_CAPABILITIES, FILTER_MAX, Groups, Record, Spec, Step, WORKDIR_ARGUMENT};
use crate::sys::{self, CStr, Vector};
use crate::{Failed, Stack};

const PR_SET_PDEATHSIG: usize = 1;
const PR_SET_KEEPCAPS: usize = 8;
const PR_SET_NO_NEW_PRIVS: usize = 38;
/// NGROUPS_MAX since Linux 2.6.4.
const GROUPS_MAX: usize = 65_536;
/// More than nearly every user has.
const GROUPS_FEW: usize = 32;

/// What is to be executed, as pointers into init's own stack.
pub(crate) struct Command {
    workdir: Vector,
    label: Vector,
    candidates: Vector,
    count: usize,
    arguments: Vector,
    environment: Vector,
}

impl Command {
    pub(crate) fn new(stack: Stack, spec: &Spec) -> Self {
        // The shim wrote both the count and the arguments; the bound keeps a mistake there within argv.
        let label = WORKDIR_ARGUMENT + 1;
        let first = label + usize::from(spec.label >= 0);
        let available = stack.argument_count().saturating_sub(first);
        let count = (spec.candidates as usize).min(available);
        Self {
            workdir: stack.argument_slot(WORKDIR_ARGUMENT.min(stack.argument_count())),
            label: stack.argument_slot(label.min(stack.argument_count())),
            candidates: stack.argument_slot(first.min(stack.argument_count())),
            count,
            arguments: stack.argument_slot((first + count).min(stack.argument_count())),
            environment: stack.environment(),
        }
    }

    fn workdir(&self) -> CStr {
        // SAFETY: the slot lies within argv, its ending null included.
        unsafe { *self.workdir }
    }

    fn label(&self) -> CStr {
        // SAFETY: as for `workdir`.
        unsafe { *self.label }
    }

    fn candidate(&self, index: usize) -> CStr {
        // SAFETY: the callers count up to `count`, which `new` has bounded by argv.
        unsafe { *self.candidates.wrapping_add(index) }
    }
}

/// Takes away, for good, what neither we nor the command may have. Both inherit it, so it comes before the fork.
pub(crate) fn renounce(spec: &Spec) -> Result<(), Failed> {
    if spec.capabilities != ALL_CAPABILITIES {
        sys::limit_bounding_set(spec.capabilities).map_err(|errno| (Step::Bounding, errno))?;
    }
    if spec.no_new_privileges {
        sys::prctl(PR_SET_NO_NEW_PRIVS, 1).map_err(|errno| (Step::NoNewPrivileges, errno))?;
    }
    Ok(())
}

/// Applies the last steps and executes the command. Returns only the step that failed.
pub(crate) fn become_command(spec: &mut Spec, groups: Groups<'_>, command: &Command) -> Failed {
    let Err(failed) = prepare(spec, groups, command);
    failed
}

fn prepare(
    spec: &mut Spec,
    groups: Groups<'_>,
    command: &Command,
) -> Result<core::convert::Infallible, Failed> {
    let at = |step| move |errno| (step, errno);

    // EPERM: already the leader of a process group, which only happens where the session is new anyway.
    sys::setsid().or_else(|errno| {
        if errno == sys::EPERM {
            Ok(())
        } else {
            Err((Step::Session, errno))
        }
    })?;
    if spec.terminal >= 0 {
        sys::make_controlling_terminal(spec.terminal).map_err(at(Step::ControllingTerminal))?;
    }
    streams(spec).map_err(at(Step::Streams))?;
    // Marked rather than closed: the report must survive until `execve` has succeeded.
    sys::close_on_exec(3 + spec.preserved, u32::MAX).map_err(at(Step::Descriptors))?;
    for own in spec.own() {
        let own = own.cast_unsigned();
        sys::close_on_exec(own, own).map_err(at(Step::Descriptors))?;
    }
    if spec.tells_pid {
        tell_pid(command.environment);
    }
    sys::umask(spec.umask);
    if spec.set_groups {
        supplementary_groups(groups).map_err(at(Step::Groups))?;
    }
    sys::setresgid(spec.gid).map_err(at(Step::Gid))?;
    let entered = enter(command);
    if spec.label >= 0 {
        // For the next execve, so it must be us who write it and not whoever executes us; the kernel asks for that, too.
        sys::write_label(spec.label, command.label()).map_err(at(Step::Label))?;
    }
    if !spec.no_new_privileges {
        filter(spec).map_err(at(Step::Filter))?;
    }
    if spec.sets.is_some() {
        // Otherwise a user that is not root would have none left to choose from (capabilities(7)); execve takes it back.
        sys::prctl(PR_SET_KEEPCAPS, 1).map_err(at(Step::Uid))?;
    }
    sys::setresuid(spec.uid).map_err(at(Step::Uid))?;
    // A directory that root may not enter (a FUSE or NFS mount of the user's) may be open to the user.
    entered
        .or_else(|errno| {
            if errno == EACCES {
                enter(command)
            } else {
                Err(errno)
            }
        })
        .map_err(at(Step::Workdir))?;
    match &spec.sets {
        None => sys::limit_capabilities(spec.capabilities),
        Some(sets) => sys::set_capabilities(sets),
    }
    .map_err(at(Step::Capabilities))?;
    // The kernel forgets this signal whenever the effective ids change (prctl(2)), so it comes after them.
    sys::prctl(PR_SET_PDEATHSIG, signal::KILL as usize).map_err(at(Step::ParentDeath))?;
    // A client that died before the signal was asked for has closed its end of the report.
    if is_hung_up(spec.report) {
        sys::exit(128 + signal::KILL);
    }
    for number in 1..=signal::MAX {
        sys::default_disposition(number);
    }
    // Signals that arrived since the client started are delivered here, with the command's own (default) disposition.
    sys::set_signal_mask(0).map_err(at(Step::Signals))?;
    if spec.outlives {
        lookup(command).map_err(at(Step::Lookup))?;
        sys::prctl(PR_SET_PDEATHSIG, 0).map_err(at(Step::Release))?;
    }
    if spec.no_new_privileges && spec.listens() {
        filter(spec).map_err(at(Step::Filter))?;
    }
    hold(spec).map_err(at(Step::Hold))?;
    if spec.no_new_privileges && !spec.listens() {
        filter(spec).map_err(at(Step::Filter))?;
    }
    Err((Step::Execute, execute(command)))
}

/// Puts the streams on 0, 1 and 2. Descriptors that the shim made are above 2, so no order is wrong.
pub(crate) fn streams(spec: &Spec) -> sys::Result<()> {
    for (target, &source) in (0i32..).zip(&spec.streams) {
        if source != target && source >= 0 {
            sys::dup_to(source, target)?;
        }
    }
    Ok(())
}

/// Writes our number, which will be the command's, into its variable LISTEN_PID, as far as that has room.
fn tell_pid(environment: Vector) {
    const NAME: &[u8] = b"LISTEN_PID=";
    for index in 0.. {
        // SAFETY: no null has been seen so far, so this entry exists.
        let text = unsafe { *environment.wrapping_add(index) }.cast_mut();
        if text.is_null() {
            return;
        }
        let at = |offset: usize| text.wrapping_add(offset);
        // SAFETY: the kernel ends every string with a zero byte, which is in no name, so none is read behind it.
        let named = (0..)
            .zip(NAME)
            .all(|(offset, &byte)| unsafe { *at(offset) } == byte);
        if !named {
            continue;
        }
        let (digits, count) = decimal(sys::own_pid());
        let number = digits.iter().take(count).chain(&[0]);
        for (offset, &byte) in (NAME.len()..).zip(number) {
            // SAFETY: none of the bytes before it was the zero byte that ends the string.
            if unsafe { *at(offset) } == 0 {
                return;
            }
            // SAFETY: the initial stack is ours to write to, and this byte is within the string.
            unsafe { *at(offset) = byte };
        }
        return;
    }
}

/// Waits for the byte that starts the command, where there is to be one. What fails from then on is told to whoever sent
/// it, since the client is gone.
fn hold(spec: &mut Spec) -> sys::Result<()> {
    let [start, answer] = spec.hold;
    if start < 0 {
        return Ok(());
    }
    sys::write(spec.report, &Record::Ready.to_bytes());
    // Our own end of the FIFO can be written to as well, so it never comes to its end.
    sys::read(start, &mut [0])?;
    // Not by dup3(2): the number of the report may be beyond the command's limit of open files.
    sys::close(spec.report);
    spec.report = answer;
    Ok(())
}

/// What [`execute`] would find, as far as that can be told without doing it.
fn lookup(command: &Command) -> sys::Result<()> {
    search(command, |candidate| match sys::may_execute(candidate) {
        Ok(()) => 0,
        Err(errno) => errno,
    })
}

fn is_hung_up(fd: i32) -> bool {
    let mut set = [sys::PollFd {
        fd,
        events: 0,
        revents: 0,
    }];
    sys::poll(&mut set, true);
    let [entry] = set;
    entry.revents & sys::POLLHUP != 0
}

fn supplementary_groups(mut groups: Groups<'_>) -> sys::Result<()> {
    let mut few = [0u32; GROUPS_FEW];
    let mut count = 0;
    while let Some(group) = groups.next() {
        match few.get_mut(count) {
            Some(slot) => *slot = group,
            None => return many_groups(few.into_iter().chain([group]).chain(groups)),
        }
        count += 1;
    }
    sys::setgroups(few.get(..count).unwrap_or_default())
}

/// Apart, because the compiler touches every page of so large a frame: that takes time, and more than a small stack
/// limit allows.
#[inline(never)]
fn many_groups(groups: impl Iterator<Item = u32>) -> sys::Result<()> {
    let mut list = [const { core::mem::MaybeUninit::<u32>::uninit() }; GROUPS_MAX];
    let mut count = 0;
    for (slot, group) in list.iter_mut().zip(groups) {
        slot.write(group);
        count += 1;
    }
    // SAFETY: the first `count` elements have just been written, and u32 has the layout of its MaybeUninit.
    let list = unsafe { core::slice::from_raw_parts(list.as_ptr().cast::<u32>(), count) };
    sys::setgroups(list)
}

/// Installs the command's seccomp filter, if it has one. Apart, as [`many_groups`] is.
#[inline(never)]
fn filter(spec: &Spec) -> sys::Result<()> {
    if spec.filter < 0 {
        return Ok(());
    }
    let mut program = [const { core::mem::MaybeUninit::<u64>::uninit() }; FILTER_MAX];
    let length = sys::read_words(spec.filter, &mut program)?;
    // SAFETY: the first `length` elements have just been filled, and u64 has the layout of its MaybeUninit.
    let program = unsafe { core::slice::from_raw_parts(program.as_ptr().cast::<u64>(), length) };
    let listener = sys::set_filter(program, spec.filter_flags)?;
    if spec.listens() {
        // The first call under the filter; of all calls this is the one that it may not ask about.
        let number = u32::try_from(listener).unwrap_or(u32::MAX);
        sys::write(spec.report, &Record::Listening(number).to_bytes());
        // It is closed when the command is executed, so somebody else must have it before. Nothing: the client is dead.
        if sys::read(spec.report, &mut [0])? == 0 {
            return Err(sys::ENOENT);
        }
    }
    Ok(())
}

fn enter(command: &Command) -> sys::Result<()> {
    sys::chdir(command.workdir())?;
    // A magic link such as /proc/self/fd/3 could lead out of the root filesystem; the kernel tells by getcwd.
    if sys::cwd_is_reachable()? {
        Ok(())
    } else {
        Err(sys::ENOENT)
    }
}

/// Returns only the errno.
fn execute(command: &Command) -> i32 {
    let attempt = |path| sys::execve(path, command.arguments, command.environment);
    search(command, attempt).err().unwrap_or(sys::ENOENT)
}

/// execvp(3)'s search over candidates that were joined with PATH beforehand; `attempt` gives an errno, or 0.
fn search(command: &Command, attempt: impl Fn(CStr) -> i32) -> sys::Result<()> {
    let mut last = sys::ENOENT;
    let mut denied = false;
    for index in 0..command.count {
        last = attempt(command.candidate(index));
        if last == 0 {
            return Ok(());
        }
        if !tries_next_candidate(last) {
            return Err(last);
        }
        denied |= last == EACCES;
    }
    Err(if denied { EACCES } else { last })
}
