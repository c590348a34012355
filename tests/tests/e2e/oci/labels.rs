//! Labels of security modules: AppArmor's for real where the host has it, and what is said where it has none.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Bundle, Run, Snapshot, World, tool};

const APPARMOR: &str = "/sys/kernel/security/apparmor";

fn has_apparmor() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.starts_with('Y'))
}

fn has_selinux() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    known.contains("selinuxfs")
}

#[test]
fn what_the_host_has_not_is_refused_by_the_name_of_the_field() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    let with = |place: [&str; 2], value: &str| {
        let mut config = good.clone();
        config[place[0]][place[1]] = value.into();
        config
    };
    let (apparmor, selinux) = ("has no AppArmor", "has no SELinux");
    let mut lacking = Vec::new();
    if !has_apparmor() {
        lacking.push((["process", "apparmorProfile"], apparmor));
    }
    if !has_selinux() {
        lacking.push((["process", "selinuxLabel"], selinux));
        lacking.push((["linux", "mountLabel"], selinux));
    }
    for (place, told) in &lacking {
        bundle.refuses(
            &with(*place, "x"),
            &format!("\"{}\": the kernel {told}", place.join(".")),
        );
    }
    before.assert_same(&world);
    let mut config = good.clone();
    config["process"]["apparmorProfile"] = "".into();
    config["process"]["selinuxLabel"] = "".into();
    config["linux"]["mountLabel"] = "".into();
    bundle.write(&config);
    bundle.ok(&["run", "-d", "one"]);
    let file = world.dir.join("process.json");
    let file = file.to_str().unwrap();
    for (place, told) in lacking.iter().filter(|(place, _)| place[0] == "process") {
        let mut process = good["process"].clone();
        process[place[1]] = "x".into();
        fs::write(file, process.to_string()).unwrap();
        let option = if *told == apparmor {
            "--apparmor"
        } else {
            "--process-label"
        };
        for words in [
            &["exec", "--process", file, "one"][..],
            &["exec", option, "x", "one", "true"],
        ] {
            let done = bundle.call(words).done();
            done.expect_refused(&[255]);
            assert!(done.err_text().contains(told), "{}", done.err_text());
        }
    }
    if lacking.is_empty() {
        tests::lacking("this host has both AppArmor and SELinux");
    }
}

/// Two profiles, loaded for as long as it lives. A shell may do in them what it likes, but for one file each.
struct Profiles {
    file: String,
    names: [String; 2],
}

impl Profiles {
    /// Nothing, which is said, where there is no AppArmor.
    fn load(world: &World) -> Option<Self> {
        if !has_apparmor() || !Path::new(APPARMOR).exists() {
            tests::lacking("needs AppArmor, and securityfs mounted");
            return None;
        }
        let names = ["first", "second"].map(|which| format!("{}-{which}", world.name()));
        let all = "file, capability, network, signal, ptrace, unix, mount, umount, pivot_root, change_profile,";
        let mut text = String::new();
        for (name, file) in names.iter().zip(["first", "second"]) {
            let rules = format!("{all} audit deny /tmp/{file} rw,");
            text += &format!("profile {name} flags=(attach_disconnected) {{ {rules} }}\n");
        }
        let path = world.dir.join("profiles");
        fs::write(&path, text).unwrap();
        let file = path.to_str().unwrap().to_owned();
        let this = Self { file, names };
        this.parser("--replace");
        Some(this)
    }

    fn parser(&self, action: &str) {
        let words = [action, "--skip-cache", &self.file];
        let run = Run::new(tool("apparmor_parser")).verb(words);
        let path = "/usr/sbin:/usr/bin:/sbin:/bin";
        run.env("PATH", path).done().expect_code(0);
    }

    /// What [`SHOW`] prints in the first of them, and in the second.
    fn shown(&self) -> [[String; 2]; 2] {
        let [first, second] = &self.names;
        [(first, "second"), (second, "first")]
            .map(|(name, file)| [format!("{name} (enforce)"), file.to_owned()])
    }
}

impl Drop for Profiles {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

/// Which profile applies, and which of the two files can be written.
const SHOW: &str = "cat /proc/self/attr/current; for f in first second; do \
    if echo x > /tmp/$f; then echo $f; fi; done 2> /dev/null; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status";

fn shown(text: &str) -> Vec<&str> {
    text.lines()
        .take_while(|line| !line.starts_with("NoNew"))
        .collect()
}

#[test]
fn a_profile_of_apparmors_is_enforced_for_the_container_and_for_exec() {
    let Some(world) = World::new() else { return };
    let Some(profiles) = Profiles::load(&world) else {
        return;
    };
    let ([first, second], names) = (profiles.shown(), &profiles.names);
    for (no_new, filter, own_ids) in [
        (false, false, false),
        (true, false, false),
        // One that would not let it be written, before or after.
        (false, true, false),
        (true, true, false),
        (true, true, true),
    ] {
        let _ = fs::remove_dir_all(world.dir.join("bundle"));
        let bundle = Bundle::new(&world, &format!("{SHOW}; exec sleep 1000"), |config| {
            config["process"]["apparmorProfile"] = names[0].as_str().into();
            config["process"]["noNewPrivileges"] = no_new.into();
            config["root"]["readonly"] = false.into();
            if filter {
                config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{ "names": ["keyctl"], "action": "SCMP_ACT_ERRNO" }],
                });
            }
            if own_ids {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({ "type": "user" }));
                for field in ["uidMappings", "gidMappings"] {
                    config["linux"][field] =
                        json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
                }
            }
        });
        let what = format!("no_new_privs {no_new}, filter {filter}, own ids {own_ids}");
        let good = bundle.config();
        let mut config = good.clone();
        config["process"]["args"] = json!(["sh", "-c", SHOW]);
        bundle.write(&config);
        assert_eq!(shown(&bundle.ok(&["run", "one"])), first, "{what}");

        bundle.write(&good);
        let done = bundle.call(&["run", "-d", "one"]).done();
        done.expect_code(0);
        // The container's own, another, none.
        let exec = |words: &[&str]| bundle.ok(&[&["exec"], words].concat());
        assert_eq!(shown(&exec(&["one", "sh", "-c", SHOW])), first, "{what}");
        let other = ["--apparmor", &names[1], "one", "sh", "-c", SHOW];
        assert_eq!(shown(&exec(&other)), second, "{what}");
        let file = world.dir.join("process.json");
        for (profile, expected) in [
            (Value::Null, first.to_vec()),
            (names[1].as_str().into(), second.to_vec()),
            (
                "unconfined".into(),
                ["unconfined", "first", "second"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
        ] {
            let mut process = config["process"].clone();
            process["apparmorProfile"] = profile;
            fs::write(&file, process.to_string()).unwrap();
            let text = exec(&["--process", file.to_str().unwrap(), "one"]);
            assert_eq!(shown(&text), expected, "{what}");
        }
        bundle.ok(&["delete", "--force", "one"]);
    }
}

#[test]
fn a_profile_that_is_not_loaded_leaves_no_container() {
    let Some(world) = World::new() else { return };
    let Some(_profiles) = Profiles::load(&world) else {
        return;
    };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    let mut config = good.clone();
    config["process"]["apparmorProfile"] = "sce2e-nosuch".into();
    bundle.refuses(&config, "process.apparmorProfile");
    bundle.write(&good);
    before.assert_same(&world);
}

#[test]
fn who_is_confined_itself_stacks_profiles_where_nothing_may_be_gained() {
    let Some(world) = World::new() else { return };
    let Some(profiles) = Profiles::load(&world) else {
        return;
    };
    let names = &profiles.names;
    let bundle = Bundle::new(&world, SHOW, |config| {
        config["process"]["apparmorProfile"] = names[0].as_str().into();
        config["process"]["noNewPrivileges"] = true.into();
        config["root"]["readonly"] = false.into();
    });
    let aa_exec = [
        tool("aa-exec").display().to_string(),
        "-p".into(),
        names[1].as_str().into(),
        "--".into(),
    ];
    let done = bundle.call(&["run", "one"]).wrap(aa_exec).done();
    done.expect_code(0);
    let text = done.out_text();
    let (label, rest) = shown(&text)
        .split_first()
        .map(|(one, rest)| (*one, rest.to_vec()))
        .unwrap();
    assert!(names.iter().all(|name| label.contains(name)), "{label}");
    assert!(rest.is_empty(), "neither file may be written: {rest:?}");
}
