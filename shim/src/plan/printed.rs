//! How bytes that need not be UTF-8, or that are nobody's business, are printed by `--dry-run`.

use std::ffi::CString;

use serde::{Serialize as _, Serializer};

use crate::sys::mount::Propagation;

pub(super) fn text<S: Serializer>(
    bytes: &Option<Vec<u8>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    bytes
        .as_ref()
        .map(|bytes| String::from_utf8_lossy(bytes))
        .serialize(serializer)
}

pub(super) fn lossy<S: Serializer>(text: &CString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text.to_string_lossy())
}

pub(super) fn optional_lossy<S: Serializer>(
    text: &Option<CString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    text.as_ref()
        .map(|text| text.to_string_lossy())
        .serialize(serializer)
}

pub(super) fn lossy_list<S: Serializer>(
    list: &[CString],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|text| text.to_string_lossy()))
}

pub(super) fn names_only<S: Serializer>(
    list: &[CString],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|text| {
        let name = text
            .as_bytes()
            .split(|&byte| byte == b'=')
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }))
}

pub(super) fn propagation<S: Serializer>(
    given: &Option<(Propagation, bool)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    given
        .map(|(kind, all)| format!("{kind:?}{}", if all { ", recursive" } else { "" }))
        .serialize(serializer)
}
