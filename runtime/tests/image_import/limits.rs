//! What an image may take: members, bytes, windows, over all of its layers; and what is never refused.

use runtime::image::{ImportRequest, Limits, import};

use crate::pack::{Tar, dir, docker, file, gzip, oci, xz, zstd};
use crate::place::Place;

/// What comes of a source within limits; nothing may be left of a failure.
fn limited(data: &[u8], limits: Limits) -> Result<(), String> {
    let place = Place::new();
    for flat in [true, false] {
        let request = ImportRequest {
            limits,
            flat,
            ..place.request(place.source(data))
        };
        if let Err(error) = import(&request) {
            assert!(!place.base().exists(), "{error}");
            let error = error.to_string();
            assert_eq!(error.lines().count(), 2, "{error}");
            return Err(error);
        }
        let _ = std::fs::remove_dir_all(place.base());
    }
    Ok(())
}

fn refused(data: &[u8], limits: Limits, parts: &[&str]) {
    let error = limited(data, limits).unwrap_err();
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_its_data() {
    // There is nothing behind the header: who read on would say that it is truncated.
    let claim = Tar::of([dir("etc"), file("etc/huge", "").size(10 << 30)]);
    let limits = Limits {
        size: 1 << 30,
        ..Limits::default()
    };
    for data in [
        claim.clone(),
        gzip(&claim),
        oci(std::slice::from_ref(&claim)).into_tar(),
    ] {
        refused(
            &data,
            limits,
            &["more than the 1 GiB that are allowed", "--max-size"],
        );
    }
    assert!(
        limited(&claim, Limits::default())
            .unwrap_err()
            .contains("ends in the middle")
    );
}

#[test]
fn bytes_and_files_count_over_all_layers() {
    let layers: Vec<_> = (0..4)
        .map(|number| Tar::of([file(format!("{number}"), vec![b'x'; 1000])]))
        .collect();
    for data in [
        oci(&layers).into_tar(),
        docker(&layers, &["x:1"]).into_tar(),
    ] {
        let size = |size| Limits {
            size,
            ..Limits::default()
        };
        let files = |files| Limits {
            files,
            ..Limits::default()
        };
        limited(&data, size(4000)).unwrap();
        refused(
            &data,
            size(3999),
            &["more than the 3999 bytes", "--max-size"],
        );
        limited(&data, files(4)).unwrap();
        refused(&data, files(3), &["more than the 3 files", "--max-files"]);
    }
}

#[test]
fn a_compressed_image_archive_is_no_way_around() {
    let image = docker(&[Tar::of([file("zeros", vec![0; 4 << 20])])], &["x:1"]).into_tar();
    let limits = Limits {
        size: 1 << 20,
        ..Limits::default()
    };
    // Here it is the temporary file that would become too large.
    refused(
        &gzip(&image),
        limits,
        &["more than the 1 MiB", "--max-size"],
    );
    let limits = Limits {
        any_ratio: 1 << 20,
        ratio: 50,
        ..Limits::default()
    };
    refused(
        &gzip(&image),
        limits,
        &["50 times its own size", "--max-ratio"],
    );
    limited(
        &gzip(&image),
        Limits {
            ratio: 2000,
            ..limits
        },
    )
    .unwrap();
}

#[test]
fn a_window_that_is_too_large_is_refused_and_can_be_allowed() {
    let data = Tar::of([dir("etc"), file("etc/a", "x")]);
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &data).unwrap();
    let long = encoder.finish().unwrap();
    let wide = crate::pack::xz_with(&data, 64 << 20);
    for (data, window) in [(long, "128 MiB"), (wide, "64 MiB")] {
        let parts = [
            "takes a window of",
            window,
            "32 MiB are allowed",
            "--max-window",
        ];
        refused(&data, Limits::default(), &parts);
        let more = Limits {
            window: 128 << 20,
            ..Limits::default()
        };
        limited(&data, more).unwrap();
    }
    for fits in [zstd(&data), xz(&data)] {
        limited(&fits, Limits::default()).unwrap();
    }
}

#[test]
fn a_file_of_nothing_but_holes_takes_nothing() {
    let holes = file("disk", "")
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", "disk")
        .pax("GNU.sparse.realsize", (4_u64 << 30).to_string());
    let map = {
        let mut map = b"0\n".to_vec();
        map.resize(512, 0);
        map
    };
    let limits = Limits {
        size: 1 << 20,
        ..Limits::default()
    };
    limited(&Tar::of([holes.with_data(map)]), limits).unwrap();
}
