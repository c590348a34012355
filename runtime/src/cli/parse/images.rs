//! The verbs on images: what their words mean.

use std::path::PathBuf;

use shim::Error;

use super::super::args::{
    BuildErofsArgs, ImageArgs, ImageExportArgs, ImageGcArgs, ImageImportArgs, ImageInspectArgs,
    ImageListArgs, ImagePullArgs, ImageTagArgs, Invocation,
};
use super::super::scan::{Scan, Stop};
use super::super::{image_values, values};
use super::options::Options;
use crate::ids::ImageId;

pub(super) fn import(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let source = options.operand(&mut scan, "SOURCE")?.into();
    options.until_end(&mut scan)?;
    Ok(Invocation::ImageImport(ImageImportArgs {
        source,
        id: options.id_or_all()?,
        replace: options.replace,
        flat: options.flat,
        reference: options.reference,
        squash: options.squash,
        limits: options.limits,
        progress: options.progress,
        verity: options.verity.map(image_values::exact_verity).transpose()?,
        dirs: options.dirs,
    }))
}

pub(super) fn pull(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let reference = options.operand(&mut scan, "REFERENCE")?;
    options.until_end(&mut scan)?;
    Ok(Invocation::ImagePull(ImagePullArgs {
        reference: values::text("REFERENCE", reference)?,
        id: options.id,
        replace: options.replace,
        flat: options.flat,
        platform: options.platform,
        squash: options.squash,
        limits: options.limits,
        registry: options.registry,
        progress: options.progress,
        json: options.json,
        dirs: options.dirs,
    }))
}

pub(super) fn export(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let id = ImageId::new(options.operand(&mut scan, "ID")?)?;
    let file = options.operand(&mut scan, "FILE")?;
    options.until_end(&mut scan)?;
    let file = (file != "-").then(|| PathBuf::from(file));
    if options.json && file.is_none() {
        return Err(Error::new("read option")
            .on("--json")
            .because("the archive goes to stdout")
            .hint("name a FILE, or leave --json out")
            .into());
    }
    Ok(Invocation::ImageExport(ImageExportArgs {
        id,
        file,
        format: options.archive_format.unwrap_or_default(),
        replace: options.replace,
        json: options.json,
        dirs: options.dirs,
    }))
}

pub(super) fn build_erofs(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let image = options.operand(&mut scan, "IMAGE")?;
    let file = options.operand(&mut scan, "FILE")?.into();
    options.until_end(&mut scan)?;
    Ok(Invocation::BuildErofs(BuildErofsArgs {
        source: image_values::erofs_source(image)?,
        file,
        replace: options.replace,
        json: options.json,
        dirs: options.dirs,
    }))
}

pub(super) fn inspect(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let id = ImageId::new(options.operand(&mut scan, "ID")?)?;
    options.until_end(&mut scan)?;
    Ok(Invocation::ImageInspect(ImageInspectArgs {
        id,
        json: options.json,
        dirs: options.dirs,
    }))
}

pub(super) fn tag(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let id = ImageId::new(options.operand(&mut scan, "ID")?)?;
    let new = ImageId::new(options.operand(&mut scan, "NEW_ID")?)?;
    options.until_end(&mut scan)?;
    Ok(Invocation::ImageTag(ImageTagArgs {
        id,
        new,
        replace: options.replace,
        json: options.json,
        dirs: options.dirs,
    }))
}

pub(super) fn list(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    options.until_end(&mut scan)?;
    Ok(Invocation::ImageList(ImageListArgs {
        json: options.json,
        dirs: options.dirs,
    }))
}

pub(super) fn remove(options: Options, scan: Scan) -> Result<Invocation, Stop> {
    one(options, scan).map(Invocation::ImageRemove)
}

pub(super) fn verify(options: Options, scan: Scan) -> Result<Invocation, Stop> {
    one(options, scan).map(Invocation::ImageVerify)
}

/// A verb that takes one image and no more.
fn one(mut options: Options, mut scan: Scan) -> Result<ImageArgs, Stop> {
    let id = ImageId::new(options.operand(&mut scan, "IMAGE_ID")?)?;
    options.until_end(&mut scan)?;
    Ok(ImageArgs {
        id,
        json: options.json,
        dirs: options.dirs,
    })
}

pub(super) fn gc(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    options.until_end(&mut scan)?;
    Ok(Invocation::ImageGc(ImageGcArgs {
        forget: options.forget,
        json: options.json,
        dirs: options.dirs,
    }))
}
