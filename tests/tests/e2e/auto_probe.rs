//! What create-fs finds out by trying: layers that take a map and then do not store what is written with it. Each is
//! refused when it is made, named, and leaves nothing; without the trial a container would meet EOVERFLOW at some write.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use tests::{Run, Snapshot, World, tool};

use crate::auto_ids::{auto, create};
use crate::bad_input::{case, refuse_all};

const TRIED: &str = "trying it out failed";

/// The root directory of the image is somebody's whom the container does not have: nobody may make a file in it.
#[test]
fn an_image_whose_root_is_nobodys() {
    let Some(world) = World::new() else { return };
    world.destroy(&auto(&world));
    chown(world.base.join("images/img"), Some(70_000), Some(70_000)).expect("chown");
    let run = || create(&world, "auto", "img");
    refuse_all(
        &world,
        vec![
            case(run(), "EOVERFLOW"),
            case(run(), "root directory belongs to 70000:70000"),
        ],
    );
    // With the ids of the host it is nobody's affair.
    world.destroy(&world.create());
}

/// Room for everything that create-fs makes for itself, and not for one file of the container's.
#[test]
fn a_data_directory_without_room() {
    let Some(world) = World::new() else { return };
    world.destroy(&auto(&world));
    let mut told = Vec::new();
    for inodes in 1..24 {
        let options = format!("mode=700,nr_inodes={inodes}");
        let options = Some(options.as_str());
        let (kind, flags) = (Some("tmpfs"), MsFlags::empty());
        mount(kind, &world.data, kind, flags, options).expect("tmpfs");
        let before = Snapshot::of(&world);
        let done = create(&world, "auto", "img").done();
        if done.code() == Some(0) {
            let guid = done.out_text().rsplit('/').next().expect("guid").to_owned();
            let _ = world.verb("destroy-fs").cmd([&guid]).text();
        } else {
            done.expect_refused(&[125]);
            // An overlay that cannot make what it needs in its work directory is read-only.
            let why = ["ENOSPC", "EROFS"];
            let text = done.err_text();
            assert!(why.iter().any(|why| text.contains(why)), "{text}");
        }
        told.push(done.err_text());
        before.assert_same(&world);
        nix::mount::umount2(&world.data, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    }
    let tried = told.iter().filter(|text| text.contains(TRIED)).count();
    assert!(tried > 0, "{told:#?}");
    assert_eq!(told.last().map(String::as_str), Some(""));
}

/// Inside a user namespace: a filesystem that was mounted there takes any map, and stores only the ids that exist there.
#[test]
fn a_map_beyond_the_ids_of_its_filesystems_owner() {
    let Some(world) = World::new() else { return };
    let mut holder = Run::new(tool("unshare"))
        .cmd(["--user", "sh", "-c", "echo up; exec cat"])
        .pipes()
        .spawn();
    holder.expect("up");
    // Nobody makes devices in there.
    fs::remove_dir_all(world.base.join("images/img/dev")).expect("remove");
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", holder.pid()), "0 100000 131072").expect("map");
    }
    let inside = |script: &str| {
        let user = format!("--user=/proc/{}/ns/user", holder.pid());
        let image = world.base.join("images/img");
        let binary = world.dir.join("start-container");
        tests::install(tests::binary(), &binary);
        let script = format!(
            "set -e; mount -t tmpfs world /mnt; mkdir -p /mnt/b/images; cp -r {} /mnt/b/images/img; \
             create() {{ {} subcontainer create-fs --base=/mnt/b --state=/mnt/s --data=/mnt/d --userns=$1 img; }}; {script}",
            quoted(&image),
            quoted(&binary),
        );
        Run::new(tool("nsenter"))
            .cmd([user.as_str(), "--setuid=0", "--setgid=0"])
            .cmd([tool("unshare").to_str().expect("path"), "--mount"])
            .cmd([tool("sh").to_str().expect("path"), "-c", &script])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .pipes()
            .done()
    };
    let within = inside("create 0:66000:1000,130000:68000:10 > /dev/null && echo made");
    assert_eq!(within.expect_ok(), "made", "{}", within.err_text());
    // 131071 is the last id that exists there.
    let beyond = inside(
        "create 0:66000:1000,131070:68000:10 || echo $?; ls /mnt/d/containers /mnt/b/subcontainers | wc -w; \
         grep -c /mnt/b/subcontainers/ /proc/self/mountinfo || :",
    );
    let text = beyond.out_text();
    let told = beyond.err_text();
    assert!(
        told.contains(TRIED) && told.contains("EOVERFLOW"),
        "{text} {told}"
    );
    assert!(text.starts_with("125\n"), "{text} {told}");
    assert!(text.ends_with("\n0"), "{text}");
    holder.signal(Signal::SIGKILL);
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
