//! What a service of systemd's has of it, in a container: sockets that it has opened (sd_listen_fds(3)), and one to say that it is
//! ready (sd_notify(3)).

use std::fs;

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use serde_json::json;
use tests::{Bundle, DEADLINE, Done, Snapshot, World, until};

/// What a program of systemd's asks for, and what is open.
const TELL: &str = "echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES; cat <&4; echo /proc/self/fd/*";

/// Three descriptors from 3 on, of which there are `LISTEN_FDS` ones for whom `LISTEN_PID` names.
fn activated(bundle: &Bundle<'_>, variables: &str, words: &[&str]) -> Done {
    let shell = format!("{variables} exec \"$0\" \"$@\" 3<three 4<four 5<five");
    for name in ["three", "four", "five"] {
        fs::write(bundle.dir.join(name), format!("{name}\n")).unwrap();
    }
    bundle.call(words).wrap(["sh", "-c", &shell]).done()
}

fn fds(last: u32) -> String {
    // The one of the directory itself comes behind them.
    let all: Vec<_> = (0..=last + 1)
        .map(|fd| format!("/proc/self/fd/{fd}"))
        .collect();
    all.join(" ")
}

#[test]
fn sockets_of_an_activation_are_passed_on() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, TELL, |_| {});
    let ours = "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=web:admin";
    let done = activated(&bundle, ours, &["run", "one"]);
    assert_eq!(
        done.out_text(),
        format!("1 1 2 web:admin\nfour\n{}", fds(4))
    );
    // Those of --preserve-fds come behind them.
    let done = activated(&bundle, ours, &["run", "--preserve-fds=1", "one"]);
    assert_eq!(
        done.out_text(),
        format!("1 1 2 web:admin\nfour\n{}", fds(5))
    );
    let done = activated(&bundle, "LISTEN_FDS=2", &["run", "one"]);
    assert_eq!(done.out_text(), format!("1 1 2\nfour\n{}", fds(4)));
    // Without a PID namespace it has another number.
    let mut config = bundle.config();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    config["process"]["args"] = json!(["sh", "-c", "test $LISTEN_PID = $$ && test $$ != 1"]);
    bundle.write(&config);
    activated(&bundle, ours, &["run", "one"]).expect_code(0);
}

#[test]
fn sockets_for_somebody_else_are_not_passed_on() {
    let Some(world) = World::new() else { return };
    let script = "echo ${LISTEN_FDS-none} ${LISTEN_PID-none} /proc/self/fd/*";
    let bundle = Bundle::new(&world, script, |_| {});
    for variables in ["LISTEN_FDS=2 LISTEN_PID=1", "LISTEN_FDS=0 LISTEN_PID=$$"] {
        let done = activated(&bundle, variables, &["run", "one"]);
        assert_eq!(
            done.out_text(),
            format!("none none {}", fds(2)),
            "{variables}"
        );
    }
    let done = activated(&bundle, "LISTEN_FDS=-1", &["run", "one"]);
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("LISTEN_FDS"),
        "{}",
        done.err_text()
    );
}

#[test]
fn sockets_that_an_engine_speaks_of_are_as_it_says() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, TELL, |config| {
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.extend(["LISTEN_FDS=7", "LISTEN_PID=9", "LISTEN_FDNAMES=x"].map(Into::into));
    });
    let ours = "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=web:admin";
    let done = activated(&bundle, ours, &["run", "one"]);
    assert_eq!(done.out_text(), format!("1 9 7 x\nfour\n{}", fds(4)));
}

#[test]
fn a_command_that_joins_is_activated_by_its_own_number() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    let ours = "LISTEN_FDS=2 LISTEN_PID=$$";
    let done = activated(&bundle, ours, &["exec", "one", "sh", "-c", TELL]);
    let text = done.out_text();
    let mut words = text.split_whitespace();
    let (pid, told) = (words.next().unwrap(), words.next().unwrap());
    assert_eq!(pid, told, "{text}");
    assert_ne!(pid, "1");
    assert!(text.ends_with(&format!("2\nfour\n{}", fds(4))), "{text}");
}

/// A socket as systemd's, and what is said to it.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn new(world: &World) -> Self {
        let path = world.dir.join("systemd");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path }
    }

    fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn hears_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert!(self.socket.recv(&mut [0]).is_err());
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// A bundle whose program can send datagrams.
fn saying<'w>(world: &'w World, script: &str) -> Bundle<'w> {
    let bundle = Bundle::new(world, script, |_| {});
    fs::copy(env!("CARGO_BIN_EXE_guest"), bundle.file("bin/guest")).unwrap();
    bundle
}

#[test]
fn a_container_says_that_it_is_ready() {
    let Some(world) = World::new() else { return };
    let script = "guest say $NOTIFY_SOCKET 'STATUS=x\nMAINPID=7' && guest say $NOTIFY_SOCKET \"$(printf 'STATUS=y\\nREADY=1')\"; \
                  touch ${NOTIFY_SOCKET%/*}/x; ls ${NOTIFY_SOCKET%/*}; echo $NOTIFY_SOCKET";
    let bundle = saying(&world, script);
    let systemd = Systemd::new(&world);
    let inside = systemd.path.join("notify");
    let mut config = bundle.config();
    // Whoever it is inside, and whoever that is outside.
    config["process"]["user"]["uid"] = 5.into();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "user" }));
    let maps = json!([{ "containerID": 0, "hostID": 700_000, "size": 10 }]);
    config["linux"]["uidMappings"] = maps.clone();
    config["linux"]["gidMappings"] = maps;
    for own_ids in [false, true] {
        let done = bundle
            .call(&["run", "one"])
            .env("NOTIFY_SOCKET", &systemd.path)
            .done();
        done.expect_code(0);
        assert!(
            done.err_text().contains("Read-only file system"),
            "{}",
            done.err_text()
        );
        assert_eq!(done.out_text(), format!("notify\n{}", inside.display()));
        // Who waits for it in the foreground stays the service's main process.
        assert_eq!(systemd.hears(), "READY=1", "{own_ids}");
        systemd.hears_nothing();
        bundle.write(&config);
    }
}

#[test]
fn start_waits_for_readiness_and_nobody_stays() {
    let Some(world) = World::new() else { return };
    let script =
        "until test -e /go; do sleep 0.01; done; guest say $NOTIFY_SOCKET READY=1; exec sleep 1000";
    let bundle = saying(&world, script);
    let before = Snapshot::of(&world);
    let systemd = Systemd::new(&world);
    let call = |words: &[&str]| bundle.call(words).env("NOTIFY_SOCKET", &systemd.path);
    call(&["create", "one"]).done().expect_code(0);
    let mut start = call(&["start", "one"]).spawn();
    bundle.await_status("one", "running");
    assert!(start.ended().is_none());
    fs::write(bundle.file("go"), "").unwrap();
    let pid = bundle.state("one")["pid"].to_string();
    assert_eq!(systemd.hears(), format!("READY=1\nMAINPID={pid}"));
    assert_eq!(systemd.hears(), "BARRIER=1");
    start.finish().expect_code(0);
    bundle.ok(&["delete", "--force", "one"]);
    // One that ends without a word.
    fs::remove_file(bundle.file("go")).unwrap();
    let mut run = call(&["run", "-d", "one"]).spawn();
    until("a container", || {
        bundle.root().join("one").is_dir().then_some(())
    });
    bundle.await_status("one", "running");
    assert!(run.ended().is_none());
    bundle.ok(&["delete", "--force", "one"]);
    run.finish().expect_code(0);
    systemd.hears_nothing();
    drop(systemd);
    let _ = fs::remove_dir(bundle.root());
    before.assert_same(&world);
}

#[test]
fn systemds_socket_may_have_no_path_and_an_engine_its_own() {
    let Some(world) = World::new() else { return };
    let script = "guest say $NOTIFY_SOCKET READY=1; echo $NOTIFY_SOCKET";
    let bundle = saying(&world, script);
    let name = format!("start-container-{}", world.name());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let run = || {
        bundle
            .call(&["run", "one"])
            .env("NOTIFY_SOCKET", format!("@{name}"))
    };
    assert_eq!(run().text(), "/run/notify/notify");
    let mut bytes = [0; 100];
    let length = socket.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"READY=1");
    // Where nobody listens there is nothing to wait for.
    drop(socket);
    let done = run().done();
    done.expect_code(0);
    let told = bundle.last_log()["msg"].to_string();
    assert!(
        told.contains("connect to") && told.contains(&name),
        "{told}"
    );
    let mut config = bundle.config();
    config["process"]["args"] =
        json!(["sh", "-c", "echo $NOTIFY_SOCKET; cat /proc/self/mountinfo"]);
    config["process"]["env"] = json!(["PATH=/bin", "NOTIFY_SOCKET=/engine"]);
    bundle.write(&config);
    let text = run().text();
    assert!(
        text.starts_with("/engine\n") && !text.contains("notify"),
        "{text}"
    );
}
