//! Where inputs are imported, and what must hold afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use runtime::ids::ImageId;
use runtime::image::record::Record;
use runtime::image::{ImportRequest, import};
use tests::tree::Tree;

/// The most that one input may take, on a busy machine.
pub const TIME_MAX: Duration = Duration::from_secs(20);
/// The most that the process may ever have in memory, in KiB. Imports promise 64 MiB, the fuzzer itself has the rest.
pub const MEMORY_MAX: u64 = 256 << 10;
/// How many inputs share one look at the whole of what must not change.
const SHARED: u64 = 50;

/// How many inputs share one merging of the layers.
const MERGED: u64 = 8;
/// What may be beside the tree that nothing may touch.
const NAMES: [&str; 8] = [
    "outside",
    "input",
    "base",
    "data",
    "flat",
    "layered",
    "merged",
    "merged.empty",
];

/// The store, and the tree outside it that nothing may touch.
#[derive(Debug)]
pub struct Place {
    top: PathBuf,
    outside: Tree,
    inputs: u64,
    /// How many inputs were imported.
    pub imported: u64,
}

impl Place {
    /// Makes it in the directory `top`, which has to be empty.
    ///
    /// # Errors
    /// Those of making files.
    pub fn new(top: &Path) -> std::io::Result<Self> {
        let outside = top.join("outside");
        fs::create_dir_all(outside.join("sub"))?;
        fs::write(outside.join("victim"), "untouched")?;
        fs::write(outside.join("sub/inner"), "untouched")?;
        std::os::unix::fs::symlink("victim", outside.join("link"))?;
        Ok(Self {
            top: top.to_owned(),
            outside: Tree::of(&outside),
            inputs: 0,
            imported: 0,
        })
    }

    /// The tree that nothing may touch.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.top.join("outside")
    }

    /// The file that each input is written to before it is imported; after a crash it is the finding.
    #[must_use]
    pub fn input(&self) -> PathBuf {
        self.top.join("input")
    }

    /// The data directory that records name.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.top.join("data")
    }

    /// Imports an archive, as one directory and as layers, and checks what must hold.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn import(&mut self, archive: &[u8]) -> Result<(), String> {
        fs::write(self.input(), archive).map_err(|error| error.to_string())?;
        let flat = self.import_as(true)?;
        let layered = self.import_as(false)?;
        match (&flat, &layered) {
            (Ok(root), Ok(record)) => {
                self.imported += 1;
                if self.inputs.is_multiple_of(MERGED) {
                    self.same_tree(root, record)?;
                }
            }
            (Err(_), Err(_)) => {}
            (flat, layered) => {
                return Err(format!("as a directory {flat:?}, as layers {layered:?}"));
            }
        }
        for name in ["flat", "layered", "data"] {
            clear(&self.top.join(name))?;
        }
        self.look(false)
    }

    /// One of the two imports: what it made, or the error.
    fn import_as(&self, flat: bool) -> Result<Result<PathBuf, String>, String> {
        let base = self.top.join(if flat { "flat" } else { "layered" });
        let id = ImageId::new("x").map_err(|error| error.to_string())?;
        let request = ImportRequest {
            durable: false,
            flat,
            ..ImportRequest::new(self.input(), id, &base, self.data())
        };
        let begun = Instant::now();
        let done = import(&request);
        self.took(begun)?;
        match done {
            Ok(imported) => Ok(Ok(imported.root)),
            Err(error) => {
                let error = error.to_string();
                is_one_error(&error)?;
                if base.exists() || self.data().exists() {
                    return Err(format!("a failed import left something: {error}"));
                }
                Ok(Err(error))
            }
        }
    }

    /// Lets the kernel merge the layers, and compares with the directory.
    fn same_tree(&self, flat: &Path, record: &Path) -> Result<(), String> {
        // An image of a filesystem is a file in both.
        if !flat.is_dir() || record.extension().is_none_or(|kind| kind != "image") {
            return Ok(());
        }
        let text = |error: &dyn std::fmt::Display| format!("merge the layers: {error}");
        let record = Record::read(&self.top.join("layered"), "x").map_err(|error| text(&error))?;
        let record = record.ok_or("the record is gone")?;
        let layers = self.data().join("layers");
        let tops = record.stack.iter().rev().map(|key| layers.join(key.tree()));
        let merged = self.top.join("merged");
        tests::merge(tops, &merged, "").map_err(|error| text(&error))?;
        let tree = Tree::of(&merged);
        umount2(&merged, MntFlags::MNT_DETACH).map_err(|error| text(&error))?;
        // The root that overlay shows is the uppermost layer's. Times do not count: a directory that no member is has that
        // of its making. A device 0:0 is what overlay has for a name that is not there, and so it is in a container's.
        let shape = |tree: Tree| {
            let mut lines = tree.without(&["."]).shape();
            lines.retain(|line| !(line.contains(" char ") && line.contains(" 0:0")));
            lines
        };
        let (flat, layered) = (shape(Tree::of(flat)), shape(tree));
        if flat == layered {
            return Ok(());
        }
        let only = |one: &[String], other: &[String]| -> Vec<String> {
            let lines = one.iter().filter(|line| !other.contains(line));
            lines.cloned().collect()
        };
        let (flat, layered) = (only(&flat, &layered), only(&layered, &flat));
        Err(format!(
            "only in the directory {flat:#?}, only in layers {layered:#?}"
        ))
    }

    /// Reads a record of an image and checks what must hold.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn read_record(&mut self, text: &[u8]) -> Result<(), String> {
        let base = self.top.join("base");
        let images = base.join("images");
        let made = fs::write(self.input(), text)
            .and_then(|()| fs::create_dir_all(&images))
            .and_then(|()| fs::write(images.join("x.image"), text));
        made.map_err(|error| error.to_string())?;
        let begun = Instant::now();
        match Record::read(&base, "x") {
            Ok(Some(_)) => self.imported += 1,
            Ok(None) => return Err("a record that is there was not read".into()),
            Err(error) => is_one_error(&error.to_string())?,
        }
        self.took(begun)?;
        clear(&base)?;
        self.look(false)
    }

    fn took(&self, begun: Instant) -> Result<(), String> {
        let took = begun.elapsed();
        if took > TIME_MAX {
            return Err(format!("it took {took:?}"));
        }
        Ok(())
    }

    /// Looks at what must not have changed: each time whether a name is new, and once in a while, or when `all`, at
    /// everything.
    ///
    /// # Errors
    /// What has changed.
    pub fn look(&mut self, all: bool) -> Result<(), String> {
        self.inputs += 1;
        let entries = fs::read_dir(&self.top).map_err(|error| error.to_string())?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !NAMES.iter().any(|known| name == *known) {
                return Err(format!("{} was made outside the store", name.display()));
            }
        }
        if !all && !self.inputs.is_multiple_of(SHARED) {
            return Ok(());
        }
        let changed = self.outside.differences(&Tree::of(&self.outside()));
        if !changed.is_empty() {
            return Err(format!("changed outside the store: {changed:?}"));
        }
        let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak: Option<u64> = peak.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        match peak {
            Some(peak) if peak > MEMORY_MAX => Err(format!("{peak} KiB of memory were used")),
            _ => Ok(()),
        }
    }
}

/// One line, and one that begins with the word hint.
fn is_one_error(text: &str) -> Result<(), String> {
    match text.lines().collect::<Vec<_>>().as_slice() {
        [_, hint] if hint.starts_with("  hint: ") => Ok(()),
        _ => Err(format!("an error is no line and a hint: {text}")),
    }
}

fn clear(base: &Path) -> Result<(), String> {
    match fs::remove_dir_all(base) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("what was imported cannot be removed: {error}")),
    }
}
