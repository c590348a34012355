//! A registry as the place that the pieces of one image come from.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::net::IpAddr;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::{Client, Reference, RegistryOperation};
use runtime::image::parts::{Claim, Parts};
use runtime::image::{Piece, Progress, Remote};
use serde::Deserialize;
use serde::de::IgnoredAny;
use shim::{Error, Result};
use tokio::runtime::Runtime;

use crate::blob::{self, sha256};
use crate::failure::{Failure, Trouble};
use crate::patience::{Failures, Patience};
use crate::plan::{Plan, Transport};

/// How many blobs are fetched at once.
const PARALLEL: usize = 4;
/// Documents that lead to other documents, or are an image's manifest: these are asked for under another address than
/// blobs.
const MANIFESTS: [&str; 4] = [
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
];
/// Never asked through a proxy.
const NO_PROXY: &str = "localhost,127.0.0.0/8,::1";
const USER_AGENT: &str = concat!("start-container/", env!("CARGO_PKG_VERSION"));

/// A registry, and what has come from it.
pub(crate) struct Registry {
    pub(crate) plan: Plan,
    pub(crate) parts: Parts,
    pub(crate) patience: Patience,
    pub(crate) progress: Progress,
    runtime: Runtime,
    /// Made when it is clear whether the registry talks TLS.
    client: OnceCell<Client>,
    /// What the name leads to: its digest, and the document.
    top: RefCell<Option<(String, Vec<u8>)>>,
    /// The digests of the blobs whose parts were made.
    asked: RefCell<Vec<String>>,
    /// Another pull can go on with the parts.
    resumable: Cell<bool>,
}

impl Registry {
    /// Asks nobody anything yet.
    pub(crate) fn new(plan: Plan, parts: Parts, progress: Progress) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| {
                Error::io("prepare to pull", &plan.name, &error)
                    .hint("the process may be out of descriptors or memory")
            })?;
        Ok(Self {
            patience: Patience {
                silence: plan.timeout,
            },
            plan,
            parts,
            progress,
            runtime,
            client: OnceCell::new(),
            top: RefCell::default(),
            asked: RefCell::default(),
            resumable: Cell::new(false),
        })
    }

    /// Removes the parts of blobs, unless another pull of the image can go on with them.
    pub(crate) fn clear(&self) -> Result<()> {
        if self.resumable.get() {
            return Ok(());
        }
        for digest in self.asked.borrow().iter() {
            if let Claim::Ours(part) = self.parts.claim(digest)? {
                self.parts.remove(&part)?;
            }
        }
        Ok(())
    }

    /// Meets the registry, if it has not been met: finds out whether it talks TLS, and shows it who we are.
    pub(crate) async fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        self.check_names()?;
        let met = match self.plan.transport {
            Transport::Plain => self.meet(ClientProtocol::Http).await?,
            Transport::Tls => self.meet(ClientProtocol::Https).await?,
            Transport::Loopback => match self.meet(ClientProtocol::Https).await {
                Err(failure) if failure.not_tls => self.meet(ClientProtocol::Http).await?,
                met => met?,
            },
        };
        Ok(self.client.get_or_init(|| met))
    }

    async fn meet(&self, protocol: ClientProtocol) -> Result<Client, Failure> {
        let client = self.make(protocol)?;
        let Plan {
            reference,
            credentials,
            name,
            ..
        } = &self.plan;
        self.tries("pull image", name, || {
            self.patience
                .whole(client.auth(reference, &credentials.auth, RegistryOperation::Pull))
        })
        .await?;
        Ok(client)
    }

    fn make(&self, protocol: ClientProtocol) -> Result<Client, Failure> {
        // Fails where it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = self.plan.certificates.iter().map(|data| Certificate {
            encoding: CertificateEncoding::Pem,
            data: data.clone(),
        });
        let proxy = &self.plan.proxy;
        let config = ClientConfig {
            protocol,
            extra_root_certificates: certificates.collect(),
            user_agent: USER_AGENT,
            https_proxy: proxy.clone(),
            http_proxy: proxy.clone(),
            no_proxy: proxy.as_ref().map(|_| NO_PROXY.to_owned()),
            ..ClientConfig::default()
        };
        Client::try_from(config).map_err(|error| {
            Error::new("prepare to pull")
                .on(&self.plan.name)
                .because(crate::failure::innermost(&error))
                .hint("TLS needs certificates to trust: install the package ca-certificates, or give --ca-cert")
                .into()
        })
    }

    /// Where no name server is known, the library would ask one on the internet.
    fn check_names(&self) -> Result<()> {
        let registry = self.plan.reference.resolve_registry();
        let host = registry.split_once(':').map_or(registry, |(host, _)| host);
        let literal = host == "localhost" || host.parse::<IpAddr>().is_ok();
        if literal || self.plan.proxy.is_some() {
            return Ok(());
        }
        hickory_resolver::system_conf::read_system_conf()
            .map(drop)
            .map_err(|error| {
                Error::new("read")
                    .on("/etc/resolv.conf")
                    .because(error.to_string())
                    .hint("it has to name a server that knows the addresses of registries")
            })
    }

    /// Asks until there is an answer, or no hope of one.
    async fn tries<T, Asked: Future<Output = Result<T, Trouble>>>(
        &self,
        op: &'static str,
        subject: &str,
        ask: impl Fn() -> Asked,
    ) -> Result<T, Failure> {
        let mut failures = Failures::default();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => {
                    let failure = Failure::of(op, subject, &trouble, &self.plan);
                    failures.again(failure).await?;
                }
            }
        }
    }

    async fn manifest(&self, reference: &Reference) -> Result<Vec<u8>, Failure> {
        let client = self.client().await?;
        let auth = &self.plan.credentials.auth;
        self.tries("pull image", &self.plan.name, || {
            self.patience
                .whole(client.pull_manifest_raw(reference, auth, &MANIFESTS))
        })
        .await
        .map(|(data, _)| data.into())
    }

    async fn small_blob(&self, piece: &Piece) -> Result<Vec<u8>, Failure> {
        let client = self.client().await?;
        self.tries("fetch blob", &piece.digest, || {
            self.patience.whole(async {
                let reference = &self.plan.reference;
                let mut stream = client
                    .pull_blob_stream(reference, piece.digest.as_str())
                    .await?;
                let mut data = Vec::new();
                while let Some(bytes) = stream.next().await {
                    data.extend_from_slice(&bytes.map_err(Trouble::BrokenOff)?);
                    if data.len() as u64 > piece.size {
                        return Err(Trouble::TooMuch);
                    }
                }
                Ok(data)
            })
        })
        .await
    }
}

/// What tells an index from a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
}

impl Remote for Registry {
    fn name(&self) -> &str {
        &self.plan.name
    }

    fn top(&self) -> Result<Piece> {
        let data = self.runtime.block_on(self.manifest(&self.plan.reference));
        let data = data.map_err(|failure| failure.error)?;
        let kind: Kind = serde_json::from_slice(&data).map_err(|error| {
            Error::new("pull image")
                .on(&self.plan.name)
                .because(format!("what came is no manifest: {error}"))
                .hint("check that this is a registry, and the reference")
        })?;
        let guess = match kind.manifests {
            Some(_) => OCI_IMAGE_INDEX_MEDIA_TYPE,
            None => OCI_IMAGE_MEDIA_TYPE,
        };
        let digest = sha256(&data);
        let size = data.len() as u64;
        *self.top.borrow_mut() = Some((digest.clone(), data));
        Ok(Piece {
            digest,
            media_type: kind.media_type.unwrap_or_else(|| guess.to_owned()),
            size,
        })
    }

    fn document(&self, piece: &Piece) -> Result<Vec<u8>> {
        if let Some((_, data)) = self
            .top
            .borrow()
            .as_ref()
            .filter(|(digest, _)| *digest == piece.digest)
        {
            return Ok(data.clone());
        }
        let data = if MANIFESTS.contains(&piece.media_type.as_str()) {
            let reference = self.plan.reference.clone_with_digest(piece.digest.clone());
            self.runtime.block_on(self.manifest(&reference))
        } else {
            self.runtime.block_on(self.small_blob(piece))
        };
        data.map_err(|failure| failure.error)
    }

    fn layers(&self, layers: &[Piece]) -> Result<Vec<File>> {
        // An image may have the same layer twice.
        let unique: BTreeMap<&str, &Piece> = layers
            .iter()
            .map(|piece| (piece.digest.as_str(), piece))
            .collect();
        self.asked
            .borrow_mut()
            .extend(unique.keys().map(|digest| (*digest).to_owned()));
        let fetched = stream::iter(unique.values())
            .map(|piece| blob::fetch(self, piece))
            .buffered(PARALLEL)
            .try_collect::<Vec<_>>();
        let fetched = self.runtime.block_on(fetched).map_err(|failure| {
            self.resumable.set(failure.may_pass);
            failure.error
        })?;
        let files: BTreeMap<&str, &File> = unique
            .keys()
            .copied()
            .zip(fetched.iter().map(|part| &part.file))
            .collect();
        layers
            .iter()
            .filter_map(|piece| files.get(piece.digest.as_str()))
            .map(|file| {
                file.try_clone().map_err(|error| {
                    Error::io("open blobs of", &self.plan.name, &error)
                        .hint("raise the limit of open files, ulimit -n")
                })
            })
            .collect()
    }
}
