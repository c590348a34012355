//! Decides what a container's processes may ask the kernel for: makes the filter that seccomp(2) installs.
//!
//! Words: a *call* is a system call. A calling convention (*ABI*) has numbers of its own for them, and one machine has
//! several. A *rule* is a list of conditions on the arguments and the *verdict* when they hold; the rules for one call are
//! its *chain*. A *profile* is where rules come from: the built-in one, or a file. A *filter* is one BPF program that has
//! all of them.
//!
//! Everything is refused here, before a container exists: what is no profile, calls that exist nowhere, programs that are
//! too long, and filters under which no command could be started. Nothing is installed here; the shim does that, last.

mod abi;
mod builtin;
mod calls;
mod compile;
mod from_profile;
mod profile;
mod rules;

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod tests;

use std::path::Path;

use nix::sys::utsname::uname;
use shim::Error;
use shim::plan::Seccomp;

use self::abi::Machine;
use self::compile::Refused;
use self::profile::{Fault, Profile, Surroundings};
use self::rules::AbiRules;

/// Log what is refused (SECCOMP_FILTER_FLAG_LOG of `linux/seccomp.h`).
const FLAG_LOG: u32 = 1 << 1;
/// Leave speculative store bypass as it is (SECCOMP_FILTER_FLAG_SPEC_ALLOW). Without it kernels before 5.16 switch off
/// for every filtered process what costs most programs several percent and protects few.
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// Who has been asked about a call is told of no signals but fatal ones meanwhile
/// (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19).
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;
/// The flags of a profile that does not mention any, as in runc.
const DEFAULT_FLAGS: u32 = FLAG_SPEC_ALLOW;

/// The filter of the built-in profile, for processes with these capabilities in the bounding set.
///
/// # Errors
/// A machine that there is no table of calls for.
pub fn default(capabilities_bounding: u64) -> shim::Result<Seccomp> {
    let error = || Error::new("compile seccomp profile").on("default");
    let rules = builtin::rules(machine()?, capabilities_bounding)
        .map_err(|why| error().because(why.to_string()))?;
    let program = compile(&rules).map_err(|fault| error().because(fault.why).hint(fault.hint))?;
    Ok(Seccomp {
        name: "default".to_owned(),
        program,
        flags: DEFAULT_FLAGS,
    })
}

/// The filter of a profile file, in the format of the OCI runtime specification or of Docker and podman. Entries of the
/// latter that are for some capabilities only are chosen by the bounding set.
///
/// # Errors
/// No readable regular file of at most 1 MiB; not such a profile; names that exist nowhere; an action that needs a
/// listener; a program that is too long; a filter that refuses execve.
pub fn from_file(path: &Path, capabilities_bounding: u64) -> shim::Result<Seccomp> {
    of_profile(&profile::read(path)?, path, capabilities_bounding, false)
}

fn of_profile(
    profile: &Profile,
    path: &Path,
    capabilities_bounding: u64,
    may_notify: bool,
) -> shim::Result<Seccomp> {
    let here = Surroundings {
        machine: machine()?,
        capabilities: capabilities_bounding,
        kernel: kernel()?,
        may_notify,
    };
    let (rules, flags) = from_profile::rules(profile, here).map_err(|fault| fault.about(path))?;
    let program = compile(&rules).map_err(|fault| fault.about(path))?;
    Ok(Seccomp {
        name: path.display().to_string(),
        program,
        flags,
    })
}

/// The filter of `linux.seccomp` in an OCI configuration; `file` is what it stands in.
///
/// # Errors
/// As [`from_file`].
pub(crate) fn from_config(
    json: &[u8],
    file: &Path,
    capabilities_bounding: u64,
) -> shim::Result<Seccomp> {
    let profile = profile::parse(json).map_err(|fault| fault.about(file))?;
    of_profile(&profile, file, capabilities_bounding, true)
}

/// The program for these rules, which start with those of the native convention.
fn compile(rules: &[AbiRules]) -> Result<Vec<u8>, Fault> {
    let program = compile::compile(rules).map_err(|refused| match refused {
        Refused::TooLong(length) => Fault::new(
            format!("{length} instructions when compiled, and the kernel takes 4096"),
            "give calls that are treated alike the same entry, and compare fewer arguments",
        ),
        Refused::Layout(why) => Fault::new(
            format!("seccompiler made a comparison that is laid out in another way: {why}"),
            "this is a fault of start-container: use the version of seccompiler in its Cargo.lock",
        ),
    })?;
    Ok(compile::bytes(&program))
}

fn machine() -> shim::Result<Machine> {
    let arch = std::env::consts::ARCH;
    Machine::named(arch).ok_or_else(|| {
        Error::new("compile seccomp profile")
            .on(arch)
            .because("no table of system calls for this architecture")
            .hint("use --seccomp=unconfined")
    })
}

/// Major and minor version of the running kernel.
fn kernel() -> shim::Result<(u32, u32)> {
    let name = uname().map_err(|errno| Error::new("read kernel version").errno(errno))?;
    let release = name.release().to_string_lossy();
    profile::version(&release).ok_or_else(|| {
        Error::new("read kernel version")
            .on(release)
            .because("does not begin with two numbers")
            .hint("minKernel of a seccomp profile cannot be compared with it")
    })
}
