//! Help texts, made from the table. Prints nothing.

use super::table::{Flag, VERBS, Verb, groups};

/// Widest column of option names; a longer one has its description on the next line.
const COLUMN: usize = 30;

/// `start-container --help`
pub(crate) fn all() -> String {
    let mut text = short();
    text.push_str(
        "\nOptions:\n  -h, --help     this text; after a verb, its own\n  -V, --version  name and version\n\n\
         Exit status: the command's own; 125 if start-container failed, 126 if the command cannot be\n\
         executed, 127 if it was not found. A command that dies by a signal makes start-container die by it.\n\n\
         Settings: /etc/start-container/config.toml, overridden by options.\n",
    );
    text
}

/// `start-container` alone: what there is.
pub(super) fn short() -> String {
    let mut text = String::from("Usage: start-container VERB [OPTION...] [OPERAND...]\n\nVerbs:\n");
    verbs(&mut text, VERBS.iter());
    text.push_str("\nAs the low-level runtime of an engine (OCI):\n");
    for (name, about) in crate::oci::verbs() {
        line(&mut text, &format!("  {name}"), about);
    }
    text.push_str("\n'start-container VERB --help' tells about one of them.\n");
    text
}

/// `start-container subcontainer --help`
pub(super) fn group(group: &str) -> String {
    let mut text =
        format!("Usage: start-container {group} VERB [OPTION...] [OPERAND...]\n\nVerbs:\n");
    // A group can have another one in it: "subcontainer mount".
    let inside = |verb: &&Verb| format!("{} ", verb.group).starts_with(&format!("{group} "));
    verbs(&mut text, VERBS.iter().filter(inside));
    text
}

/// `start-container subcontainer exec --help`
pub(crate) fn verb<V: Copy, I: Copy>(verb: &Verb<V, I>) -> String {
    let mut text = format!("Usage: start-container {}", verb.path());
    if verb.all_flags().next().is_some() {
        text.push_str(" [OPTION...]");
    }
    if !verb.operands.is_empty() {
        text.push(' ');
        text.push_str(verb.operands);
    }
    let mut about = verb.about.chars();
    text.push_str("\n\n");
    text.extend(about.next().map(|first| first.to_ascii_uppercase()));
    text.push_str(about.as_str());
    text.push_str(".\n");
    text.push_str(verb.notes);
    text.push_str("\n\nOptions:\n");
    for flag in verb.all_flags() {
        line(&mut text, &names(flag), &description(flag));
    }
    line(&mut text, "  -h, --help", "this text");
    if verb.operands.contains("COMMAND") {
        text.push_str(
            "\nWhat follows COMMAND is passed on as it is; a first -- before it is dropped.\n",
        );
    }
    text
}

/// The words that can follow `start-container`: groups, and verbs without one.
pub(super) fn first_words() -> impl Iterator<Item = &'static str> {
    let alone = VERBS.iter().filter(|verb| verb.group.is_empty());
    groups()
        .into_iter()
        .chain(alone.map(|verb| verb.name))
        .chain(["help"])
}

fn verbs<'a>(text: &mut String, verbs: impl Iterator<Item = &'a Verb>) {
    for verb in verbs {
        line(text, &format!("  {}", verb.path()), verb.about);
    }
}

fn names<I: Copy>(flag: &Flag<I>) -> String {
    let letter = match flag.short {
        Some(letter) => format!("-{letter}, "),
        None => "    ".to_owned(),
    };
    let value = flag.value.map(|value| match flag.implied {
        Some(_) => format!("[={value}]"),
        None => format!("={value}"),
    });
    format!("  {letter}{}{}", flag.long, value.unwrap_or_default())
}

fn description<I: Copy>(flag: &Flag<I>) -> String {
    let mut text = flag.help.to_owned();
    if let Some(default) = flag.default {
        text.push_str(&format!(" [{default}]"));
    }
    if flag.repeat {
        text.push_str("; repeatable");
    }
    text
}

fn line(text: &mut String, left: &str, right: &str) {
    text.push_str(left);
    if left.len() + 2 > COLUMN {
        text.push('\n');
        text.push_str(&" ".repeat(COLUMN));
    } else {
        text.push_str(&" ".repeat(COLUMN - left.len()));
    }
    text.push_str(right);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_and_every_verb_is_in_its_help() {
        for one in VERBS {
            let text = verb(one);
            for flag in one.all_flags() {
                assert!(text.contains(&names(flag)), "{} in {text}", flag.long);
                assert!(text.contains(&description(flag)), "{} in {text}", flag.long);
            }
            for text in [&text, &all(), &group(one.group)] {
                assert!(text.ends_with('\n') && !text.contains("\n\n\n"), "{text}");
                assert!(text.lines().all(|line| line.len() <= 110), "{text}");
            }
            assert!(all().contains(&format!("  {} ", one.path())));
            assert!(group(one.group).contains(one.about));
        }
    }

    #[test]
    fn one_whole_text() {
        let one = super::super::table::verb("subcontainer", "destroy-fs").unwrap();
        assert_eq!(
            verb(one),
            "Usage: start-container subcontainer destroy-fs [OPTION...] GUID\n\n\
             Remove a root filesystem that create-fs made.\n\
             Also clears what a killed launch left there. Nothing to remove is a success.\n\n\
             Options:\n      \
               --base=DIR              images, and root filesystems made from them [/media/startos]\n      \
               --state=DIR             state until the next boot [/run/start-container]\n      \
               --data=DIR              layers, and what containers write [/var/lib/start-container]\n  \
           -h, --help                  this text\n"
        );
    }
}
