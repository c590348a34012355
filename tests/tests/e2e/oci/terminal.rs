//! Terminals of containers: opened in their own devpts, relayed or sent to the engine.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tests::{Bundle, Pty, Run, Snapshot, World, until};

/// A bundle whose program has a terminal.
fn with_terminal<'w>(world: &'w World, script: &str) -> Bundle<'w> {
    Bundle::new(world, script, |config| {
        config["process"]["terminal"] = true.into();
    })
}

fn at(run: Run, pty: &Pty) -> Run {
    run.stdin(pty.wire()).stdout(pty.wire()).stderr(pty.wire())
}

#[test]
fn run_in_the_foreground_relays_a_terminal_of_the_containers_devpts() {
    let Some(world) = World::new() else { return };
    let script = "tty; stty size; id -u; stat -c '%u %g' $(tty); echo typed > /dev/console; \
                  echo more > /dev/tty; read line; echo got $line; exit 5";
    let bundle = with_terminal(&world, script);
    let mut pty = Pty::new(33, 77);
    let client = at(bundle.call(&["run", "one"]), &pty).spawn();
    for text in ["/dev/pts/0", "33 77", "0 5", "typed", "more"] {
        pty.expect(text);
    }
    pty.write(b"hello\r");
    pty.expect("got hello");
    client.finish().expect_code(5);
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

#[test]
fn a_change_of_the_size_reaches_the_program() {
    let Some(world) = World::new() else { return };
    let script = "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done";
    let bundle = with_terminal(&world, script);
    let mut pty = Pty::new(20, 30);
    let client = at(bundle.call(&["run", "one"]), &pty).spawn();
    pty.expect("up");
    pty.resize(21, 31);
    client.signal(nix::sys::signal::Signal::SIGWINCH);
    pty.expect("21 31");
    bundle.ok(&["kill", "one", "KILL"]);
    drop(client);
}

/// Takes one terminal that is sent to a socket.
fn receive(path: PathBuf) -> JoinHandle<File> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut vector = [IoSliceMut::new(&mut bytes)];
        recvmsg(&stream, &mut vector, &mut control, RecvFlags::empty()).unwrap();
        let passed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        File::from(passed.expect("a descriptor"))
    })
}

/// Reads a terminal until it has shown this.
fn shows(terminal: &mut File, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut bytes = [0; 512];
        let length = terminal.read(&mut bytes).unwrap_or(0);
        assert!(length > 0, "{text}: {}", String::from_utf8_lossy(&seen));
        seen.extend(&bytes[..length]);
    }
}

#[test]
fn create_and_exec_send_the_terminal_to_the_engine() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(
        &world,
        "stty size; read line; echo got $line; exec sleep 1000",
        |config| {
            config["process"]["terminal"] = true.into();
            config["process"]["consoleSize"] = json!({ "height": 12, "width": 34 });
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        },
    );
    let socket = bundle.dir.join("socket");
    let taken = receive(socket.clone());
    bundle.ok(&[
        "create",
        "--console-socket",
        socket.to_str().unwrap(),
        "one",
    ]);
    let mut terminal = taken.join().unwrap();
    bundle.ok(&["start", "one"]);
    shows(&mut terminal, "12 34");
    terminal.write_all(b"word\r").unwrap();
    shows(&mut terminal, "got word");
    fs::remove_file(&socket).unwrap();

    let taken = receive(socket.clone());
    let words = [
        "exec",
        "-d",
        "-t",
        "--console-socket",
        socket.to_str().unwrap(),
    ];
    let script = "tty; id -u; stat -c %u /dev/pts/1; echo end";
    bundle.ok(&[&words[..], &["one", "sh", "-c", script]].concat());
    let mut terminal = taken.join().unwrap();
    shows(&mut terminal, "/dev/pts/1\r\n1000\r\n1000\r\nend");
}

#[test]
fn a_long_path_of_the_socket_is_no_hindrance() {
    let Some(world) = World::new() else { return };
    let bundle = with_terminal(&world, "tty");
    let deep = bundle.dir.join("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let (near, far) = (bundle.dir.join("socket"), deep.join("socket"));
    let taken = receive(near.clone());
    fs::rename(&near, &far).unwrap();
    let mut words = vec![
        "run",
        "-d",
        "--console-socket",
        far.to_str().unwrap(),
        "one",
    ];
    bundle.ok(&words);
    shows(&mut taken.join().unwrap(), "/dev/pts/0");
    words[4] = "two";
    let done = bundle.call(&words).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("ECONNREFUSED"),
        "{}",
        done.err_text()
    );
    assert_eq!(bundle.ok(&["list", "-q"]), "one");
}

#[test]
fn exec_in_the_foreground_relays_a_terminal() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    let mut pty = Pty::new(40, 50);
    let script = "tty; stty size; read line; echo got $line; exit 6";
    let client = at(
        bundle.call(&["exec", "-t", "one", "sh", "-c", script]),
        &pty,
    )
    .spawn();
    pty.expect("/dev/pts/0");
    pty.expect("40 50");
    pty.write(b"word\r");
    pty.expect("got word");
    client.finish().expect_code(6);
}

#[test]
fn a_terminal_that_nobody_would_have_is_refused() {
    let Some(world) = World::new() else { return };
    let bundle = with_terminal(&world, "true");
    let dir = bundle.dir.to_str().unwrap();
    for (words, told) in [
        (&["create", "one"][..], "process.terminal"),
        (&["run", "-d", "one"], "process.terminal"),
        (
            &["create", "--console-socket", "/nonexistent", "one"],
            "ENOENT",
        ),
        (&["create", "--console-socket", dir, "one"], "ECONNREFUSED"),
    ] {
        let done = bundle.call(words).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
    }
    let mut config = bundle.config();
    config["process"]["terminal"] = false.into();
    bundle.write(&config);
    let done = bundle
        .call(&["create", "--console-socket", "/s", "one"])
        .done();
    done.expect_refused(&[1]);
    assert!(!bundle.root().exists());
}

#[test]
fn a_console_that_leads_elsewhere_is_not_followed() {
    let Some(world) = World::new() else { return };
    let dev = |config: &mut Value| {
        config["process"]["terminal"] = true.into();
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts
            .retain(|mount| mount["destination"] == "/proc" || mount["destination"] == "/dev/pts");
        config["root"]["readonly"] = false.into();
    };
    let bundle = Bundle::new(&world, "stat -fc %T /dev/console; tty", dev);
    let sentinel = world.dir.join("sentinel");
    fs::write(&sentinel, "as it was").unwrap();
    let _ = fs::create_dir_all(bundle.file("dev"));
    let console = bundle.file("dev/console");
    let _ = fs::remove_file(&console);
    symlink(&sentinel, &console).unwrap();
    let pty = Pty::new(24, 80);
    let before = Snapshot::of(&world);
    for target in [sentinel.as_path(), "/dev/null".as_ref(), "nosuch".as_ref()] {
        fs::remove_file(&console).unwrap();
        symlink(target, &console).unwrap();
        let done = at(bundle.call(&["run", "one"]), &pty).done();
        done.expect_code(1);
    }
    fs::remove_file(&console).unwrap();
    assert_eq!(fs::read_to_string(&sentinel).unwrap(), "as it was");
    let mut pty = pty;
    pty.expect("put the terminal at /dev/console");
    at(bundle.call(&["run", "one"]), &pty).done().expect_code(0);
    pty.expect("/dev/pts/0");
    let _ = fs::remove_dir(bundle.root());
    before.assert_same(&world);
}

#[test]
fn descriptors_are_passed_on_when_asked_for() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat <&3; cat <&4; ls /proc/self/fd", |_| {});
    let run = |words: &[&str]| {
        let shell = "exec \"$0\" \"$@\" 3<three 4<four 5<five";
        bundle.call(words).wrap(["sh", "-c", shell])
    };
    for name in ["three", "four", "five"] {
        fs::write(bundle.dir.join(name), format!("{name}\n")).unwrap();
    }
    let done = run(&["run", "--preserve-fds", "2", "one"]).done();
    assert_eq!(done.out_text(), "three\nfour\n0\n1\n2\n3\n4\n5");
    done.expect_code(0);
    // What is not open is nothing, and what is ours in its place is not passed on.
    let gaps = "for fd in {5..39}; do eval \"exec $fd>&-\"; done; \
                exec \"$0\" \"$@\" 3<three 4<four 40<five";
    let done = bundle.call(&["run", "--preserve-fds", "38", "one"]);
    let done = done.wrap(["bash", "--norc", "-c", gaps]).done();
    assert_eq!(done.out_text(), "three\nfour\n0\n1\n2\n3\n4\n40\n5");
    done.expect_code(0);
    assert_eq!(done.err_text(), "");
    let mut config = bundle.config();
    config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write(&config);
    bundle.ok(&["run", "-d", "one"]);
    let done = run(&["exec", "--preserve-fds=1", "one", "cat", "/dev/fd/3"]).done();
    assert_eq!(done.out_text(), "three");
    until("no process but the first", || {
        (bundle.ok(&["ps", "one"]).lines().count() == 2).then_some(())
    });
}
