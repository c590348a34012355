//! Decides who a command runs as: `--user` read against the root filesystem's own passwd(5) and group(5).
//!
//! Nothing of the host is asked: no NSS, no host passwd. The two files belong to the image or to the container and are
//! taken for hostile: they are opened inside the root filesystem, must be regular files, and are read as a stream with
//! limits on size and line length.
//!
//! | text | uid | gid | groups | HOME |
//! |---|---|---|---|---|
//! | known name or uid | its uid | its gid | its gid and every group that lists the name | its home, `/` where empty |
//! | unknown number | the number | 0 | 0 | `/` |
//! | `root`, not in passwd | 0 | 0 | 0 and every group that lists `root` | `/` |
//! | any other unknown name | refused | | | |
//! | any of these with `:GROUP` | as above | GROUP | GROUP alone | as above |
//!
//! - Digits are a number, always: a user who is literally called `1001` is never found by it.
//! - uid 0 is called `root` whether or not the image has a passwd that says so; clients pass `--user=root` without
//!   looking. A passwd that gives the name `root` another uid is believed. The same holds for the group `root`.
//! - An explicit group replaces the supplementary groups, as in Docker and Podman: who names a group asks for just that.
//! - An unknown numeric group is taken as it is; an unknown group name is refused.
//! - The gid is always part of the groups: an ACL that denies a group must also hit a process whose gid it is.

mod spec;
mod table;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use shim::{Error, RootDir};

use crate::suggest::shown;
use spec::{Spec, Who};
use table::{Lines, Table};

/// The most groups that a process can have (NGROUPS_MAX, limits.h): setgroups(2) answers EINVAL beyond.
const GROUPS: usize = 65_536;

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name in passwd, or `root` for the name `root`; none where only a number is known.
    pub name: Option<OsString>,
    /// User id as seen inside; never 4294967295.
    pub uid: u32,
    /// Primary group id as seen inside; never 4294967295.
    pub gid: u32,
    /// What setgroups(2) is to be given: ascending, unique, with `gid` in it, at most 65,536.
    pub groups: Vec<u32>,
    /// The home directory; never empty, free of NUL, not necessarily UTF-8 or existing.
    pub home: OsString,
}

/// Resolves `USER`, `UID`, `USER:GROUP`, `UID:GID` and any mix inside a root filesystem.
///
/// # Errors
/// Text outside the grammar, a name that the files do not list, and passwd or group that is not a regular file, is
/// larger than 16 MiB, has a line longer than 64 KiB, or cannot be read. A file that is missing is an empty file.
pub fn resolve(root: &RootDir, text: &OsStr) -> shim::Result<Identity> {
    identity(text, |table| table::open(root, table))
}

/// Checks the grammar of a `--user` text without looking at any file.
///
/// # Errors
/// Says which rule the text breaks.
pub fn check(text: &OsStr) -> shim::Result<()> {
    Spec::parse(text).map(|_| ())
}

/// The decision itself, over whatever `open` gives for the two files.
fn identity<R: Read>(
    text: &OsStr,
    mut open: impl FnMut(Table) -> shim::Result<Option<Lines<R>>>,
) -> shim::Result<Identity> {
    let spec = Spec::parse(text)?;
    let account = user(text, spec.user, open(Table::Passwd)?)?;
    let (gid, groups) = match spec.group {
        Some(Who::Id(gid)) => (gid, vec![gid]),
        Some(Who::Name(name)) => {
            let gid = group(text, name, open(Table::Group)?)?;
            (gid, vec![gid])
        }
        None => {
            let mut groups = BTreeSet::from([account.gid]);
            if let Some(name) = &account.name
                && let Some(lines) = open(Table::Group)?
            {
                memberships(name, lines, &mut groups)?;
            }
            (account.gid, groups.into_iter().collect())
        }
    };
    Ok(Identity {
        name: account.name.map(OsString::from_vec),
        uid: account.uid,
        gid,
        groups,
        home: OsString::from_vec(account.home),
    })
}

struct Account {
    name: Option<Vec<u8>>,
    uid: u32,
    gid: u32,
    home: Vec<u8>,
}

fn user<R: Read>(text: &OsStr, who: Who<'_>, lines: Option<Lines<R>>) -> shim::Result<Account> {
    let missing = lines.is_none();
    if let Some(mut lines) = lines {
        while let Some(line) = lines.next()? {
            let Some(entry) = table::passwd_entry(line) else {
                continue;
            };
            let found = match who {
                Who::Id(uid) => entry.uid == uid,
                Who::Name(name) => entry.name == name,
            };
            if found {
                let home = if entry.home.is_empty() {
                    b"/"
                } else {
                    entry.home
                };
                return Ok(Account {
                    name: Some(entry.name.to_vec()),
                    uid: entry.uid,
                    gid: entry.gid,
                    home: home.to_vec(),
                });
            }
        }
    }
    let (name, uid) = match who {
        Who::Id(uid) => (None, uid),
        Who::Name(b"root") => (Some(b"root".to_vec()), 0),
        Who::Name(_) => return Err(unknown(text, "user", Table::Passwd, missing)),
    };
    Ok(Account {
        name,
        uid,
        gid: 0,
        home: b"/".to_vec(),
    })
}

fn group<R: Read>(text: &OsStr, name: &[u8], lines: Option<Lines<R>>) -> shim::Result<u32> {
    let missing = lines.is_none();
    if let Some(mut lines) = lines {
        while let Some(line) = lines.next()? {
            if let Some(entry) = table::group_entry(line)
                && entry.name == name
            {
                return Ok(entry.gid);
            }
        }
    }
    if name == b"root" {
        return Ok(0);
    }
    Err(unknown(text, "group", Table::Group, missing))
}

fn memberships<R: Read>(
    name: &[u8],
    mut lines: Lines<R>,
    groups: &mut BTreeSet<u32>,
) -> shim::Result<()> {
    while let Some(line) = lines.next()? {
        if let Some(entry) = table::group_entry(line)
            && entry.lists(name)
        {
            groups.insert(entry.gid);
            if groups.len() > GROUPS {
                return Err(lines
                    .error()
                    .because(format!("lists the user in more than {GROUPS} groups"))
                    .hint("Linux allows a process 65536 groups (NGROUPS_MAX)"));
            }
        }
    }
    Ok(())
}

fn unknown(text: &OsStr, what: &'static str, table: Table, missing: bool) -> Error {
    let path = table.path();
    let because = if missing {
        format!("the root filesystem has no {path} to find the {what} in")
    } else {
        format!("the root filesystem's {path} lists no such {what}")
    };
    Error::new("resolve user")
        .on(shown(text))
        .because(because)
        .hint(format!("name a {what} of the image, or give its number"))
}

#[cfg(test)]
mod tests;
