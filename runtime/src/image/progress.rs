//! Tells how far an import or a pull has come: bars for people, JSON lines for programs, nothing in a pipe.
//!
//! All of it goes to stderr, because stdout is for results. Nothing waits for the reader of it and no failure to write is
//! reported: what is told here changes nothing about the outcome.

use std::fmt;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

/// How often one piece of work says at most how far it is, in JSON.
const INTERVAL: Duration = Duration::from_millis(100);
/// How much of a long name a bar shows.
const SHOWN: usize = 26;

/// A bar whose end is known, and one whose end is not.
const KNOWN: &str =
    "{prefix:6} {msg} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";
const UNKNOWN: &str = "{prefix:6} {msg} {binary_bytes} {binary_bytes_per_sec}";

/// How progress is shown: `--progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// Bars where stderr is a terminal, otherwise nothing.
    #[default]
    Auto,
    /// Bars, in so far as stderr is a terminal.
    Bar,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

/// What is done to a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// It is fetched from a registry.
    Fetch,
    /// It is written to a temporary file, because it can be read only once.
    Spool,
    /// It is unpacked.
    Unpack,
    /// It is copied as it is.
    Copy,
    /// It is made.
    Build,
}

impl Work {
    fn word(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Spool => "spool",
            Self::Unpack => "unpack",
            Self::Copy => "copy",
            Self::Build => "build",
        }
    }
}

/// Where progress is told; copies tell it in the same place.
#[derive(Debug, Clone, Default)]
pub struct Progress(Sink);

#[derive(Clone, Default)]
enum Sink {
    #[default]
    Silent,
    Bars(MultiProgress),
    Lines(Arc<Mutex<dyn Write + Send>>),
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "Silent",
            Self::Bars(_) => "Bars",
            Self::Lines(_) => "Lines",
        })
    }
}

impl Progress {
    /// Tells it on stderr, in this way.
    #[must_use]
    pub fn new(mode: ProgressMode) -> Self {
        Self(match mode {
            ProgressMode::None => Sink::Silent,
            ProgressMode::Json => Sink::Lines(Arc::new(Mutex::new(io::stderr()))),
            ProgressMode::Bar => Sink::Bars(MultiProgress::new()),
            ProgressMode::Auto if io::stderr().is_terminal() => Sink::Bars(MultiProgress::new()),
            ProgressMode::Auto => Sink::Silent,
        })
    }

    /// Begins a piece of work: `name` is a digest or another name of it, `total` its size in bytes where that is known.
    #[must_use]
    pub fn part(&self, work: Work, name: impl Into<String>, total: Option<u64>) -> Part {
        let name = name.into();
        let bar = match &self.0 {
            Sink::Bars(all) => Some(all.add(bar(work, &name, total))),
            Sink::Silent | Sink::Lines(_) => None,
        };
        let part = Part {
            sink: self.0.clone(),
            work,
            name,
            total,
            done: AtomicU64::new(0),
            said: Mutex::new(Instant::now()),
            bar,
            result: "failed",
        };
        part.say("begin", None);
        part
    }
}

/// One piece of work: a layer, a blob, a source. That it is dropped without `done` or `present` means that it failed.
pub struct Part {
    sink: Sink,
    work: Work,
    name: String,
    total: Option<u64>,
    done: AtomicU64,
    /// When it last said how far it is.
    said: Mutex<Instant>,
    bar: Option<ProgressBar>,
    result: &'static str,
}

/// One line of `--progress=json`.
#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    work: Work,
    name: &'a str,
    done: u64,
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a str>,
}

impl Part {
    /// So many bytes more are done.
    pub fn advance(&self, bytes: u64) {
        if matches!(self.sink, Sink::Silent) {
            return;
        }
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            return;
        }
        let mut said = lock(&self.said);
        if said.elapsed() >= INTERVAL {
            *said = Instant::now();
            drop(said);
            self.say("progress", None);
        }
    }

    /// Counts what is read through the result.
    pub fn reading<R: Read>(&self, inner: R) -> Counted<'_, R> {
        Counted { inner, part: self }
    }

    /// It is done.
    pub fn done(mut self) {
        self.result = "done";
    }

    /// There was nothing to do: it is there already.
    pub fn present(mut self) {
        self.result = "present";
    }

    fn say(&self, event: &str, result: Option<&str>) {
        let Sink::Lines(out) = &self.sink else {
            return;
        };
        let line = Line {
            event,
            work: self.work,
            name: &self.name,
            done: self.done.load(Ordering::Relaxed),
            total: self.total,
            result,
        };
        if let Ok(mut text) = serde_json::to_vec(&line) {
            text.push(b'\n');
            // One call, so that lines of several threads do not mix.
            let _ = lock(out).write_all(&text);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.say("end", Some(self.result));
    }
}

/// A stream whose bytes count as done when they are read.
pub struct Counted<'p, R> {
    inner: R,
    part: &'p Part,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.part.advance(count as u64);
        Ok(count)
    }
}

fn bar(work: Work, name: &str, total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = if total.is_some() { KNOWN } else { UNKNOWN };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    let shown: String = name.chars().take(SHOWN).collect();
    bar.with_prefix(work.word())
        .with_message(format!("{shown:SHOWN$}"))
}

/// Nobody leaves a line half written by panicking: the program aborts then.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written, readable while somebody else has the writing end.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(data)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(run: impl FnOnce(&Progress)) -> Vec<String> {
        let out = Shared::default();
        run(&Progress(Sink::Lines(Arc::new(Mutex::new(out.clone())))));
        let text = String::from_utf8(lock(&out.0).clone()).unwrap();
        text.lines().map(Into::into).collect()
    }

    #[test]
    fn each_piece_begins_and_ends_with_its_result() {
        let said = lines(|progress| {
            let part = progress.part(Work::Fetch, "sha256:\"a", Some(6));
            io::copy(&mut part.reading(&b"abcdef"[..]), &mut io::sink()).unwrap();
            part.done();
            progress.part(Work::Unpack, "b", None).present();
            drop(progress.part(Work::Build, "c", Some(1)));
        });
        let ends: Vec<&String> = said
            .iter()
            .filter(|line| !line.contains("\"progress\""))
            .collect();
        assert_eq!(
            ends,
            [
                r#"{"event":"begin","work":"fetch","name":"sha256:\"a","done":0,"total":6}"#,
                r#"{"event":"end","work":"fetch","name":"sha256:\"a","done":6,"total":6,"result":"done"}"#,
                r#"{"event":"begin","work":"unpack","name":"b","done":0,"total":null}"#,
                r#"{"event":"end","work":"unpack","name":"b","done":0,"total":null,"result":"present"}"#,
                r#"{"event":"begin","work":"build","name":"c","done":0,"total":1}"#,
                r#"{"event":"end","work":"build","name":"c","done":0,"total":1,"result":"failed"}"#,
            ]
        );
    }

    #[test]
    fn how_far_it_is_comes_in_between() {
        let said = lines(|progress| {
            let part = progress.part(Work::Fetch, "a", Some(2));
            *lock(&part.said) = Instant::now() - INTERVAL;
            part.advance(1);
            part.done();
        });
        assert_eq!(
            said[1],
            r#"{"event":"progress","work":"fetch","name":"a","done":1,"total":2}"#
        );
    }

    #[test]
    fn bars_look_as_they_should() {
        // A template that indicatif cannot read would be left out in silence.
        for template in [KNOWN, UNKNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
        assert_eq!(bar(Work::Fetch, "x", Some(3)).length(), Some(3));
    }
}
