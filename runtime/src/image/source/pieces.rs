//! Where the pieces of an OCI image are: in a layout that is there, or with somebody who fetches them when they are asked
//! for.

use std::sync::Arc;

use oci_spec::image::{Descriptor, Digest, ImageIndex, MediaType};
use serde::Deserialize;
use shim::{Error, Result};

use super::bundle::Bundle;
use super::document;
use super::oci::{check_size, hex_of, parse};
use super::remote::{Piece, Remote};
use crate::image::archive::read_failed;
use crate::image::stream::Section;

/// The pieces of the images of one source.
pub(in crate::image) enum Pieces<'a> {
    /// The blobs of an image layout.
    Layout(&'a Bundle),
    /// What a registry serves.
    Remote {
        remote: &'a dyn Remote,
        /// Which layers, by their DiffIDs, are not needed from there.
        there: &'a dyn Fn(&[String]) -> Result<Vec<bool>>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

impl Pieces<'_> {
    /// The name of the source, for messages.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Layout(bundle) => bundle.label(),
            Self::Remote { remote, .. } => remote.name(),
        }
    }

    /// What to do where it has several images that fit; their names follow.
    pub(super) fn how_to_choose(&self) -> &'static str {
        match self {
            Self::Layout(_) => "name one with --ref, or take --all",
            Self::Remote { .. } => "name one by its digest, NAME@sha256:DIGEST",
        }
    }

    /// What the source begins with: indexes and manifests.
    pub(super) fn tops(&self) -> Result<Vec<Descriptor>> {
        match self {
            Self::Layout(bundle) => {
                let layout: LayoutFile = parse(&bundle.document("oci-layout")?, "oci-layout")?;
                if !layout.image_layout_version.starts_with("1.") {
                    let why = format!(
                        "its layout has the unknown version {}",
                        layout.image_layout_version
                    );
                    return Err(Error::new("read image archive")
                        .on(bundle.label())
                        .because(why)
                        .hint("version 1 is supported; export it again"));
                }
                let index: ImageIndex = parse(&bundle.document("index.json")?, "index.json")?;
                Ok(index.manifests().clone())
            }
            Self::Remote { remote, .. } => {
                let Piece {
                    digest,
                    media_type,
                    size,
                } = remote.top()?;
                let digest: Digest = digest.parse().map_err(|_| {
                    Error::new("find image")
                        .on(remote.name())
                        .because(format!("its digest is {digest}"))
                        .hint("a digest is sha256: and 64 hexadecimal digits")
                })?;
                let media_type = MediaType::from(media_type.as_str());
                Ok(vec![Descriptor::new(media_type, size, digest)])
            }
        }
    }

    /// The content of an index, a manifest or a configuration. Only its size was looked at.
    pub(super) fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let data = match self {
            Self::Layout(bundle) => bundle.document(&blob_name(descriptor)?)?,
            Self::Remote { remote, .. } => {
                let refused =
                    |why| document::refused(Error::new("fetch").on(descriptor.digest()), why);
                if let Some(why) = document::too_large(descriptor.size()) {
                    return Err(refused(why.into()));
                }
                let data = remote.document(&piece(descriptor)?)?;
                match document::too_many_words(&data) {
                    Some(why) => return Err(refused(why)),
                    None => data,
                }
            }
        };
        check_size(descriptor, data.len() as u64)?;
        Ok(data)
    }

    /// The layers, each as it is stored; nothing for those that are not needed. Only their sizes were looked at.
    pub(super) fn layers(
        &self,
        layers: &[Descriptor],
        diff_ids: &[String],
    ) -> Result<Vec<Option<Section>>> {
        let sections: Vec<Option<Section>> = match self {
            Self::Layout(bundle) => layers
                .iter()
                .map(|layer| bundle.get(&blob_name(layer)?).map(Some))
                .collect::<Result<_>>()?,
            // Who unpacks refuses it; nothing is fetched for that.
            Self::Remote { .. } if layers.len() != diff_ids.len() => vec![None; layers.len()],
            Self::Remote { remote, there } => {
                let there = there(diff_ids)?;
                let missing = layers.iter().zip(&there).filter(|(_, there)| !**there);
                let missing: Vec<Piece> = missing
                    .map(|(layer, _)| piece(layer))
                    .collect::<Result<_>>()?;
                let mut files = remote.layers(&missing)?.into_iter();
                let next = |there: &bool| match there {
                    true => Ok(None),
                    false => files
                        .next()
                        .map(|file| Section::whole(Arc::new(file)))
                        .transpose(),
                };
                there
                    .iter()
                    .map(next)
                    .collect::<std::io::Result<_>>()
                    .map_err(|error| read_failed(remote.name(), &error))?
            }
        };
        for (layer, section) in layers.iter().zip(&sections) {
            if let Some(section) = section {
                check_size(layer, section.length())?;
            }
        }
        Ok(sections)
    }
}

/// Where a blob is in a layout. The digest becomes part of a path, so it is taken only in its one canonical form.
fn blob_name(descriptor: &Descriptor) -> Result<String> {
    Ok(format!("blobs/sha256/{}", hex_of(descriptor)?))
}

fn piece(descriptor: &Descriptor) -> Result<Piece> {
    Ok(Piece {
        digest: format!("sha256:{}", hex_of(descriptor)?),
        media_type: descriptor.media_type().to_string(),
        size: descriptor.size(),
    })
}
