//! What is asked of `cargo xtask conformance`: how the suites are run, and which of them.

use super::suite::SUITES;
use crate::Result;

/// The other runtimes.
const PEERS: [&str; 3] = ["crun", "runc", "youki"];
/// How many seconds one file may take, unless said otherwise; it is killed then.
const FILE_SECONDS: u16 = 300;

/// How they are run.
pub(super) struct Options<'w> {
    pub(super) systemd: bool,
    pub(super) seconds: u16,
    /// Whether what a file says is printed where ours fails.
    pub(super) tell: bool,
    /// The other runtimes to compare with; none means all.
    beside: Vec<&'w str>,
}

impl<'w> Options<'w> {
    pub(super) fn read(words: &[&'w str]) -> Result<Self> {
        let mut options = Self {
            systemd: false,
            seconds: FILE_SECONDS,
            tell: false,
            beside: Vec::new(),
        };
        for word in words {
            let peer = word.strip_prefix("--beside=");
            let seconds = word.strip_prefix("--seconds=");
            if *word == "--systemd-cgroup" {
                options.systemd = true;
            } else if *word == "--tell" {
                options.tell = true;
            } else if let Some(name) = peer.filter(|name| PEERS.contains(name)) {
                options.beside.push(name);
            } else if let Some(number) = seconds.and_then(|text| text.parse().ok()) {
                options.seconds = number;
            } else {
                let peers = PEERS.join("|");
                return Err(format!(
                    "{word}: there are --systemd-cgroup, --tell, --beside={peers} and --seconds=N"
                ));
            }
        }
        Ok(options)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &'static str> {
        let all = PEERS.into_iter();
        all.filter(|name| self.beside.is_empty() || self.beside.contains(name))
    }
}

/// Suites, and files of them: none means all.
pub(super) struct Wanted<'w>(Vec<(&'w str, Option<&'w str>)>);

impl<'w> Wanted<'w> {
    pub(super) fn read(words: &[&'w str]) -> Result<Self> {
        let parts = words.iter().map(|word| match word.split_once('/') {
            Some((suite, file)) => (suite, Some(file)),
            None => (*word, None),
        });
        let wanted: Vec<_> = parts.collect();
        let is_known = |name: &str| SUITES.iter().any(|suite| suite.name == name);
        match wanted.iter().find(|(suite, _)| !is_known(suite)) {
            Some((unknown, _)) => {
                let known = SUITES.map(|suite| suite.name).join(", ");
                Err(format!("no suite is called {unknown}; there are {known}"))
            }
            None => Ok(Self(wanted)),
        }
    }

    /// The files that are wanted of a suite; nothing where none is.
    pub(super) fn of(&self, suite: &str) -> Option<Vec<&'w str>> {
        let all = self.0.iter().filter(|(name, _)| *name == suite);
        let files: Vec<_> = all.map(|(_, file)| *file).collect();
        match (self.0.is_empty(), files.is_empty()) {
            (false, true) => None,
            _ if files.contains(&None) => Some(Vec::new()),
            _ => Some(files.into_iter().flatten().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_or_refused() {
        let words = ["--systemd-cgroup", "--beside=runc", "--seconds=900"];
        let options = Options::read(&words);
        let read = options.map(|one| (one.systemd, one.seconds, one.peers().collect()));
        assert_eq!(read, Ok((true, 900, vec!["runc"])));
        let options = Options::read(&[]);
        let read = options.map(|one| (one.systemd, one.seconds, one.peers().count()));
        assert_eq!(read, Ok((false, FILE_SECONDS, 3)));
        for word in ["--beside=docker", "--seconds=x", "--systemd"] {
            assert!(Options::read(&[word]).is_err(), "{word}");
        }
    }

    #[test]
    fn suites_and_files_of_them_are_wanted() {
        let of = |words: &[&'static str], suite| Wanted::read(words).map(|one| one.of(suite));
        assert_eq!(of(&[], "crun"), Ok(Some(vec![])));
        assert_eq!(of(&["runc"], "crun"), Ok(None));
        let files = ["crun/test_a.py", "runc/b.bats", "crun/test_c.py"];
        assert_eq!(of(&files, "crun"), Ok(Some(vec!["test_a.py", "test_c.py"])));
        assert_eq!(of(&["crun/test_a.py", "crun"], "crun"), Ok(Some(vec![])));
        assert!(of(&["nosuch/test_a.py"], "crun").is_err());
    }
}
