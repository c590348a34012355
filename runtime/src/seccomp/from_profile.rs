//! What a profile file means, as rules: in the way of libseccomp as runc uses it, since that is what profiles were tried with.
//!
//! - The first entry for a call without arguments decides about it, whatever entries with arguments there are.
//! - Entries with arguments are alternatives, in the order of the file; the comparisons in one entry must all hold. If two
//!   of them are about the same argument they are alternatives as well, all of them (`matchCall` in runc).
//! - An entry with the action of the profile's default is passed over.
//! - Numbers above the highest that is named are unknown to the profile's author and answered with ENOSYS, unless the
//!   default lets calls through.
//! - On i386 a call also stands for its number behind `socketcall` or `ipc`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use nix::libc;
use oci_spec::runtime::{Arch, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};
use shim::plan::Seccomp;

use super::abi::{Abi, Machine};
use super::calls;
use super::profile::{self, Arg, Fault, Profile, Surroundings, unknown};
use super::rules::{AbiRules, Chain, Rule, Verdict};

const SIX_ARGUMENTS: &str = "system calls have six arguments, numbered from 0";

/// Calls that i386 has, or also has, behind another one's first argument (`linux/net.h`, `linux/ipc.h`).
#[rustfmt::skip]
const BEHIND: [(&str, &[(u64, &str)]); 2] = [
    ("socketcall", &[
        (1, "socket"), (2, "bind"), (3, "connect"), (4, "listen"), (5, "accept"), (6, "getsockname"), (7, "getpeername"),
        (8, "socketpair"), (9, "send"), (10, "recv"), (11, "sendto"), (12, "recvfrom"), (13, "shutdown"),
        (14, "setsockopt"), (15, "getsockopt"), (16, "sendmsg"), (17, "recvmsg"), (18, "accept4"), (19, "recvmmsg"),
        (20, "sendmmsg"),
    ]),
    ("ipc", &[
        (1, "semop"), (2, "semget"), (3, "semctl"), (4, "semtimedop"), (11, "msgsnd"), (12, "msgrcv"), (13, "msgget"),
        (14, "msgctl"), (21, "shmat"), (22, "shmdt"), (23, "shmget"), (24, "shmctl"),
    ]),
];

/// The rules for all conventions of the machine, and the flags of seccomp(2).
pub(super) fn rules(profile: &Profile, here: Surroundings) -> Result<(Vec<AbiRules>, u32), Fault> {
    let default = verdict(profile.default_action, profile.default_errno()?)
        .map_err(|fault| fault.in_entry("defaultAction"))?;
    if default == Verdict::NOTIFY {
        return Err(no_listener(here).in_entry("defaultAction"));
    }
    let listened = profile.listener_path.is_some() || profile.listener_metadata.is_some();
    if listened && !here.may_notify {
        return Err(no_listener(here).in_entry("listenerPath"));
    }
    let entries = entries(profile, here)?;
    let notifies = entries.iter().any(|entry| entry.verdict == Verdict::NOTIFY);
    let has_compat = has_compat(profile, here.machine)?;
    let native = of_abi(here.machine.native, default, &entries)?;
    if !native.permits("execve") {
        return Err(locks_out(&entries));
    }
    let mut abis = vec![native];
    match here.machine.compat {
        // Not listed: a call of this convention ends the process, as that of any other that is not.
        Some(_) if !has_compat => {}
        Some(Abi::Arm) => abis.push(AbiRules::absent(Abi::Arm)),
        Some(abi) => abis.push(of_abi(abi, default, &entries)?),
        None => {}
    }
    let mut flags = flags(profile.flags.as_deref(), here, notifies)?;
    if notifies {
        flags |= Seccomp::NEW_LISTENER;
    }
    Ok((abis, flags))
}

/// An entry that applies here.
struct Applied<'a> {
    /// For messages: `syscalls[3]`.
    place: String,
    names: &'a [String],
    verdict: Verdict,
    args: &'a [Arg],
}

/// The entries that apply here. All of them are checked, whether they apply or not.
fn entries(profile: &Profile, here: Surroundings) -> Result<Vec<Applied<'_>>, Fault> {
    let mut applied = Vec::new();
    for (index, entry) in profile.syscalls.iter().flatten().enumerate() {
        let place = format!("syscalls[{index}]");
        match checked(entry, here) {
            Err(fault) => return Err(fault.in_entry(place)),
            Ok((false, ..)) => {}
            Ok((true, names, verdict)) => applied.push(Applied {
                place,
                names,
                verdict,
                args: entry.args(),
            }),
        }
    }
    Ok(applied)
}

fn checked(
    entry: &profile::Entry,
    here: Surroundings,
) -> Result<(bool, &[String], Verdict), Fault> {
    let names = entry.names()?;
    for name in names {
        if calls::find(name.as_bytes()).is_none() && !calls::is_foreign(name) {
            let known = calls::CALLS.iter().map(|row| row.name);
            return Err(unknown("system call", name, known));
        }
    }
    let verdict = verdict(entry.action, entry.errno()?)?;
    if verdict == Verdict::NOTIFY && (!here.may_notify || names.iter().any(|name| name == "write"))
    {
        return Err(no_listener(here));
    }
    Ok((entry.applies(here)?, names, verdict))
}

fn verdict(action: LinuxSeccompAction, number: Option<u32>) -> Result<Verdict, Fault> {
    let data = |largest: u16| {
        let number = number.unwrap_or(libc::EPERM.unsigned_abs());
        u16::try_from(number)
            .ok()
            .filter(|number| *number <= largest)
            .ok_or_else(|| {
                Fault::new(
                    format!("errno {number} is too large"),
                    format!("give a number up to {largest}"),
                )
            })
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            Verdict::KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => Verdict::KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => Verdict::TRAP,
        // MAX_ERRNO: a larger number would look like a success.
        LinuxSeccompAction::ScmpActErrno => Verdict::errno(data(4095)?),
        LinuxSeccompAction::ScmpActTrace => Verdict::trace(data(u16::MAX)?),
        LinuxSeccompAction::ScmpActLog => Verdict::LOG,
        LinuxSeccompAction::ScmpActAllow => Verdict::ALLOW,
        LinuxSeccompAction::ScmpActNotify => Verdict::NOTIFY,
    })
}

/// No command could be started: which entry it is that refuses execve, or that none lets it through.
fn locks_out(entries: &[Applied<'_>]) -> Fault {
    let refuses = |entry: &&Applied<'_>| {
        !entry.verdict.permits() && entry.names.iter().any(|name| name == "execve")
    };
    let place = entries.iter().find(refuses);
    Fault::new(
        "execve is refused, so no command could be started",
        "give execve the action SCMP_ACT_ALLOW",
    )
    .in_entry(place.map_or("defaultAction", |entry| &entry.place))
}

fn no_listener(here: Surroundings) -> Fault {
    if here.may_notify {
        return Fault::new(
            "nobody can be asked about write, nor about whatever is not named: the listener itself is told of by it",
            "name the calls that SCMP_ACT_NOTIFY is for, and write not among them",
        );
    }
    Fault::new(
        "notifying another process of system calls is not supported",
        "use a profile without SCMP_ACT_NOTIFY and listenerPath",
    )
}

/// Whether the profile is also about the machine's 32-bit convention.
fn has_compat(profile: &Profile, machine: Machine) -> Result<bool, Fault> {
    let listed: &[Arch] = match (
        profile.architectures.as_deref(),
        profile.arch_map.as_deref(),
    ) {
        (Some([_, ..]), Some([_, ..])) => {
            return Err(
                Fault::new("both architectures and archMap", "give one of them")
                    .in_entry("archMap"),
            );
        }
        (listed, None | Some([])) => listed.unwrap_or_default(),
        (_, Some(map)) => {
            let own = map
                .iter()
                .find(|entry| machine.is_native(entry.architecture));
            own.and_then(|entry| entry.sub_architectures.as_deref())
                .unwrap_or_default()
        }
    };
    Ok(listed.iter().any(|arch| machine.is_compat(*arch)))
}

fn flags(
    names: Option<&[LinuxSeccompFilterFlag]>,
    here: Surroundings,
    notifies: bool,
) -> Result<u32, Fault> {
    let Some(names) = names else {
        return Ok(super::DEFAULT_FLAGS);
    };
    let mut flags = 0;
    for name in names {
        flags |= match name {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => super::FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => super::FLAG_SPEC_ALLOW,
            // The filter is installed by a process that has one thread.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => {
                super::FLAG_WAIT_KILLABLE_RECV
            }
            // The kernel refuses it where nobody is asked.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if here.may_notify => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(no_listener(here).in_entry("flags"));
            }
        };
    }
    Ok(flags)
}

/// The rules for one convention.
fn of_abi(abi: Abi, default: Verdict, entries: &[Applied<'_>]) -> Result<AbiRules, Fault> {
    let mut chains = Chains {
        default,
        chains: BTreeMap::new(),
    };
    let mut last = 0;
    for entry in entries {
        let in_entry = |fault: Fault| fault.in_entry(entry.place.as_str());
        let alternatives = alternatives(entry.args);
        for name in entry.names {
            let number = calls::number(name, abi);
            last = last.max(number.unwrap_or(0));
            if entry.verdict == default {
                continue;
            }
            if let Some(number) = number {
                let conditions = conditions(abi, &alternatives).map_err(in_entry)?;
                chains.add(number, conditions, entry.verdict).map_err(|Conflict| {
                    in_entry(Fault::new(
                        format!("\"{name}\" has another action for the same arguments in an earlier entry"),
                        "remove one of the two",
                    ))
                })?;
            }
            if let Some((number, call)) = behind(abi, name) {
                let conditions =
                    conditions(abi, &through(&alternatives, call)).map_err(in_entry)?;
                // As for calls without arguments, the first one counts.
                let _ = chains.add(number, conditions, entry.verdict);
            }
        }
    }
    let highest = chains
        .chains
        .last_key_value()
        .map_or(0, |(number, _)| *number);
    Ok(AbiRules {
        abi,
        last: last.max(highest),
        calls: chains.chains.into_iter().collect(),
        unlisted: default,
        beyond: if default.may_permit() {
            default
        } else {
            Verdict::ENOSYS
        },
    })
}

/// Comparisons that must all hold, in the order of the arguments. Empty: whatever the arguments are.
type Alternative<T> = Vec<T>;

fn alternatives(args: &[Arg]) -> Vec<Alternative<Arg>> {
    let mut args = args.to_vec();
    args.sort_by_key(|arg| arg.index);
    let repeats = args
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.index == b.index));
    if repeats {
        args.into_iter().map(|arg| vec![arg]).collect()
    } else {
        vec![args]
    }
}

/// The same for a call that is reached through another one, whose first argument says so.
///
/// The call's own arguments are in memory then, where a filter cannot look. What is compared instead are the other
/// arguments of `socketcall` or `ipc`. That is nonsense, but it is libseccomp's (`abi_rule_add`), and a deny-list that
/// compares only the first argument refuses the whole call that way instead of letting it through.
fn through(alternatives: &[Alternative<Arg>], call: u64) -> Vec<Alternative<Arg>> {
    let first = Arg {
        index: 0,
        value: call,
        value_two: 0,
        op: LinuxSeccompOperator::ScmpCmpEq,
    };
    let others = |alternative: &Alternative<Arg>| {
        let others = alternative.iter().filter(|arg| arg.index != 0).copied();
        std::iter::once(first).chain(others).collect()
    };
    alternatives.iter().map(others).collect()
}

fn conditions(
    abi: Abi,
    alternatives: &[Alternative<Arg>],
) -> Result<Vec<Alternative<SeccompCondition>>, Fault> {
    let each = |alternative: &Alternative<Arg>| {
        let conditions = alternative.iter().map(|arg| condition(abi, *arg));
        conditions.collect()
    };
    alternatives.iter().map(each).collect()
}

fn condition(abi: Abi, arg: Arg) -> Result<SeccompCondition, Fault> {
    let (operator, value) = match arg.op {
        LinuxSeccompOperator::ScmpCmpNe => (SeccompCmpOp::Ne, arg.value),
        LinuxSeccompOperator::ScmpCmpLt => (SeccompCmpOp::Lt, arg.value),
        LinuxSeccompOperator::ScmpCmpLe => (SeccompCmpOp::Le, arg.value),
        LinuxSeccompOperator::ScmpCmpEq => (SeccompCmpOp::Eq, arg.value),
        LinuxSeccompOperator::ScmpCmpGe => (SeccompCmpOp::Ge, arg.value),
        LinuxSeccompOperator::ScmpCmpGt => (SeccompCmpOp::Gt, arg.value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (SeccompCmpOp::MaskedEq(arg.value), arg.value_two),
    };
    // With 32 bits the upper half of mask and value is ignored (`_db_rule_gen_32` in libseccomp).
    let length = if abi.is_64_bit() {
        SeccompCmpArgLen::Qword
    } else {
        SeccompCmpArgLen::Dword
    };
    u8::try_from(arg.index)
        .ok()
        .and_then(|index| SeccompCondition::new(index, length, operator, value).ok())
        .ok_or_else(|| Fault::new(format!("argument index {}", arg.index), SIX_ARGUMENTS))
}

/// The number of the call that this one is also reached through, and its first argument then.
fn behind(abi: Abi, name: &str) -> Option<(u32, u64)> {
    if abi != Abi::I386 {
        return None;
    }
    BEHIND.iter().find_map(|(through, hidden)| {
        let (call, _) = hidden.iter().find(|(_, hidden)| *hidden == name)?;
        Some((calls::number(through, abi)?, *call))
    })
}

/// Two answers for the same arguments.
struct Conflict;

/// The answers as they grow, entry by entry.
struct Chains {
    default: Verdict,
    chains: BTreeMap<u32, Chain>,
}

impl Chains {
    fn add(
        &mut self,
        number: u32,
        alternatives: Vec<Alternative<SeccompCondition>>,
        verdict: Verdict,
    ) -> Result<(), Conflict> {
        let chain = match self.chains.entry(number) {
            Entry::Vacant(vacant) => vacant.insert(Chain {
                rules: Vec::new(),
                otherwise: self.default,
            }),
            // Already decided without arguments.
            Entry::Occupied(occupied) if occupied.get().rules.is_empty() => return Ok(()),
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        for conditions in alternatives {
            if conditions.is_empty() {
                *chain = Chain::always(verdict);
                return Ok(());
            }
            let mut earlier = chain.rules.iter();
            match earlier.find(|rule| rule.conditions == conditions) {
                None => chain.rules.push(Rule {
                    conditions,
                    verdict,
                }),
                Some(earlier) if earlier.verdict == verdict => {}
                Some(_) => return Err(Conflict),
            }
        }
        Ok(())
    }
}
