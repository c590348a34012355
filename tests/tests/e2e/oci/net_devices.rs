//! `linux.netDevices`: interfaces of a network namespace of the test's own, which stands for the host's, go into a container.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tests::{Bundle, Run, Snapshot, World, tool, until};

/// A network namespace, for as long as its process sleeps.
struct Net(Child);

impl Net {
    fn new() -> Self {
        let mut command = Command::new(tool("unshare"));
        let words = ["--net", "sleep", "1000"];
        let child = command.args(words).stdin(Stdio::null()).spawn().unwrap();
        let name = format!("/proc/{}/comm", child.id());
        until("a network namespace", || {
            let name = fs::read_to_string(&name).ok()?;
            (name.trim() == "sleep").then_some(())
        });
        Self(child)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn enter(&self) -> [String; 2] {
        enter(&self.path())
    }

    fn ip(&self, words: &str) -> String {
        ip(&self.path(), words)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn enter(path: &str) -> [String; 2] {
    let nsenter = tool("nsenter").display().to_string();
    [nsenter, format!("--net={path}")]
}

fn ip(path: &str, words: &str) -> String {
    let run = Run::new(tool("ip")).verb(words.split(' '));
    run.wrap(enter(path)).text()
}

/// The host: two pairs of interfaces, of which one end each has all that is to be kept.
fn host() -> Net {
    let net = Net::new();
    for words in [
        "link add a0 type veth peer name b0",
        "link add a1 type veth peer name b1",
        "link set a0 mtu 1400 address 02:00:00:00:00:05 txqueuelen 77",
        "addr add 10.1.2.3/24 broadcast 10.1.2.255 dev a0",
        "addr add 10.1.2.4/24 dev a0",
        "addr add 10.9.0.1 peer 10.9.0.2/32 dev a0 noprefixroute",
        "addr add 169.254.7.7/16 scope link dev a0",
        "addr add 10.3.0.1/24 valid_lft 1000 preferred_lft 900 dev a0",
        "-6 addr add fd00::5/64 nodad dev a0",
        "link set b0 up",
        "link set a0 up",
    ] {
        net.ip(words);
    }
    net
}

const ADDRESSES: [&str; 4] = ["10.1.2.3", "10.1.2.4", "10.9.0.1", "fd00::5"];

/// Of an interface: what it is, and its addresses but for those that the kernel gives each one by itself.
fn shown(path: &str, name: &str) -> (Value, Vec<Value>) {
    let text = ip(path, &format!("-j -d addr show dev {name}"));
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut one = all[0].clone();
    let addresses = one["addr_info"].take();
    let addresses = addresses.as_array().unwrap().iter().cloned();
    let own = |address: &Value| !address["local"].as_str().unwrap().starts_with("fe80");
    let mut addresses: Vec<_> = addresses.filter(own).collect();
    for address in &mut addresses {
        // Counted down by the kernel.
        for time in ["valid_life_time", "preferred_life_time"] {
            address[time] = Value::Null;
        }
    }
    (one, addresses)
}

fn pid(bundle: &Bundle<'_>, id: &str) -> String {
    bundle.state(id)["pid"].to_string()
}

fn set_path(config: &mut Value, path: &str) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    let network = namespaces.iter_mut().find(|one| one["type"] == "network");
    network.unwrap()["path"] = path.into();
}

#[test]
fn an_interface_comes_with_its_addresses_and_is_up() {
    let Some(world) = World::new() else { return };
    for own_ids in [false, true] {
        let _ = fs::remove_dir_all(world.dir.join("bundle"));
        let host = host();
        let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
            config["linux"]["netDevices"] =
                json!({ "a0": { "name": "inside" }, "a1": { "name": "eth%d" } });
            if own_ids {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({ "type": "user" }));
                for field in ["uidMappings", "gidMappings"] {
                    config["linux"][field] =
                        json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
                }
            }
        });
        let (before, addresses) = shown(&host.path(), "a0");
        let create = bundle.call(&["run", "-d", "one"]).wrap(host.enter());
        create.done().expect_code(0);
        let inside = format!("/proc/{}/ns/net", pid(&bundle, "one"));
        let (after, kept) = shown(&inside, "inside");
        for what in ["mtu", "address", "txqlen"] {
            assert_eq!(after[what], before[what], "{what}");
        }
        let flags = after["flags"].to_string();
        assert!(flags.contains("\"UP\""), "{flags}");
        let mut names: Vec<_> = kept
            .iter()
            .map(|one| one["local"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ADDRESSES, "{kept:#?}");
        for address in &kept {
            let mut old = addresses
                .iter()
                .find(|old| old["local"] == address["local"])
                .unwrap()
                .clone();
            if old["label"] == "a0" {
                old["label"] = "inside".into();
            }
            assert_eq!(*address, old);
        }
        let (other, _) = shown(&inside, "eth0");
        assert!(other["flags"].to_string().contains("\"UP\""), "{other}");
        let left = host.ip("-br link");
        assert!(!left.contains("a0@") && !left.contains("a1@"), "{left}");
        // It is the container's now, and ends with its namespace.
        let record = fs::read_to_string(bundle.root().join("one/state.json")).unwrap();
        assert!(record.contains("\"lent\":[]"), "{record}");
        bundle.ok(&["delete", "--force", "one"]);
        until("the other end to go", || {
            (!host.ip("-br link").contains("b0")).then_some(())
        });
    }
}

#[test]
fn what_a_create_that_fails_has_taken_comes_back_as_it_was() {
    let Some(world) = World::new() else { return };
    let (host, other) = (host(), Net::new());
    let bundle = Bundle::new(&world, "", |config| {
        config["linux"]["netDevices"] = json!({ "a0": { "name": "inside" }, "a1": {} });
    });
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    other.ip("link add a1 type veth peer name b1");
    let state = || lasting(&host.ip("-d addr"));
    let (before, there) = (state(), other.ip("-d addr"));
    let world_before = Snapshot::of(&world);
    let fails = |config: &Value, told: &str| {
        bundle.write(config);
        let done = bundle.call(&["create", "one"]).wrap(host.enter()).done();
        done.expect_refused(&[1, 127]);
        let text = done.err_text();
        assert!(text.contains(told), "{told}: {text}");
        bundle.write(&good);
        assert_eq!(state(), before, "{told}");
        assert_eq!(other.ip("-d addr"), there);
        world_before.assert_same(&world);
    };
    // The second of the two: there is one of this name.
    let mut config = good.clone();
    set_path(&mut config, &other.path());
    fails(&config, "linux.netDevices.a1");
    // Long after both have been taken.
    for path in [None, Some(other.path())] {
        let mut config = good.clone();
        config["process"]["args"] = json!(["/nosuch"]);
        if let Some(path) = path {
            config["linux"]["netDevices"]["a1"] = json!({ "name": "a7" });
            set_path(&mut config, &path);
        }
        fails(&config, "/nosuch");
    }
    // What can be known before is refused before.
    for (devices, told) in [
        (json!({ "nosuch": {} }), "linux.netDevices.nosuch"),
        (json!({ "lo": { "name": "lo1" } }), "linux.netDevices.lo"),
        (
            json!({ "a0": { "name": "a/b" } }),
            "linux.netDevices.a0.name",
        ),
        (
            json!({ "a0": { "name": "a%s" } }),
            "linux.netDevices.a0.name",
        ),
        (
            json!({ "a0": { "name": "sixteen-letters-" } }),
            "linux.netDevices.a0.name",
        ),
        (
            json!({ "a0": { "name": "x" }, "a1": { "name": "x" } }),
            "two would be",
        ),
    ] {
        let mut config = good.clone();
        config["linux"]["netDevices"] = devices;
        fails(&config, told);
    }
    let mut config = good.clone();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "network");
    fails(&config, "needs a network namespace");
}

/// Without what passes by itself.
fn lasting(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.contains("valid_lft"));
    lines.map(|line| line.replace("tentative ", "")).collect()
}

#[test]
fn one_that_is_in_a_namespace_of_somebody_elses_stays_there() {
    let Some(world) = World::new() else { return };
    let (host, other) = (host(), Net::new());
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["netDevices"] = json!({ "a0": {} });
        set_path(config, &other.path());
    });
    let create = bundle.call(&["create", "one"]).wrap(host.enter());
    create.done().expect_code(0);
    bundle.ok(&["delete", "--force", "one"]);
    let (_, kept) = shown(&other.path(), "a0");
    assert_eq!(kept.len(), ADDRESSES.len(), "{kept:#?}");
}

#[test]
fn a_create_that_is_killed_at_any_word_to_the_kernel_has_them_brought_back() {
    let Some(world) = World::new() else { return };
    let (host, other) = (host(), Net::new());
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["netDevices"] = json!({ "a0": { "name": "inside" }, "a1": {} });
        set_path(config, &other.path());
    });
    let state = || lasting(&host.ip("-d addr"));
    let (before, there) = (state(), other.ip("-br link"));
    let strace = tool("strace");
    let list = world.dir.join("calls");
    let mut killed = 0;
    loop {
        let inject = format!("--inject=sendto:signal=KILL:when={}", killed + 1);
        let words = [
            strace.as_os_str(),
            "-Do".as_ref(),
            list.as_os_str(),
            inject.as_ref(),
        ];
        let create = bundle
            .call(&["create", "one"])
            .wrap(words)
            .wrap_around(host.enter());
        let done = create.done();
        if done.code() == Some(0) {
            break;
        }
        killed += 1;
        let delete = bundle.call(&["delete", "--force", "one"]);
        delete.wrap(host.enter()).done().expect_code(0);
        assert_eq!(state(), before, "killed at {killed}");
        assert_eq!(other.ip("-br link"), there, "killed at {killed}");
    }
    assert!(killed > 10, "{killed} words");
    bundle.ok(&["delete", "--force", "one"]);
    assert!(
        other.ip("-br link").contains("inside"),
        "it is the container's"
    );
}
