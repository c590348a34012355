//! `--log`: the file that an engine reads to learn why a verb has failed. Its last line is the error.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use humantime::format_rfc3339_nanos;
use serde::Serialize;
use shim::error::OneLine;
use shim::{Error, Result};

use super::globals::LogFormat;
use crate::warning;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    format: LogFormat,
}

/// How grave an entry is, in logrus' words.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Error,
    Warning,
}

#[derive(Serialize)]
struct Entry<'a> {
    level: Level,
    msg: &'a str,
    time: &'a str,
}

/// Says what is no failure: in the log, where there is one.
pub(super) fn warn(log: &mut Option<Log>, text: &str) {
    match log {
        Some(log) => log.say(Level::Warning, text),
        None => warning::say(text),
    }
}

impl Log {
    /// Makes the file, or opens it to write behind what it has.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn open(path: &Path, format: LogFormat) -> Result<Self> {
        let opened = File::options().create(true).append(true).open(path);
        let file = opened.map_err(|error| {
            Error::io("open log", path.display(), &error).hint("its directory must exist")
        })?;
        Ok(Self { file, format })
    }

    /// Writes one line. Where that fails there is nobody left to tell; the error is on stderr as well.
    pub(super) fn say(&mut self, level: Level, text: &str) {
        let text = text.replace("\n  hint: ", "; ");
        let text = OneLine(&text).to_string();
        let now = format_rfc3339_nanos(SystemTime::now()).to_string();
        let line = match self.format {
            LogFormat::Json => serde_json::to_string(&Entry {
                level,
                msg: &text,
                time: &now,
            })
            .unwrap_or_default(),
            LogFormat::Text => {
                let level = match level {
                    Level::Error => "error",
                    Level::Warning => "warning",
                };
                format!("time=\"{now}\" level={level} msg={text:?}")
            }
        };
        let _ = self.file.write_all(format!("{line}\n").as_bytes());
    }
}
