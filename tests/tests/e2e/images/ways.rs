//! The ways in which an image can be imported, and what a container sees of it afterwards.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tests::pack::{Item, dir, file};
use tests::tree::Tree;
use tests::{Done, Run, World, bare_host, tool};

/// How an image is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One plain directory.
    Flat,
    /// Layers that are shared, below an overlay.
    Layered,
}

impl Way {
    pub(crate) const ALL: [Self; 2] = [Self::Flat, Self::Layered];

    /// Imports `source` under the id [`Way::id`], whatever had it.
    pub(crate) fn import(self, world: &World, source: &Path) -> Done {
        let import = self.importing(world, self.id());
        import.opt("--replace").cmd([source]).done()
    }

    /// The command line of an import, without the source.
    pub(crate) fn importing(self, world: &World, id: &str) -> Run {
        let verb = world.bare(["image", "import"]).verb(world.places());
        verb.opts(self.flag()).opt(format!("--id={id}"))
    }

    /// What makes an import this way, with the id of its images.
    pub(crate) fn options(self) -> Vec<String> {
        let id = format!("--id={}", self.id());
        self.flag()
            .map(str::to_owned)
            .into_iter()
            .chain([id])
            .collect()
    }

    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Flat => Some("--flat"),
            Self::Layered => None,
        }
    }

    /// The id of images that were imported in this way.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Layered => "layered",
        }
    }

    /// What was unpacked, with nothing added: the directory, or the layers below an overlay of the test's own.
    pub(crate) fn tree(self, world: &World) -> Tree {
        let images = world.base.join("images");
        match self {
            Self::Flat => Tree::of(&images.join(self.id())),
            Self::Layered => {
                let merged = merge(world, &images.join("layered.image"));
                let tree = Tree::of(&merged);
                umount2(&merged, MntFlags::MNT_DETACH).expect("unmount");
                tree
            }
        }
    }

    /// The same as a container sees it: the root filesystem that create-fs makes, but for what [`seen`] leaves out.
    pub(crate) fn created(self, world: &World) -> Tree {
        let root = world.create_of(self.id());
        let tree = seen(Tree::of(&root.path));
        world.destroy(&root);
        tree
    }
}

/// The root, and what create-fs writes in a root filesystem or adds a name to.
pub(crate) const WRITTEN: [&str; 4] = [".", "etc", "etc/hostname", "etc/hosts"];

/// A tree without what create-fs changes: the names that it writes.
pub(crate) fn seen(tree: Tree) -> Tree {
    tree.without(&WRITTEN[1..])
}

/// Mounts the layers that a record names, without anything above them, and gives the mount point.
fn merge(world: &World, record: &Path) -> PathBuf {
    let text = std::fs::read(record).expect("record");
    let record: serde_json::Value = serde_json::from_slice(&text).expect("record");
    let stack = record["stack"].as_array().expect("layers");
    let store = world.data.join("layers");
    let layers = stack.iter().rev().map(|key| {
        let key = key.as_str().expect("key");
        store.join(key).join("fs")
    });
    let rootless = !std::fs::metadata(&store).is_ok_and(|store| store.uid() == 0);
    let options = if rootless { ",userxattr" } else { "" };
    let merged = top(world).join("merged");
    tests::merge(layers, &merged, options).expect("mount overlay");
    merged
}

/// A world whose images lie in memory: an import waits until everything is on disk, and on a disk that others use too that
/// can take minutes.
pub(crate) fn world_in_memory() -> Option<World> {
    let mut world = bare_host()?;
    let top = world.dir.join("memory");
    std::fs::create_dir(&top).expect("directory");
    let (none, kind) = (None::<&str>, Some("tmpfs"));
    let size = Some("size=12g,mode=755");
    mount(kind, &top, kind, MsFlags::empty(), size).expect("mount tmpfs");
    mount(none, &top, none, MsFlags::MS_PRIVATE, none).expect("make private");
    world.base = top.join("base");
    world.state = top.join("state");
    world.data = top.join("data");
    Some(world)
}

/// Where such a world has room for more.
pub(crate) fn top(world: &World) -> &Path {
    world.base.parent().expect("parent")
}

/// The names that create-fs would add; with them in an image nothing is added to it.
pub(crate) fn skeleton() -> Vec<Item> {
    vec![
        dir("./").mode(0o755).mtime(1),
        dir("dev").mtime(1),
        dir("etc").mtime(1),
        file("etc/hostname", ""),
        file("etc/hosts", ""),
        dir("proc").mtime(1),
        dir("run").mtime(1),
        dir("sys").mtime(1),
        dir("tmp").mode(0o1777).mtime(1),
    ]
}

/// What umoci makes of the image `latest` in the layout `layout`.
pub(crate) fn umoci(world: &World, layout: &Path) -> PathBuf {
    let root = top(world).join("umoci");
    let _ = std::fs::remove_dir_all(&root);
    let image = format!("{}:latest", layout.display());
    let output = Command::new(tool("umoci"))
        .args(["raw", "unpack", "--image", &image])
        .arg(&root)
        .output()
        .expect("umoci");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "umoci: {said}");
    root
}
