//! `mounts` of config.json: what is mounted where, and how, in the words of mount(8).

use std::ffi::CString;
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;
use oci_spec::runtime::Mount as Given;
use shim::mounts::{Attributes, Content, Mount, Target};
use shim::sys::mount::Propagation;
use shim::{Error, Result};

use super::cgroup_mount::View;
use super::config::{unsupported, wrong};

/// The mounts of a configuration.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// In their order.
    pub(super) list: Vec<Mount>,
    /// What becomes read-only when all are there.
    pub(super) readonly: Vec<CString>,
}

/// Decides.
///
/// # Errors
/// Names the entry that is wrong, or has something that is not supported.
pub(super) fn plan(given: &[Given], bundle: &Path, cgroups: &View<'_>) -> Result<Mounts> {
    let mut mounts = Mounts::default();
    for (index, entry) in given.iter().enumerate() {
        mounts.add(entry, &format!("mounts[{index}]"), bundle, cgroups)?;
    }
    Ok(mounts)
}

/// What the options of an entry say.
#[derive(Debug, Default)]
struct Options {
    bind: bool,
    recursive: bool,
    attributes: Attributes,
    propagation: Option<Propagation>,
    /// For the filesystem.
    data: Vec<(CString, Option<CString>)>,
}

impl Options {
    fn read(given: &Given, field: &str) -> Result<Self> {
        let mut options = Self {
            bind: given.typ().as_deref() == Some("bind"),
            ..Self::default()
        };
        for word in given.options().iter().flatten() {
            options.take(word, field)?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &str, field: &str) -> Result<()> {
        let refused = || unsupported(format!("{field}.options: {word}"));
        let set = |attributes: &mut Attributes, one| *attributes = attributes.with(one);
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "ro" => set(&mut self.attributes, Attributes::READONLY),
            "nosuid" => set(&mut self.attributes, Attributes::NOSUID),
            "nodev" => set(&mut self.attributes, Attributes::NODEV),
            "noexec" => set(&mut self.attributes, Attributes::NOEXEC),
            "noatime" => set(&mut self.attributes, Attributes::NOATIME),
            "strictatime" => set(&mut self.attributes, Attributes::STRICTATIME),
            "nodiratime" => set(&mut self.attributes, Attributes::NODIRATIME),
            "rw" => self.attributes = self.attributes.without(Attributes::READONLY),
            "suid" => self.attributes = self.attributes.without(Attributes::NOSUID),
            "dev" => self.attributes = self.attributes.without(Attributes::NODEV),
            "exec" => self.attributes = self.attributes.without(Attributes::NOEXEC),
            // What the kernel does anyway, with a new filesystem.
            "relatime" if !self.bind => {}
            "defaults" | "async" => {}
            "private" | "rprivate" => self.propagation = Some(Propagation::Private),
            "slave" | "rslave" => self.propagation = Some(Propagation::Slave),
            "shared" | "rshared" => self.propagation = Some(Propagation::Shared),
            "tmpcopyup" | "relatime" | "remount" | "unbindable" | "runbindable" | "idmap"
            | "ridmap" | "sync" | "dirsync" | "mand" | "nomand" | "iversion" | "noiversion"
            | "rro" | "rrw" | "rnosuid" | "rsuid" | "rnodev" | "rdev" | "rnoexec" | "rexec"
            | "rnoatime" | "ratime" | "rnodiratime" | "rdiratime" | "rrelatime" | "rnorelatime"
            | "rstrictatime" | "rnostrictatime" | "nosymfollow" | "rnosymfollow"
            | "copy-symlink" | "src-nofollow" => return Err(refused()),
            _ => {
                let (key, value) = match word.split_once('=') {
                    Some((key, value)) => (key, Some(value)),
                    None => (word, None),
                };
                let text = |text: &str| {
                    CString::new(text).map_err(|_| wrong(field, "an option contains a NUL byte"))
                };
                self.data.push((text(key)?, value.map(text).transpose()?));
            }
        }
        Ok(())
    }
}

impl Mounts {
    fn add(&mut self, given: &Given, field: &str, bundle: &Path, cgroups: &View<'_>) -> Result<()> {
        if given.uid_mappings().is_some() || given.gid_mappings().is_some() {
            return Err(unsupported(format!("{field}.uidMappings")));
        }
        let target = Target::new(given.destination())
            .map_err(|why| wrong(format!("{field}.destination"), why))?;
        let options = Options::read(given, field)?;
        let kind = given.typ().as_deref().unwrap_or_default();
        let is_procfs = kind == "proc" && !options.bind;
        // What lies in the way of the kernel's own files lies in the way of masks, labels and sysctls, too.
        if target.is_in_proc() && !(is_procfs && target.components().len() == 1) {
            return Err(wrong(
                format!("{field}.destination"),
                "only a procfs is mounted on /proc, and nothing in it",
            ));
        }
        if matches!(kind, "cgroup" | "cgroup2") && !options.bind {
            return self.add_cgroups(&target, &options, field, cgroups);
        }
        let content = if options.bind {
            bind(given, &options, field, bundle)?
        } else {
            new(kind, &options, field)?
        };
        self.list.push(Mount {
            target,
            make_target: true,
            shallow: matches!(content, Content::Bind { .. }),
            content,
            attributes: options.attributes,
        });
        Ok(())
    }

    fn add_cgroups(
        &mut self,
        target: &Target,
        options: &Options,
        field: &str,
        cgroups: &View<'_>,
    ) -> Result<()> {
        no_data(options, field)?;
        if options.attributes.names().any(|name| name == "ro") {
            self.readonly.extend(CString::new(target.to_string()));
        }
        self.list
            .extend(cgroups.mounts(target, options.attributes)?);
        Ok(())
    }
}

fn no_data(options: &Options, field: &str) -> Result<()> {
    match options.data.first() {
        Some((name, _)) => {
            let name = name.to_string_lossy();
            Err(unsupported(format!("{field}.options: {name}")))
        }
        None => Ok(()),
    }
}

fn bind(given: &Given, options: &Options, field: &str, bundle: &Path) -> Result<Content> {
    no_data(options, field)?;
    let source = given
        .source()
        .as_ref()
        .ok_or_else(|| wrong(format!("{field}.source"), "is missing"))?;
    let source: PathBuf = bundle.join(source);
    let stat = nix::sys::stat::stat(&source).map_err(|errno| {
        Error::sys("bind", source.display(), errno)
            .flags(field.to_owned())
            .hint("the source must exist on the host; it is not created")
    })?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    Ok(Content::Bind {
        source,
        file: kind != SFlag::S_IFDIR,
        recursive: options.recursive,
        // Otherwise what is unmounted inside would be unmounted on the host.
        propagation: options.propagation.unwrap_or(Propagation::Private),
        idmap: Vec::new(),
    })
}

fn new(kind: &str, options: &Options, field: &str) -> Result<Content> {
    match kind {
        "tmpfs" | "proc" | "sysfs" | "devpts" | "mqueue" => {}
        "" => return Err(wrong(format!("{field}.type"), "is missing")),
        _ => return Err(unsupported(format!("{field}.type: {kind}"))),
    }
    if options.propagation == Some(Propagation::Shared) {
        return Err(unsupported(format!("{field}.options: shared")));
    }
    Ok(Content::New {
        filesystem: CString::new(kind).unwrap_or_default(),
        options: options.data.clone(),
    })
}
