//! Without root: what is refused, and what is said then.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use tests::{Run, World, binary, tool, write_file};

use crate::rootless::User;

#[test]
fn nobody_else_can_join() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    let root = ann.create();
    let launch = ann.launch(&root).spawn();
    let _ = ann.exec(&root).cmd(["true"]).text();
    let stranger = ann.uid + 50;
    let state = format!("--state={}", ann.state().display());
    let as_stranger = |state: &str| {
        Run::new(binary())
            .verb([
                "subcontainer",
                "exec",
                "--base=/none",
                state,
                "--env=PATH=/bin",
            ])
            .rootfs(&root)
            .cmd(["id"])
            .wrap(ann.wrap(stranger))
            .done()
    };
    as_stranger(&state).expect_refused(&[125]);
    // Not even when the path and the records are there for everybody.
    for directory in [
        ann.base().join("subcontainers"),
        ann.state(),
        ann.state().join("leaders"),
    ] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("mode");
    }
    for record in fs::read_dir(ann.state().join("leaders"))
        .expect("leaders")
        .flatten()
    {
        fs::set_permissions(record.path(), fs::Permissions::from_mode(0o644)).expect("mode");
    }
    let refused = as_stranger(&state);
    refused.expect_refused(&[125]);
    let why = format!("it belongs to uid {}", ann.uid);
    assert!(refused.err_text().contains(&why), "{}", refused.err_text());
    // Otherwise it would not be used any more.
    fs::set_permissions(ann.state(), fs::Permissions::from_mode(0o700)).expect("mode");
    drop(launch);
    ann.destroy(&root);
    ann.assert_nothing_left();
}

#[test]
fn root_does_not_assemble_what_was_made_without_it() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    let root = ann.create();
    let places = [
        format!("--base={}", ann.base().display()),
        format!("--state={}", ann.state().display()),
        format!("--data={}", ann.base().join("data").display()),
    ];
    let give = |owner| {
        for directory in [ann.state(), ann.base().join("data")] {
            chown(directory, Some(owner), None).expect("chown");
        }
    };
    // First the records are not believed; and root who has made them its own has no use for the root filesystem.
    for (owner, word) in [(ann.uid, "it belongs to uid"), (0, "made without root")] {
        give(owner);
        let run = Run::new(binary()).verb(["subcontainer", "launch"]);
        let refused = run.verb(&places).rootfs(&root).done();
        refused.expect_refused(&[125]);
        assert!(refused.err_text().contains(word), "{}", refused.err_text());
        assert!(tests::mounts_below(&root.path).is_empty());
    }
    give(ann.uid);
    ann.destroy(&root);
    ann.assert_nothing_left();
}

#[test]
fn a_bad_grant_is_named_and_changes_nothing() {
    let Some(ann) = User::new("bob:100000:65536\nann:700000:0\n", "true") else {
        return;
    };
    let archive = ann.archive();
    let run = ann.run(["image", "import", "--id=img"]).cmd([&archive]);
    let refused = run.done();
    refused.expect_refused(&[125]);
    let told = refused.err_text();
    assert!(
        told.contains("/etc/subuid\" (line 2)") && told.contains("ann:700000:0"),
        "{told}"
    );
    assert!(!ann.base().exists());
}

#[test]
fn programs_that_cannot_get_their_rights_are_not_used() {
    let Some(ann) = User::granted() else { return };
    let archive = ann.archive();
    let mut wrap = ann.wrap(ann.uid);
    wrap.push("--no-new-privs".to_owned());
    let run = Run::new(binary()).verb(["image", "import", "--id=img"]);
    let done = run.wrap(wrap).cmd([&archive]).done();
    let _ = done.expect_ok();
    let told = done.err_text();
    assert!(told.contains("no_new_privs is set"), "{told}");
}

#[test]
fn a_state_directory_of_somebody_else_is_not_used() {
    let Some(ann) = User::granted() else { return };
    let archive = ann.archive();
    let refused = || {
        let run = ann.run(["image", "import", "--id=img"]).cmd([&archive]);
        let refused = run.done();
        refused.expect_refused(&[125]);
        let told = refused.err_text();
        assert!(told.contains("only this user may enter"), "{told}");
    };
    symlink(&ann.home, ann.state()).expect("symlink");
    refused();
    fs::remove_file(ann.state()).expect("remove");
    // Somebody else's, however private; and the own one that others may enter.
    for (owner, mode) in [(ann.uid + 50, 0o700), (0, 0o700), (ann.uid, 0o710)] {
        fs::create_dir(ann.state()).expect("directory");
        chown(ann.state(), Some(owner), Some(owner)).expect("chown");
        fs::set_permissions(ann.state(), fs::Permissions::from_mode(mode)).expect("mode");
        refused();
        fs::remove_dir(ann.state()).expect("remove");
    }
}

/// Without root the ids are those that the machine grants: a map of one's own is refused at create-fs and at launch.
#[test]
fn a_map_of_ones_own_is_refused_without_root() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    let root = ann.create();
    let create = ann.run(["subcontainer", "create-fs"]).opt("--userns=0:0:1");
    for run in [create.cmd(["img"]), ann.launch(&root).opt("--userns=0:0:1")] {
        let refused = run.done();
        refused.expect_refused(&[125]);
        let told = refused.err_text();
        assert!(
            told.contains("\"--userns=0:0:1\"") && told.contains("/etc/subuid"),
            "{told}"
        );
    }
    ann.destroy(&root);
    ann.assert_nothing_left();
}

#[test]
fn what_keeps_user_namespaces_away_is_named() {
    let Some(world) = World::new() else { return };
    // The limit is that of the user namespace which is made here, and nobody else's.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let [unshare, sh, setpriv] =
        ["unshare", "sh", "setpriv"].map(|name| tool(name).display().to_string());
    let wrap = [
        unshare.as_str(),
        "--user",
        "--map-root-user",
        sh.as_str(),
        "-c",
        script,
        "sh",
        setpriv.as_str(),
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["--inh-caps=-sys_admin", "--bounding-set=-sys_admin"].map(str::to_owned));
    let refused = world.verb("create-fs").wrap(wrap).cmd(["img"]).done();
    refused.expect_refused(&[125]);
    let told = refused.err_text();
    assert!(told.contains("sysctl user.max_user_namespaces="), "{told}");
}

/// FIELD S17.
#[test]
fn set_user_id_is_refused() {
    let Some(world) = World::new() else { return };
    let copy = world.dir.join("start-container");
    tests::install(binary(), &copy);
    // Should it ever be launched, it shall do no harm.
    let root = world.create();
    let run = |mode: u32| {
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).expect("mode");
        let setpriv = tool("setpriv");
        Run::new(&copy)
            .verb(["subcontainer", "launch"])
            .verb(world.places())
            .rootfs(&root)
            .cmd(["true"])
            .wrap([
                setpriv.to_str().expect("path"),
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ])
            .done()
    };
    for mode in [0o4755, 0o2755] {
        let refused = run(mode);
        refused.expect_refused(&[125]);
        assert!(
            refused.err_text().contains("setuid not supported"),
            "{mode:o}: {}",
            refused.err_text()
        );
    }
    assert!(!run(0o755).err_text().contains("setuid not supported"));
}

/// The client's environment is the container's and may hold secrets; newuidmap is somebody else's program with more
/// rights than the caller's.
#[test]
fn newuidmap_hears_nothing_of_the_environment() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    let (real, heard) = (ann.world.dir.join("real"), ann.home.join("heard"));
    let spy = ann.world.dir.join("spy");
    let script = format!(
        "#!/bin/sh\n(pwd; env) > {}\nexec {} \"$@\"\n",
        heard.display(),
        real.display()
    );
    for place in [&real, &spy] {
        write_file(place, &script);
        fs::set_permissions(place, fs::Permissions::from_mode(0o755)).expect("mode");
    }
    let newuidmap = tool("newuidmap");
    for (from, to) in [(&newuidmap, &real), (&spy, &newuidmap)] {
        let mount = Run::new(tool("mount")).wrap(ann.wrap(0));
        let _ = mount.cmd(["--bind"]).cmd([from, to]).text();
    }
    let create = ann.run(["subcontainer", "create-fs", "img"]);
    let path = create.env("SECRET", "of the container").text();
    let heard = fs::read_to_string(heard).expect("heard");
    assert!(
        heard.starts_with("/\n") && !heard.contains("SECRET"),
        "{heard}"
    );
    let guid = path.rsplit('/').next().expect("guid");
    let _ = ann.run(["subcontainer", "destroy-fs", guid]).text();
    ann.assert_nothing_left();
}
