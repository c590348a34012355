//! What config.json asks for holds inside.

use serde_json::{Value, json};
use tests::{Bundle, World};

/// What the script prints, with this configuration.
fn printed(world: &World, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let bundle = Bundle::new(world, script, change);
    let text = bundle.ok(&["run", "one"]);
    std::fs::remove_dir_all(&bundle.dir).unwrap();
    text
}

#[test]
fn the_process_is_who_and_where_it_should_be() {
    let Some(world) = World::new() else { return };
    let script = "id -u; id -g; id -G; umask; pwd; echo $HOME $FOO; ulimit -n; ulimit -Hn; ls /proc/self/fd; \
                  grep -E 'Groups|NoNewPrivs|Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status; exit 0";
    let text = printed(&world, script, |config| {
        let process = &mut config["process"];
        process["user"] =
            json!({ "uid": 1000, "gid": 1001, "umask": 63, "additionalGids": [5, 7] });
        process["cwd"] = "/tmp".into();
        process["env"] = json!(["PATH=/bin", "FOO=bar"]);
        process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
        process["capabilities"] = json!({ "bounding": ["CAP_KILL"] });
    });
    let expected = "1000\n1001\n1001 5 7\n0077\n/tmp\n/home/app bar\n100\n200\n0\n1\n2\n3\nGroups:\t5 7 \n\
                    CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                    CapBnd:\t0000000000000020\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1";
    assert_eq!(text, expected);
}

#[test]
fn names_sysctls_and_the_loopback_are_the_containers() {
    let Some(world) = World::new() else { return };
    let own = std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    let script = "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni; \
                  cat /sys/class/net/lo/flags; ls /sys/class/net | wc -l";
    let text = printed(&world, script, |config| {
        config["hostname"] = "inside".into();
        config["domainname"] = "domain".into();
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel/shmmni": "123" });
    });
    // Up and loopback are the bits 1 and 8; running is not among those that sysfs prints.
    assert_eq!(
        text.lines().take(5).collect::<Vec<_>>(),
        ["inside", "domain", "1", "123", "0x9"]
    );
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(),
        own
    );
}

#[test]
fn mounts_are_as_they_were_asked_for() {
    let Some(world) = World::new() else { return };
    let source = world.dir.join("source");
    std::fs::create_dir(&source).unwrap();
    tests::write_file(source.join("file"), "text");
    let script = "cat /mnt/file /etc/one; grep -E ' (/mnt|/new/dir|/etc/one|/|/run) ' /proc/mounts | cut -d' ' -f2,3,4 \
                  | sed 's/,.*//' | sort; touch /mnt/x 2>&1; touch /x 2>&1; touch /new/dir/y && echo made";
    let text = printed(&world, script, |config| {
        config["root"]["readonly"] = true.into();
        let more = json!([
            { "destination": "/mnt", "source": source, "options": ["rbind", "ro", "nosuid"] },
            { "destination": "/etc/one", "type": "bind", "source": source.join("file"), "options": ["ro"] },
            { "destination": "/new/dir", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"] },
        ]);
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .extend(more.as_array().unwrap().clone());
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "texttext/ ext4 ro", "{text}");
    assert!(
        text.contains("/mnt ") && text.contains("/new/dir tmpfs rw"),
        "{text}"
    );
    let refused = lines
        .iter()
        .filter(|line| line.contains("Read-only file system"));
    assert_eq!(refused.count(), 2, "{text}");
    assert_eq!(lines.last(), Some(&"made"), "{text}");
}

#[test]
fn devices_are_the_usual_ones_and_paths_are_covered() {
    let Some(world) = World::new() else { return };
    let script = "cd /dev; for n in null zero full random urandom tty; do stat -c '%n %t:%T %a' $n; done; \
                  readlink fd; readlink ptmx; echo word > null; wc -c < /proc/timer_list; ls /proc/acpi /sys/firmware; \
                  echo 1 > /proc/sys/kernel/panic; chmod 600 null; exit 0";
    let text = printed(&world, script, |config| {
        config["process"]["noNewPrivileges"] = false.into();
    });
    let expected = "null 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\nurandom 1:9 666\ntty 5:0 666\n\
                    /proc/self/fd\npts/ptmx\n0\n/proc/acpi:\n\n/sys/firmware:";
    assert_eq!(text, expected);
}

#[test]
fn a_filter_of_system_calls_holds_for_run_and_waits_for_nobody() {
    let Some(world) = World::new() else { return };
    for no_new_privileges in [false, true] {
        let text = printed(&world, "mkdir /tmp/x 2>&1; exit 0", |config| {
            config["process"]["noNewPrivileges"] = no_new_privileges.into();
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
            });
        });
        assert!(text.contains("not supported"), "{text}");
    }
}
