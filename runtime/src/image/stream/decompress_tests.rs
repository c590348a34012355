//! Streams of each compression: whole, in parts, cut, followed by something, and wanting too much.

use std::io::Write as _;

use lzma_rust2::{CheckType, XzOptions, XzWriter};

use super::*;

/// Data that does not become much smaller, and is longer than the buffers on the way.
fn data() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] & 0x3f
    };
    (0..300_000).map(|_| next()).collect()
}

fn xz(data: &[u8], options: XzOptions) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn zstd_with(data: &[u8], set: impl FnOnce(&mut zstd::Encoder<'_, Vec<u8>>)) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    set(&mut encoder);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn pack(compression: Compression, data: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => data.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd_with(data, |_| {}),
        Compression::Xz => xz(data, XzOptions::with_preset(0)),
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
    }
}

const ALL: [Compression; 4] = [
    Compression::Gzip,
    Compression::Zstd,
    Compression::Xz,
    Compression::Bzip2,
];

/// What comes of a stream whose compression is told from its beginning; read in buffers of `chunk` bytes.
fn unpack_in(packed: &[u8], chunk: usize, limits: &Limits) -> io::Result<Vec<u8>> {
    let compression = Compression::of(packed).unwrap();
    let mut plain = Vec::new();
    decoder(
        io::BufReader::with_capacity(chunk, packed),
        compression,
        limits,
    )?
    .read_to_end(&mut plain)?;
    Ok(plain)
}

fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    unpack_in(packed, 4096, &Limits::default())
}

fn why(packed: &[u8]) -> String {
    unpack(packed).unwrap_err().to_string()
}

#[test]
fn told_from_the_first_bytes() {
    for compression in ALL {
        for data in [&b""[..], b"x"] {
            assert_eq!(Compression::of(&pack(compression, data)), Ok(compression));
        }
    }
    assert_eq!(Compression::of(b"\x5a\x2a\x4d\x18"), Ok(Compression::Zstd));
    assert_eq!(Compression::of(b""), Ok(Compression::None));
    assert_eq!(Compression::of(b"etc/passwd"), Ok(Compression::None));
    for (start, name) in [
        (&b"PK\x03\x04"[..], "zip"),
        (b"LZIP\x01", "lzip"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\x5d\0\0\x80\0\xff\xff\xff", "lzma"),
    ] {
        assert!(Compression::of(start).unwrap_err().contains(name));
    }
}

#[test]
fn one_part_or_several() {
    let data = data();
    for compression in ALL {
        let one = pack(compression, &data);
        // As pigz, pzstd, `xz -T` and pbzip2 split: at any place, and with an empty part.
        let parts = [&data[..1], &data[1..200_000], &data[200_000..], b""];
        let several: Vec<u8> = parts
            .iter()
            .flat_map(|part| pack(compression, part))
            .collect();
        for packed in [one, several] {
            // Headers that lie across the border of a buffer.
            for chunk in [1, 7, 4096, 1 << 20] {
                let plain = unpack_in(&packed, chunk, &Limits::default()).unwrap();
                assert!(plain == data, "{compression:?}");
            }
        }
    }
}

#[test]
fn the_integrity_checks_of_xz_and_a_filter() {
    for check in [
        CheckType::None,
        CheckType::Crc32,
        CheckType::Crc64,
        CheckType::Sha256,
    ] {
        let mut options = XzOptions::with_preset(0);
        options.set_check_sum_type(check);
        options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
        let mut packed = xz(&data(), options);
        assert!(unpack(&packed).unwrap() == data(), "{check:?}");
        // The check of the only block lies before its index and the footer.
        let size = match check {
            CheckType::None => continue,
            CheckType::Crc32 => 4,
            CheckType::Crc64 => 8,
            CheckType::Sha256 => 32,
        };
        let index = packed.len() - 12 - 12;
        packed[index - size] ^= 1;
        assert_eq!(
            why(&packed),
            "the xz data is damaged: invalid block checksum"
        );
    }
}

#[test]
fn a_stream_that_is_cut_is_never_a_whole_one() {
    let data = data();
    for compression in ALL {
        let packed = pack(compression, &data[..20_000]);
        for length in (8..packed.len()).step_by(997).chain([packed.len() - 1]) {
            let why = why(&packed[..length]);
            let expected = format!("the {} data ends too early", compression.name());
            assert_eq!(why, expected, "{length} of {}", packed.len());
        }
    }
}

#[test]
fn a_bit_that_is_wrong_is_found() {
    for compression in ALL {
        let mut packed = pack(compression, &data()[..20_000]);
        let middle = packed.len() / 2;
        packed[middle] ^= 0x10;
        let why = why(&packed);
        assert!(why.contains(compression.name()), "{why}");
    }
}

#[test]
fn zeros_may_follow_and_nothing_else() {
    let data = data();
    for compression in ALL {
        let packed = pack(compression, &data);
        for junk in [&b"x"[..], b"\0\0\0\0x", b"\x1f", b"BZh", b"\x1f\x8b\x08"] {
            let packed = [packed.as_slice(), junk].concat();
            assert!(why(&packed).contains(compression.name()), "{junk:?}");
        }
        let padded = [packed.as_slice(), &[0; 10_240]].concat();
        match compression {
            // As the program itself.
            Compression::Zstd => assert!(unpack(&padded).is_err()),
            _ => assert!(unpack(&padded).unwrap() == data),
        }
    }
}

#[test]
fn windows_that_are_too_large_are_named() {
    let most = Limits::default().window;
    let xz_of = |dictionary: u32| {
        let mut options = XzOptions::with_preset(0);
        options.lzma_options.dict_size = dictionary;
        xz(b"x", options)
    };
    let zstd_of = |log: u32| zstd_with(b"x", |encoder| encoder.window_log(log).unwrap());
    for (packed, window) in [
        (xz_of(1 << 20), 1 << 20),
        (xz_of(3 << 20), 3 << 20),
        (xz_of(32 << 20), 32 << 20),
        (xz_of(64 << 20), 64 << 20),
        (zstd_of(20), 1 << 20),
        (zstd_of(25), 32 << 20),
        (zstd_of(27), 128 << 20),
    ] {
        let compression = Compression::of(&packed).unwrap();
        assert_eq!(compression.window(&packed), Some(window));
        if window <= most {
            assert_eq!(unpack(&packed).unwrap(), b"x");
            continue;
        }
        let expected = format!(
            "decompressing it takes a window of {}, and 32 MiB are allowed",
            Size(window)
        );
        assert_eq!(why(&packed), expected);
        let more = Limits {
            window,
            ..Limits::default()
        };
        assert_eq!(unpack_in(&packed, 4096, &more).unwrap(), b"x");
        // A later part has its own.
        let later = [pack(compression, b"y"), packed].concat();
        let expected = "decompressing it takes a window of more than the 32 MiB that are allowed";
        assert_eq!(why(&later), expected);
    }
}

#[test]
fn windows_of_frames_that_say_only_their_content() {
    for (length, expected) in [(200, 200), (1000, 1000), (100_000, 100_000)] {
        let packed = zstd::bulk::compress(&data()[..length], 1).unwrap();
        assert_eq!(zstd_window(&packed), Some(expected));
        let skipped = [&b"\x50\x2a\x4d\x18\x02\0\0\0xx"[..], &packed].concat();
        assert_eq!(zstd_window(&skipped), Some(expected));
    }
    assert_eq!(zstd_window(b"\x28\xb5\x2f\xfd"), None);
    // Of such a frame's window the next one may have more, and of one that says its own not.
    let small = zstd::bulk::compress(&data()[..1000], 1).unwrap();
    assert_eq!(Compression::Zstd.expected(&small), Some(8 << 20));
    let skipped = [&b"\x50\x2a\x4d\x18\0\0\0\0"[..], &small].concat();
    assert_eq!(Compression::Zstd.expected(&skipped), Some(8 << 20));
    let own = zstd_with(b"x", |encoder| encoder.window_log(20).unwrap());
    assert_eq!(Compression::Zstd.expected(&own), Some(1 << 20));
    assert_eq!(Compression::Bzip2.expected(b"BZh1"), Some(3_600_000));
    assert_eq!(xz_dictionary(&pack(Compression::Xz, b"")), Some(0));
}

#[test]
fn zeros_stop_at_the_ratio_unless_there_are_few_of_them() {
    let limits = Limits {
        any_ratio: 1 << 20,
        ratio: 50,
        ..Limits::default()
    };
    for compression in ALL {
        let some = pack(compression, &vec![0; 1 << 20]);
        assert_eq!(unpack_in(&some, 4096, &limits).unwrap().len(), 1 << 20);
        let many = pack(compression, &vec![0; 8 << 20]);
        assert!(
            many.len() < (8 << 20) / 50,
            "{compression:?} {}",
            many.len()
        );
        let error = unpack_in(&many, 4096, &limits).unwrap_err().to_string();
        let expected = "it unpacks to more than 1 MiB and 50 times its own size";
        assert_eq!(error, expected, "{compression:?}");
        let real = pack(compression, &data().repeat(8));
        assert!(unpack_in(&real, 4096, &limits).is_ok(), "{compression:?}");
    }
}
