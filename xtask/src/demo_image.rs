//! The image of the demo: the guest program under the names of its tools, two users, and a second layer that takes a file
//! away and adds another.

use std::path::Path;

use serde_json::{Value, json};

use crate::Result;
use crate::oci_layout::{self, Entry};

/// The user of the image, and a group that it is only a supplementary member of.
pub(crate) const USER_ID: u64 = 1000;
pub(crate) const EXTRA_GROUP: u64 = 44;

/// What the second layer adds, and what is in it.
pub(crate) const APP_FILE: &str = "srv/app.txt";
pub(crate) const APP_TEXT: &str = "from the upper layer";

/// The file of the first layer that the second one takes away.
pub(crate) const GONE: &str = "motd";

/// Writes it as an OCI image layout. `tools` are the names that the guest program answers to.
pub(crate) fn write(dir: &Path, guest: &Path, tools: &[String]) -> Result<String> {
    let guest_program =
        std::fs::read(guest).map_err(|error| format!("read {}: {error}", guest.display()))?;
    let mut lower = vec![
        Entry::dir("bin", 0o755),
        Entry::file("bin/guest", 0o755, guest_program),
        Entry::dir("dev", 0o755),
        Entry::dir("etc", 0o755),
        Entry::file("etc/passwd", 0o644, passwd()),
        Entry::file("etc/group", 0o644, group()),
        Entry::file("etc/motd", 0o644, "from the lower layer\n"),
        Entry::dir("home", 0o755),
        Entry::dir("home/app", 0o750).owned_by(USER_ID),
        Entry::dir("proc", 0o555),
        Entry::dir("root", 0o700),
        Entry::dir("srv", 0o755),
        Entry::dir("sys", 0o555),
        Entry::dir("tmp", 0o1777),
    ];
    lower.extend(
        tools
            .iter()
            .map(|tool| Entry::symlink(&format!("bin/{tool}"), "guest")),
    );
    let upper = vec![
        Entry::whiteout("etc", GONE),
        Entry::file(APP_FILE, 0o640, APP_TEXT).owned_by(USER_ID),
    ];
    let layers = [lower, upper];
    let bytes = oci_layout::write(dir, &layers, config())?;
    Ok(format!(
        "{} layers, {} KiB of blobs",
        layers.len(),
        bytes.div_ceil(1024)
    ))
}

fn passwd() -> String {
    format!("root:x:0:0:root:/root:/bin/true\napp:x:{USER_ID}:{USER_ID}::/home/app:/bin/true\n")
}

fn group() -> String {
    format!("root:x:0:\napp:x:{USER_ID}:\nvideo:x:{EXTRA_GROUP}:app\n")
}

fn config() -> Value {
    json!({
        "Env": ["PATH=/bin", "GREETING=hello from the image"],
        "User": "app",
        "WorkingDir": "/home/app",
        "Entrypoint": ["/bin/guest"],
        "Cmd": ["id"],
    })
}
