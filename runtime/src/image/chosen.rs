//! An image that was chosen: its configuration and its layers, and how a layer's content is verified while it is applied.

use shim::{Error, Result};

use super::archive::Archive;
use super::config::Config;
use super::decompress::{Compression, decoder};
use super::layer::{Meaning, Unpacker};
use super::limits::Budget;
use super::member::{corrupt, read_failed};
use super::platform::Platform;
use super::stream::{Hashed, Section, buffered, start_of};

/// A layer as it is stored.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) section: Section,
    /// `sha256:` and hex of what is stored, where the archive says it.
    pub(super) digest: Option<String>,
    pub(super) label: String,
    /// What it shares with the other layers of its image.
    pub(super) budget: Budget,
}

/// An image whose layers are all there.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: Config,
    pub(super) layers: Vec<Layer>,
    /// The manifest's digest, where there is one.
    pub(super) digest: Option<String>,
}

impl Image {
    /// Applies the layers, lowest first.
    pub(super) fn unpack(&self, unpacker: &mut Unpacker) -> Result<()> {
        let diff_ids = &self.config.rootfs.diff_ids;
        if diff_ids.len() != self.layers.len() {
            let why = format!(
                "the image has {} layers, its configuration names {}",
                self.layers.len(),
                diff_ids.len()
            );
            return Err(Error::new("unpack image")
                .because(why)
                .hint("the image is damaged; fetch or export it again"));
        }
        for (number, (layer, diff_id)) in self.layers.iter().zip(diff_ids).enumerate() {
            let meaning = if number == 0 {
                Meaning::FirstLayer
            } else {
                Meaning::Layer
            };
            layer.apply(unpacker, meaning, diff_id)?;
        }
        Ok(())
    }
}

impl Layer {
    fn apply(&self, unpacker: &mut Unpacker, meaning: Meaning, diff_id: &str) -> Result<()> {
        let unreadable = |error: std::io::Error| read_failed(&self.label, &error);
        let (start, length) = start_of::<16>(self.section.clone()).map_err(unreadable)?;
        let compression =
            Compression::of(&start[..length]).map_err(|why| corrupt(&self.label, why))?;
        let (stored, tally) = Hashed::new(self.section.clone());
        let found = if compression == Compression::None {
            let mut archive = Archive::new(buffered(stored), &self.label).within(&self.budget);
            unpacker.apply(&mut archive, meaning)?;
            archive.drain()?;
            tally.finish().0
        } else {
            let plain =
                decoder(buffered(stored), compression, &self.budget.limits).map_err(unreadable)?;
            let (plain, plain_tally) = Hashed::new(plain);
            let mut archive = Archive::new(buffered(plain), &self.label).within(&self.budget);
            unpacker.apply(&mut archive, meaning)?;
            archive.drain()?;
            plain_tally.finish().0
        };
        if let Some(digest) = &self.digest {
            expect("verify layer", &self.label, digest, &tally.finish().0)?;
        }
        expect("verify content of layer", &self.label, diff_id, &found)
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
