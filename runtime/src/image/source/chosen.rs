//! An image that was chosen: its configuration and its layers, and how a layer's content is verified while it is applied.

use shim::{Error, Result};

use super::config::Config;
use super::recognise::Reading;
use crate::image::archive::{Archive, corrupt, read_failed};
use crate::image::limits::Budget;
use crate::image::platform::Platform;
use crate::image::progress::{Part, Work};
use crate::image::store::Document;
use crate::image::stream::{Compression, Section, pipe, start_of};
use crate::image::unpack::{Meaning, Unpacker};

/// A layer as it is stored.
#[derive(Debug)]
pub(in crate::image) struct Layer {
    /// Nothing where the layer was there when the image was chosen.
    pub(super) section: Option<Section>,
    /// `sha256:` and hex of what is stored, where the archive says it.
    pub(super) digest: Option<String>,
    pub(super) label: String,
    pub(super) reading: Reading,
}

/// An image whose layers are all there.
#[derive(Debug)]
pub(in crate::image) struct Image {
    pub(in crate::image) config: Config,
    pub(in crate::image) layers: Vec<Layer>,
    /// What the archive says about it.
    pub(in crate::image) documents: Documents,
    /// The name that the archive gives it.
    pub(in crate::image) reference: Option<String>,
    /// The manifest's digest, where there is one.
    pub(in crate::image) digest: Option<String>,
}

/// The documents that describe an image, as they are.
#[derive(Debug, Default)]
pub(in crate::image) struct Documents {
    pub(in crate::image) manifest: Option<Document>,
    pub(in crate::image) config: Option<Document>,
}

impl Image {
    /// Fails unless there is a layer for each DiffID.
    pub(in crate::image) fn check_layers(&self) -> Result<()> {
        let diff_ids = &self.config.rootfs.diff_ids;
        if diff_ids.len() == self.layers.len() {
            return Ok(());
        }
        let why = format!(
            "the image has {} layers, its configuration names {}",
            self.layers.len(),
            diff_ids.len()
        );
        Err(Error::new("unpack image")
            .because(why)
            .hint("the image is damaged; fetch or export it again"))
    }

    /// What its layers take, all together.
    pub(in crate::image) fn budget(&self) -> Option<&Budget> {
        self.layers.first().map(|layer| &layer.reading.budget)
    }

    /// Applies the layers to a whole root filesystem, lowest first.
    pub(in crate::image) fn unpack(&self, unpacker: &mut Unpacker<'_>) -> Result<()> {
        self.check_layers()?;
        let diff_ids = &self.config.rootfs.diff_ids;
        for (number, (layer, diff_id)) in self.layers.iter().zip(diff_ids).enumerate() {
            layer.apply(unpacker, Meaning::of_layer(number), diff_id)?;
        }
        Ok(())
    }
}

impl Layer {
    /// Its content as it is stored.
    fn stored(&self) -> Result<Section> {
        self.section.clone().ok_or_else(|| {
            Error::new("unpack layer")
                .on(&self.label)
                .because("it was in the store a moment ago, and was not fetched therefore")
                .hint("somebody has removed it; pull the image again")
        })
    }

    /// How it is compressed, and how much memory that is going to take as far as its beginning says.
    pub(in crate::image) fn compression(&self) -> Result<(Compression, Option<u64>)> {
        let start = start_of::<64>(self.stored()?);
        let (start, length) = start.map_err(|error| read_failed(&self.label, &error))?;
        let start = &start[..length];
        let compression = Compression::of(start).map_err(|why| corrupt(&self.label, why))?;
        Ok((compression, compression.expected(start)))
    }

    /// Begins to tell how far it is.
    pub(in crate::image) fn part(&self) -> Part {
        let length = self.section.as_ref().map(Section::length);
        self.reading
            .progress
            .part(Work::Unpack, &self.label, length)
    }

    /// Has everybody stop who is reading a layer of this image.
    pub(in crate::image) fn give_up(&self) {
        self.reading.budget.give_up();
    }

    /// Applies the layer, and fails unless it has the digests that it should have.
    pub(in crate::image) fn apply(
        &self,
        unpacker: &mut Unpacker<'_>,
        meaning: Meaning,
        diff_id: &str,
    ) -> Result<()> {
        let (compression, _) = self.compression()?;
        let budget = &self.reading.budget;
        let part = self.part();
        let stream = part.reading(self.stored()?);
        let ((), found) = pipe::through(stream, compression, budget, |plain| {
            let mut archive = Archive::new(plain, &self.label).within(&self.reading);
            unpacker.apply(&mut archive, meaning)?;
            archive.drain()
        })?;
        if let Some(digest) = &self.digest {
            expect("verify layer", &self.label, digest, &found.stored)?;
        }
        expect(
            "verify content of layer",
            &self.label,
            diff_id,
            &found.plain,
        )?;
        part.done();
        Ok(())
    }
}

/// Fails unless `digest` is `sha256:` and `found`.
pub(super) fn expect(op: &'static str, label: &str, digest: &str, found: &str) -> Result<()> {
    if digest.strip_prefix("sha256:") == Some(found) {
        return Ok(());
    }
    Err(Error::new(op)
        .on(label)
        .because(format!(
            "it should have the digest {digest} and has sha256:{found}"
        ))
        .hint("the image is damaged or was changed; fetch or export it again"))
}

/// Fails if the configuration says that the image is for another machine.
pub(super) fn check_platform(config: &Config, platform: &Platform, label: &str) -> Result<()> {
    let (Some(os), Some(architecture)) = (&config.os, &config.architecture) else {
        return Ok(());
    };
    if os.is_empty()
        || architecture.is_empty()
        || platform.accepts(os, architecture, config.variant.as_deref())
    {
        return Ok(());
    }
    Err(Error::new("import image")
        .on(label)
        .because(format!(
            "it is for {os}/{architecture}, and {platform} is wanted"
        ))
        .hint("choose an image for this machine, or ask for the other platform explicitly"))
}
