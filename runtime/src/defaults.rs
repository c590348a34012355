//! `--image`: what an image says about how its programs are run. It holds where the caller says nothing.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use shim::{Error, Result, signals};

use crate::cli::Command;
use crate::ids::ImageId;
use crate::image::About;

/// What holds for a process where the caller says nothing. Without an image that is nothing.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    image: Option<ImageId>,
    about: About,
    env_file: Option<PathBuf>,
}

impl Defaults {
    /// Reads the two files of an image below `base`. An image that was put there by hand needs neither.
    ///
    /// # Errors
    /// There is no image of this name; its `ID.json` cannot be read.
    pub(crate) fn of(base: &Path, image: Option<&ImageId>) -> Result<Self> {
        let Some(id) = image else {
            return Ok(Self::default());
        };
        let images = base.join("images");
        let file = |ending: &str| images.join(format!("{id}{ending}"));
        let about = About::read(base, id)?;
        let endings = ["", ".squashfs", ".erofs", ".image"];
        if about.is_none() && !endings.iter().any(|ending| file(ending).exists()) {
            return Err(Error::new("find image")
                .on(id)
                .because(format!("it is not in {}", images.display()))
                .hint("check --image and --base; or import it: start-container image import"));
        }
        Ok(Self {
            image: Some(id.clone()),
            about: about.unwrap_or_default(),
            env_file: Some(file(".env")).filter(|file| file.exists()),
        })
    }

    /// The image's variables.
    pub(crate) fn env_file(&self) -> Option<&Path> {
        self.env_file.as_deref()
    }

    /// Who its program runs as.
    pub(crate) fn user(&self) -> Option<&OsStr> {
        self.about.user.as_deref().map(OsStr::new)
    }

    /// Where its program runs.
    pub(crate) fn workdir(&self) -> Option<&OsStr> {
        self.about.workdir.as_deref().map(OsStr::new)
    }

    /// What is run: the image's entrypoint with the words that are given, or else with those that the image has for it.
    /// `entrypoint` replaces both of the image's; an empty one is none. Without an image it is what is given.
    ///
    /// # Errors
    /// Nobody says what to run.
    pub(crate) fn command(
        &self,
        given: Option<&Command>,
        entrypoint: Option<&OsStr>,
    ) -> Result<Option<Command>> {
        let Some(image) = &self.image else {
            return Ok(given.cloned());
        };
        let texts = |list: &Option<Vec<String>>| -> Vec<OsString> {
            list.iter().flatten().map(OsString::from).collect()
        };
        let mut words = match entrypoint {
            Some(word) if word.is_empty() => Vec::new(),
            Some(word) => vec![word.to_owned()],
            None => texts(&self.about.entrypoint),
        };
        match (given, entrypoint) {
            (Some(given), _) => {
                words.push(given.program.clone());
                words.extend(given.arguments.iter().cloned());
            }
            (None, None) => words.extend(texts(&self.about.cmd)),
            (None, Some(_)) => {}
        }
        let mut words = words.into_iter();
        let program = words.next().ok_or_else(|| {
            Error::new("find command")
                .on(image)
                .because("the image says nothing of what is run")
                .hint("give a COMMAND")
        })?;
        Ok(Some(Command {
            program,
            arguments: words.collect(),
        }))
    }

    /// The signal that asks its program to end, if not SIGTERM.
    ///
    /// # Errors
    /// It is no signal.
    pub(crate) fn stop_signal(&self) -> Result<Option<i32>> {
        let Some(text) = &self.about.stop_signal else {
            return Ok(None);
        };
        let number = signals::number(text).ok_or_else(|| {
            Error::new("read stop signal of image")
                .on(self.image.as_ref().map_or("", ImageId::as_str))
                .because(format!("{text:?} is no signal"))
                .hint("correct it in the image's ID.json: a name like SIGTERM, or a number")
        })?;
        Ok(Some(number).filter(|number| *number != nix::libc::SIGTERM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults(about: &str) -> Defaults {
        Defaults {
            image: Some(ImageId::new("img").unwrap()),
            about: serde_json::from_str(about).unwrap(),
            env_file: None,
        }
    }

    fn words(command: Option<Command>) -> Vec<OsString> {
        let command = command.unwrap();
        let program = std::iter::once(command.program);
        program.chain(command.arguments).collect()
    }

    #[test]
    fn given_words_replace_cmd_and_entrypoint_replaces_both() {
        let both = r#"{"entrypoint":["/init","-v"],"cmd":["serve"]}"#;
        let only_cmd = r#"{"entrypoint":[],"cmd":["sh","-l"]}"#;
        let given = Command {
            program: "one".into(),
            arguments: vec!["two".into()],
        };
        for (about, given, entrypoint, expected) in [
            (both, None, None, &["/init", "-v", "serve"][..]),
            (both, Some(&given), None, &["/init", "-v", "one", "two"]),
            (both, None, Some("/other"), &["/other"]),
            (
                both,
                Some(&given),
                Some("/other"),
                &["/other", "one", "two"],
            ),
            (both, Some(&given), Some(""), &["one", "two"]),
            (only_cmd, None, None, &["sh", "-l"]),
            (only_cmd, Some(&given), None, &["one", "two"]),
        ] {
            let command = defaults(about).command(given, entrypoint.map(OsStr::new));
            assert_eq!(words(command.unwrap()), expected, "{about} {entrypoint:?}");
        }
        for (about, entrypoint) in [("{}", None), (both, Some(""))] {
            let command = defaults(about).command(None, entrypoint.map(OsStr::new));
            assert!(command.unwrap_err().to_string().contains("give a COMMAND"));
        }
        let none = Defaults::default();
        assert_eq!(none.command(None, None), Ok(None));
        assert_eq!(
            words(none.command(Some(&given), None).unwrap()),
            ["one", "two"]
        );
    }

    #[test]
    fn a_stop_signal_is_a_signal() {
        let number =
            |text: &str| defaults(&format!("{{\"stop_signal\":\"{text}\"}}")).stop_signal();
        assert_eq!(number("SIGQUIT"), Ok(Some(3)));
        assert_eq!(number("SIGTERM"), Ok(None));
        assert!(number("SIGFOO").unwrap_err().to_string().contains("img"));
        assert_eq!(defaults("{}").stop_signal(), Ok(None));
    }
}
