//! `image pull` on bad days: it is killed, the network breaks off or is silent, and what comes is not what was asked for.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use tests::front::{Act, Asked, Front};
use tests::registry::{Layer, Pushed, Registry, digest, noise};
use tests::{Snapshot, World, until};

use crate::pull::{parts, pull, text, two_layers, with_registry};

/// More than is in anybody's buffers.
const SIZE: usize = 4 << 20;

/// A world, a registry, and an image in it with one large layer, `team/big:1`.
fn with_large_layer() -> Option<(Registry, World, Pushed)> {
    let (registry, world) = with_registry()?;
    let image = registry.push("team/big", "1", &[Layer::noise("data", SIZE, 3)]);
    Some((registry, world, image))
}

/// Whether this asks for the layer.
fn is_layer(image: &Pushed) -> impl Fn(&Asked) -> bool + Send + Sync + 'static {
    let layer = digest(&image.layers[0]);
    move |asked| asked.path.ends_with(&layer)
}

fn expect_data(world: &World) {
    let data = fs::read(world.base.join("images/big/data")).expect("data");
    assert!(data == noise(SIZE, 3));
    assert_eq!(parts(world), Vec::<PathBuf>::new());
}

/// A front that does this to some requests and passes the others on.
fn front(
    registry: &Registry,
    affected: impl Fn(&Asked) -> bool + Send + Sync + 'static,
    act: impl Fn() -> Act + Send + Sync + 'static,
) -> Front {
    Front::start(registry.address, move |asked| match affected(asked) {
        true => act(),
        false => Act::Pass,
    })
}

/// Expects a pull of `reference` to be refused with these words.
fn refused(world: &World, front: &Front, (reference, option): (&str, Option<&str>), words: &str) {
    let run = pull(world).opt(front.name(reference));
    let done = run.opts(option).done();
    done.expect_refused(&[125]);
    let text = done.err_text();
    assert!(text.contains(words), "{reference}: {text}");
}

/// Leaves 2 MiB of the layer behind: kills a pull when it has as much.
fn leave_a_part(registry: &Registry, world: &World, image: &Pushed) -> u64 {
    let front = front(registry, is_layer(image), || Act::Stall(2 << 20));
    let client = pull(world).opt(front.name("team/big:1")).spawn();
    let length = until("2 MiB of the layer", || {
        let length = fs::metadata(parts(world).first()?).ok()?.len();
        // The rest of the 2 MiB is the head of the answer.
        (length > (2 << 20) - 4096).then_some(length)
    });
    client.signal(Signal::SIGKILL);
    assert_eq!(client.finish().signal(), Some(9));
    assert_eq!(parts(world).len(), 1);
    length
}

#[test]
fn a_killed_pull_is_gone_on_with() {
    let Some((registry, world, image)) = with_large_layer() else {
        return;
    };
    let length = leave_a_part(&registry, &world, &image);
    let front = Front::start(registry.address, |_| Act::Pass);
    let _ = pull(&world).opt(front.name("team/big:1")).text();
    expect_data(&world);
    let rest = image.layers[0].len() as u64 - length;
    // Heads and the configuration come on top.
    assert!(
        (rest..rest + 8192).contains(&front.passed()),
        "{} {rest}",
        front.passed()
    );
}

#[test]
fn a_registry_that_knows_no_ranges_sends_all_again() {
    let Some((registry, world, image)) = with_large_layer() else {
        return;
    };
    let _ = leave_a_part(&registry, &world, &image);
    let front = Front::start(registry.address, |_| Act::Without("range"));
    let _ = pull(&world).opt(front.name("team/big:1")).text();
    expect_data(&world);
    assert!(front.passed() > image.layers[0].len() as u64);
}

#[test]
fn what_is_left_of_something_else_is_not_used() {
    let Some((registry, world, image)) = with_large_layer() else {
        return;
    };
    let _ = leave_a_part(&registry, &world, &image);
    let part = parts(&world).remove(0);
    for wrong in [noise(1 << 20, 9), noise(image.layers[0].len() + 1, 9)] {
        fs::write(&part, wrong).expect("part");
        let _ = pull(&world)
            .opt(registry.name("team/big:1"))
            .opt("--replace")
            .text();
        expect_data(&world);
    }
}

#[test]
fn a_connection_that_breaks_off_is_made_again() {
    let Some((registry, world, image)) = with_large_layer() else {
        return;
    };
    let (is_layer, asked) = (is_layer(&image), AtomicU64::new(0));
    let front = Front::start(registry.address, move |request| {
        match is_layer(request).then(|| asked.fetch_add(1, Ordering::SeqCst)) {
            Some(0..3) => Act::Break(1 << 20),
            _ => Act::Pass,
        }
    });
    let _ = pull(&world).opt(front.name("team/big:1")).text();
    expect_data(&world);
    let size = image.layers[0].len() as u64;
    assert!(
        (size..size + 8192).contains(&front.passed()),
        "{}",
        front.passed()
    );
}

#[test]
fn a_registry_that_is_busy_is_asked_again_and_not_for_ever() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let asked = AtomicU64::new(0);
    let say = move || Act::Say(busy.to_owned());
    let first = move |request: &Asked| {
        request.path.contains("/manifests/") && asked.fetch_add(1, Ordering::SeqCst) < 2
    };
    let at_first = front(&registry, first, say);
    let _ = pull(&world).opt(at_first.name("team/web:1")).text();
    assert_eq!(text(&world, "web", "etc/os"), "upper");
    // Its answer to the question who may ask is no refusal; the manifest is asked for four times.
    let always = front(&registry, |_| true, say);
    let what = ("team/web:1", Some("--id=x"));
    refused(&world, &always, what, "cannot serve it at the moment");
}

#[test]
fn a_changed_blob_is_refused_and_nothing_of_it_is_left() {
    let Some((registry, world, image)) = with_large_layer() else {
        return;
    };
    let before = Snapshot::of(&world);
    let front = front(&registry, is_layer(&image), || Act::Spoil(2 << 20));
    let layer = digest(&image.layers[0]);
    let words = format!("it should have the digest {layer} and has sha256:");
    refused(&world, &front, ("team/big:1", None), &words);
    before.assert_same(&world);
}

#[test]
fn changed_documents_are_refused() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let image = registry.push("team/web", "1", &two_layers());
    let before = Snapshot::of(&world);
    let by_digest = format!("team/web@{}", image.digest);
    for (path, reference) in [
        ("/manifests/", by_digest.as_str()),
        ("/blobs/", by_digest.as_str()),
        ("/manifests/", "team/web:1"),
    ] {
        // The heads of these answers have less than 600 bytes.
        let here = move |asked: &Asked| asked.path.contains(path);
        let front = front(&registry, here, || Act::Spoil(600));
        let words = "it should have the digest sha256:";
        refused(&world, &front, (reference, None), words);
    }
    before.assert_same(&world);
}

#[test]
fn silence_has_an_end_wherever_it_begins() {
    let Some((registry, world, image)) = with_large_layer() else {
        return;
    };
    for (what, place) in [
        ("/v2/", 0),
        ("/manifests/", 0),
        ("/blobs/", 0),
        ("/blobs/", 1 << 20),
    ] {
        let is_layer = is_layer(&image);
        let here = move |asked: &Asked| match what {
            "/v2/" => asked.path == what,
            "/blobs/" => is_layer(asked),
            _ => asked.path.contains(what),
        };
        let front = front(&registry, here, move || Act::Stall(place));
        let words = format!("{} was silent for 1 s", front.address);
        let impatient = ("team/big:1", Some("--timeout=1"));
        refused(&world, &front, impatient, &words);
    }
    // What has come is not for nothing.
    assert_eq!(parts(&world).len(), 1);
    let _ = pull(&world).opt(registry.name("team/big:1")).text();
    expect_data(&world);
}

#[test]
fn a_trickle_is_silence() {
    let Some((registry, world, image)) = with_large_layer() else {
        return;
    };
    let front = front(&registry, is_layer(&image), || Act::Trickle);
    let impatient = ("team/big:1", Some("--timeout=1"));
    refused(&world, &front, impatient, "was silent for 1 s");
}

#[test]
fn an_answer_without_end_does_not_fill_the_memory() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let before = Snapshot::of(&world);
    for what in ["/manifests/", "/blobs/"] {
        let here = move |asked: &Asked| asked.path.contains(what);
        let front = front(&registry, here, || Act::Endless(b"[[[[[[[["));
        refused(&world, &front, ("team/web:1", None), "is too large");
    }
    before.assert_same(&world);
}
