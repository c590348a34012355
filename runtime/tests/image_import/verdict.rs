//! A source that must be refused: what is said, that nothing is left, and that nothing outside changes.

use crate::place::{Place, list};

/// Imports `data`, which must be refused with one error that has `why` in it, and a hint.
pub(crate) fn refuse(name: &str, data: &[u8], why: &str) {
    let place = Place::new();
    let before = place.outside();
    let error = match place.import(data) {
        Ok(_) => panic!("{name}: imported {:#?}", list(&place.images())),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        place.outside(),
        before,
        "{name}: something outside was changed"
    );
    assert!(error.contains(why), "{name}: {error}");
    assert!(error.contains("\n  hint: "), "{name}: {error}");
    assert!(error.lines().count() == 2, "{name}: {error}");
    assert!(!place.base().exists(), "{name}: left {:?}", place.names());
}
