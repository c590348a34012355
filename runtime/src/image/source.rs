//! Finds out what kind of image a source is, from its content; its name says nothing.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use shim::{Error, Result};

use super::archive::Archive;
use super::bundle::Bundle;
use super::docker;
use super::member::{checksum_holds, read_failed};
use super::path::Place;
use super::stream::{Compression, Section, buffered, decoder, start_of};
use super::tree::disk_hint;
use crate::rootfs::image_file::Kind;

/// What a source is.
#[derive(Debug)]
pub(super) enum Source {
    /// An OCI image layout (image-spec image-layout.md).
    Oci(Bundle),
    /// What `docker save` writes, and its manifest.
    Docker(Bundle, Vec<docker::Entry>),
    /// A tar of a root filesystem.
    Rootfs(Section, Compression),
    /// A filesystem that is mounted, not unpacked.
    Filesystem(Kind, File),
}

/// Told from the superblock's magic number: squashfs begins with it (version 4, little-endian, is the only one that Linux
/// mounts), EROFS has it after 1 KiB.
fn filesystem(file: &File) -> io::Result<Option<Kind>> {
    const EROFS_MAGIC: [u8; 4] = 0xE0F5_E1E2_u32.to_le_bytes();
    let magic = |offset| {
        let mut magic = [0; 4];
        match file.read_exact_at(&mut magic, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; 4]),
            result => result.map(|()| magic),
        }
    };
    Ok(match (&magic(0)?, magic(1024)?) {
        (b"hsqs", _) => Some(Kind::Squashfs),
        (_, EROFS_MAGIC) => Some(Kind::Erofs),
        _ => None,
    })
}

/// Names at the top of a root filesystem and of no image archive: with one of them first, a compressed tar needs not be
/// unpacked to disk to see whether a manifest comes at its end.
const ROOTFS_NAMES: [&[u8]; 24] = [
    b"bin",
    b"boot",
    b"dev",
    b"etc",
    b"home",
    b"lib",
    b"lib32",
    b"lib64",
    b"libx32",
    b"lost+found",
    b"media",
    b"mnt",
    b"nix",
    b"opt",
    b"proc",
    b"root",
    b"run",
    b"sbin",
    b"snap",
    b"srv",
    b"sys",
    b"tmp",
    b"usr",
    b"var",
];

/// Opens `path`; `spool` gives a temporary file for what is compressed and has to be read in another order.
pub(super) fn open(path: &Path, spool: impl FnOnce() -> Result<File>) -> Result<Source> {
    let label = path.display().to_string();
    let failed = |error: &io::Error| Error::io("open image source", &label, error);
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| {
        failed(&error).hint("name a readable file or directory; its permissions may be too tight")
    })?;
    let metadata = file
        .metadata()
        .map_err(|error| failed(&error).hint("check the disk it is on"))?;
    if metadata.is_dir() {
        let bundle = Bundle::directory(file.into(), &label);
        return match is_oci(&bundle)? {
            true => Ok(Source::Oci(bundle)),
            false => Err(Error::new("open image source")
                .on(&label)
                .because("the directory is no OCI image layout")
                .hint("it has no oci-layout and index.json; a root filesystem is imported as a tar of it")),
        };
    }
    if !metadata.is_file() {
        let error = Error::new("open image source")
            .on(&label)
            .because("it is neither a file nor a directory");
        return Err(error.hint("write the archive to a file first"));
    }
    if let Some(kind) = filesystem(&file).map_err(|error| read_failed(&label, &error))? {
        return Ok(Source::Filesystem(kind, file));
    }
    let section = Section::whole(Arc::new(file))
        .map_err(|error| failed(&error).hint("check the disk it is on"))?;
    let (start, length) =
        start_of::<16>(section.clone()).map_err(|error| read_failed(&label, &error))?;
    let compression = Compression::of(&start[..length]).map_err(|why| unknown(&label, why))?;
    if length == 0 {
        return Err(unknown(&label, "it is empty"));
    }
    if starts_as_rootfs(&section, compression, &label)? {
        return Ok(Source::Rootfs(section, compression));
    }
    let plain = match compression {
        Compression::None => section,
        _ => decompress(section, compression, spool()?, &label)?,
    };
    let Some(bundle) = Bundle::tar(&plain, &label)? else {
        return Ok(Source::Rootfs(plain, Compression::None));
    };
    if is_oci(&bundle)? {
        return Ok(Source::Oci(bundle));
    }
    Ok(match docker::manifest(&bundle)? {
        Some(entries) => Source::Docker(bundle, entries),
        None => Source::Rootfs(plain, Compression::None),
    })
}

fn is_oci(bundle: &Bundle) -> Result<bool> {
    Ok(bundle.find("oci-layout")?.is_some() && bundle.find("index.json")?.is_some())
}

/// Whether the first name below the root is one that only a root filesystem has. Fails where there is no tar at all.
fn starts_as_rootfs(section: &Section, compression: Compression, label: &str) -> Result<bool> {
    let stream = |section: &Section| decoder(buffered(section.clone()), compression);
    let block = stream(section)
        .and_then(start_of::<512>)
        .map_err(|error| read_failed(label, &error))?;
    let (block, length) = block;
    if length < block.len() || !(checksum_holds(&block) || block.iter().all(|byte| *byte == 0)) {
        return Err(unknown(label, "it is no tar archive"));
    }
    let mut archive = Archive::new(
        buffered(stream(section).map_err(|error| read_failed(label, &error))?),
        label,
    );
    while let Some(member) = archive.next()? {
        if let Ok(Place::Below { parent, name }) = Place::parse(&member.name) {
            let top = parent
                .split(|byte| *byte == b'/')
                .next()
                .filter(|top| !top.is_empty());
            return Ok(ROOTFS_NAMES.contains(&top.unwrap_or(&name)));
        }
    }
    Ok(false)
}

fn decompress(
    section: Section,
    compression: Compression,
    mut file: File,
    label: &str,
) -> Result<Section> {
    let mut stream =
        decoder(buffered(section), compression).map_err(|error| read_failed(label, &error))?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_failed(label, &error)),
        };
        file.write_all(&buffer[..count]).map_err(|error| {
            let failed = Error::io("unpack to a temporary file", label, &error);
            let errno = failed.raw_errno();
            errno.map_or_else(|| failed.clone(), |errno| disk_hint(failed.clone(), errno))
        })?;
    }
    Section::whole(Arc::new(file)).map_err(|error| read_failed(label, &error))
}

fn unknown(label: &str, why: &'static str) -> Error {
    Error::new("open image source")
        .on(label)
        .because(why)
        .hint("an image is an OCI layout, a docker-archive or a root filesystem, as tar, plain or compressed with gzip or zstd")
}
