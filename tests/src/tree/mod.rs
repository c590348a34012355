//! What a directory tree is made of, and the first differences between two of them.
//!
//! A file's content counts, not where its holes are.

mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// How many differences are told.
const TOLD: usize = 20;

/// Every name of a tree and what it is. The top is called `.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<Vec<u8>, Node>);

/// What one name is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
    /// Of a file, its length; of anything else 0, because a directory's depends on the filesystem.
    size: i64,
    /// A file's digest, a link's target, a device's numbers.
    content: String,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The first of the names that it has in this tree, if these are several.
    first_name: Option<String>,
}

impl Tree {
    /// Reads the tree below `top`.
    ///
    /// # Panics
    /// When something in it cannot be read.
    #[must_use]
    pub fn of(top: &Path) -> Self {
        Self(read::nodes(top))
    }

    /// How many names it has, the top included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no name, which no tree that was read is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without the attributes whose names begin with one of these.
    #[must_use]
    pub fn without_xattrs(mut self, prefixes: &[&str]) -> Self {
        for node in self.0.values_mut() {
            node.xattrs
                .retain(|name, _| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
        }
        self
    }

    /// The same without these names.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        for name in names {
            self.0.remove(name.as_bytes());
        }
        self
    }

    /// Whether a name is there.
    #[must_use]
    pub fn has(&self, name: impl AsRef<[u8]>) -> bool {
        self.0.contains_key(name.as_ref())
    }

    /// What the tree is, a line for each name.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(name, node)| format!("{} {node}", show(name)))
            .collect()
    }

    /// What the tree is but for owners and times, a few words for each name.
    #[must_use]
    pub fn shape(&self) -> Vec<String> {
        let one = |(name, node): (&Vec<u8>, &Node)| {
            let content = match node.kind {
                "file" => node.size.to_string(),
                _ => node.content.clone(),
            };
            let mut words = vec![show(name), node.kind.into(), format!("{:04o}", node.mode)];
            words.push(content);
            words.extend(node.xattrs.keys().cloned());
            words.extend(node.first_name.iter().map(|name| format!("=={name}")));
            words.retain(|word| !word.is_empty());
            words.join(" ")
        };
        self.0.iter().map(one).collect()
    }

    /// The names in which the trees differ, and how, in order.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let mut found = Vec::new();
        for name in names {
            match (self.0.get(name), other.0.get(name)) {
                (Some(one), Some(two)) if one == two => {}
                (one, two) => {
                    let word =
                        |node: Option<&Node>| node.map_or("is not there".into(), Node::to_string);
                    found.push(format!("{}: {} | {}", show(name), word(one), word(two)));
                }
            }
        }
        found
    }

    /// Expects both to be the same.
    ///
    /// # Panics
    /// With the first differences.
    pub fn assert_same(&self, own: &str, other: &Self, others: &str) {
        let all = self.differences(other);
        let first: Vec<&String> = all.iter().take(TOLD).collect();
        assert!(
            all.is_empty(),
            "{own} | {others} differ in {} of {} names: {first:#?}",
            all.len(),
            self.len()
        );
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:04o} {}:{} {}.{:09}",
            self.kind, self.mode, self.owner.0, self.owner.1, self.mtime.0, self.mtime.1
        )?;
        if self.kind == "file" {
            write!(f, " {}", self.size)?;
        }
        if !self.content.is_empty() {
            write!(f, " {}", self.content)?;
        }
        for (name, value) in &self.xattrs {
            write!(f, " {name}={}", value.escape_ascii())?;
        }
        if let Some(first) = &self.first_name {
            write!(f, " =={first}")?;
        }
        Ok(())
    }
}

/// Bytes of a name, all of them legible.
#[must_use]
pub fn show(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    struct Pair(PathBuf);

    impl Drop for Pair {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Pair {
        /// Two equal trees, and what they differ in after `change` has been done to the second.
        fn after(name: &str, change: impl Fn(&Path)) -> Vec<String> {
            let pair =
                Self(std::env::temp_dir().join(format!("tree-{name}-{}", std::process::id())));
            for top in ["one", "two"] {
                let top = pair.0.join(top);
                fs::create_dir_all(top.join("d")).expect("directory");
                fs::write(top.join("d/f"), [&[1; 5000][..], &[0; 9000]].concat()).expect("file");
                fs::write(top.join("g"), "text").expect("file");
                fs::hard_link(top.join("g"), top.join("h")).expect("link");
                symlink("d/f", top.join("l")).expect("link");
            }
            change(&pair.0.join("two"));
            for top in ["one", "two"] {
                for name in ["d/f", "g", "l", "d", "new", "."] {
                    let at = nix::sys::time::TimeSpec::new(1, 2);
                    let path = pair.0.join(top).join(name);
                    let no = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
                    let _ = nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &path, &at, &at, no);
                }
            }
            let tree = |top| Tree::of(&pair.0.join(top));
            tree("one").differences(&tree("two"))
        }
    }

    #[test]
    fn what_is_the_same_is_the_same() {
        assert_eq!(Pair::after("same", |_| {}), [""; 0]);
        let sparse = |two: &Path| {
            fs::write(two.join("d/f"), [1; 5000]).expect("file");
            let file = File::options().write(true).open(two.join("d/f"));
            file.expect("file").set_len(14_000).expect("length");
        };
        assert_eq!(Pair::after("sparse", sparse), [""; 0]);
    }

    #[test]
    fn every_difference_is_found() {
        let found = |name, change: &dyn Fn(&Path)| {
            let found = Pair::after(name, change);
            assert!(!found.is_empty(), "{name}");
            found
        };
        let _ = found("content", &|two| {
            fs::write(two.join("g"), "tex2").expect("file")
        });
        let _ = found("size", &|two| {
            let file = File::options().write(true).open(two.join("d/f"));
            file.expect("file").set_len(14_001).expect("length");
        });
        let _ = found("mode", &|two| {
            let mode = fs::Permissions::from_mode(0o4755);
            fs::set_permissions(two.join("d"), mode).expect("mode");
        });
        let _ = found("target", &|two| {
            fs::remove_file(two.join("l")).expect("remove");
            symlink("d/g", two.join("l")).expect("link");
        });
        let _ = found("attribute", &|two| {
            xattr::set(two.join("d/f"), "user.a", b"1").expect("attribute");
        });
        let links = found("links", &|two| {
            fs::remove_file(two.join("h")).expect("remove");
            fs::copy(two.join("g"), two.join("h")).expect("copy");
        });
        assert!(links.iter().any(|line| line.contains("==g")), "{links:?}");
        let more = found("more", &|two| {
            fs::write(two.join("new"), "").expect("file");
        });
        assert!(more[0].starts_with("new: is not there | file"), "{more:?}");
    }
}
