//! Each way to name layers to the kernel, on whatever kernel this is: the newest would hide the others.

use std::fs;
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::fstat;
use shim::sys::mount::set_attributes_at;

use super::super::idmapped::LayerIds;
use super::super::layers::Layer;
use super::super::lower::MAX_LAYERS;
use super::super::probe;
use super::*;
use crate::image::layers::{LayerKey, Layers};

/// Runs in a mount namespace of its own, with the directories `layers` and `data`.
fn alone(name: &str, test: impl FnOnce(&RootDir, PathBuf) + Send + 'static) {
    let temp = std::env::temp_dir().join(format!("rootfs-{name}-{}", std::process::id()));
    for directory in ["layers", "data"] {
        fs::create_dir_all(temp.join(directory)).unwrap();
    }
    let place = temp.clone();
    let outcome = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("needs root");
        let private = Change {
            propagation: Some(Propagation::Private),
            recursive: true,
            ..Change::default()
        };
        set_attributes_at(c"/", private).unwrap();
        let data = RootDir::open(&place.join("data")).unwrap();
        test(&data, place);
    })
    .join();
    fs::remove_dir_all(&temp).unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn directory(path: &Path) -> Layer {
    Layer {
        dir: RootDir::open(path).unwrap(),
        detached: false,
    }
}

/// `number` layers: each has a file of its own, and one of the same name that says which layer it is of.
fn layers(temp: &Path, number: usize) -> Lower {
    let layers = Layers::open(temp).unwrap().unwrap();
    let keys = (0..number).map(|layer| {
        let key = LayerKey::read(&format!("{layer:064x}")).unwrap();
        let tree = layers.path().join(key.tree());
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("file"), layer.to_string()).unwrap();
        fs::write(tree.join(format!("own-{layer}")), "").unwrap();
        key
    });
    Lower::of_keys(&layers, keys.collect()).unwrap()
}

fn stack<'s>(lower: &'s Lower, writable: &'s Writable) -> Stack<'s> {
    Stack {
        lower,
        writable,
        read_only: false,
    }
}

fn on_disk(temp: &Path, lower: &Lower) -> Writable {
    Writable::make(directory(&temp.join("data")), lower).unwrap()
}

fn content(mount: OwnedFd) -> (Vec<u8>, usize) {
    let root = RootDir::from(mount);
    let file = root.open_plain("file", OFlag::O_RDONLY, Mode::empty());
    let mut buffer = [0; 16];
    let length = nix::unistd::read(file.unwrap(), &mut buffer).unwrap();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut listing = nix::dir::Dir::from_fd(root.open_plain(".", flags, Mode::empty()).unwrap());
    let own = |name: &std::ffi::CStr| name.to_bytes().starts_with(b"own-");
    let number = listing
        .as_mut()
        .unwrap()
        .iter()
        .filter(|entry| own(entry.as_ref().unwrap().file_name()))
        .count();
    (buffer[..length].to_vec(), number)
}

fn table() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

/// The way of kernels before 6.15.
#[test]
fn staged_layers_are_attached_for_the_length_of_the_call_only() {
    alone("staged", |data, temp| {
        let lower = layers(&temp, 1);
        let before = table();
        let writable = Writable::memory(&lower, None).unwrap();
        let mount = assemble_staged(stack(&lower, &writable), data).expect("staged");
        drop(writable);
        assert_eq!(content(mount), (b"0".to_vec(), 1));
        assert_eq!(table(), before);
        assert_eq!(fs::read_dir(temp.join("data")).unwrap().count(), 0);
    });
}

/// The layers of a root filesystem with ids of its own are in one detached mount, the writable one is another.
#[test]
fn staged_layers_can_be_idmapped() {
    alone("staged-idmap", |data, temp| {
        let maps = crate::idrange::private(500_000);
        let ids = LayerIds::new(&maps).unwrap();
        let lower = layers(&temp, 30).mapped(&ids).unwrap();
        let layer = ids.writable(directory(&temp.join("data"))).unwrap();
        let writable = Writable::make(layer, &lower).unwrap();
        let stack = stack(&lower, &writable);
        let root = RootDir::from(assemble_staged(stack, data).expect("staged"));
        let file = root.open_plain("file", OFlag::O_PATH, Mode::empty());
        assert_eq!(fstat(file.unwrap()).unwrap().st_uid, 500_000);
        probe::write(&root, "probe", &maps).unwrap();
        assert_eq!(content(root.into()), (b"0".to_vec(), 30));
    });
}

/// The newest way, and that of kernels before 6.13.
#[test]
fn layers_can_be_named_one_by_one() {
    for (naming, name) in [
        (Naming::Descriptor, "by-descriptor"),
        (Naming::Path, "by-path"),
    ] {
        alone(name, move |_, temp| {
            let lower = layers(&temp, MAX_LAYERS);
            let writable = on_disk(&temp, &lower);
            let mount = one_by_one(stack(&lower, &writable), naming).expect("mounted");
            assert_eq!(content(mount), (b"0".to_vec(), MAX_LAYERS));
        });
    }
}

/// The way of kernels before 6.7, for as many layers as the kernel takes.
#[test]
fn layers_can_be_named_on_one_page() {
    alone("on-one-page", |data, temp| {
        let lower = layers(&temp, MAX_LAYERS);
        let writable = on_disk(&temp, &lower);
        let (before, here) = (table(), std::env::current_dir().unwrap());
        let mount = on_one_page(stack(&lower, &writable), data).expect("mounted");
        assert_eq!(content(mount), (b"0".to_vec(), MAX_LAYERS));
        assert_eq!(table(), before);
        assert_eq!(std::env::current_dir().unwrap(), here);
        assert!(!temp.join("data/stage-root").exists());
    });
}

/// What a launch without root shows while it plans.
#[test]
fn read_only_stacks_have_what_was_written_on_top() {
    alone("read-only", |data, temp| {
        let lower = layers(&temp, 20);
        let writable = on_disk(&temp, &lower);
        fs::write(temp.join("data/upper/file"), "written").unwrap();
        let stack = Stack {
            read_only: true,
            ..stack(&lower, &writable)
        };
        for mount in [
            one_by_one(stack, Naming::Descriptor).expect("by descriptor"),
            one_by_one(stack, Naming::Path).expect("by path"),
            on_one_page(stack, data).expect("on one page"),
        ] {
            let root = RootDir::from(mount);
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
            let refused = root.open_plain("new", flags, Mode::S_IRUSR).unwrap_err();
            assert_eq!(refused, Errno::EROFS);
            assert_eq!(content(root.into()), (b"written".to_vec(), 20));
        }
    });
}

#[test]
fn one_layer_more_than_the_kernel_takes_is_refused_by_name() {
    alone("too-many", |_, temp| {
        let most = layers(&temp, MAX_LAYERS);
        assert_eq!(most.check_number("img", 0), Ok(()));
        let error = most.check_number("img", 1).unwrap_err().to_string();
        assert!(
            error.contains("500 layers, and the kernel takes 499"),
            "{error}"
        );
        let lower = layers(&temp, MAX_LAYERS + 1);
        assert!(lower.check_number("img", 0).is_err());
        let writable = on_disk(&temp, &lower);
        let refusal = one_by_one(stack(&lower, &writable), Naming::Descriptor).unwrap_err();
        assert_eq!(refusal.errno, Errno::EINVAL);
    });
}
