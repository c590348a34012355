//! Inside containers: of our own, and of podman and Docker as their defaults make them. Each forbids something; what
//! cannot be had is refused with the option of the outer one that allows it, and the rest works.
//!
//! The engines are real ones with directories of their own. Where one cannot run a container at all, that is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tests::{Client, Done, Image, Run, Wire, World, binary, tool, until};

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What is done inside: the whole life of a container, with a command whose client is killed. Busybox and nothing else
/// is there.
const LIFE: &str = r#"
    set -e
    export PATH=/bin
    S='--base=/b --state=/s --data=/d'
    /sc image import /img.tar --id img $S
    R=$(/sc subcontainer create-fs $S img)
    /sc subcontainer launch $S $R & L=$!
    E="/sc subcontainer exec --env=PATH=/bin $S $R"
    $E true
    echo "who $($E id -u) $($E --user=app id -u)"
    echo "first $($E cat /proc/1/comm)"
    $E sh -c 'sleep 1000 | sleep 1000' & K=$!
    until [ "$(pidof sleep | wc -w)" = 2 ]; do :; done
    kill -9 $K
    while pidof sleep; do :; done
    kill $L
    wait $L
    echo "launch $?"
    /sc subcontainer destroy-fs $S ${R##*/}
    echo "left $(find /b/subcontainers /d/containers -mindepth 1 | wc -l) $(find /s -mindepth 2 | wc -l)"
"#;

/// The image of all tests as an archive.
pub(crate) fn archive(world: &World) -> PathBuf {
    let archive = world.dir.join("image.tar");
    Image::at(&world.dir, "source").build();
    let status = Command::new(tool("tar"))
        .args(["--numeric-owner", "-cf"])
        .arg(&archive)
        .arg("-C")
        .args([world.dir.join("source").as_path(), Path::new(".")])
        .status();
    assert!(status.expect("tar").success());
    archive
}

/// Everything that [`LIFE`] says when all of it works; `first` is what the container sees as PID 1.
fn assert_lived(done: &Done, first: &str) {
    let out = done.expect_ok();
    for line in [
        "who 0 1000",
        &format!("first {first}"),
        "launch 0",
        "left 0 0",
    ] {
        assert!(
            out.lines().any(|said| said == line),
            "no {line:?} in {out:?} and {:?}",
            done.err_text()
        );
    }
}

/// A mount namespace in which an engine finds none of the machine's own state, and leaves none.
struct Room(Client);

impl Room {
    fn new(world: &World) -> Self {
        let hide = "for d in /run /dev/shm /var/lib; do mount -t tmpfs none $d; done";
        let script = format!(
            "set -e; : {}; {hide}; echo ready; exec cat",
            world.dir.display()
        );
        let mut holder = Run::new(tool("unshare"))
            .cmd(["-m", "sh", "-c", &script])
            .env("PATH", PATH)
            .pipes()
            .spawn();
        holder.expect("ready");
        Self(holder)
    }

    /// A program in it.
    fn run(&self, program: &str) -> Run {
        let nsenter = tool("nsenter").display().to_string();
        let target = format!("--target={}", self.0.pid());
        Run::new(tool(program))
            .wrap([nsenter.as_str(), "--mount", &target])
            .env("PATH", PATH)
            .env("HOME", "/root")
    }
}

/// A container engine, started for one test.
pub(crate) struct Engine {
    room: Room,
    program: &'static str,
    /// Its options, which stand before the verb.
    options: Vec<String>,
    environment: Vec<(&'static str, String)>,
    daemon: Option<Client>,
    /// What its containers see of the world.
    volumes: Vec<String>,
}

impl Engine {
    pub(crate) fn podman(world: &World) -> Option<Self> {
        let dir = world.dir.join("podman");
        fs::create_dir(&dir).expect("directory");
        let configuration = dir.join("containers.conf");
        // Not higher than what a root without CAP_SYS_RESOURCE may set; and runc knows every layout of cgroups.
        tests::write_file(
            &configuration,
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n",
        );
        let place = |name: &str| format!("--{name}={}", dir.join(name).display());
        let engine = Self {
            room: Room::new(world),
            program: "podman",
            options: vec![
                place("root"),
                place("runroot"),
                place("tmpdir"),
                "--storage-driver=vfs".to_owned(),
            ],
            environment: vec![("CONTAINERS_CONF", configuration.display().to_string())],
            daemon: None,
            volumes: Vec::new(),
        };
        engine.ready("podman", world)
    }

    fn docker(world: &World) -> Option<Self> {
        let dir = world.dir.join("docker");
        fs::create_dir(&dir).expect("directory");
        let socket = format!("unix://{}", dir.join("socket").display());
        let configuration = dir.join("daemon.json");
        tests::write_file(
            &configuration,
            format!(
                r#"{{"default-ulimits": {{"nofile": {{"Name": "nofile", "Hard": 1024, "Soft": 1024}}}},
                    "deprecated-key-path": "{}"}}"#,
                dir.join("key.json").display()
            ),
        );
        let room = Room::new(world);
        let place = |name: &str| format!("--{name}={}", dir.join(name).display());
        let daemon = room
            .run("dockerd")
            .verb([place("data-root"), place("exec-root"), place("pidfile")])
            .verb([
                format!("--config-file={}", configuration.display()),
                format!("--host={socket}"),
            ])
            .verb(["--bridge=none", "--iptables=false", "--storage-driver=vfs"])
            .stdin(Wire::Null)
            .stdout(Wire::Null)
            .stderr(Wire::Null)
            .spawn();
        let mut engine = Self {
            room,
            program: "docker",
            options: vec![format!("--host={socket}")],
            environment: Vec::new(),
            daemon: Some(daemon),
            volumes: Vec::new(),
        };
        let mut ended = false;
        until("dockerd", || {
            ended = engine
                .daemon
                .as_mut()
                .is_some_and(|daemon| daemon.ended().is_some());
            let answers = || engine.call(&["version"]).done().status.success();
            (ended || answers()).then_some(())
        });
        if ended {
            return skip("docker", "dockerd does not start here");
        }
        engine.ready("docker", world)
    }

    /// Gives it the image, and finds out whether it can run a container.
    fn ready(mut self, name: &str, world: &World) -> Option<Self> {
        let archive = archive(world);
        let _ = self
            .call(&["import", archive.to_str().expect("path"), "img"])
            .text();
        let tried = self.run(&[], "true");
        if !tried.status.success() {
            return skip(
                name,
                &format!(
                    "it cannot run a container here: {}",
                    tried.err_text().trim()
                ),
            );
        }
        self.volumes = vec![
            format!("--volume={}:/sc:ro", binary().display()),
            format!("--volume={}:/img.tar:ro", archive.display()),
        ];
        Some(self)
    }

    fn call(&self, words: &[&str]) -> Run {
        let run = self.room.run(self.program).verb(&self.options).verb(words);
        let set = |run: Run, (name, value): &(&str, String)| run.env(name, value);
        self.environment.iter().fold(run, set).pipes()
    }

    /// Runs a script in a container that is as the engine's defaults have it, but for `options`.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Done {
        self.call(&["run", "--rm", "--network=none"])
            .verb(&self.volumes)
            .verb(options)
            .cmd(["img", "/bin/sh", "-c", script])
            .done()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            // It takes its containerd with it.
            daemon.signal(Signal::SIGTERM);
            let _ = daemon.finish();
        }
    }
}

fn skip<T>(name: &str, why: &str) -> Option<T> {
    assert!(
        std::env::var_os("REQUIRE").is_none_or(|value| value != "all"),
        "{name}: {why}, and REQUIRE=all is set"
    );
    println!("skipped nested::{name}: {why}");
    None
}

#[test]
fn in_podman_as_it_is_the_surrounding_proc_is_shown_and_the_option_is_named() {
    let Some(world) = World::new() else { return };
    let Some(podman) = Engine::podman(&world) else {
        return;
    };
    let done = podman.run(&[], LIFE);
    // The first process that /proc shows is podman's.
    assert_lived(&done, "sh");
    let told = done.err_text();
    assert!(
        told.contains("read-only copy") && told.contains("--security-opt unmask=ALL"),
        "{told}"
    );
    // What the warning names helps.
    let done = podman.run(&["--security-opt=unmask=ALL"], LIFE);
    assert_lived(&done, "init");
    assert!(!done.err_text().contains("warning"), "{}", done.err_text());
}

#[test]
fn in_docker_as_it_is_what_would_allow_it_is_named_and_allows_it() {
    let Some(world) = World::new() else { return };
    let Some(docker) = Engine::docker(&world) else {
        return;
    };
    let create = "/sc image import /img.tar --id img --base=/b && exec /sc subcontainer create-fs --base=/b img";
    let done = docker.run(&[], create);
    done.expect_refused(&[125]);
    assert!(
        done.err_text()
            .contains("--security-opt seccomp=unconfined"),
        "{}",
        done.err_text()
    );

    let done = docker.run(&["--security-opt=seccomp=unconfined"], LIFE);
    assert_lived(&done, "sh");
    let told = done.err_text();
    assert!(
        told.contains("read-only copy") && told.contains("--security-opt systempaths=unconfined"),
        "{told}"
    );

    let open = [
        "--security-opt=seccomp=unconfined",
        "--security-opt=systempaths=unconfined",
    ];
    let done = docker.run(&open, LIFE);
    assert_lived(&done, "init");
    assert!(!done.err_text().contains("warning"), "{}", done.err_text());

    // The right to mount is not enough, for Docker's filter forbids pivot_root even so; without it nothing of one's
    // own is entered.
    let done = docker.run(&["--cap-add=SYS_ADMIN"], LIFE);
    assert!(!done.status.success());
    let told = done.err_text();
    assert!(
        told.contains("pivot_root") && told.contains("--security-opt seccomp=unconfined"),
        "{told}"
    );
    let mounting = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"];
    assert_lived(&docker.run(&mounting, LIFE), "sh");
}

/// Runs a script in a container of our own, launched with `options`; a filter is the content of a seccomp profile.
pub(crate) fn inside_itself(options: &[&str], filter: Option<&str>, script: &str) -> Option<Done> {
    let world = World::new()?;
    let root = world.create();
    fs::copy(binary(), root.join("sc")).expect("binary");
    fs::copy(archive(&world), root.join("img.tar")).expect("archive");
    let mut run = world.launch_run(&root).opt("--share=dev").opts(options);
    if let Some(filter) = filter {
        let file = world.dir.join("filter.json");
        tests::write_file(&file, filter);
        run = run.opt(format!("--seccomp={}", file.display()));
    }
    let launch = tests::Launch::start(run, &root);
    let done = world.exec(&root).cmd(["sh", "-c", script]).done();
    drop(launch);
    world.destroy(&root);
    Some(done)
}

#[test]
fn inside_itself_with_nothing_taken_away() {
    let Some(done) = inside_itself(&["--profile=none"], None, LIFE) else {
        return;
    };
    assert_lived(&done, "init");
}

#[test]
fn inside_itself_confined_but_for_the_filter() {
    let Some(done) = inside_itself(&["--seccomp=unconfined"], None, LIFE) else {
        return;
    };
    assert_lived(&done, "init");
    let told = done.err_text();
    assert!(told.contains("read-only copy"), "{told}");
}

#[test]
fn inside_itself_confined_the_option_is_named() {
    let create = "exec /sc subcontainer create-fs --base=/b --state=/s --data=/d img";
    let Some(done) = inside_itself(&[], None, create) else {
        return;
    };
    done.expect_refused(&[125]);
    let told = done.err_text();
    assert!(
        told.contains("--seccomp=unconfined or --profile=outer"),
        "{told}"
    );
}

/// As Docker's filter does.
#[test]
fn where_clone3_is_hidden_the_older_call_is_used() {
    let hidden = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
    let Some(done) = inside_itself(&["--profile=none"], Some(hidden), LIFE) else {
        return;
    };
    assert_lived(&done, "init");
}

/// openat2(2) keeps a path inside a root filesystem. Where a filter hides it the same way is walked.
#[test]
fn where_openat2_is_hidden_the_way_is_walked() {
    for errno in ["38", "1"] {
        let hidden = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": ERRNO}]}"#;
        let hidden = hidden.replace("ERRNO}", &format!("{errno}}}"));
        let Some(done) = inside_itself(&["--profile=none"], Some(&hidden), LIFE) else {
            return;
        };
        assert_lived(&done, "init");
    }
}
