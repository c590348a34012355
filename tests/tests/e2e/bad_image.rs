//! Bad input of `image import`: archives that are none, broken or missing, and ids that are no ids.

use std::ffi::OsString;
use std::fs;

use tests::{World, write_file};

use crate::bad_input::{bad_ids, case, refuse_all};

#[test]
fn of_image_import() {
    let Some(world) = World::new() else { return };
    let call = || world.bare(["image", "import"]).verb(world.places());
    let file = |name: &str, bytes: &[u8]| {
        let path = world.dir.join(name);
        write_file(&path, bytes);
        path
    };
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff];
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff];
    let mut half = vec![0_u8; 700];
    half[..4].copy_from_slice(b"file");
    fs::create_dir(world.dir.join("no-layout")).expect("directory");
    let mut cases = vec![
        case(
            call().opt("/no/such/archive.tar").opt("--id=new"),
            "/no/such/archive.tar",
        ),
        case(
            call().opt(file("empty.tar", b"")).opt("--id=new"),
            "empty.tar",
        ),
        case(
            call()
                .opt(file("text.tar", b"this is no archive\n"))
                .opt("--id=new"),
            "text.tar",
        ),
        case(
            call().opt(file("broken.tar.gz", &gzip)).opt("--id=new"),
            "broken.tar.gz",
        ),
        case(
            call().opt(file("broken.tar.zst", &zstd)).opt("--id=new"),
            "broken.tar.zst",
        ),
        case(
            call().opt(file("half.tar", &half)).opt("--id=new"),
            "half.tar",
        ),
        case(
            call().opt(world.dir.join("no-layout")).opt("--id=new"),
            "no-layout",
        ),
        case(call().opt("/dev/null").opt("--id=new"), "/dev/null"),
        case(call().opt(file("some.tar", b"x")), "--id"),
        case(call().opt("--id=new"), "SOURCE"),
        case(
            call()
                .opt(world.dir.join("some.tar"))
                .opt("--id=new")
                .opt("--base=/proc/none"),
            "--base has to be a directory",
        ),
    ];
    for id in bad_ids().into_iter().chain(["-rf".into()]) {
        let mut option = OsString::from("--id=");
        option.push(&id);
        // The archive is broken as well, so the message has to be about the id.
        cases.push(case(
            call().opt(world.dir.join("some.tar")).opt(option),
            "use image id",
        ));
    }
    refuse_all(&world, cases);
    assert!(!world.base.join("images/new").exists());
}
