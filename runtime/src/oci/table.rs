//! The table of the OCI verbs and their options: what the parser and the help are made from.

use super::limit_flags::LIMITS;
use super::update::Limit;
use crate::cli::table::flags::{implying, short, switch, valued};
use crate::cli::table::{Flag, Verb};

/// What an option sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Bundle,
    Config,
    ConsoleSocket,
    PidFile,
    PreserveFds,
    NoPivot,
    NoNewKeyring,
    DryRun,
    Detach,
    Keep,
    All,
    Force,
    Regex,
    Process,
    Tty,
    Cwd,
    Env,
    User,
    Groups,
    Cap,
    NoNewPrivileges,
    AppArmor,
    ProcessLabel,
    Format,
    Quiet,
    Cgroup,
    IgnorePaused,
    Stats,
    Rootless,
    Interval,
    Resources,
    Limit(Limit),
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Start,
    Run,
    State,
    Kill,
    Delete,
    Exec,
    Pause,
    Resume,
    Update,
    Events,
    List,
    Ps,
    Features,
    Spec,
}

/// A verb of this front-end.
pub(super) type Row = Verb<Action, Id>;

const BUNDLE: &[Flag<Id>] = &[short(
    'b',
    valued(
        Id::Bundle,
        "--bundle",
        "DIR",
        "directory with config.json; default: the working directory",
    ),
)];
const CONFIG: &[Flag<Id>] = &[
    valued(
        Id::Config,
        "--config",
        "FILE",
        "its configuration, relative to DIR; default: config.json",
    ),
    switch(
        Id::NoPivot,
        "--no-pivot",
        "without pivot_root(2), which a ramdisk as the root refuses",
    ),
    switch(
        Id::NoNewKeyring,
        "--no-new-keyring",
        "the container keeps the caller's session keyring",
    ),
];
const PROCESS: &[Flag<Id>] = &[
    valued(
        Id::ConsoleSocket,
        "--console-socket",
        "SOCKET",
        "where the terminal is sent to",
    ),
    valued(
        Id::PidFile,
        "--pid-file",
        "FILE",
        "gets the number of the process",
    ),
    valued(
        Id::PreserveFds,
        "--preserve-fds",
        "N",
        "descriptors from 3 on that are passed on",
    ),
];
const CHANGES: &[Flag<Id>] = &[
    valued(Id::Cwd, "--cwd", "DIR", "its working directory"),
    short(
        'e',
        valued(Id::Env, "--env", "NAME=VALUE", "a variable more"),
    ),
    short(
        'u',
        valued(Id::User, "--user", "UID[:GID]", "who it is, in numbers"),
    ),
    short(
        'g',
        valued(
            Id::Groups,
            "--additional-gids",
            "GID",
            "a supplementary group more",
        ),
    ),
    short(
        'c',
        valued(Id::Cap, "--cap", "CAPABILITY", "a capability more"),
    ),
    switch(
        Id::NoNewPrivileges,
        "--no-new-privs",
        "it never gets more than it begins with",
    ),
    valued(
        Id::AppArmor,
        "--apparmor",
        "PROFILE",
        "the profile of AppArmor that it has",
    ),
    valued(
        Id::ProcessLabel,
        "--process-label",
        "LABEL",
        "the context of SELinux that it has",
    ),
];
const DETACH: &[Flag<Id>] = &[short(
    'd',
    switch(
        Id::Detach,
        "--detach",
        "return when the process has been started",
    ),
)];
const FORMAT: &[Flag<Id>] = &[short(
    'f',
    valued(Id::Format, "--format", "FORMAT", "table or json"),
)];

/// The verbs.
pub(super) static VERBS: &[Row] = &[
    Verb {
        id: Action::Create,
        group: "",
        name: "create",
        operands: "ID",
        about: "make a container of a bundle; it waits to be started",
        notes: "",
        flags: &[
            BUNDLE,
            CONFIG,
            PROCESS,
            &[implying(
                "text",
                valued(
                    Id::DryRun,
                    "--dry-run",
                    "text|json",
                    "print the plan and do nothing; without root, the plan of root",
                ),
            )],
        ],
    },
    Verb {
        id: Action::Start,
        group: "",
        name: "start",
        operands: "ID",
        about: "start the program of a created container",
        notes: "",
        flags: &[],
    },
    Verb {
        id: Action::Run,
        group: "",
        name: "run",
        operands: "ID",
        about: "create and start a container, and stay until it has ended",
        notes: "It is deleted then, unless --keep. Ends as its program ended.",
        flags: &[
            BUNDLE,
            CONFIG,
            PROCESS,
            DETACH,
            &[switch(
                Id::Keep,
                "--keep",
                "do not delete it when it has ended",
            )],
        ],
    },
    Verb {
        id: Action::State,
        group: "",
        name: "state",
        operands: "ID",
        about: "print the state of a container as JSON",
        notes: "",
        flags: &[],
    },
    Verb {
        id: Action::Kill,
        group: "",
        name: "kill",
        operands: "ID [SIGNAL]",
        about: "send a signal to the program of a container",
        notes: "SIGTERM, if nothing is said.",
        flags: &[&[short(
            'a',
            switch(
                Id::All,
                "--all",
                "to all processes, also when its program has ended",
            ),
        )]],
    },
    Verb {
        id: Action::Delete,
        group: "",
        name: "delete",
        operands: "ID",
        about: "forget a container that has stopped",
        notes: "",
        flags: &[&[
            short(
                'f',
                switch(
                    Id::Force,
                    "--force",
                    "end it first; nothing to delete is a success",
                ),
            ),
            short(
                'r',
                switch(
                    Id::Regex,
                    "--regex",
                    "ID is a regular expression: forget all whose ids it matches somewhere",
                ),
            ),
        ]],
    },
    Verb {
        id: Action::Exec,
        group: "",
        name: "exec",
        operands: "ID [COMMAND [ARGUMENT...]]",
        about: "run a process in a container",
        notes: "It is confined as the container is, unless process.json says otherwise. Without that it is the\n\
                container's own process with another command, and with what the options change.",
        flags: &[
            &[
                short(
                    'p',
                    valued(
                        Id::Process,
                        "--process",
                        "FILE",
                        "process.json, as process of config.json",
                    ),
                ),
                short('t', switch(Id::Tty, "--tty", "give it a terminal")),
            ],
            CHANGES,
            PROCESS,
            DETACH,
            &[
                valued(
                    Id::Cgroup,
                    "--cgroup",
                    "PATH",
                    "a cgroup below the container's own, which must be there",
                ),
                switch(
                    Id::IgnorePaused,
                    "--ignore-paused",
                    "also in a paused container: it begins when that is resumed",
                ),
            ],
        ],
    },
    Verb {
        id: Action::Pause,
        group: "",
        name: "pause",
        operands: "ID",
        about: "stop all processes of a container where they are",
        notes: "",
        flags: &[],
    },
    Verb {
        id: Action::Resume,
        group: "",
        name: "resume",
        operands: "ID",
        about: "let the processes of a paused container go on",
        notes: "",
        flags: &[],
    },
    Verb {
        id: Action::Update,
        group: "",
        name: "update",
        operands: "ID",
        about: "change the limits of a container",
        notes: "What is not said stays as it is. A size is a number of bytes, or has k, m, g or t after it; -1 is no limit.",
        flags: &[LIMITS],
    },
    Verb {
        id: Action::Events,
        group: "",
        name: "events",
        operands: "ID",
        about: "print what a container uses, and when its memory has run out, as JSON",
        notes: "Until it has ended.",
        flags: &[&[
            switch(Id::Stats, "--stats", "print what it uses now, and end"),
            valued(Id::Interval, "--interval", "TIME", "how often; default: 5s"),
        ]],
    },
    Verb {
        id: Action::List,
        group: "",
        name: "list",
        operands: "",
        about: "list the containers",
        notes: "",
        flags: &[
            FORMAT,
            &[short('q', switch(Id::Quiet, "--quiet", "only their ids"))],
        ],
    },
    Verb {
        id: Action::Ps,
        group: "",
        name: "ps",
        operands: "ID [PS-OPTION...]",
        about: "list the processes of a container",
        notes: "The table is that of ps(1), with these options or with -ef.",
        flags: &[FORMAT],
    },
    Verb {
        id: Action::Features,
        group: "",
        name: "features",
        operands: "",
        about: "print what is supported as JSON",
        notes: "",
        flags: &[],
    },
    Verb {
        id: Action::Spec,
        group: "",
        name: "spec",
        operands: "",
        about: "write a config.json to start from",
        notes: "",
        flags: &[
            BUNDLE,
            &[switch(
                Id::Rootless,
                "--rootless",
                "one that the caller can run without root",
            )],
        ],
    },
];
