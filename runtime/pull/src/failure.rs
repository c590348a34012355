//! What went wrong between the registry and us, in words, and whether it may go right the next time.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::time::Duration;

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use shim::Error;

use crate::plan::Plan;

/// How much of what a registry says is repeated, in characters.
const SHOWN: usize = 160;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing came for so long.
    Silent(Duration),
    /// More came than may be kept.
    TooMuch,
    /// The answer is a refusal, or it could not be asked for.
    Said(Box<OciDistributionError>),
    /// The content broke off.
    BrokenOff(io::Error),
}

impl From<OciDistributionError> for Trouble {
    fn from(error: OciDistributionError) -> Self {
        Self::Said(Box::new(error))
    }
}

/// A failure that is ready to be shown, unless the next try succeeds.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether trying again can help.
    pub(crate) may_pass: bool,
    /// Whether it has cost the whole time that is waited for anything.
    pub(crate) silent: bool,
    /// Nobody listens there.
    pub(crate) refused: bool,
    /// The other side answered, but not with TLS.
    pub(crate) not_tls: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            may_pass: false,
            silent: false,
            refused: false,
            not_tls: false,
        }
    }
}

impl Failure {
    /// The trouble with `subject`, for whom `op` was done.
    pub(crate) fn of(op: &'static str, subject: &str, trouble: &Trouble, plan: &Plan) -> Self {
        let error = Error::new(op).on(subject);
        let registry = plan.reference.resolve_registry();
        match trouble {
            Trouble::Silent(silence) => Self {
                may_pass: true,
                silent: true,
                ..error
                    .because(format!("{registry} was silent for {} s", silence.as_secs()))
                    .hint("check the network, or be more patient with --timeout")
                    .into()
            },
            Trouble::TooMuch => error
                .because(format!("the answer of {registry} is too large"))
                .hint("this is no registry, or a hostile one")
                .into(),
            Trouble::BrokenOff(cause) => in_transit(error, cause, registry),
            Trouble::Said(said) => said_by(error, said, plan),
        }
    }
}

fn said_by(error: Error, said: &OciDistributionError, plan: &Plan) -> Failure {
    let registry = plan.reference.resolve_registry();
    match said {
        OciDistributionError::RegistryError { envelope, .. } => {
            let Some(first) = envelope.errors.first() else {
                return refused(error, registry, "an error without words");
            };
            match first.code {
                OciErrorCode::ManifestUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::NotFound
                | OciErrorCode::BlobUnknown
                | OciErrorCode::ManifestBlobUnknown => unknown(error, registry),
                OciErrorCode::Unauthorized | OciErrorCode::Denied => denied(error, plan),
                OciErrorCode::Toomanyrequests => busy(error, registry),
                _ => refused(error, registry, &first.message),
            }
        }
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => denied(error, plan),
        OciDistributionError::ServerError { code, message, .. } => match code {
            404 => unknown(error, registry),
            401 | 403 => denied(error, plan),
            429 | 500..=599 => busy(error, registry),
            _ => refused(error, registry, &format!("HTTP {code} {message}")),
        },
        OciDistributionError::RequestError(cause) => in_transit(error, cause, registry),
        OciDistributionError::IoError(cause) => in_transit(error, cause, registry),
        OciDistributionError::DigestError(DigestError::VerificationError { expected, actual }) => {
            error
                .because(format!(
                    "it should have the digest {expected} and has {actual}"
                ))
                .hint("the registry, or somebody on the way to it, has changed it")
                .into()
        }
        other => refused(error, registry, &other.to_string()),
    }
}

fn unknown(error: Error, registry: &str) -> Failure {
    error
        .because(format!("{registry} does not have it"))
        .hint("check the name, and the tag or digest")
        .into()
}

fn denied(error: Error, plan: &Plan) -> Failure {
    let registry = plan.reference.registry();
    let host = plan.reference.resolve_registry();
    let (why, hint) = match &plan.credentials.file {
        Some(file) => (
            format!(
                "{host} denies it with the credentials of {}",
                file.display()
            ),
            format!("log in again (podman login {registry}), or check the name"),
        ),
        None => (
            format!("{host} denies it without credentials"),
            format!("log in (podman login {registry}), give --authfile, or check the name"),
        ),
    };
    error.because(why).hint(hint).into()
}

fn busy(error: Error, registry: &str) -> Failure {
    Failure {
        may_pass: true,
        ..error
            .because(format!("{registry} cannot serve it at the moment"))
            .hint("try again later")
            .into()
    }
}

fn refused(error: Error, registry: &str, words: &str) -> Failure {
    let words: String = words.trim().chars().take(SHOWN).collect();
    error
        .because(format!("{registry} answers: {words}"))
        .hint("check that this is a registry, and the reference")
        .into()
}

/// What happened below HTTP.
fn in_transit(error: Error, cause: &(dyn StdError + 'static), registry: &str) -> Failure {
    let mut last = String::new();
    for cause in causes(cause) {
        last = cause.to_string();
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return with_tls(error, tls, registry);
        }
        if let Some(DigestError::VerificationError { expected, actual }) = cause.downcast_ref() {
            return error
                .because(format!(
                    "it should have the digest {expected} and has {actual}"
                ))
                .hint("the registry, or somebody on the way to it, has changed it")
                .into();
        }
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == ErrorKind::ConnectionRefused
        {
            return Failure {
                refused: true,
                ..error
                    .because(format!("{registry}: nobody listens there"))
                    .hint("check the registry's name and port, and that it runs")
                    .into()
            };
        }
        if let Some(net) = cause.downcast_ref::<hickory_resolver::net::NetError>() {
            return error
                .because(format!("{registry} has no address: {net}"))
                .hint("check the registry's name, /etc/hosts and /etc/resolv.conf")
                .into();
        }
    }
    Failure {
        may_pass: true,
        ..error
            .because(format!("{registry}: {last}"))
            .hint("check the network, and try again")
            .into()
    }
}

fn with_tls(error: Error, tls: &rustls::Error, registry: &str) -> Failure {
    match tls {
        // What came first is no TLS record: a server that talks HTTP complains in HTTP.
        rustls::Error::InvalidMessage(_) => Failure {
            not_tls: true,
            ..error
                .because(format!("{registry} does not talk TLS"))
                .hint("if it shall be trusted nevertheless, give --plain-http")
                .into()
        },
        rustls::Error::InvalidCertificate(why) => error
            .because(format!("{registry} cannot be trusted: {why}"))
            .hint("give the certificate of its authority with --ca-cert, or install it for the machine")
            .into(),
        other => error
            .because(format!("{registry}: TLS: {other}"))
            .hint("check the registry's TLS, its certificate and its name")
            .into(),
    }
}

/// An error and what caused it, outermost first. An `io::Error` hides what it carries from `source`.
fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let carried = error
            .downcast_ref::<io::Error>()
            .and_then(|io| io.get_ref());
        match carried {
            Some(carried) => Some(carried as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

/// What a failure comes down to.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}
