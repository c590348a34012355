//! The options of `update`: which field of the resources each sets, and what its value is.

use super::table::Id;
use super::update::{Kind, Limit};
use crate::cli::table::Flag;
use crate::cli::table::flags::{short, valued};

const fn limit(
    long: &'static str,
    field: (&'static str, &'static str),
    kind: Kind,
    help: &'static str,
) -> Flag<Id> {
    let value = match kind {
        Kind::Size => "SIZE",
        Kind::Number => "N",
        Kind::Text => "LIST",
    };
    valued(Id::Limit(Limit { field, kind }), long, value, help)
}

/// The options of `update`, in the order of the help.
pub(super) const LIMITS: &[Flag<Id>] = &[
    short(
        'r',
        valued(
            Id::Resources,
            "--resources",
            "FILE",
            "resources as in config.json; - is standard input",
        ),
    ),
    limit("--memory", ("memory", "limit"), Kind::Size, "memory"),
    limit(
        "--memory-swap",
        ("memory", "swap"),
        Kind::Size,
        "memory and swap together",
    ),
    limit(
        "--memory-reservation",
        ("memory", "reservation"),
        Kind::Size,
        "memory that is taken from others first",
    ),
    limit(
        "--cpu-shares",
        ("cpu", "shares"),
        Kind::Number,
        "weight against others, 1024 being usual",
    ),
    limit(
        "--cpu-share",
        ("cpu", "shares"),
        Kind::Number,
        "the same, as older engines write it",
    ),
    limit(
        "--cpu-quota",
        ("cpu", "quota"),
        Kind::Number,
        "microseconds in each period; -1 is no limit",
    ),
    limit(
        "--cpu-period",
        ("cpu", "period"),
        Kind::Number,
        "length of the period in microseconds",
    ),
    limit(
        "--cpu-burst",
        ("cpu", "burst"),
        Kind::Number,
        "microseconds that may be saved up",
    ),
    limit(
        "--cpu-rt-period",
        ("cpu", "realtimePeriod"),
        Kind::Number,
        "the same for real-time processes",
    ),
    limit(
        "--cpu-rt-runtime",
        ("cpu", "realtimeRuntime"),
        Kind::Number,
        "microseconds in each of these periods",
    ),
    limit(
        "--cpu-idle",
        ("cpu", "idle"),
        Kind::Number,
        "1: only when nobody else wants to run",
    ),
    limit(
        "--cpuset-cpus",
        ("cpu", "cpus"),
        Kind::Text,
        "processors: 0-2,5",
    ),
    limit(
        "--cpuset-mems",
        ("cpu", "mems"),
        Kind::Text,
        "memory nodes: 0",
    ),
    limit(
        "--pids-limit",
        ("pids", "limit"),
        Kind::Number,
        "processes and threads; -1 is no limit",
    ),
    limit(
        "--blkio-weight",
        ("blockIO", "weight"),
        Kind::Number,
        "weight of input and output, 10 to 1000",
    ),
];
