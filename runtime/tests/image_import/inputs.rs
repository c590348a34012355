//! Where an archive comes from and how it is compressed: each format out of a file and out of a pipe.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::sys::stat::Mode;
use runtime::image::{Format, import};

use crate::pack::{Tar, bzip2, dir, docker, file, gzip, oci, xz, zstd};
use crate::place::{Place, list};

type Pack = fn(&[u8]) -> Vec<u8>;

const PACKS: [(&str, Pack); 5] = [
    ("plain", <[u8]>::to_vec),
    ("gzip", gzip),
    ("zstd", zstd),
    ("xz", xz),
    ("bzip2", bzip2),
];

fn rootfs() -> Vec<u8> {
    let noise = (0..400_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]);
    Tar::of([
        dir("."),
        dir("etc"),
        file("etc/noise", noise.collect::<Vec<u8>>()),
    ])
}

/// A named pipe that `data` is written to, by somebody who opens it later and writes little at once.
fn pipe(place: &Place, data: Vec<u8>) -> (PathBuf, std::thread::JoinHandle<()>) {
    let path = place.top.join("pipe");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let writer = path.clone();
    let thread = std::thread::spawn(move || {
        let mut pipe = File::options().write(true).open(writer).unwrap();
        for piece in data.chunks(10_000) {
            // The reader may have seen enough.
            if pipe.write_all(piece).is_err() {
                return;
            }
        }
    });
    (path, thread)
}

#[test]
fn every_format_and_compression_out_of_a_file_and_out_of_a_pipe() {
    let layers = [rootfs(), Tar::of([dir("upper"), file("upper/x", "y")])];
    let sources = [
        (Format::Rootfs, rootfs()),
        (Format::Oci, oci(&layers).into_tar()),
        (Format::Docker, docker(&layers, &["x:1"]).into_tar()),
    ];
    for (format, plain) in sources {
        let expected = Place::new().unpacked(&plain);
        for (name, pack) in PACKS {
            let name = format!("{format:?} {name}");
            let packed = pack(&plain);
            let place = Place::new();
            let imported = place.import(&packed).unwrap();
            assert_eq!(imported.format, format, "{name}");
            assert_eq!(list(&imported.root), expected, "{name}");

            let place = Place::new();
            let (path, writer) = pipe(&place, packed);
            let imported = import(&place.request(path)).unwrap();
            writer.join().unwrap();
            assert_eq!(imported.format, format, "{name} out of a pipe");
            assert_eq!(list(&imported.root), expected, "{name} out of a pipe");
            assert_eq!(place.names(), ["img", "img.env", "img.json"], "{name}");
        }
    }
}

#[test]
fn layers_of_every_compression() {
    let layer = rootfs();
    for (name, pack) in PACKS {
        let mut files = crate::pack::Files::default();
        let layers = std::slice::from_ref(&layer);
        let config = crate::pack::config(layers);
        let manifest = crate::pack::image(&mut files, layers, &config, pack);
        crate::pack::layout(&mut files, &[manifest]);
        let place = Place::new();
        let imported = place.import(&files.into_tar()).unwrap();
        assert_eq!(list(&imported.root).len(), 3, "{name}");
    }
}

#[test]
fn pipes_that_bring_nothing_or_no_archive() {
    for (data, why) in [
        (Vec::new(), "it is empty"),
        (b"short".to_vec(), "no tar archive"),
        (vec![b'x'; 100_000], "no tar archive"),
        (gzip(b"no tar"), "no tar archive"),
        (rootfs()[..300_000].to_vec(), "middle of a member"),
        (
            gzip(&rootfs())[..20_000].to_vec(),
            "the gzip data ends too early",
        ),
    ] {
        let place = Place::new();
        let (path, writer) = pipe(&place, data);
        let error = import(&place.request(&path)).unwrap_err().to_string();
        writer.join().unwrap();
        assert!(error.contains(why), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(!place.base().exists(), "{why}");
    }
}

#[test]
fn a_filesystem_is_known_out_of_a_pipe() {
    let mut erofs = vec![0; 4096];
    erofs[1024..1028].copy_from_slice(&0xE0F5_E1E2_u32.to_le_bytes());
    for (data, why) in [
        (b"hsqs".repeat(30), "mount squashfs"),
        (erofs, "mount erofs"),
    ] {
        let place = Place::new();
        let (path, writer) = pipe(&place, data);
        let error = import(&place.request(path)).unwrap_err().to_string();
        writer.join().unwrap();
        assert!(error.contains(why), "{error}");
        assert!(!place.base().exists(), "{why}");
    }
}

#[test]
fn a_pipe_whose_reader_must_not_wait_is_waited_for() {
    // The descriptor itself says so, as that of a client's end often does.
    let place = Place::new();
    let (path, writer) = pipe(&place, gzip(&rootfs()));
    let reader = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&path)
        .unwrap();
    let inherited = PathBuf::from(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&reader)
    ));
    let imported = import(&place.request(inherited)).unwrap();
    writer.join().unwrap();
    assert_eq!(list(&imported.root).len(), 3);
    assert!(fs::metadata(imported.root.join("etc/noise")).unwrap().len() == 400_000);
}
