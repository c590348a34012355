//! Decides what to pull, from whom, and how: the arguments over the configuration over what is usual.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_client::{ParseError, Reference};
use runtime::cli::ImagePullArgs;
use runtime::config::Pull;
use runtime::ids::ImageId;
use runtime::regular::Source;
use shim::{Error, Result};

use crate::credentials::{self, Credentials};

/// How long a registry may be silent, unless something else is said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most that a file of certificates may take: a machine's whole collection has 200 KiB.
const CERTIFICATES_MAX: u64 = 4 << 20;

/// Whether the registry is talked to in secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// With TLS.
    Tls,
    /// With TLS, or without where the registry has none: what is said does not leave the machine.
    Loopback,
    /// Without.
    Plain,
}

/// What will be done.
#[derive(Debug)]
pub(crate) struct Plan {
    /// As the user gave it, for messages.
    pub(crate) name: String,
    /// What it means.
    pub(crate) reference: Reference,
    /// The image's name in the store.
    pub(crate) id: ImageId,
    /// How the registry is talked to.
    pub(crate) transport: Transport,
    /// Who the registry is told that we are.
    pub(crate) credentials: Credentials,
    /// PEM certificates that are trusted besides the machine's.
    pub(crate) certificates: Option<Vec<u8>>,
    /// The URL of an HTTP proxy.
    pub(crate) proxy: Option<String>,
    /// How long the registry may be silent.
    pub(crate) timeout: Duration,
}

impl Plan {
    /// Decides. Reads the files that have credentials and certificates; asks nobody.
    pub(crate) fn make(args: &ImagePullArgs, config: &Pull) -> Result<Self> {
        let reference = parse(&args.reference)?;
        let registry = &args.registry;
        let plain = registry.plain_http
            || config
                .plain_http
                .iter()
                .any(|plain| plain == reference.registry());
        let authfile = registry.authfile.as_ref().or(config.authfile.as_ref());
        let ca_cert = registry.ca_cert.as_ref().or(config.ca_cert.as_ref());
        Ok(Self {
            name: args.reference.clone(),
            id: id(args.id.as_ref(), &reference)?,
            transport: match plain {
                true => Transport::Plain,
                false if is_loopback(reference.resolve_registry()) => Transport::Loopback,
                false => Transport::Tls,
            },
            credentials: credentials::find(&reference, authfile.map(PathBuf::as_path))?,
            certificates: ca_cert.map(|file| certificates(file)).transpose()?,
            proxy: registry.proxy.clone().or_else(|| config.proxy.clone()),
            timeout: registry.timeout.or(config.timeout).unwrap_or(TIMEOUT),
            reference,
        })
    }
}

/// Reads a reference as docker and podman do: `alpine` is `docker.io/library/alpine:latest`.
fn parse(text: &str) -> Result<Reference> {
    text.parse().map_err(|error: ParseError| {
        Error::new("read image reference")
            .on(text)
            .because(error.to_string())
            .hint("the form is [REGISTRY[:PORT]/]NAME[:TAG][@sha256:DIGEST], NAME in lower case")
    })
}

/// The name that was given, or else the last word of the image's own.
fn id(given: Option<&ImageId>, reference: &Reference) -> Result<ImageId> {
    if let Some(id) = given {
        return Ok(id.clone());
    }
    let repository = reference.repository();
    let word = repository.rsplit('/').next().unwrap_or(repository);
    ImageId::new(word).map_err(|error| error.hint("give the image another name with --id"))
}

/// Whether a registry, `HOST[:PORT]`, is this machine by its name alone.
fn is_loopback(registry: &str) -> bool {
    let host = registry.split_once(':').map_or(registry, |(host, _)| host);
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

fn certificates(path: &Path) -> Result<Vec<u8>> {
    let source = Source {
        op: "read certificates",
        name: path,
        limit: CERTIFICATES_MAX,
    };
    let seen = source.look().map_err(|errno| {
        source
            .error()
            .errno(errno)
            .hint("--ca-cert, or ca_cert of the configuration, names a file of PEM certificates")
    })?;
    let text = source.read(source.open(&seen)?)?;
    // TLS libraries take a file without any for one that has none to add.
    let begin = b"-----BEGIN CERTIFICATE-----";
    if text.windows(begin.len()).any(|part| part == begin) {
        return Ok(text);
    }
    Err(source
        .error()
        .because("there is no certificate in it")
        .hint("a PEM certificate begins with -----BEGIN CERTIFICATE-----"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_for_what_users_expect() {
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("some/web", "docker.io/some/web:latest"),
            ("localhost/web", "localhost/web:latest"),
            ("host:5000/a/b:1", "host:5000/a/b:1"),
            ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
        ] {
            assert_eq!(parse(text).unwrap().whole(), whole);
        }
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert_eq!(parse(&digest).unwrap().tag(), None);
        for bad in ["", "A", "a:", "a@sha256:0", "https://a/b", "-a", "a b"] {
            let text = parse(bad).unwrap_err().to_string();
            assert!(text.contains("the form is [REGISTRY"), "{text}");
        }
    }

    #[test]
    fn the_last_word_is_the_id() {
        let of = |text: &str| id(None, &parse(text).unwrap());
        assert_eq!(of("ghcr.io/a/web:1.2").unwrap().as_str(), "web");
        assert_eq!(of("alpine").unwrap().as_str(), "alpine");
        let text = of("a/b.env").unwrap_err().to_string();
        assert!(text.contains("--id"), "{text}");
        let given = ImageId::new("x").unwrap();
        assert_eq!(id(Some(&given), &parse("a").unwrap()).unwrap(), given);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "localhost.lan",
            "127.lan",
            "10.0.0.1:5000",
            "index.docker.io",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
