//! The options of `image pull`.

use super::flags::{FLAT, REPLACE_IMAGE, switch, valued, with_default};
use super::{Flag, FlagId};

pub(super) static IMAGE_PULL: &[Flag] = &[
    valued(
        FlagId::Id,
        "--id",
        "ID",
        "name of the image in the store; the last word of its name where it has none",
    ),
    REPLACE_IMAGE,
    FLAT,
    valued(
        FlagId::Platform,
        "--platform",
        "OS/ARCH[/VARIANT]",
        "the machine that it is for, as linux/arm64; this one by default",
    ),
    valued(
        FlagId::Authfile,
        "--authfile",
        "FILE",
        "take credentials from this file, as docker and podman write them",
    ),
    valued(
        FlagId::CaCert,
        "--ca-cert",
        "FILE",
        "trust these certificates (PEM) besides the machine's",
    ),
    switch(
        FlagId::PlainHttp,
        "--plain-http",
        "talk to the registry without TLS; registries of this machine are also tried so",
    ),
    valued(
        FlagId::Proxy,
        "--proxy",
        "URL",
        "reach the registry through this HTTP proxy",
    ),
    with_default(
        "30",
        valued(
            FlagId::Timeout,
            "--timeout",
            "SECONDS",
            "how long the registry may be silent",
        ),
    ),
];
