//! All images of a source that has several: which there are, and the ids that they get.

use std::collections::BTreeMap;

use shim::{Error, Result};

use super::way::{Chosen, finish, reading};
use crate::ids::ImageId;
use crate::image::source::Source;
use crate::image::store::Store;
use crate::image::{ImportRequest, Imported, source};

/// How much of a digest is enough for an id.
const DIGITS: usize = 12;

/// Imports every image of the source that is for the platform asked for, each under the id that follows from its name:
/// `docker.io/library/nginx:1.27` becomes `nginx-1.27`, `ghcr.io/a/b:1` becomes `ghcr.io-a-b-1`, and one without a name
/// `sha256-` and twelve digits. The id and the reference of the request are not used.
///
/// The first that fails ends it; those before it are there.
///
/// # Errors
/// Those of [`super::import`]; two images of one id, which is found out before anything is imported.
pub fn import_all(request: &ImportRequest) -> Result<Vec<(ImageId, Imported)>> {
    let store = Store::open(&request.base)?;
    let imported = all(&store, request);
    if imported.is_err() {
        store.retract();
    }
    imported
}

fn all(store: &Store, request: &ImportRequest) -> Result<Vec<(ImageId, Imported)>> {
    let label = request.label();
    let spool = || store.spool(request.id.as_str());
    let source = source::open(&request.source, &label, &reading(request)?, spool)?;
    let Source::Images(images) = source else {
        return Err(Error::new("import all images of")
            .on(label)
            .because("it is one root filesystem, which has no name")
            .hint("give it a name with --id"));
    };
    let names = images.names(&request.platform)?;
    let ids = ids(&label, names)?;
    for id in ids.keys() {
        store.check_free(id, request.replace)?;
    }
    let mut imported = Vec::new();
    for (id, name) in ids {
        let id = ImageId::new(&id)?;
        let request = ImportRequest {
            id: id.clone(),
            reference: Some(name),
            ..request.clone()
        };
        let reference = request.reference.as_deref();
        let (format, image) = images.select(reference, &request.platform, &reading(&request)?)?;
        let image = Chosen::Image(format, Box::new(image));
        imported.push((id, finish(store, &request, image)?));
    }
    Ok(imported)
}

/// The names by the ids that they become.
fn ids(label: &str, names: Vec<String>) -> Result<BTreeMap<String, String>> {
    let mut ids = BTreeMap::new();
    for name in names {
        let id = id_of(&name);
        ImageId::new(&id)?;
        match ids.get(&id) {
            Some(other) if *other != name => {
                return Err(Error::new("import all images of")
                    .on(label)
                    .because(format!("{other} and {name} would both have the id {id}"))
                    .hint("import them one by one, with --ref and --id"));
            }
            _ => ids.insert(id, name),
        };
    }
    if ids.is_empty() {
        return Err(Error::new("import all images of")
            .on(label)
            .because("it has none for this machine")
            .hint("list what it has with a wrong --ref, or make it again"));
    }
    Ok(ids)
}

fn id_of(name: &str) -> String {
    if let Some(hex) = name.strip_prefix("sha256:") {
        return format!("sha256-{}", hex.get(..DIGITS).unwrap_or(hex));
    }
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let plain = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '+' | '.' => letter,
        _ => '-',
    };
    short.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_names() {
        for (name, id) in [
            ("nginx:1.27", "nginx-1.27"),
            ("docker.io/library/nginx:1.27", "nginx-1.27"),
            ("docker.io/a/b:v1", "a-b-v1"),
            ("ghcr.io/a/b:1", "ghcr.io-a-b-1"),
            ("localhost:5000/x_y:1+2", "localhost-5000-x_y-1+2"),
            ("latest", "latest"),
        ] {
            assert_eq!(id_of(name), id);
        }
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(id_of(&digest), "sha256-0123456789ab");
    }

    #[test]
    fn two_names_of_one_id_are_refused() {
        let names = |names: &[&str]| ids("x", names.iter().map(|name| (*name).into()).collect());
        assert_eq!(names(&["a:1", "a:1", "b:1"]).unwrap().len(), 2);
        let error = names(&["a/b:1", "a-b:1"]).unwrap_err().to_string();
        assert!(
            error.contains("a/b:1 and a-b:1 would both have the id a-b-1"),
            "{error}"
        );
        assert!(names(&[]).is_err());
    }
}
