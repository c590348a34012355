//! Words of a command line become an [`Invocation`]. Looks at no file and no environment; refuses what it can already
//! see to be wrong.

mod containers;
mod images;
mod options;

use std::ffi::{OsStr, OsString};

use shim::Error;

use self::options::Options;
use super::args::Invocation;
use super::help;
use super::scan::{Scan, Stop};
use super::table::{self, VERBS, Verb, VerbId};
use crate::suggest::{nearest, shown};

/// Reads a command line, without the name of the program.
///
/// # Errors
/// Exit status 125, with the option or operand that is wrong and a hint; never with the value of a variable.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> shim::Result<Invocation> {
    let mut words = words.into_iter();
    let Some(first) = words.next() else {
        return Ok(Invocation::Help(help::short()));
    };
    let first = first.to_str().ok_or_else(|| unknown_verb("", &first))?;
    match first {
        "--help" | "-h" => Ok(Invocation::Help(help::all())),
        "--version" | "-V" => Ok(Invocation::Version),
        "help" => topic(words),
        name if !name.is_empty() && table::groups().contains(&name) => in_group(name, words),
        name => match table::verb("", name) {
            Some(verb) => finish(verb, read(verb, words)),
            None => Err(unknown_verb("", OsStr::new(name))),
        },
    }
}

fn in_group(group: &str, mut words: impl Iterator<Item = OsString>) -> shim::Result<Invocation> {
    let Some(word) = words.next() else {
        return Err(Error::new("read command line")
            .on(group)
            .because("a verb is missing")
            .hint(format!("give one of: {}", names_in(group).join(", "))));
    };
    match word.to_str() {
        Some("--help" | "-h" | "help") => Ok(Invocation::Help(help::group(group))),
        Some(name) if let Some(verb) = table::verb(group, name) => finish(verb, read(verb, words)),
        Some(name) if let Some(inner) = table::inner_group(group, name) => in_group(inner, words),
        _ => Err(unknown_verb(group, &word)),
    }
}

/// `help [VERB]`
fn topic(words: impl Iterator<Item = OsString>) -> shim::Result<Invocation> {
    let words: Vec<_> = words.collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let text = match words.as_slice() {
        [] => help::all(),
        [group] if table::groups().contains(&group.as_ref()) => help::group(group),
        [name] if let Some(verb) = table::verb("", name) => help::verb(verb),
        [group, name] if let Some(verb) = table::verb(group, name) => help::verb(verb),
        [group, name] if let Some(inner) = table::inner_group(group, name) => help::group(inner),
        [group, inner, name]
            if let Some(inner) = table::inner_group(group, inner)
                && let Some(verb) = table::verb(inner, name) =>
        {
            help::verb(verb)
        }
        [group, name, ..] if table::groups().contains(&group.as_ref()) => {
            return Err(unknown_verb(group, OsStr::new(name.as_ref())));
        }
        [name, ..] => return Err(unknown_verb("", OsStr::new(name.as_ref()))),
    };
    Ok(Invocation::Help(text))
}

fn finish(verb: &Verb, read: Result<Invocation, Stop>) -> shim::Result<Invocation> {
    match read {
        Ok(invocation) => Ok(invocation),
        Err(Stop::Help) => Ok(Invocation::Help(help::verb(verb))),
        Err(Stop::Error(error)) => Err(error),
    }
}

fn read(verb: &'static Verb, words: impl Iterator<Item = OsString>) -> Result<Invocation, Stop> {
    let scan = Scan::new(verb, words);
    let options = Options::default();
    match verb.id {
        VerbId::Launch => containers::launch(options, scan),
        VerbId::Run => containers::run(options, scan),
        VerbId::Exec => containers::exec(options, scan),
        VerbId::Inspect => containers::inspect(options, scan),
        VerbId::CreateFs => containers::create_fs(options, scan),
        VerbId::DestroyFs => containers::destroy_fs(options, scan),
        VerbId::MountAdd => containers::mount_add(options, scan),
        VerbId::MountRemove => containers::mount_remove(options, scan),
        VerbId::MountList => containers::mount_list(options, scan),
        VerbId::ImageImport => images::import(options, scan),
        VerbId::ImageList => images::list(options, scan),
        VerbId::ImageRemove => images::remove(options, scan),
        VerbId::ImageVerify => images::verify(options, scan),
        VerbId::ImageGc => images::gc(options, scan),
        VerbId::BuildErofs => images::build_erofs(options, scan),
        VerbId::ImagePull => images::pull(options, scan),
        VerbId::ImageExport => images::export(options, scan),
        VerbId::ImageInspect => images::inspect(options, scan),
        VerbId::ImageTag => images::tag(options, scan),
        VerbId::BindMount => containers::bind_mount(options, scan),
        VerbId::PipeWrap => containers::pipe_wrap(options, scan),
    }
}

fn names_in(group: &str) -> Vec<&'static str> {
    let next = |verb: &Verb| match verb.group.split_once(' ') {
        _ if verb.group == group => Some(verb.name),
        Some((outer, inner)) if outer == group => Some(inner),
        _ => None,
    };
    let mut names: Vec<_> = VERBS.iter().filter_map(next).collect();
    names.dedup();
    names
}

fn unknown_verb(group: &str, word: &OsStr) -> Error {
    let text = shown(word);
    let (what, known) = match group {
        "" if text.starts_with('-') => (
            "no such option before the verb",
            vec!["--help", "--version"],
        ),
        "" => ("no such verb", help::first_words().collect()),
        _ => ("no such verb", names_in(group)),
    };
    // "exec" without "subcontainer" is the likeliest slip of all.
    let elsewhere = VERBS
        .iter()
        .find(|verb| group != verb.group && verb.name == text);
    let hint = match (elsewhere, nearest(&text, known.iter().copied())) {
        (Some(verb), _) => format!("did you mean {}?", verb.path()),
        (None, Some(near)) => format!("did you mean {}?", format!("{group} {near}").trim_start()),
        (None, None) => format!("give one of: {}", known.join(", ")),
    };
    Error::new("read command line")
        .on(format!("{group} {text}").trim_start())
        .because(what)
        .hint(hint)
}

#[cfg(test)]
mod tests;
