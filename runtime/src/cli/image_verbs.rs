//! Carries out the verbs on images that are there, and says what came of it: text for people, JSON with `--json`.

use std::fmt::Write as _;

use shim::{Error, Result};

use super::Outcome;
use super::args::{ImageArgs, ImageGcArgs, ImageListArgs};
use crate::config::Dirs;
use crate::json;
use crate::{image, rootless};

/// `image list`
pub(super) fn list(args: &ImageListArgs, dirs: &Dirs) -> Result<Outcome> {
    let images = image::list(&dirs.base)?;
    Ok(Outcome::text(if args.json {
        json::line(&images)?
    } else {
        image::table(&images)
    }))
}

/// `image rm`
pub(super) fn remove(args: &ImageArgs, dirs: &Dirs) -> Result<Outcome> {
    rootless::enter_for_files()?;
    let id = args.id.as_str();
    image::remove_image(&dirs.base, id)?;
    if args.json {
        return Ok(Outcome::text(json::line(
            &serde_json::json!({ "removed": id }),
        )?));
    }
    Ok(Outcome::SILENT)
}

/// `image gc`
pub(super) fn collect(args: &ImageGcArgs, dirs: &Dirs) -> Result<Outcome> {
    rootless::enter_for_files()?;
    let forget: Result<Vec<_>> = args
        .forget
        .iter()
        .map(|path| {
            std::path::absolute(path).map_err(|error| {
                Error::io("read option", "--forget-base", &error).hint("give an absolute path")
            })
        })
        .collect();
    let collected = image::collect(&dirs.base, &dirs.data, &forget?)?;
    if args.json {
        return Ok(Outcome::text(json::line(&collected)?));
    }
    Ok(Outcome::text(format!(
        "removed {} layers, {}; {} are needed\n",
        collected.removed.len(),
        image::size(collected.bytes),
        collected.kept
    )))
}

/// `image verify`
pub(super) fn verify(args: &ImageArgs, dirs: &Dirs) -> Result<Outcome> {
    rootless::enter_for_files()?;
    let id = args.id.as_str();
    let verified = image::verify(&dirs.base, id)?;
    let text = if args.json {
        json::line(&verified)?
    } else {
        lines(&verified)
    };
    if verified.problems.is_empty() {
        return Ok(Outcome::text(text));
    }
    super::print(text.as_bytes())?;
    Err(Error::new("verify image")
        .on(id)
        .because(format!("{} differences", verified.problems.len()))
        .hint("remove the image, then image gc, and import it again"))
}

fn lines(verified: &image::Verified) -> String {
    let mut text = String::new();
    for problem in &verified.problems {
        let layer = problem.layer.as_ref().map_or("record", |key| key.as_str());
        let path = problem.path.as_deref().unwrap_or("");
        let _ = writeln!(text, "{layer}{path}: {}", problem.what);
    }
    if verified.problems.is_empty() {
        let _ = writeln!(
            text,
            "{} layers, {} names: as they were",
            verified.layers, verified.names
        );
    }
    text
}
