//! Archives that are almost right: members of well-formed and hostile archives, with their headers, records and order
//! changed, packed as each kind of image and compressed in each way, sometimes damaged.

use tests::pack::{
    self, Item, OCI_LAYER, Tar, dir, docker, file, gzip, hardlink, image, item, layout, symlink,
    zstd,
};
use tests::pack::{Files, config};

use super::random::Random;

const BLOCK: usize = 512;
/// Fields of a header: where each is, and how long.
const FIELDS: [(usize, usize); 12] = [
    (0, 100),
    (100, 8),
    (108, 8),
    (116, 8),
    (124, 12),
    (136, 12),
    (157, 100),
    (257, 8),
    (265, 32),
    (329, 8),
    (337, 8),
    (345, 155),
];
/// Names and link targets; `@` becomes the tree that nothing may touch.
const NAMES: &[&str] = &[
    "a",
    "b",
    "a/b",
    "a/b/c",
    "l",
    "l/x",
    "l/x/y",
    "d",
    "d/e",
    "d/e/f",
    "@",
    "@/victim",
    "..",
    "../x",
    "a/../../x",
    "/",
    "/etc/passwd",
    ".",
    "./",
    "",
    "a/",
    "//a//b",
    "./a/./b",
    ".wh.a",
    ".wh.d",
    "d/.wh.e",
    ".wh..wh..opq",
    "d/.wh..wh..opq",
    ".wh.",
    ".wh..",
    "l/.wh.victim",
    "l/.wh..wh..opq",
    ".wh..wh.plnk",
    ".wh.a/b",
    "/proc/self/root",
    "/proc/self/cwd/x",
    "../../../../../../etc/passwd",
    "a\nb",
    "\u{e4}",
];
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"7",
    b"0000644",
    b"777777777777",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"-1",
    b"",
    b"        ",
    b"8",
    b"00000000001\0",
    b"00000001000\0",
    b"\x80\xff\xff\xff\xff\xff\xff\xff\xff",
];
const KEYS: &[&str] = &[
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.name",
    "GNU.sparse.realsize",
    "GNU.sparse.size",
    "GNU.sparse.map",
    "GNU.sparse.numblocks",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.trusted.overlay.opaque",
    "SCHILY.xattr.user.overlay.whiteout",
    "SCHILY.xattr.security.capability",
    "SCHILY.xattr.",
    "comment",
    "hdrcharset",
    "",
];
const VALUES: &[&str] = &[
    "0",
    "1",
    "8",
    "512",
    "-1",
    "1.5",
    "99999999999999999999",
    "4294967295",
    "0,8",
    "0,1,5,2",
    "2\n0\n4\n8\n4\n",
    "y",
    "x\ny",
    "../x",
    "@/victim",
    "a",
    "",
];

/// A new archive.
pub fn make(random: &mut Random, seeds: &[Vec<u8>], outside: &str) -> Vec<u8> {
    let mut layers: Vec<Vec<u8>> = (0..=random.below(3))
        .map(|_| layer(random, seeds, outside))
        .collect();
    let mut data = match random.below(4) {
        0 => layers.swap_remove(0),
        1 => docker(&layers, &["x:1"]).into_tar(),
        _ => oci(random, &layers),
    };
    if random.once_in(4) {
        data = compressed(random, data);
    }
    if random.once_in(12) {
        random.scramble(&mut data);
    }
    data
}

/// An OCI image of these layers, whose digests are right, however they are packed.
fn oci(random: &mut Random, layers: &[Vec<u8>]) -> Vec<u8> {
    let mut files = Files::default();
    let plain = image(&mut files, layers, &config(layers), <[u8]>::to_vec);
    if random.once_in(2) {
        layout(&mut files, &[plain]);
        return files.into_tar();
    }
    let mut files = Files::default();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| {
            let packed = compressed(random, layer.clone());
            files.blob(OCI_LAYER, &packed)
        })
        .collect();
    let config = files.blob(pack::OCI_CONFIG, config(layers).to_string().as_bytes());
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": descriptors});
    let manifest = files.blob(pack::OCI_MANIFEST, manifest.to_string().as_bytes());
    layout(&mut files, &[manifest]);
    files.into_tar()
}

fn compressed(random: &mut Random, data: Vec<u8>) -> Vec<u8> {
    let mut packed = match random.below(4) {
        0 => gzip(&data),
        1 => zstd(&data),
        2 => [gzip(&data[..data.len() / 2]), gzip(&data[data.len() / 2..])].concat(),
        _ => data,
    };
    if random.once_in(8) {
        random.scramble(&mut packed);
    }
    packed
}

/// One layer: members of seeds and new ones, changed.
fn layer(random: &mut Random, seeds: &[Vec<u8>], outside: &str) -> Vec<u8> {
    let mut members: Vec<Vec<u8>> = Vec::new();
    for _ in 0..=random.below(2) {
        if let Some(seed) = (!seeds.is_empty()).then(|| random.of(seeds)) {
            members.extend(split(seed));
        }
    }
    for _ in 0..random.below(6) {
        let new = Tar::default().with(member(random, outside)).without_end();
        members.insert(random.below(members.len() + 1), new);
    }
    for _ in 0..=random.below(5) {
        change(random, &mut members, outside);
    }
    let mut tar = members.concat();
    match random.below(12) {
        0 => {}
        1 => tar.truncate(random.below(tar.len() + 1)),
        2 => random.scramble(&mut tar),
        _ => tar.resize(tar.len() + 1024, 0),
    }
    tar
}

/// A member of some type, with a name that matters.
fn member(random: &mut Random, outside: &str) -> Item {
    let text = |random: &mut Random| random.of(NAMES).replace('@', outside);
    let (name, target) = (text(random), text(random));
    let mut made = match random.below(8) {
        0 | 1 => file(name, "data of a file"),
        2 => dir(name),
        3 | 4 => symlink(name, target),
        5 => hardlink(name, target),
        6 => item(tar::EntryType::Fifo, name),
        _ => item(tar::EntryType::Char, name).device(1, 3),
    };
    if random.once_in(4) {
        made = made.mode([0, 0o777, 0o4755, 0o1777][random.below(4)]);
    }
    if random.once_in(4) {
        let value = random.of(VALUES).replace('@', outside);
        let key: &&str = random.of(KEYS);
        made = made.pax(key, value);
    }
    if random.once_in(16) {
        let long = "n".repeat(*random.of(&[99, 100, 101, 255, 256, 300]));
        made = made.pax("path", long);
    }
    made
}

/// Headers with what follows them.
fn split(tar: &[u8]) -> Vec<Vec<u8>> {
    let mut members = Vec::new();
    let mut rest = tar;
    while rest.len() >= BLOCK && rest[..BLOCK].iter().any(|byte| *byte != 0) {
        let digits = rest[124..135]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        let size = digits.fold(0_usize, |sum, digit| {
            sum.saturating_mul(8)
                .saturating_add(usize::from(digit - b'0'))
        });
        let length = size.saturating_add(BLOCK).saturating_add(BLOCK - 1) / BLOCK * BLOCK;
        let (member, after) = rest.split_at(length.min(rest.len()));
        members.push(member.to_vec());
        rest = after;
    }
    members
}

fn change(random: &mut Random, members: &mut Vec<Vec<u8>>, outside: &str) {
    if members.is_empty() {
        return;
    }
    let at = random.below(members.len());
    match random.below(9) {
        0 => drop(members.remove(at)),
        1 => {
            let other = random.below(members.len());
            members.swap(at, other);
        }
        2 => {
            let again = members[at].clone();
            members.insert(random.below(members.len()), again);
        }
        3 => random.scramble(&mut members[at]),
        4 => {
            let at_data = members[at].get_mut(BLOCK..);
            if let Some(data) = at_data.filter(|data| !data.is_empty()) {
                let place = random.below(data.len());
                data[place] = random.byte();
            }
        }
        _ => field(random, &mut members[at], outside),
    }
}

/// Changes one field of a header, and most often makes its checksum right again.
fn field(random: &mut Random, member: &mut [u8], outside: &str) {
    let Some(header) = member.get_mut(..BLOCK) else {
        return;
    };
    if random.once_in(4) {
        header[156] = *random.of(b"01234567xgLKSVDMNX\0");
    } else {
        let (start, length) = *random.of(&FIELDS);
        let value = if length >= 32 {
            random.of(NAMES).replace('@', outside).into_bytes()
        } else {
            random.of(NUMBERS).to_vec()
        };
        let field = &mut header[start..start + length];
        field.fill(0);
        let count = value.len().min(length);
        field[..count].copy_from_slice(&value[..count]);
    }
    if !random.once_in(20) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
