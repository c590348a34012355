//! Splits the words of one verb into options and operands, as its row in the table says.
//!
//! `--opt=v` and `--opt v` are the same, `--opt=` is an empty value, `-eV`, `-e V` and `-e=V` too; names are never
//! abbreviated, so that a new option cannot change what an old script means.

use std::ffi::{OsStr, OsString};

use lexopt::Arg;
use shim::Error;

use super::table::{Flag, FlagId, Verb, VerbId};
use crate::suggest::{nearest, shown};

/// Why reading ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    Help,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// An option with its value (empty for a switch), or an operand.
#[derive(Debug)]
pub(crate) enum Word<I: Copy + 'static = FlagId> {
    Option(&'static Flag<I>, OsString),
    Operand(OsString),
}

/// The words of a verb that are still to be read.
pub(crate) struct Scan<V: Copy + 'static = VerbId, I: Copy + 'static = FlagId> {
    verb: &'static Verb<V, I>,
    parser: lexopt::Parser,
}

impl<V: Copy, I: Copy> Scan<V, I> {
    pub(crate) fn new(
        verb: &'static Verb<V, I>,
        words: impl IntoIterator<Item = OsString>,
    ) -> Self {
        Self {
            verb,
            parser: lexopt::Parser::from_args(words),
        }
    }

    /// The next option or operand; a `--` is dropped and makes all that follows operands.
    pub(crate) fn next(&mut self) -> Result<Option<Word<I>>, Stop> {
        let (flag, given) = match self.parser.next() {
            Ok(None) => return Ok(None),
            Ok(Some(Arg::Value(value))) => return Ok(Some(Word::Operand(value))),
            Ok(Some(Arg::Long("help") | Arg::Short('h'))) => return Err(Stop::Help),
            Ok(Some(Arg::Long(name))) => {
                let flag = self.verb.all_flags().find(|flag| flag.name() == name);
                (flag, format!("--{name}"))
            }
            Ok(Some(Arg::Short(letter))) => {
                let flag = self
                    .verb
                    .all_flags()
                    .find(|flag| flag.short == Some(letter));
                (flag, format!("-{letter}"))
            }
            // A value for a letter that takes none; "-h" is all there is.
            Err(_) => {
                let bad = self.bad("-h").because("takes no value");
                return Err(bad.hint("give -h alone").into());
            }
        };
        let Some(flag) = flag else {
            return Err(self.unknown(&given).into());
        };
        let value = if let Some(implied) = flag.implied {
            let given = self.parser.optional_value();
            given.unwrap_or_else(|| implied.into())
        } else if flag.value.is_some() {
            self.parser.value().map_err(|_| self.no_value(flag))?
        } else if self.parser.optional_value().is_some() {
            // The value is not repeated: with a typing error before it, it may be a secret.
            return Err(self
                .bad(flag.long)
                .because("takes no value")
                .hint(format!("give {} alone, or leave it out", flag.long))
                .into());
        } else {
            OsString::new()
        };
        Ok(Some(Word::Option(flag, value)))
    }

    /// Reads on with options allowed again: a `--` that came before ROOTFS was for ROOTFS alone.
    pub(crate) fn restart(self) -> Self {
        let verb = self.verb;
        Self::new(verb, self.rest())
    }

    /// All that follows, verbatim.
    pub(crate) fn rest(mut self) -> Vec<OsString> {
        // Fails only between an option and its value, where nothing of ours stops.
        self.parser
            .raw_args()
            .map(Iterator::collect)
            .unwrap_or_default()
    }

    /// An operand that the verb needs is not there, or is empty.
    pub(crate) fn lacks(&self, operand: &'static str, why: &'static str) -> Error {
        Error::new("read command line of")
            .on(self.verb.path())
            .because(format!("{operand} is {why}"))
            .hint(self.usage())
    }

    /// An operand that is one too many.
    pub(crate) fn excess(&self, operand: &OsStr) -> Error {
        Error::new("read command line of")
            .on(self.verb.path())
            .because(format!("unexpected operand {}", shown(operand)))
            .hint(self.usage())
    }

    fn usage(&self) -> String {
        let path = self.verb.path();
        let usage = format!(
            "usage: start-container {path} [OPTION...] {}",
            self.verb.operands
        );
        format!("{}; see start-container {path} --help", usage.trim_end())
    }

    fn bad(&self, option: &str) -> Error {
        Error::new("read option").on(shown(OsStr::new(option)))
    }

    fn unknown(&self, given: &str) -> Error {
        let path = self.verb.path();
        let name = given.trim_start_matches('-');
        let known = self.verb.all_flags().map(Flag::name).chain(["help"]);
        let near = nearest(name, known).filter(|_| given.starts_with("--"));
        self.bad(given)
            .because(format!("{path} has no such option"))
            .hint(match near {
                Some(name) => format!("did you mean --{name}?"),
                None => format!("see start-container {path} --help"),
            })
    }

    fn no_value(&self, flag: &Flag<I>) -> Error {
        let value = flag.value.unwrap_or_default();
        self.bad(flag.long)
            .because("its value is missing")
            .hint(format!("give {}={value}", flag.long))
    }
}
