//! Every surrounding and every kind of ids, with every part of a container's life: it works, or it is refused by name.
//!
//! The table is printed, and it is the one in `docs/isolation.md`, which this test reads: the document stays true.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use tests::{Done, Run, World, bare_host, binary, tool};

use crate::nested::{Engine, archive, inside_itself};
use crate::rootless::User;

const SCRIPT: &str = include_str!("matrix.sh");

/// The columns, by the words of the script.
const PARTS: [&str; 7] = [
    "create-fs",
    "launch",
    "exec",
    "late-mount",
    "idmapped-volume",
    "mount-add",
    "destroy",
];

/// What is refused and where, the name that the table has for it, and what the message says.
const REFUSALS: [(&str, &str, &str, &str); 6] = [
    ("rootless", "late-mount", "needs root", MOUNTING),
    (
        "rootless",
        "idmapped-volume",
        "needs root",
        "needs root, user namespaces (sysctl user.max_user_namespaces), and ids that the caller's own user namespace has",
    ),
    (
        "LXC-like",
        "idmapped-volume",
        "a filesystem of the host's",
        "the kernel asks for CAP_SYS_ADMIN in the user namespace that owns the filesystem",
    ),
    ("podman", "late-mount", "needs root", MOUNTING),
    ("podman", "idmapped-volume", "needs root", MOUNTING),
    (
        "itself",
        "idmapped-volume",
        "on an overlay",
        "its filesystem cannot be idmapped",
    ),
];

const MOUNTING: &str = "needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace";

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/isolation.md");

/// The script for one surrounding. Empty places are the default directories.
fn script(
    binary: &Path,
    archive: &Path,
    places: &str,
    options: [&str; 2],
    volume: &Path,
) -> String {
    format!(
        "SC={} TAR={} S='{places}' C='{}' L='{}' V={}\n{SCRIPT}",
        binary.display(),
        archive.display(),
        options[0],
        options[1],
        volume.display()
    )
}

/// The row of a run: what the script says of each part, in the order of the columns. What comes after a refusal that
/// ends it was not tried.
fn row(name: &str, done: &Done) -> Vec<String> {
    let out = done.expect_ok();
    let answer = |part: &&str| {
        let line = out.lines().find_map(|line| line.strip_prefix(part));
        let Some(line) = line else {
            return "not tried".to_owned();
        };
        let line = line.trim();
        let known = |refusal: &&(&str, &str, &str, &str)| {
            (refusal.0, refusal.1) == (name, part) && line.contains(refusal.3)
        };
        match (line, REFUSALS.iter().find(known)) {
            ("yes", _) => "yes".to_owned(),
            (_, Some(refusal)) => format!("no: {}", refusal.2),
            (other, None) => panic!("{name}, {part}: {other}"),
        }
    };
    PARTS.iter().map(answer).collect()
}

fn on_this_host(world: &World, kind: &str) -> Done {
    let option = format!("--userns={kind}");
    let places = world.places().join(" ");
    let script = script(
        binary(),
        &archive(world),
        &places,
        [&option, &option],
        &world.dir.join("volume"),
    );
    Run::new(tool("sh")).cmd(["-c", &script]).pipes().done()
}

fn without_root() -> Option<Done> {
    let user = User::granted()?;
    let archive = archive(&user.world);
    // The user may not be able to enter the directory that it was built in.
    let own = user.home.join("start-container");
    tests::install(binary(), &own);
    let script = script(&own, &archive, "", ["", ""], &user.home.join("volume"));
    let done = Run::new(tool("sh"))
        .wrap(user.wrap(user.uid))
        .cmd(["-c", &script])
        .pipes()
        .done();
    Some(done)
}

/// A user namespace with shifted ids and a root filesystem of its own, idmapped, as LXC makes them.
fn in_lxc(world: &World) -> Done {
    const IDS: &str = "0 100000 65536";
    let root = world.dir.join("lxc");
    let image = world.base.join("images/img");
    tests::install(binary(), &image.join("sc"));
    fs::copy(archive(world), image.join("img.tar")).expect("archive");
    let mut shifted = world.bare(["bind-mount"]).verb(world.places());
    shifted = shifted
        .opt("--idmap=0:100000:65536")
        .opt("--source")
        .opt(&image);
    let _ = shifted.opt("--target").opt(&root).text();

    let mut holder = Run::new(tool("unshare"))
        .cmd(["--user", "sh", "-c", "echo up; exec cat"])
        .pipes()
        .spawn();
    holder.expect("up");
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", holder.pid()), IDS).expect("map");
    }
    // Mounts of the more privileged namespace are locked; a recursive bind of them has an unlocked root.
    let enter = format!(
        "set -e; cd {0}; mount --rbind . .; cd {0}; mount -t proc proc proc; mount --rbind /sys sys; \
         mount -t tmpfs dev dev; for n in null zero full random urandom tty; do : > dev/$n; mount --bind /dev/$n dev/$n; done; \
         pivot_root . mnt; exec chroot . /bin/sh -c 'umount -l /mnt; exec /bin/sh /run/script'",
        root.display()
    );
    let script = script(
        Path::new("/sc"),
        Path::new("/img.tar"),
        "--base=/b --state=/s --data=/d",
        ["", ""],
        Path::new("/volume"),
    );
    tests::write_file(image.join("run/script"), script);
    let user = format!("--user=/proc/{}/ns/user", holder.pid());
    let done = Run::new(tool("nsenter"))
        .cmd([user.as_str(), "--setuid=0", "--setgid=0"])
        .cmd([tool("unshare").to_str().expect("path")])
        .cmd([
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--cgroup",
            "--net",
            "--fork",
            "--kill-child",
        ])
        .cmd([tool("sh").to_str().expect("path"), "-c", &enter])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .pipes()
        .done();
    holder.signal(Signal::SIGKILL);
    done
}

fn nested_script() -> String {
    let (sc, tar) = (Path::new("/sc"), Path::new("/img.tar"));
    script(
        sc,
        tar,
        "--base=/b --state=/s --data=/d",
        ["", ""],
        Path::new("/volume"),
    )
}

fn table(rows: &[(&str, Vec<String>)]) -> Vec<String> {
    let line = |cells: &mut dyn Iterator<Item = String>| {
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    let head = ["surrounding"].into_iter().chain(PARTS);
    let mut lines = vec![
        line(&mut head.map(|word| word.replace('-', " ").replace("create fs", "create-fs"))),
        format!("|{}", "---|".repeat(PARTS.len() + 1)),
    ];
    for (name, cells) in rows {
        lines.push(line(
            &mut [(*name).to_owned()]
                .into_iter()
                .chain(cells.iter().cloned()),
        ));
    }
    lines
}

#[test]
fn every_part_of_a_life_in_every_surrounding() {
    let mut rows = Vec::new();
    for kind in ["host", "identity", "auto"] {
        let Some(world) = bare_host() else { return };
        rows.push((kind, row(kind, &on_this_host(&world, kind))));
    }
    if let Some(done) = without_root() {
        rows.push(("rootless", row("rootless", &done)));
    }
    let Some(world) = World::new() else { return };
    rows.push(("LXC-like", row("LXC-like", &in_lxc(&world))));
    let Some(world) = World::new() else { return };
    if let Some(podman) = Engine::podman(&world) {
        rows.push(("podman", row("podman", &podman.run(&[], &nested_script()))));
    }
    if let Some(done) = inside_itself(&["--profile=none"], None, &nested_script()) {
        rows.push(("itself", row("itself", &done)));
    }
    let lines = table(&rows);
    for line in &lines {
        println!("{line}");
    }
    let document = fs::read_to_string(DOCUMENT).expect("docs/isolation.md");
    for line in &lines {
        assert!(
            document.lines().any(|one| one == line),
            "docs/isolation.md has no line {line}"
        );
    }
    for (.., text) in REFUSALS {
        assert!(
            document.contains(text),
            "docs/isolation.md does not have the message {text}"
        );
    }
}
