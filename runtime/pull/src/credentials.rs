//! Finds the credentials for a registry in the files that `docker login` and `podman login` write (docker's config.json,
//! containers-auth.json(5)).
//!
//! Ambient variables (HOME, XDG_RUNTIME_DIR, REGISTRY_AUTH_FILE, DOCKER_CONFIG) do not steer this, and no program that keeps
//! credentials is run: where such a program has them, that is said.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use runtime::regular::Source;
use runtime::rootless::Account;
use serde::Deserialize;
use shim::{Error, Result};

/// The most that such a file may take, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// What is done with them, for messages.
const READ: &str = "read credentials";
/// docker.io under the names that it has in such files.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What the registry is told, and where that comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Name and password, or nothing.
    pub(crate) auth: RegistryAuth,
    /// The file that they are from.
    pub(crate) file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl fmt::Debug for Entry {
    /// They are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

/// The credentials for the image's registry: from `authfile` if it is given, otherwise from the first of the calling user's
/// files that has some.
pub(crate) fn find(reference: &Reference, authfile: Option<&Path>) -> Result<Credentials> {
    let account = Account::of_caller()?;
    let paths = match authfile {
        Some(path) => vec![path.to_owned()],
        None => usual(&account),
    };
    for path in paths {
        let Some(file) = open(&path, authfile.is_some())? else {
            continue;
        };
        if let Some(auth) = choose(&file, reference).map_err(|why| {
            read_failed(&path)
                .because(format!("{}: {why}", reference.registry()))
                .hint("give a file with name and password: podman login --authfile FILE")
        })? {
            return Ok(Credentials {
                auth,
                file: Some(path),
            });
        }
    }
    Ok(Credentials {
        auth: RegistryAuth::Anonymous,
        file: None,
    })
}

/// Where podman and docker write: podman's until the next boot, then podman's and docker's in the home directory.
fn usual(account: &Account) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if account.uid == 0 {
        paths.push(PathBuf::from("/run/containers/0/auth.json"));
    }
    paths.push(format!("/run/user/{}/containers/auth.json", account.uid).into());
    if let Some(home) = &account.home {
        paths.push(home.join(".config/containers/auth.json"));
        paths.push(home.join(".docker/config.json"));
    }
    paths
}

/// What the file says; nothing where there is none and none is required.
fn open(path: &Path, required: bool) -> Result<Option<File>> {
    let source = Source {
        op: READ,
        name: path,
        limit: FILE_MAX,
    };
    let seen = match source.look() {
        Ok(seen) => seen,
        Err(Errno::ENOENT | Errno::ENOTDIR) if !required => return Ok(None),
        Err(errno) => {
            return Err(read_failed(path)
                .errno(errno)
                .hint("give a file that podman login or docker login wrote with --authfile"));
        }
    };
    let text = source.read(source.open(&seen)?)?;
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        // What exactly is wrong is not said: it may be a secret.
        read_failed(path)
            .because(format!("line {} is not as it should be", error.line()))
            .hint("it is JSON with a key auths, as podman login and docker login write it")
    })
}

fn read_failed(path: &Path) -> Error {
    Error::new(READ).on(path.display())
}

/// The entry for the longest part of the image's name that has one.
fn choose(file: &File, reference: &Reference) -> Result<Option<RegistryAuth>, String> {
    let registry = host(reference.registry());
    if let Some((_, helper)) = file.helpers.iter().find(|(key, _)| host(key) == registry) {
        return Err(format!(
            "the program docker-credential-{helper} has its credentials, and is not asked"
        ));
    }
    let mut name = format!("{registry}/{}", reference.repository());
    loop {
        if let Some((_, entry)) = file.auths.iter().find(|(key, _)| plain(key) == name) {
            return read(entry, file.store.as_deref()).map(Some);
        }
        match name.rfind('/') {
            Some(end) => name.truncate(end),
            None => return Ok(None),
        }
    }
}

fn read(entry: &Entry, store: Option<&str>) -> Result<RegistryAuth, String> {
    if !entry.identity_token.is_empty() {
        return Err("its credentials are an identity token, which is not supported".into());
    }
    if entry.auth.is_empty() {
        return match (entry.username.is_empty(), store) {
            (false, _) => Ok(RegistryAuth::Basic(
                entry.username.clone(),
                entry.password.clone(),
            )),
            (true, Some(store)) => Err(format!(
                "the program docker-credential-{store} has its credentials, and is not asked"
            )),
            (true, None) => Ok(RegistryAuth::Anonymous),
        };
    }
    let decoded = STANDARD.decode(entry.auth.trim()).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_ref().and_then(|text| text.split_once(':'));
    let (name, password) = pair.ok_or("auth is not the base64 of NAME:PASSWORD")?;
    // docker pads it with NUL bytes.
    let password = password.trim_end_matches('\0');
    Ok(RegistryAuth::Basic(name.into(), password.into()))
}

/// A key of the file as part of an image's name: docker writes URLs.
fn plain(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        // "https://index.docker.io/v1/" and "https://host/" stand for the registry.
        Some(bare) => bare.split('/').next().unwrap_or(bare),
        None => key.trim_end_matches('/'),
    };
    match key.split_once('/') {
        Some((registry, path)) => format!("{}/{path}", host(registry)),
        None => host(key),
    }
}

/// A registry under one name.
fn host(registry: &str) -> String {
    if DOCKER_HUB.contains(&registry) {
        "docker.io".to_owned()
    } else {
        registry.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user's name that is found for an image.
    fn found(json: &str, image: &str) -> Result<Option<String>, String> {
        let file: File = serde_json::from_str(json).unwrap();
        choose(&file, &image.parse().unwrap()).map(|auth| match auth {
            Some(RegistryAuth::Basic(name, _)) => Some(name),
            _ => None,
        })
    }

    #[test]
    fn the_longest_name_wins_and_urls_are_names() {
        let json = r#"{"auths":{
            "host:5000":{"auth":"YTp3b3Jk"},
            "host:5000/team":{"auth":"Yjp3b3Jk"},
            "host:5000/team/web":{"username":"c","password":"word"},
            "https://index.docker.io/v1/":{"auth":"ZDp3b3Jk"},
            "https://other.lan":{"auth":"ZTp3b3Jk"}}}"#;
        for (image, name) in [
            ("host:5000/x", Some("a")),
            ("host:5000/team/x/y", Some("b")),
            ("host:5000/teamx/y", Some("a")),
            ("host:5000/team/web", Some("c")),
            ("alpine", Some("d")),
            ("docker.io/a/b", Some("d")),
            ("other.lan/x", Some("e")),
            ("none.lan/x", None),
        ] {
            assert_eq!(found(json, image), Ok(name.map(Into::into)), "{image}");
        }
    }

    #[test]
    fn passwords_may_have_colons() {
        let entry = Entry {
            auth: STANDARD.encode("name:pass:word\0\0"),
            ..Entry::default()
        };
        assert_eq!(
            read(&entry, None),
            Ok(RegistryAuth::Basic("name".into(), "pass:word".into()))
        );
    }

    #[test]
    fn what_programs_keep_is_named() {
        let helper = r#"{"credHelpers":{"host.lan":"pass"},"credsStore":"desktop",
            "auths":{"https://index.docker.io/v1/":{},"token.lan":{"identitytoken":"x"},"bad.lan":{"auth":"!"}}}"#;
        for (image, part) in [
            ("host.lan/x", "docker-credential-pass"),
            ("alpine", "docker-credential-desktop"),
            ("token.lan/x", "identity token"),
            ("bad.lan/x", "base64"),
        ] {
            let why = found(helper, image).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(found(helper, "free.lan/x"), Ok(None));
    }
}
