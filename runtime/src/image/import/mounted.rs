//! Imports a file that is a filesystem, squashfs or EROFS: it is copied and not unpacked, and each root filesystem of it
//! mounts it.
//!
//! `NAME.env` and `NAME.json` beside it say how it is run, where they are there: `image build-erofs` writes them. A copy
//! that cannot be mounted or is not what its digest says is never given a name.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::fsync;
use shim::error::errno_of;
use shim::{Error, Result, sys};

use crate::image::disk::Fresh;
use crate::image::source::Config;
use crate::image::store::{Beside, Store, give_name, temporary, undo};
use crate::image::{Format, ImportRequest, Imported};
use crate::regular;
use crate::rootfs::image_file::{self, Kind};
use crate::verity::{Digest, Recorded, Since};

/// The most that `NAME.env` and `NAME.json` may take, each.
const LIMIT: u64 = 1 << 20;

/// Imports `file`, which was opened at the request's source.
pub(super) fn import(
    store: &Store,
    request: &ImportRequest,
    kind: Kind,
    file: &File,
) -> Result<Imported> {
    let id = request.id.as_str();
    let name = format!("{id}.{}", kind.name());
    store.check_free_for(id, &name, request.replace)?;
    store.clean(id)?;
    let beside = beside(&request.source)?;
    let failed = |errno| store.failed("copy image to", &name, errno);
    let mut fresh = Fresh::make(
        store.images.as_fd(),
        temporary(id, ".spool"),
        Mode::from_bits_truncate(0o644),
    )
    .map_err(failed)?;
    // Shares the blocks with the source, on a filesystem that can (copy_file_range(2)).
    let bytes = (&mut &*file)
        .seek(SeekFrom::Start(0))
        .and_then(|_| std::io::copy(&mut &*file, &mut fresh.file))
        .map_err(|error| failed(errno_of(&error)))?;
    let verity = request
        .verity
        .map(|digest| check(&mut fresh, request, digest));
    let verity = verity.transpose()?;
    if request.durable {
        fresh
            .file
            .sync_all()
            .map_err(|error| failed(errno_of(&error)))?;
    }
    try_out(kind, request, &fresh.file)?;
    publish(store, request, &name, fresh, &beside, verity)?;
    Ok(Imported {
        root: store.path.join(&name),
        format: match kind {
            Kind::Squashfs => Format::Squashfs,
            Kind::Erofs => Format::Erofs,
        },
        digest: verity.map(|recorded| recorded.digest.to_string()),
        reference: None,
        layers: 1,
        members: 0,
        bytes,
        warning: None,
    })
}

/// Compares the copy with the digest, and has the kernel do so from now on if it can.
fn check(fresh: &mut Fresh<'_>, request: &ImportRequest, expected: Digest) -> Result<Recorded> {
    let label = request.source.display();
    let failed =
        |errno| Error::sys("check digest of", &label, errno).hint("check the disk below --base");
    let read = fresh.file.seek(SeekFrom::Start(0)).map(drop);
    let digest = read.and_then(|()| Digest::of(&fresh.file));
    let digest = digest.map_err(|error| failed(errno_of(&error)))?;
    if digest != expected {
        return Err(expected.differs(label, digest));
    }
    fresh.close_for_writing().map_err(failed)?;
    let since = match sys::verity::enable(&fresh.file) {
        Ok(()) => Since::Kernel,
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL) => Since::Import,
        Err(errno) => return Err(failed(errno).flags("FS_IOC_ENABLE_VERITY")),
    };
    Ok(Recorded { digest, since })
}

/// Mounts the copy where nobody sees it, and lists its root directory.
fn try_out(kind: Kind, request: &ImportRequest, file: &File) -> Result<()> {
    let mount = image_file::mount(kind, &request.source, file)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let listed = Dir::openat(&mount, ".", flags, Mode::empty())
        .and_then(|mut root| root.iter().try_for_each(|entry| entry.map(drop)));
    listed.map_err(|errno| {
        Error::sys("read root directory of", request.source.display(), errno)
            .hint("the image is damaged; fetch or build it again")
    })
}

/// What is said about the image beside the source, or what is said of an image that says nothing.
fn beside(source: &Path) -> Result<Beside> {
    let read = |suffix: &str| {
        if source == Path::new("-") {
            // Nothing is beside stdin.
            return Ok(None);
        }
        let path = source.with_extension(suffix);
        let source = regular::Source {
            op: "read what is said of the image",
            name: &path,
            limit: LIMIT,
        };
        let seen = match source.look() {
            Ok(seen) => seen,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(source.error().errno(errno).hint("check its mode")),
        };
        let text = String::from_utf8(source.read(source.open(&seen)?)?);
        let text = text.map_err(|_| {
            source
                .error()
                .because("it is not UTF-8")
                .hint("write it in UTF-8")
        })?;
        let is_object = |text: &str| {
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).map(drop)
        };
        if suffix == "json"
            && let Err(error) = is_object(&text)
        {
            return Err(source
                .error()
                .because(format!("it is no JSON object: {error}"))
                .hint("its keys are user, workdir, entrypoint and cmd"));
        }
        Ok(Some(text))
    };
    let unsaid = Beside::of(&Config::default())?;
    Ok(Beside {
        env: read("env")?.unwrap_or(unsaid.env),
        json: read("json")?.unwrap_or(unsaid.json),
    })
}

/// Gives all of it its names, the image last.
fn publish(
    store: &Store,
    request: &ImportRequest,
    name: &str,
    mut fresh: Fresh<'_>,
    beside: &Beside,
    verity: Option<Recorded>,
) -> Result<()> {
    let id = request.id.as_str();
    let _lock = store.lock()?;
    store.check_free_for(id, name, request.replace)?;
    let text = verity.map(|recorded| recorded.text());
    let mut files = beside.files().to_vec();
    files.extend(text.iter().map(|text| ("verity", text.as_bytes())));
    let mut steps = store.give_names(id, &files, request.durable)?;
    let given = fresh
        .name()
        .map_err(|errno| store.failed("name", name, errno))
        .and_then(|temporary| give_name(store, temporary, name));
    match given {
        Ok(step) => steps.push(step),
        Err(error) => {
            undo(store, steps);
            return Err(error);
        }
    }
    fresh.keep();
    store.forget_old(steps.iter());
    if verity.is_none() {
        // Of an image that this one replaces.
        let _ = fs::remove_file(store.path.join(Recorded::file_name(id)));
    }
    if request.durable {
        fsync(&store.images).map_err(|errno| store.failed("write to disk", name, errno))?;
    }
    Ok(())
}
