//! The one table of the command line: verbs, operands, options, their words and defaults.
//!
//! Parsing, help, suggestions, man page and completions are all read from here; nothing about an option is said twice.

pub(crate) mod flags;
mod pull_flags;
mod verbs;

pub use verbs::VERBS;

/// What an option sets. The parser's `match` on it is exhaustive: an option in the table without a meaning does not
/// compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described by its row in the table")]
pub enum FlagId {
    Base,
    State,
    Data,
    EnvFile,
    Env,
    User,
    Workdir,
    ForceTty,
    ForceStderrTty,
    PtySize,
    Image,
    Entrypoint,
    Init,
    Userns,
    Profile,
    Cap,
    CapAdd,
    CapDrop,
    Seccomp,
    ReadOnly,
    NoNewPrivileges,
    DryRun,
    Format,
    ArchiveFormat,
    Source,
    Target,
    Recursive,
    Readonly,
    File,
    Idmap,
    Id,
    Replace,
    Flat,
    ForgetBase,
    Ref,
    Platform,
    Authfile,
    CaCert,
    PlainHttp,
    Proxy,
    Timeout,
    Progress,
    All,
    Squash,
    MaxSize,
    MaxFiles,
    MaxRatio,
    MaxWindow,
    Verity,
    Mount,
    Share,
    ResolvConf,
    Json,
}

/// An option of a verb. `I` is what says which one it is: the OCI verbs have another list.
#[derive(Debug)]
pub struct Flag<I: Copy + 'static = FlagId> {
    /// What it sets.
    pub id: I,
    /// Its name with the two dashes: `--env-file`.
    pub long: &'static str,
    /// Its letter, where it has one.
    pub short: Option<char>,
    /// What its value is called; none for a switch.
    pub value: Option<&'static str>,
    /// The value that it has when it is given alone; another one must follow a `=` then.
    pub implied: Option<&'static str>,
    /// One line, no full stop.
    pub help: &'static str,
    /// What holds without it, where that is a value.
    pub default: Option<&'static str>,
    /// Given more than once, each counts; of other options the last one counts.
    pub repeat: bool,
}

impl<I: Copy> Flag<I> {
    /// Its name without dashes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.long.strip_prefix("--").unwrap_or(self.long)
    }
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described by its row in the table")]
pub enum VerbId {
    Launch,
    Run,
    Exec,
    Inspect,
    CreateFs,
    DestroyFs,
    MountAdd,
    MountRemove,
    MountList,
    ImageImport,
    ImagePull,
    ImageInspect,
    ImageTag,
    ImageExport,
    BuildErofs,
    ImageList,
    ImageRemove,
    ImageGc,
    ImageVerify,
    BindMount,
    PipeWrap,
}

/// A verb, likewise.
#[derive(Debug)]
pub struct Verb<V: Copy + 'static = VerbId, I: Copy + 'static = FlagId> {
    /// What is run.
    pub id: V,
    /// `image`, `subcontainer`, `subcontainer mount`, or empty for a verb that stands alone.
    pub group: &'static str,
    /// Its own word.
    pub name: &'static str,
    /// What follows the options.
    pub operands: &'static str,
    /// One line, no full stop.
    pub about: &'static str,
    /// A paragraph on what is not obvious, lines of at most 100 characters.
    pub notes: &'static str,
    /// Its options, in groups that verbs share.
    pub flags: &'static [&'static [Flag<I>]],
}

impl<V: Copy, I: Copy> Verb<V, I> {
    /// How it is called: `subcontainer exec`.
    #[must_use]
    pub fn path(&self) -> String {
        [self.group, self.name].join(" ").trim_start().to_owned()
    }

    /// Its options, in the order of the help text.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag<I>> + Clone {
        self.flags.iter().copied().flatten()
    }
}

/// The groups of verbs that are in no other group, each once.
#[must_use]
pub fn groups() -> Vec<&'static str> {
    let mut groups: Vec<_> = VERBS.iter().map(|verb| verb.group).collect();
    groups.retain(|group| !group.is_empty() && !group.contains(' '));
    groups.dedup();
    groups
}

/// The group within a group by its word: `mount` in `subcontainer`.
#[must_use]
pub fn inner_group(group: &str, name: &str) -> Option<&'static str> {
    let path = |inner: &str| inner.split_once(' ') == Some((group, name));
    VERBS
        .iter()
        .map(|verb| verb.group)
        .find(|inner| path(inner))
}

/// The verb of a group (or of none) by its word.
#[must_use]
pub fn verb(group: &str, name: &str) -> Option<&'static Verb> {
    VERBS
        .iter()
        .find(|verb| verb.group == group && verb.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_letters_are_unique_and_well_formed() {
        let mut paths = HashSet::new();
        for verb in VERBS {
            assert!(paths.insert(verb.path()));
            let mut names = HashSet::from(["--help"]);
            let mut letters = HashSet::from(['h']);
            for flag in verb.all_flags() {
                assert!(names.insert(flag.long), "{} {}", verb.path(), flag.long);
                assert!(flag.short.is_none_or(|letter| letters.insert(letter)));
                assert!(flag.long.starts_with("--") && !flag.help.ends_with('.'));
                assert!(flag.value.is_some() || flag.default.is_none());
            }
            assert!(
                verb.notes.lines().all(|line| line.len() <= 100),
                "{}",
                verb.path()
            );
        }
        assert_eq!(groups(), ["subcontainer", "image"]);
    }

    #[test]
    fn every_verb_on_a_store_takes_the_directories() {
        for verb in VERBS.iter().filter(|verb| verb.id != VerbId::PipeWrap) {
            for name in ["--base", "--state", "--data"] {
                assert!(
                    verb.all_flags().any(|flag| flag.long == name),
                    "{}",
                    verb.path()
                );
            }
        }
    }
}
