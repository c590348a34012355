//! The one table of the command line: verbs, operands, options, their words and defaults.
//!
//! Parsing, help, suggestions, man page and completions are all read from here; nothing about an option is said twice.

use crate::config::{DEFAULT_BASE, DEFAULT_DATA, DEFAULT_STATE};
use crate::mounts::RESOLV_CONF;

/// What an option sets. The parser's `match` on it is exhaustive: an option in the table without a meaning does not
/// compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described by its row in the table")]
pub enum FlagId {
    Base,
    State,
    Data,
    EnvFile,
    Env,
    User,
    Workdir,
    ForceTty,
    ForceStderrTty,
    PtySize,
    Init,
    Userns,
    Profile,
    Cap,
    CapAdd,
    CapDrop,
    Seccomp,
    ReadOnly,
    NoNewPrivileges,
    DryRun,
    Format,
    Source,
    Target,
    Recursive,
    Readonly,
    File,
    Idmap,
    Id,
    Replace,
    Ref,
    Mount,
    Share,
    ResolvConf,
    Json,
}

/// An option of a verb.
#[derive(Debug)]
pub struct Flag {
    /// What it sets.
    pub id: FlagId,
    /// Its name with the two dashes: `--env-file`.
    pub long: &'static str,
    /// Its letter, where it has one.
    pub short: Option<char>,
    /// What its value is called; none for a switch.
    pub value: Option<&'static str>,
    /// The value that it has when it is given alone; another one must follow a `=` then.
    pub implied: Option<&'static str>,
    /// One line, no full stop.
    pub help: &'static str,
    /// What holds without it, where that is a value.
    pub default: Option<&'static str>,
    /// Given more than once, each counts; of other options the last one counts.
    pub repeat: bool,
}

impl Flag {
    /// Its name without dashes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.long.strip_prefix("--").unwrap_or(self.long)
    }
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described by its row in the table")]
pub enum VerbId {
    Launch,
    Exec,
    Inspect,
    CreateFs,
    DestroyFs,
    MountAdd,
    MountRemove,
    MountList,
    ImageImport,
    BindMount,
    PipeWrap,
}

/// A verb.
#[derive(Debug)]
pub struct Verb {
    /// What is run.
    pub id: VerbId,
    /// `image`, `subcontainer`, `subcontainer mount`, or empty for a verb that stands alone.
    pub group: &'static str,
    /// Its own word.
    pub name: &'static str,
    /// What follows the options.
    pub operands: &'static str,
    /// One line, no full stop.
    pub about: &'static str,
    /// A paragraph on what is not obvious, lines of at most 100 characters.
    pub notes: &'static str,
    /// Its options, in groups that verbs share.
    pub flags: &'static [&'static [Flag]],
}

impl Verb {
    /// How it is called: `subcontainer exec`.
    #[must_use]
    pub fn path(&self) -> String {
        [self.group, self.name].join(" ").trim_start().to_owned()
    }

    /// Its options, in the order of the help text.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> + Clone {
        self.flags.iter().copied().flatten()
    }
}

const fn switch(id: FlagId, long: &'static str, help: &'static str) -> Flag {
    Flag {
        id,
        long,
        short: None,
        value: None,
        implied: None,
        help,
        default: None,
        repeat: false,
    }
}

const fn valued(id: FlagId, long: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        value: Some(value),
        ..switch(id, long, help)
    }
}

const fn short(letter: char, flag: Flag) -> Flag {
    Flag {
        short: Some(letter),
        ..flag
    }
}

const fn repeated(flag: Flag) -> Flag {
    Flag {
        repeat: true,
        ..flag
    }
}

const fn implying(implied: &'static str, flag: Flag) -> Flag {
    Flag {
        implied: Some(implied),
        ..flag
    }
}

const fn with_default(default: &'static str, flag: Flag) -> Flag {
    Flag {
        default: Some(default),
        ..flag
    }
}

static DIRS: &[Flag] = &[
    with_default(
        DEFAULT_BASE,
        valued(
            FlagId::Base,
            "--base",
            "DIR",
            "images, and root filesystems made from them",
        ),
    ),
    with_default(
        DEFAULT_STATE,
        valued(FlagId::State, "--state", "DIR", "state until the next boot"),
    ),
    with_default(
        DEFAULT_DATA,
        valued(
            FlagId::Data,
            "--data",
            "DIR",
            "layers, and what containers write",
        ),
    ),
];

static PROCESS: &[Flag] = &[
    valued(
        FlagId::EnvFile,
        "--env-file",
        "FILE",
        "read variables from a file of the host, one NAME=VALUE per line",
    ),
    repeated(short(
        'e',
        valued(
            FlagId::Env,
            "--env",
            "NAME=VALUE",
            "set a variable; wins over --env-file",
        ),
    )),
    with_default(
        "root",
        short(
            'u',
            valued(
                FlagId::User,
                "--user",
                "USER[:GROUP]",
                "run as this user of the root filesystem, name or number",
            ),
        ),
    ),
    with_default(
        "/",
        short(
            'w',
            valued(
                FlagId::Workdir,
                "--workdir",
                "DIR",
                "run in this directory, which must exist",
            ),
        ),
    ),
    switch(
        FlagId::ForceTty,
        "--force-tty",
        "give the command a terminal although stdin is none",
    ),
    switch(
        FlagId::ForceStderrTty,
        "--force-stderr-tty",
        "put stderr on the terminal too",
    ),
    valued(
        FlagId::PtySize,
        "--pty-size",
        "ROWS:COLS[:XPIXELS:YPIXELS]",
        "size of the terminal when the command starts",
    ),
];

static LAUNCH: &[Flag] = &[
    switch(
        FlagId::Init,
        "--init",
        "make PID 1 a small init, and COMMAND its child",
    ),
    valued(
        FlagId::Userns,
        "--userns",
        USERNS,
        "the caller's user namespace, or a new one with these ids",
    ),
];

static CREATE_FS: &[Flag] = &[valued(
    FlagId::Userns,
    "--userns",
    USERNS,
    "ids of its own for what is in it (auto), or as MAP has them",
)];

/// MAP is INSIDE:OUTSIDE:COUNT, of users and groups, and more of these after commas.
const USERNS: &str = "host|identity|auto|MAP";

static CONFINEMENT: &[Flag] = &[
    valued(
        FlagId::Profile,
        "--profile",
        "confined|outer|hardened|none",
        "what the container is kept from",
    ),
    valued(
        FlagId::Cap,
        "--cap",
        "ALL|CAP[,CAP...]",
        "exactly these capabilities",
    ),
    repeated(valued(
        FlagId::CapAdd,
        "--cap-add",
        "ALL|CAP[,CAP...]",
        "these capabilities too",
    )),
    repeated(valued(
        FlagId::CapDrop,
        "--cap-drop",
        "ALL|CAP[,CAP...]",
        "without these capabilities",
    )),
    valued(
        FlagId::Seccomp,
        "--seccomp",
        "default|unconfined|FILE",
        "which system calls are allowed; FILE is an OCI seccomp profile",
    ),
    switch(
        FlagId::ReadOnly,
        "--read-only",
        "the root filesystem cannot be written to from inside",
    ),
    switch(
        FlagId::NoNewPrivileges,
        "--no-new-privileges",
        "set-user-ID programs and file capabilities grant nothing",
    ),
];

static MOUNTS: &[Flag] = &[
    repeated(valued(
        FlagId::Mount,
        "--mount",
        "MOUNT",
        "mount something in the container; see: subcontainer mount add --help",
    )),
    repeated(valued(
        FlagId::Share,
        "--share",
        "dev,sys,run",
        "show these directories of the host, with all that is mounted in them",
    )),
    implying(
        RESOLV_CONF,
        valued(
            FlagId::ResolvConf,
            "--resolv-conf",
            "FILE",
            "copy the host's /etc/resolv.conf, or FILE, to /etc/resolv.conf inside",
        ),
    ),
];

static JSON: &[Flag] = &[switch(FlagId::Json, "--json", "print JSON, for programs")];

static DRY_RUN: &[Flag] = &[
    switch(
        FlagId::DryRun,
        "--dry-run",
        "print what would be done, do nothing",
    ),
    with_default(
        "text",
        valued(
            FlagId::Format,
            "--format",
            "text|json",
            "how --dry-run prints",
        ),
    ),
];

static BIND_MOUNT: &[Flag] = &[
    valued(
        FlagId::Source,
        "--source",
        "PATH",
        "what to mount (required)",
    ),
    valued(
        FlagId::Target,
        "--target",
        "PATH",
        "where to mount it; made if missing (required)",
    ),
    switch(
        FlagId::Recursive,
        "--recursive",
        "with the mounts below the source",
    ),
    switch(FlagId::Readonly, "--readonly", "read-only"),
    switch(
        FlagId::File,
        "--file",
        "a missing target becomes a file instead of a directory",
    ),
    repeated(valued(
        FlagId::Idmap,
        "--idmap",
        "FROM:TO[:RANGE]",
        "show RANGE ids, 1 by default, that are FROM on disk as TO",
    )),
];

static IMAGE_IMPORT: &[Flag] = &[
    valued(
        FlagId::Id,
        "--id",
        "ID",
        "name of the image in the store (required)",
    ),
    switch(
        FlagId::Replace,
        "--replace",
        "replace an image of this name",
    ),
    valued(
        FlagId::Ref,
        "--ref",
        "NAME",
        "which image, where the archive holds several",
    ),
];

/// All verbs, in the order of the help text.
pub static VERBS: &[Verb] = &[
    Verb {
        id: VerbId::Launch,
        group: "subcontainer",
        name: "launch",
        operands: "ROOTFS [COMMAND [ARG...]]",
        about: "make a root filesystem a running container",
        notes: "Stays in the foreground as long as the container lives, and ends as PID 1 ended. Without COMMAND\n\
                PID 1 is an idle init that ends on SIGTERM; with COMMAND it is COMMAND itself, unless --init.\n\
                A container that already runs on ROOTFS is ended first.\n\
                \n\
                Profiles: confined (the default on a bare host) leaves the 14 capabilities that other engines leave,\n\
                a filter of system calls, and hides or write-protects what of /proc and /sys is the host's; outer\n\
                (the default inside somebody's user namespace) takes nothing away; hardened leaves no capability\n\
                and nothing to gain one with, and a read-only root; none is outer, said for a bare host.",
        flags: &[PROCESS, LAUNCH, CONFINEMENT, MOUNTS, DRY_RUN, DIRS],
    },
    Verb {
        id: VerbId::Exec,
        group: "subcontainer",
        name: "exec",
        operands: "ROOTFS COMMAND [ARG...]",
        about: "run a command in a running container",
        notes: "Ends as COMMAND ended. If start-container is killed, all that COMMAND started ends with it.",
        flags: &[PROCESS, DRY_RUN, DIRS],
    },
    Verb {
        id: VerbId::Inspect,
        group: "subcontainer",
        name: "inspect",
        operands: "ROOTFS",
        about: "tell what a running container has, as JSON",
        notes: "Read back from the kernel: namespaces, ids, capabilities, seccomp, limits, mounts, and what of /proc\n\
                and /sys is hidden or read-only. Names of fields are stable; new ones may be added.",
        flags: &[DIRS],
    },
    Verb {
        id: VerbId::CreateFs,
        group: "subcontainer",
        name: "create-fs",
        operands: "IMAGE_ID [NAME]",
        about: "make a root filesystem from an image and print its path",
        notes: "The last component of the path is the GUID that destroy-fs takes. NAME is a label for people.\n\
                With --userns=auto, or with a MAP of lines INSIDE:OUTSIDE:COUNT and commas between them, files\n\
                keep their ids on disk, and the container that is launched there has these ids to itself.",
        flags: &[CREATE_FS, DIRS],
    },
    Verb {
        id: VerbId::DestroyFs,
        group: "subcontainer",
        name: "destroy-fs",
        operands: "GUID",
        about: "remove a root filesystem that create-fs made",
        notes: "Also clears what a killed launch left there. Nothing to remove is a success.",
        flags: &[DIRS],
    },
    Verb {
        id: VerbId::MountAdd,
        group: "subcontainer mount",
        name: "add",
        operands: "ROOTFS MOUNT",
        about: "mount something in a running container",
        notes: "Every process inside sees it at once. MOUNT is a list of KEY=VALUE with commas between them:\n\
                \x20 type=bind      src=PATH, dst=PATH, ro, recursive=false, propagation=private|slave|shared,\n\
                \x20                idmap=FROM:TO[:RANGE][;...], nosuid, nodev, noexec\n\
                \x20 type=volume    the same with src=NAME, a directory of BASE/volumes\n\
                \x20 type=tmpfs     dst=PATH, size=64m, mode=1777, nr_inodes=10k, ro, noexec\n\
                \x20 type=overlay   lower=PATH[:PATH...], upper=PATH, work=PATH, dst=PATH, ro, nosuid, nodev, noexec\n\
                \x20 type=dev       dst=/dev: a /dev of the container's own, only for launch\n\
                What is missing of dst is made. A bind shows what is mounted below src, also later; recursive=false\n\
                does not. An attribute holds for everything below. Symlinks inside are not followed.",
        flags: &[DIRS],
    },
    Verb {
        id: VerbId::MountRemove,
        group: "subcontainer mount",
        name: "rm",
        operands: "ROOTFS PATH",
        about: "take a mount of a running container away",
        notes: "With all that is mounted below it. What has files open there keeps them until it closes them.",
        flags: &[DIRS],
    },
    Verb {
        id: VerbId::MountList,
        group: "subcontainer mount",
        name: "list",
        operands: "ROOTFS",
        about: "show what is mounted in a running container",
        notes: "As the kernel has it, outermost first.",
        flags: &[JSON, DIRS],
    },
    Verb {
        id: VerbId::ImageImport,
        group: "image",
        name: "import",
        operands: "SOURCE",
        about: "unpack an image into the store",
        notes: "SOURCE is an OCI image layout (directory or tar), a docker-archive tar, or a tar of a root\n\
                filesystem; each tar plain, gzip or zstd.",
        flags: &[IMAGE_IMPORT, DIRS],
    },
    Verb {
        id: VerbId::BindMount,
        group: "",
        name: "bind-mount",
        operands: "",
        about: "mount a directory or a file at a second place",
        notes: "A target below BASE/subcontainers/GUID is resolved inside that root filesystem.",
        flags: &[BIND_MOUNT, DIRS],
    },
    Verb {
        id: VerbId::PipeWrap,
        group: "",
        name: "pipe-wrap",
        operands: "COMMAND [ARG...]",
        about: "run a command of the host with pipes as stdout and stderr",
        notes: "For programs that open /dev/stdout again, which sockets refuse. Ends as COMMAND ended.",
        flags: &[],
    },
];

/// The groups of verbs that are in no other group, each once.
#[must_use]
pub fn groups() -> Vec<&'static str> {
    let mut groups: Vec<_> = VERBS.iter().map(|verb| verb.group).collect();
    groups.retain(|group| !group.is_empty() && !group.contains(' '));
    groups.dedup();
    groups
}

/// The group within a group by its word: `mount` in `subcontainer`.
#[must_use]
pub fn inner_group(group: &str, name: &str) -> Option<&'static str> {
    let path = |inner: &str| inner.split_once(' ') == Some((group, name));
    VERBS
        .iter()
        .map(|verb| verb.group)
        .find(|inner| path(inner))
}

/// The verb of a group (or of none) by its word.
#[must_use]
pub fn verb(group: &str, name: &str) -> Option<&'static Verb> {
    VERBS
        .iter()
        .find(|verb| verb.group == group && verb.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_letters_are_unique_and_well_formed() {
        let mut paths = HashSet::new();
        for verb in VERBS {
            assert!(paths.insert(verb.path()));
            let mut names = HashSet::from(["--help"]);
            let mut letters = HashSet::from(['h']);
            for flag in verb.all_flags() {
                assert!(names.insert(flag.long), "{} {}", verb.path(), flag.long);
                assert!(flag.short.is_none_or(|letter| letters.insert(letter)));
                assert!(flag.long.starts_with("--") && !flag.help.ends_with('.'));
                assert!(flag.value.is_some() || flag.default.is_none());
            }
            assert!(
                verb.notes.lines().all(|line| line.len() <= 100),
                "{}",
                verb.path()
            );
        }
        assert_eq!(groups(), ["subcontainer", "image"]);
    }

    #[test]
    fn every_verb_on_a_store_takes_the_directories() {
        for verb in VERBS.iter().filter(|verb| verb.id != VerbId::PipeWrap) {
            for name in ["--base", "--state", "--data"] {
                assert!(
                    verb.all_flags().any(|flag| flag.long == name),
                    "{}",
                    verb.path()
                );
            }
        }
    }
}
