//! `image list` and `image rm`: which images a base directory has, and taking one away.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::fsync;
use serde::Serialize;
use shim::{Error, Result};

use crate::ids::ImageId;
use crate::image::store::{Form, Record, Store};

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// What it is.
    pub form: Form,
    /// How many layers it has, where it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// How many bytes: of file data in all layers, or of the file that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was imported: seconds since 1970, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<u64>,
    /// The name that its source gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The digest of its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why its record cannot be used, if that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// The images of `base`, by name.
///
/// # Errors
/// Those of reading the directory; that there is none is no failure.
pub fn list(base: &Path) -> Result<Vec<Listed>> {
    let images = base.join("images");
    let failed = |error: &io::Error| {
        Error::io("list images", images.display(), error).hint("needs root; check --base")
    };
    let entries = match fs::read_dir(&images) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let mut listed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(&error))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Somebody has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&error)),
        };
        let is_form = |form: &Form| metadata.is_dir() == (*form == Form::Directory);
        let image = Form::ALL.into_iter().filter(is_form).find_map(|form| {
            let id = ImageId::new(name.strip_suffix(form.suffix())?).ok()?;
            Some((id, form))
        });
        if let Some((id, form)) = image {
            listed.push(look(base, id.as_str(), form, metadata.len())?);
        }
    }
    listed.sort_by(|a, b| (&a.id, a.form).cmp(&(&b.id, b.form)));
    Ok(listed)
}

fn look(base: &Path, id: &str, form: Form, length: u64) -> Result<Listed> {
    let mut listed = Listed {
        id: id.to_owned(),
        form,
        layers: None,
        size: matches!(form, Form::Squashfs | Form::Erofs).then_some(length),
        imported: None,
        reference: None,
        source: None,
        digest: None,
        damaged: None,
    };
    if form != Form::Layers {
        return Ok(listed);
    }
    match Record::read(base, id) {
        Ok(Some(record)) => {
            listed.layers = Some(record.layers.len());
            listed.size = Some(record.layers.iter().map(|layer| layer.size).sum());
            listed.imported = Some(record.imported);
            listed.reference = record.reference;
            listed.source = record.source;
            listed.digest = record.manifest.map(|manifest| manifest.digest);
        }
        Ok(None) => {}
        Err(error) => {
            let text = error.to_string();
            listed.damaged = Some(text.lines().next().unwrap_or_default().to_owned());
        }
    }
    Ok(listed)
}

/// The list as text: a line for each image, in columns.
#[must_use]
pub fn table(images: &[Listed]) -> String {
    let mut rows = vec![["IMAGE", "FORM", "LAYERS", "SIZE", "IMPORTED", "NAME"].map(str::to_owned)];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    rows.extend(images.iter().map(|image| {
        [
            image.id.clone(),
            image
                .damaged
                .as_ref()
                .map_or(image.form.name(), |_| "damaged")
                .to_owned(),
            or_dash(image.layers.map(|layers| layers.to_string())),
            or_dash(image.size.map(size)),
            or_dash(image.imported.map(date)),
            or_dash(image.reference.clone()),
        ]
    }));
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", row[5]);
    }
    text
}

/// Bytes in the unit that leaves three digits.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
}

/// A time as ISO 8601 has it, in UTC.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let length = |year: u64| if leap(year) { 366 } else { 365 };
    while day >= length(year) {
        day -= length(year);
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!(
        "{year}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        day + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Removes image `id` of `base` in all its forms. Layers stay until `image gc`; root filesystems that were made of it stay
/// as they are.
///
/// # Errors
/// There is no such image; those of removing.
pub fn remove_image(base: &Path, id: &str) -> Result<()> {
    let none = || {
        Error::new("remove image")
            .on(id)
            .because(format!(
                "{} has no such image",
                base.join("images").display()
            ))
            .hint("start-container image list")
    };
    if !base.join("images").is_dir() {
        return Err(none());
    }
    let store = Store::open(base)?;
    store.clean(id)?;
    let lock = store.lock()?;
    // The directory counts first, so it goes last: what it hid must not appear.
    let mut found = false;
    for suffix in ["image", "erofs", "squashfs"] {
        found |= store.forget(&format!("{id}.{suffix}"))?;
    }
    // Locked, so that nobody takes it for a dead import's while it is removed.
    let directory = store.lock_old(id);
    let hidden = directory.is_some().then(|| store.hide(id)).transpose()?;
    found |= hidden.is_some();
    for suffix in ["env", "json", "verity"] {
        found |= store.forget(&format!("{id}.{suffix}"))?;
    }
    fsync(&store.images).map_err(|errno| store.failed("remove image", id, errno))?;
    drop(lock);
    hidden.map_or(Ok(()), |name| store.remove_old(&name))?;
    if found { Ok(()) } else { Err(none()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_in_words() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (960_000_000, "915.5 MiB"),
            (5 << 40, "5120.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_table_in_columns() {
        let image = |id: &str, form| Listed {
            id: id.into(),
            form,
            layers: (form == Form::Layers).then_some(5),
            size: Some(2048),
            imported: (form == Form::Layers).then_some(0),
            reference: None,
            source: None,
            digest: None,
            damaged: None,
        };
        assert_eq!(
            table(&[image("a", Form::Layers), image("long-name", Form::Erofs)]),
            "IMAGE      FORM    LAYERS  SIZE     IMPORTED              NAME\n\
             a          layers  5       2.0 KiB  1970-01-01T00:00:00Z  -\n\
             long-name  erofs   -       2.0 KiB  -                     -\n"
        );
    }
}
