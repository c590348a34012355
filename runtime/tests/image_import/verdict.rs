//! What must come of an import, and that nothing outside changes whatever comes of it.

use crate::pack::{Item, Tar};
use crate::place::{Place, list};

/// What must happen.
pub(crate) enum Outcome {
    /// One error that has this in it, a hint, and no trace.
    Refused(&'static str),
    /// A root filesystem that has these lines among others (beginnings of them, without owners).
    Inside(&'static [&'static str]),
}
use Outcome::{Inside, Refused};

pub(crate) fn check(name: &str, place: &Place, data: &[u8], outcome: &Outcome) {
    let before = place.outside();
    let result = place.import(data);
    assert_eq!(
        place.outside(),
        before,
        "{name}: something outside was changed"
    );
    match outcome {
        Refused(why) => {
            let error = match result {
                Ok(_) => panic!("{name}: imported {:#?}", list(&place.images())),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(why), "{name}: {error}");
            assert!(error.contains("\n  hint: "), "{name}: {error}");
            assert!(error.lines().count() == 2, "{name}: {error}");
            assert!(!place.base().exists(), "{name}: left {:?}", place.names());
        }
        Inside(lines) => {
            let found = list(
                &result
                    .unwrap_or_else(|error| panic!("{name}: {error}"))
                    .root,
            );
            for line in *lines {
                assert!(
                    found.iter().any(|one| one.starts_with(line)),
                    "{name}: no {line} in {found:#?}"
                );
            }
        }
    }
}

/// Runs a table of root filesystem tars. `@` in a link's target stands for the sentinel tree.
pub(crate) fn rootfs(table: Vec<(&str, Vec<Item>, Outcome)>) {
    for (name, items, outcome) in table {
        let place = Place::new();
        let sentinel = place.sentinel();
        let items = items.into_iter().map(|item| item.with_links_to(&sentinel));
        check(name, &place, &Tar::of(items), &outcome);
    }
}

/// An archive that must be refused, with an error that has `why` in it.
pub(crate) fn refuse(name: &str, data: &[u8], why: &'static str) {
    check(name, &Place::new(), data, &Refused(why));
}
