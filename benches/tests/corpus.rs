//! The inputs that the fuzzer keeps are imported, and a few hundred new ones: what must always hold, holds.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get is its failure"
)]

use std::path::PathBuf;

use benches::fuzz::{Place, archive, documents, random::Random, seeds};
use nix::mount::{MsFlags, mount};

/// Runs in a thread with a mount namespace of its own; nothing, which is said, without root.
fn apart(name: &str, run: impl FnOnce(&mut Place) + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var("REQUIRE").as_deref() != Ok("all"),
            "{name} needs root"
        );
        #[expect(clippy::print_stdout, reason = "a test that was not run says so")]
        {
            println!("skipped {name}: needs root");
        }
        return;
    }
    let top = Top(std::env::temp_dir().join(format!("fuzz-{name}-{}", std::process::id())));
    std::fs::create_dir(&top.0).unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            tests::own_mounts().unwrap();
            let kind = Some("tmpfs");
            mount(kind, &top.0, kind, MsFlags::empty(), Some("size=256m")).unwrap();
            run(&mut Place::new(&top.0).unwrap());
        });
        inside.join().unwrap();
    });
}

struct Top(PathBuf);

impl Drop for Top {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn every_archive_that_is_kept_is_imported_or_refused() {
    apart("kept", |place| {
        let kept = seeds("archive").unwrap();
        assert!(kept.len() >= 10);
        for input in &kept {
            place.import(input).unwrap();
        }
        assert!(place.imported >= 8, "only {} were good", place.imported);
        place.look(true).unwrap();
    });
}

#[test]
fn new_archives_are_imported_or_refused() {
    apart("archives", |place| {
        let kept = seeds("archive").unwrap();
        let outside = place.outside().display().to_string();
        let mut random = Random::new(1);
        for _ in 0..400 {
            let input = archive::make(&mut random, &kept, &outside);
            place.import(&input).unwrap();
        }
        assert!(place.imported > 20, "only {} were good", place.imported);
        place.look(true).unwrap();
    });
}

#[test]
fn new_documents_are_read_or_refused() {
    apart("documents", |place| {
        let data = place.data().display().to_string();
        let mut random = Random::new(1);
        for _ in 0..400 {
            let input = documents::make(&mut random);
            place.import(&input).unwrap();
            let record = documents::record(&mut random, &data);
            place.read_record(&record).unwrap();
        }
        assert!(place.imported > 20, "only {} were good", place.imported);
        place.look(true).unwrap();
    });
}
