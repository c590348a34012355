//! SCMP_ACT_NOTIFY: somebody else is asked about system calls. The supervisor is a real one, for which a few lines of
//! Perl are enough: it answers what the kernel asks on a listener that the runtime has sent to its socket.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tests::{Bundle, DEADLINE, Snapshot, World, tool};

/// Answers every question on its stdin with this errno, or says that it has been done where that is 0. The numbers are
/// SECCOMP_IOCTL_NOTIF_RECV and _SEND, and the packed words `struct seccomp_notif` and `seccomp_notif_resp`.
const SUPERVISOR: &str = r#"
    my $errno = shift;
    while (1) {
        my $asked = "\0" x 80;
        ioctl(STDIN, 0xc0502100, $asked) or next;
        my ($id) = unpack("Q", $asked);
        my $answer = pack("Qqll", $id, 0, -$errno, 0);
        ioctl(STDIN, 0xc0182101, $answer);
    }
"#;

/// Takes listeners at a socket, and has each looked after by a supervisor of its own.
struct Agent {
    path: PathBuf,
    states: Receiver<(Value, Supervisor)>,
}

struct Supervisor(Child);

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// One that answers with these errnos, in the order of those who connect.
    fn new(world: &World, errnos: &'static [i32]) -> Self {
        let path = world.dir.join("agent");
        let socket = UnixListener::bind(&path).unwrap();
        let (sender, states) = channel();
        std::thread::spawn(move || {
            for errno in errnos {
                let (stream, _) = socket.accept().unwrap();
                let mut bytes = [0; 8192];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut vector = [IoSliceMut::new(&mut bytes)];
                let got = recvmsg(&stream, &mut vector, &mut control, RecvFlags::empty());
                let length = got.unwrap().bytes;
                // Whoever failed in between has sent nothing.
                let passed = control.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                let Some(passed) = passed else { continue };
                let state = serde_json::from_slice(&bytes[..length]).unwrap();
                let _ = sender.send((state, supervise(passed, *errno)));
            }
        });
        Self { path, states }
    }

    fn next(&self) -> (Value, Supervisor) {
        self.states.recv_timeout(DEADLINE).expect("a listener")
    }
}

fn supervise(listener: OwnedFd, errno: i32) -> Supervisor {
    let mut perl = Command::new(tool("perl"));
    perl.args(["-e", SUPERVISOR, &errno.to_string()]);
    Supervisor(perl.stdin(Stdio::from(listener)).spawn().unwrap())
}

fn ask_about_mkdir(config: &mut Value, path: &PathBuf) {
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "for the agent",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB", "SCMP_ARCH_M68K"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
}

const MKDIR: &str = "mkdir /tmp/new 2>&1; echo $?; ls /tmp";

#[test]
fn somebody_else_answers_a_system_call() {
    // EXDEV, which mkdir(2) never gives; and done, although it is not.
    for (no_new_privileges, errnos, told) in [
        (
            true,
            &[18][..],
            "mkdir: can't create directory '/tmp/new': Invalid cross-device link\n1",
        ),
        (
            false,
            &[18],
            "mkdir: can't create directory '/tmp/new': Invalid cross-device link\n1",
        ),
        (true, &[0], "0"),
    ] {
        let Some(world) = World::new() else { return };
        let agent = Agent::new(&world, errnos);
        let bundle = Bundle::new(&world, MKDIR, |config| {
            ask_about_mkdir(config, &agent.path);
            config["process"]["noNewPrivileges"] = no_new_privileges.into();
            config["annotations"] = json!({ "org.example": "kept" });
        });
        let client = bundle.call(&["run", "one"]).spawn();
        let (state, supervisor) = agent.next();
        let done = client.finish();
        assert_eq!(done.out_text().trim_end(), told, "{}", done.err_text());
        drop(supervisor);
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "for the agent");
        assert_eq!(state["state"]["id"], "one");
        assert_eq!(state["state"]["status"], "creating");
        assert_eq!(state["state"]["annotations"]["org.example"], "kept");
        assert_eq!(state["pid"], state["state"]["pid"]);
        assert!(
            state["pid"].as_i64().unwrap() > 1 && state["ociVersion"].is_string(),
            "{state}"
        );
    }
}

#[test]
fn each_process_that_joins_has_a_listener_of_its_own() {
    let Some(world) = World::new() else { return };
    let agent = Agent::new(&world, &[18, 0, 40]);
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        ask_about_mkdir(config, &agent.path);
        // A hook inside has the same filter.
        let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "mkdir /tmp/new"] }]);
        config["hooks"] = json!({ "startContainer": hook });
    });
    bundle.ok(&["create", "one"]);
    let (created, _first) = agent.next();
    assert_eq!(created["pid"], bundle.state("one")["pid"]);
    bundle.ok(&["start", "one"]);
    let (hook, _second) = agent.next();
    assert_eq!(hook["state"]["status"], "created");
    assert_ne!(hook["pid"], created["pid"]);
    let client = bundle.call(&["exec", "one", "sh", "-c", MKDIR]).spawn();
    let (joined, _third) = agent.next();
    let done = client.finish();
    // ELOOP, from the third.
    assert!(
        done.out_text().contains("symbolic links"),
        "{}",
        done.out_text()
    );
    assert_eq!(joined["state"]["status"], "running");
    assert_eq!(joined["state"]["pid"], created["pid"]);
    assert_ne!(joined["pid"], created["pid"]);
}

#[test]
fn a_listener_that_nobody_takes_is_an_error() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, MKDIR, |_| {});
    let good = bundle.config();
    let path = world.dir.join("nobody");
    fs::write(world.dir.join("file"), "").unwrap();
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    for (place, value, told) in [
        ("listenerPath", json!(path), "linux.seccomp.listenerPath"),
        (
            "listenerPath",
            json!(world.dir.join("file")),
            "ECONNREFUSED",
        ),
        ("listenerPath", json!("agent"), "is not absolute"),
        (
            "listenerPath",
            json!(null),
            "is missing, for SCMP_ACT_NOTIFY",
        ),
        (
            "syscalls",
            json!([{ "names": ["write"], "action": "SCMP_ACT_NOTIFY" }]),
            "asked about write",
        ),
        ("defaultAction", json!("SCMP_ACT_NOTIFY"), "defaultAction"),
        ("", json!(null), "listenerMetadata"),
    ] {
        let mut config = good.clone();
        ask_about_mkdir(&mut config, &path);
        let seccomp = config["linux"]["seccomp"].as_object_mut().unwrap();
        match (place, value) {
            ("listenerPath", Value::Null) => {
                seccomp.remove("listenerMetadata");
                seccomp.remove(place);
            }
            ("", _) => drop(seccomp.remove("listenerPath")),
            (place, value) => drop(seccomp.insert(place.to_owned(), value)),
        }
        bundle.refuses(&config, told);
        before.assert_same(&world);
    }
    // Where nobody is asked, nobody has to listen.
    let mut config = good;
    ask_about_mkdir(&mut config, &path);
    config["linux"]["seccomp"]["syscalls"] = json!([]);
    config["root"]["readonly"] = false.into();
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "0\nnew");
}
