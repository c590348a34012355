//! The options, in the groups that verbs share.

use super::super::image_values::RECORDED;
use super::{Flag, FlagId};
use crate::config::{DEFAULT_BASE, DEFAULT_DATA, DEFAULT_STATE};
use crate::mounts::RESOLV_CONF;

pub(crate) const fn switch<I: Copy>(id: I, long: &'static str, help: &'static str) -> Flag<I> {
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

pub(crate) const fn valued<I: Copy>(
    id: I,
    long: &'static str,
    value: &'static str,
    help: &'static str,
) -> Flag<I> {
    Flag {
        value: Some(value),
        ..switch(id, long, help)
    }
}

pub(crate) const fn short<I: Copy>(letter: char, flag: Flag<I>) -> Flag<I> {
    Flag {
        short: Some(letter),
        ..flag
    }
}

pub(crate) const fn repeated<I: Copy>(flag: Flag<I>) -> Flag<I> {
    Flag {
        repeat: true,
        ..flag
    }
}

pub(crate) const fn implying<I: Copy>(implied: &'static str, flag: Flag<I>) -> Flag<I> {
    Flag {
        implied: Some(implied),
        ..flag
    }
}

pub(super) const fn with_default(default: &'static str, flag: Flag) -> Flag {
    Flag {
        default: Some(default),
        ..flag
    }
}

pub(super) static DIRS: &[Flag] = &[
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

pub(super) static PROCESS: &[Flag] = &[
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

/// Of exec, which runs what it is given.
pub(super) static IMAGE: &[Flag] = &[OF_IMAGE];

/// Of launch and run, which run what an image is for.
pub(super) static IMAGE_PROGRAM: &[Flag] = &[
    OF_IMAGE,
    valued(
        FlagId::Entrypoint,
        "--entrypoint",
        "PROGRAM",
        "run this with COMMAND as arguments, and not what the image has for it",
    ),
];

const OF_IMAGE: Flag = valued(
    FlagId::Image,
    "--image",
    "ID",
    "variables, user and working directory of this image where none are given",
);

pub(super) static LAUNCH: &[Flag] = &[
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

pub(super) static CREATE_FS: &[Flag] = &[
    valued(
        FlagId::Userns,
        "--userns",
        USERNS,
        "ids of its own for what is in it (auto), or as MAP has them",
    ),
    implying(
        RECORDED,
        valued(
            FlagId::Verity,
            "--verity",
            "sha256:HEX",
            "only an image file with this fs-verity digest; alone, the recorded one",
        ),
    ),
];

/// MAP is INSIDE:OUTSIDE:COUNT, of users and groups, and more of these after commas.
const USERNS: &str = "host|identity|auto|MAP";

pub(super) static CONFINEMENT: &[Flag] = &[
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

pub(super) static MOUNTS: &[Flag] = &[
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

pub(super) static IMAGE_GC: &[Flag] = &[repeated(valued(
    FlagId::ForgetBase,
    "--forget-base",
    "DIR",
    "a base directory that is gone for good: its images need no layers",
))];

pub(super) static JSON: &[Flag] = &[switch(FlagId::Json, "--json", "print JSON, for programs")];

pub(super) static SQUASH: &[Flag] = &[switch(
    FlagId::Squash,
    "--squash",
    "give to root what belongs to owners that the caller does not have",
)];

pub(super) static LIMITS: &[Flag] = &[
    with_default(
        "256g",
        valued(
            FlagId::MaxSize,
            "--max-size",
            "SIZE",
            "most bytes of data in an image",
        ),
    ),
    with_default(
        "10000000",
        valued(
            FlagId::MaxFiles,
            "--max-files",
            "N",
            "most files in an image",
        ),
    ),
    with_default(
        "200",
        valued(
            FlagId::MaxRatio,
            "--max-ratio",
            "N",
            "most bytes of a compressed one, from 8 GiB on",
        ),
    ),
    with_default(
        "32m",
        valued(
            FlagId::MaxWindow,
            "--max-window",
            "SIZE",
            "most memory for decompressing a layer",
        ),
    ),
];

pub(super) static PROGRESS: &[Flag] = &[with_default(
    "auto",
    valued(
        FlagId::Progress,
        "--progress",
        "auto|bar|json|none",
        "how to tell on stderr how far it is; auto is bars on a terminal",
    ),
)];

pub(super) static DRY_RUN: &[Flag] = &[
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

pub(super) static BIND_MOUNT: &[Flag] = &[
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

pub(super) static IMAGE_IMPORT: &[Flag] = &[
    valued(
        FlagId::Id,
        "--id",
        "ID",
        "name of the image in the store (required, unless --all)",
    ),
    switch(
        FlagId::All,
        "--all",
        "all images of the archive, under ids that follow from their names",
    ),
    REPLACE_IMAGE,
    FLAT,
    valued(
        FlagId::Ref,
        "--ref",
        "NAME",
        "which image, where the archive holds several",
    ),
    valued(
        FlagId::Verity,
        "--verity",
        "sha256:HEX",
        "fs-verity digest that a squashfs or EROFS file must have",
    ),
];

pub(super) const REPLACE_IMAGE: Flag = switch(
    FlagId::Replace,
    "--replace",
    "replace an image of this name",
);

pub(super) const FLAT: Flag = switch(
    FlagId::Flat,
    "--flat",
    "one directory instead of layers that images share",
);

pub(super) static BUILD_EROFS: &[Flag] = &[REPLACE_FILE];

const REPLACE_FILE: Flag = switch(FlagId::Replace, "--replace", "replace a file of this name");

pub(super) static IMAGE_EXPORT: &[Flag] = &[
    with_default(
        "oci",
        valued(
            FlagId::ArchiveFormat,
            "--format",
            "oci|docker|rootfs",
            "what kind of archive",
        ),
    ),
    REPLACE_FILE,
];

pub(super) static IMAGE_TAG: &[Flag] = &[switch(
    FlagId::Replace,
    "--replace",
    "replace an image of that name, if it is in layers",
)];
