//! The scope of a container: its name and place, its beginning and its end.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use rustbus::message_builder::MarshalledMessage;
use rustbus::params::{Array, Base, Container, Param};
use rustbus::signature::Type;
use rustbus::wire::ObjectPath;
use serde::{Deserialize, Serialize};
use shim::{Error, Result};

use super::bus::{Bus, Refusal};
use super::properties::{Property, Value};

/// What every program looks at to see whether systemd runs (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// systemd's, of the name of a unit.
const LONGEST: usize = 255;

/// Why there is no unit.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// There is one of this name, which is somebody else's.
    pub(crate) of_others: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            of_others: false,
        }
    }
}

/// A scope, which is there or is going to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scope {
    /// Of the user's systemd, not of the machine's.
    of_user: bool,
    slice: String,
    name: String,
}

impl Scope {
    /// What `SLICE:PREFIX:NAME` means; without it, the usual slice and the container's id.
    ///
    /// # Errors
    /// It is something else, in words.
    pub(crate) fn decide(
        path: Option<&str>,
        id: &str,
        of_user: bool,
    ) -> Result<Self, &'static str> {
        let usual = if of_user {
            "user.slice"
        } else {
            "system.slice"
        };
        let path = path.filter(|path| !path.is_empty());
        let (slice, prefix, name) = match path {
            None => (usual, "start-container", id),
            Some(path) => {
                let mut parts = path.splitn(3, ':');
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(slice), Some(prefix), Some(name)) if !name.contains(':') => {
                        (if slice.is_empty() { usual } else { slice }, prefix, name)
                    }
                    _ => return Err("with systemd it is SLICE:PREFIX:NAME"),
                }
            }
        };
        if name.is_empty() || name.ends_with(".slice") {
            return Err("the name of its unit is empty, or a slice");
        }
        let name = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        if !is_unit(&name) || path_of_slice(slice).is_none() {
            return Err("its slice or its unit has a name that systemd does not take");
        }
        Ok(Self {
            of_user,
            slice: slice.to_owned(),
            name,
        })
    }

    /// Its cgroup, relative to the mount. Asks systemd where it has its own, for what only a user's own systemd can say.
    ///
    /// # Errors
    /// systemd does not run; the bus does not answer.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        if !Path::new(BOOTED).is_dir() {
            return Err(Error::new("use systemd's cgroups")
                .on(BOOTED)
                .because("systemd does not run here")
                .hint("leave out --systemd-cgroup, or give --cgroup-manager=cgroupfs"));
        }
        // Without a bus there will be no scope: that is known before anything is changed.
        let above = Bus::connect(self.of_user)?.text("ControlGroup")?;
        let above = Path::new(above.trim_start_matches('/'));
        let slice = path_of_slice(&self.slice).unwrap_or_default();
        Ok(above.join(slice).join(&self.name))
    }

    /// Makes it around a process, and waits until that is in there.
    ///
    /// # Errors
    /// There is one of this name; systemd refuses, or does not answer in time.
    pub(crate) fn start(&self, pid: Pid, id: &str, more: &[Property]) -> Result<(), Failure> {
        let mut properties = vec![
            Property::new(
                "Description",
                Value::Text(format!("start-container container {id}")),
            ),
            Property::new("Slice", Value::Text(self.slice.clone())),
            Property::new("Delegate", Value::Bool(true)),
            Property::new("DefaultDependencies", Value::Bool(false)),
            Property::new("PIDs", Value::Unsigneds(vec![pid.as_raw().cast_unsigned()])),
        ];
        for name in [
            "CPUAccounting",
            "IOAccounting",
            "MemoryAccounting",
            "TasksAccounting",
        ] {
            properties.push(Property::new(name, Value::Bool(true)));
        }
        properties.retain(|one| more.iter().all(|other| other.name != one.name));
        properties.extend_from_slice(more);
        let arguments = [
            text(&self.name),
            text("fail"),
            list("(sv)", properties.iter().map(Property::param).collect()),
            list("(sa(sv))", Vec::new()),
        ];
        let mut bus = Bus::connect(self.of_user)?;
        bus.subscribe()?;
        let answer = bus.call("StartTransientUnit", &arguments);
        let answer = answer.map_err(|refusal| match refusal {
            Refusal::Answer(name, why) if name.ends_with(".UnitExists") => Failure {
                error: Error::new("start unit")
                    .on(&self.name)
                    .because(why)
                    .hint("linux.cgroupsPath must name a unit that nobody else has"),
                of_others: true,
            },
            refusal => bus.words(refusal, &self.name).into(),
        })?;
        match self.done(&mut bus, &answer)?.as_str() {
            "done" => Ok(()),
            result => {
                // systemd keeps one that has failed until somebody says otherwise.
                let _ = self.stop();
                Err(Error::new("start unit")
                    .on(&self.name)
                    .because(format!("its job ended as {result:?}"))
                    .hint("see the journal of systemd")
                    .into())
            }
        }
    }

    /// Changes its limits.
    ///
    /// # Errors
    /// There is none; systemd refuses, or does not answer in time.
    pub(crate) fn update(&self, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        // For as long as the machine runs: the unit is not longer.
        let arguments = [
            text(&self.name),
            Base::Boolean(true).into(),
            list("(sv)", properties.iter().map(Property::param).collect()),
        ];
        let mut bus = Bus::connect(self.of_user)?;
        let answer = bus.call("SetUnitProperties", &arguments);
        answer
            .map(drop)
            .map_err(|refusal| bus.words(refusal, &self.name))
    }

    /// Ends it, and has systemd forget it; none is a success. Its processes must have ended.
    ///
    /// # Errors
    /// systemd does not answer in time.
    pub(crate) fn stop(&self) -> Result<()> {
        let mut bus = Bus::connect(self.of_user)?;
        bus.subscribe()?;
        match bus.call("StopUnit", &[text(&self.name), text("replace")]) {
            Ok(answer) => drop(self.done(&mut bus, &answer)?),
            Err(Refusal::Answer(name, _)) if name == NO_SUCH_UNIT => return Ok(()),
            Err(refusal) => return Err(bus.words(refusal, &self.name)),
        }
        match bus.call("ResetFailedUnit", &[text(&self.name)]) {
            Err(Refusal::Answer(name, _)) if name == NO_SUCH_UNIT => Ok(()),
            Err(refusal) => Err(bus.words(refusal, &self.name)),
            Ok(_) => Ok(()),
        }
    }

    /// Waits for the end of the job that is the answer to a call: how it ended.
    fn done(&self, bus: &mut Bus, answer: &MarshalledMessage) -> Result<String> {
        let unknown = || {
            Error::new("wait for unit")
                .on(&self.name)
                .because("systemd names no job")
        };
        let job = answer.body.parser().get::<ObjectPath<&str>>();
        let job = job.map_err(|_| unknown())?;
        loop {
            let signal = bus.signal(&format!("the job of {}", self.name))?;
            if signal.dynheader.member.as_deref() != Some("JobRemoved") {
                continue;
            }
            let mut parser = signal.body.parser();
            let told = parser.get4::<u32, ObjectPath<&str>, &str, &str>();
            if let Ok((_, path, _, result)) = told
                && path.as_ref() == job.as_ref()
            {
                return Ok(result.to_owned());
            }
        }
    }
}

fn text(text: &str) -> Param<'static, 'static> {
    Base::String(text.to_owned()).into()
}

fn list(element: &str, values: Vec<Param<'static, 'static>>) -> Param<'static, 'static> {
    let types = Type::parse_description(element).unwrap_or_default();
    let element_sig = types
        .into_iter()
        .next()
        .unwrap_or(Type::Base(rustbus::signature::Base::String));
    Container::Array(Array {
        element_sig,
        values,
    })
    .into()
}

/// `a-b.slice` is in `a.slice`; `-.slice` is the root.
fn path_of_slice(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice").filter(|_| is_unit(slice))?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut name = String::new();
    for part in stem.split('-') {
        if part.is_empty() {
            return None;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        path.push(format!("{name}.slice"));
    }
    Some(path)
}

/// systemd.unit(5)
fn is_unit(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    name.len() <= LONGEST && !name.starts_with('.') && name.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_in_slices() {
        let path = |slice| path_of_slice(slice).map(|path| path.display().to_string());
        assert_eq!(
            path("a-b-c.slice").as_deref(),
            Some("a.slice/a-b.slice/a-b-c.slice")
        );
        assert_eq!(path("-.slice").as_deref(), Some(""));
        for bad in [
            "a",
            "a--b.slice",
            "-a.slice",
            ".slice",
            "a/b.slice",
            "../x.slice",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn units_are_named_by_the_path() {
        let name = |path| Scope::decide(path, "id", false).map(|scope| (scope.slice, scope.name));
        let is = |slice: &str, name: &str| Ok((slice.to_owned(), name.to_owned()));
        assert_eq!(name(None), is("system.slice", "start-container-id.scope"));
        assert_eq!(name(Some("x.slice:p:n")), is("x.slice", "p-n.scope"));
        assert_eq!(name(Some("::n")), is("system.slice", "n.scope"));
        for bad in [
            "/a/b",
            "a.slice:n",
            "a.slice:p:",
            "a.slice:p:x.slice",
            "a:p:n",
            "a.slice:p:b/c",
            "a.slice:p:b:c",
            "a.slice:p:b c",
        ] {
            assert!(name(Some(bad)).is_err(), "{bad}");
        }
    }
}
