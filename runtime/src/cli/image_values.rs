//! Values of the options and operands that only verbs on images have.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use shim::Error;

use super::values;
use crate::config::pull;
use crate::decimal::decimal;
use crate::ids::ImageId;
use crate::image::{ErofsSource, ExportFormat, Platform};
use crate::suggest::{Wrong, shown};
use crate::verity::{Digest, Wanted};

/// What `--verity` means where it is given alone.
pub(super) const RECORDED: &str = "recorded";

/// `recorded`, or a digest.
pub(super) fn verity(value: &OsStr) -> shim::Result<Wanted> {
    if value == RECORDED {
        return Ok(Wanted::Recorded);
    }
    shown(value).parse().map(Wanted::Exactly)
}

/// A digest, for what has none recorded yet.
pub(super) fn exact_verity(wanted: Wanted) -> shim::Result<Digest> {
    match wanted {
        Wanted::Exactly(digest) => Ok(digest),
        Wanted::Recorded => Err(Error::new("read option")
            .on("--verity")
            .because("nothing is recorded of what is not imported yet")
            .hint("give the digest: --verity=sha256:HEX")),
    }
}

/// The kind of an archive.
pub(super) fn archive_format(value: &OsStr) -> shim::Result<ExportFormat> {
    match value.to_str() {
        Some("oci") => Ok(ExportFormat::Oci),
        Some("docker") => Ok(ExportFormat::Docker),
        Some("rootfs") => Ok(ExportFormat::Rootfs),
        _ => Err(Error::new("read option")
            .on("--format")
            .because(format!("\"{}\" is no kind of archive", shown(value)))
            .hint("give oci, docker or rootfs")),
    }
}

/// An image of the store, or a directory of the host, which has a slash.
pub(super) fn erofs_source(word: OsString) -> shim::Result<ErofsSource> {
    if word.as_bytes().contains(&b'/') {
        return Ok(ErofsSource::Directory(word.into()));
    }
    ImageId::new(&word)
        .map(ErofsSource::Image)
        .map_err(|error| {
            error.hint("an image's id; a directory is given with a slash: ./DIRECTORY")
        })
}

/// `OS/ARCHITECTURE[/VARIANT]`
pub(super) fn platform(option: &'static str, value: OsString) -> shim::Result<Platform> {
    values::text(option, value)?.parse()
}

/// The URL of an HTTP proxy.
pub(super) fn proxy(value: &OsStr) -> shim::Result<String> {
    pull::proxy(&value.to_string_lossy()).map_err(|wrong| wrong.at(values::bad("--proxy")))
}

/// A number of seconds.
pub(super) fn timeout(value: &OsStr) -> shim::Result<Duration> {
    let wrong = |wrong: Wrong| wrong.at(values::bad("--timeout").flags(shown(value)));
    pull::timeout(decimal(value.as_bytes())).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Invocation, parse};

    fn read(line: &str) -> shim::Result<Invocation> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn digests_are_given_or_recorded() {
        let hex = "ab".repeat(32);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let create = |option: &str| read(&format!("subcontainer create-fs {option} main"));
        for (option, expected) in [
            ("--verity", Wanted::Recorded),
            (&format!("--verity=sha256:{hex}"), Wanted::Exactly(digest)),
        ] {
            let read = create(option).unwrap();
            assert!(
                matches!(read, Invocation::CreateFs(args) if args.verity == Some(expected)),
                "{option}"
            );
        }
        let read = read(&format!("image import x --id=main --verity sha256:{hex}"));
        assert!(
            matches!(read.unwrap(), Invocation::ImageImport(args) if args.verity == Some(digest))
        );
        for option in ["--verity=", "--verity=sha256:00", "--verity=sha512:00"] {
            assert!(create(option).is_err(), "{option}");
        }
    }

    #[test]
    fn a_directory_has_a_slash() {
        let source = |word: &str| match read(&format!("image build-erofs {word} f --replace")) {
            Ok(Invocation::BuildErofs(args)) => {
                assert!(args.replace && !args.json && args.file.as_os_str() == "f");
                Some(args.source)
            }
            _ => None,
        };
        for (word, expected) in [
            (
                "main",
                Some(ErofsSource::Image(ImageId::new("main").unwrap())),
            ),
            ("./main", Some(ErofsSource::Directory("./main".into()))),
            ("/", Some(ErofsSource::Directory("/".into()))),
            ("..", None),
            ("main.json", None),
        ] {
            assert_eq!(source(word), expected, "{word}");
        }
        for line in [
            "image build-erofs",
            "image build-erofs main",
            "image build-erofs a b c",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
