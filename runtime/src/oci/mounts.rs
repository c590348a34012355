//! `mounts` of config.json: what is mounted where, and how, in the words of mount(8).

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;
use oci_spec::runtime::{LinuxIdMapping, Mount as Given};
use shim::idmap::{self, IdMap};
use shim::mounts::{Attributes, Content, Mount, Target};
use shim::plan::{IdMaps, IdRange};
use shim::sys::mount::Propagation;
use shim::{Error, Result};

use super::cgroup_mount::View;
use super::config::{unsupported, wrong};
use super::filesystem;
use super::mount_options::Options;
use super::namespaces::Places;

/// The mounts of a configuration.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// In their order.
    pub(super) list: Vec<Mount>,
    /// What becomes read-only when all are there.
    pub(super) readonly: Vec<CString>,
    /// What is masked then.
    pub(super) masked: Vec<CString>,
    /// Whether what is mounted on /dev becomes read-only then.
    pub(super) readonly_dev: bool,
}

/// Decides. `label` is that of new filesystems.
///
/// # Errors
/// Names the entry that is wrong, or has something that is not supported.
pub(super) fn plan(
    given: &[Given],
    bundle: &Path,
    cgroups: &View<'_>,
    places: &Places,
    label: Option<&CStr>,
    warnings: &mut Vec<String>,
) -> Result<Mounts> {
    let mut mounts = Mounts::default();
    for (index, entry) in given.iter().enumerate() {
        let field = format!("mounts[{index}]");
        let mut options = Options::read(entry, &field)?;
        let stands_in = entry.typ().as_deref() == Some("sysfs") && !sysfs_is_allowed(places);
        if stands_in && !(options.bind || options.remount) {
            mounts.add_hosts_sysfs(entry, &options, &field, given)?;
            warnings.push(format!(
                "{field}: it is the host's /sys, read-only: a sysfs takes a network namespace of the container's own"
            ));
            continue;
        }
        if options.bind {
            options.drop_filesystems(&field, warnings);
        } else if let Some(label) = label.filter(|_| !options.remount) {
            let kind = entry.typ().as_deref().unwrap_or_default();
            filesystem::label(kind, label, &mut options.data);
        }
        mounts.add(entry, options, &field, bundle, (cgroups, places))?;
    }
    Ok(mounts)
}

impl Mounts {
    fn add(
        &mut self,
        given: &Given,
        mut options: Options,
        field: &str,
        bundle: &Path,
        (cgroups, places): (&View<'_>, &Places),
    ) -> Result<()> {
        let target = Target::new(given.destination())
            .map_err(|why| wrong(format!("{field}.destination"), why))?;
        let kind = given.typ().as_deref().unwrap_or_default();
        if options.remount {
            let change = filesystem::again(&target, &options, &self.list, field)?;
            self.list.push(Mount {
                make_target: false,
                recursive: options.recursive_change,
                follow: may_follow(&target, "tmpfs", &options),
                ..Mount::new(target, change, options.attributes)
            });
            return Ok(());
        }
        // Nobody gets a new procfs of a PID namespace that is not its own.
        let is_hosts = options.bind && given.source().as_deref() == Some(Path::new("/proc"));
        let is_procfs = if options.bind {
            is_hosts && !places.own.names().any(|name| name == "pid")
        } else {
            kind == "proc"
        };
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
            let source = given.source().as_deref();
            if source == Some(Path::new("/sys")) && options.attributes.is_readonly() {
                // The host's cgroups are mounted below it (CVE-2023-25809).
                let all = &mut options.recursive_change.set;
                *all = all.with(Attributes::READONLY);
            }
            let idmap = mappings(given, &options, places.id_maps.as_ref(), field)?;
            bind(given, &options, idmap, field, bundle)?
        } else {
            options.flatten();
            filesystem::new(given, kind, &options, field)?
        };
        let mut attributes = options.attributes;
        if matches!(content, Content::New { .. }) && target.to_string() == "/dev" {
            // Devices, and what is mounted on /dev/pts and the like, are yet to be made in it.
            self.readonly_dev = attributes.is_readonly();
            attributes = attributes.without(Attributes::READONLY);
        }
        self.list.push(Mount {
            make_target: true,
            shallow: matches!(content, Content::Bind { .. }),
            recursive: options.recursive_change,
            follow: may_follow(&target, kind, &options),
            target,
            content,
            attributes,
        });
        Ok(())
    }

    /// What podman itself binds there for a container that shares a network.
    fn add_hosts_sysfs(
        &mut self,
        given: &Given,
        options: &Options,
        field: &str,
        all: &[Given],
    ) -> Result<()> {
        let target = Target::new(given.destination())
            .map_err(|why| wrong(format!("{field}.destination"), why))?;
        let cgroups = given.destination().join("fs/cgroup");
        if all.iter().all(|mount| *mount.destination() != cgroups) {
            // Those of the host are mounted there.
            self.masked
                .extend(CString::new(cgroups.into_os_string().into_vec()));
        }
        let content = Content::Bind {
            source: "/sys".into(),
            file: false,
            recursive: true,
            propagation: options.propagation.unwrap_or(Propagation::Private),
            idmap: Vec::new(),
        };
        let mut mount = Mount::new(target, content, options.attributes);
        mount.make_target = true;
        mount.recursive.set = options.attributes.with(Attributes::READONLY);
        self.list.push(mount);
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

/// A sysfs shows the devices of the caller's network namespace, over which the caller has to have CAP_SYS_ADMIN.
fn sysfs_is_allowed(places: &Places) -> bool {
    places.id_maps.is_none() || places.own.names().any(|name| name == "network")
}

/// Below /proc, /sys and /dev a symlink is nobody's wish, and there a procfs, a sysfs or the devices are to be.
fn may_follow(target: &Target, kind: &str, options: &Options) -> bool {
    let first = target.components().first().map(|name| name.to_bytes());
    let is_kernels = matches!(first, Some(b"proc" | b"sys" | b"dev"));
    !is_kernels && (options.bind || kind == "tmpfs")
}

/// The map of an idmapped bind: its own, or the container's.
fn mappings(
    given: &Given,
    options: &Options,
    own_maps: Option<&IdMaps>,
    field: &str,
) -> Result<Vec<IdMap>> {
    let lines = |list: Option<&Vec<LinuxIdMapping>>| -> Vec<IdMap> {
        let list = list.into_iter().flatten();
        list.map(|line| IdRange::new(line.container_id(), line.host_id(), line.size()).into())
            .collect()
    };
    let own = |list: fn(&IdMaps) -> &Vec<IdRange>| -> Vec<IdMap> {
        let list = own_maps.into_iter().flat_map(list);
        list.copied().map(IdMap::from).collect()
    };
    let [mut users, mut groups] = match &options.id_lines {
        Some(lines) => lines.clone(),
        None => [given.uid_mappings(), given.gid_mappings()].map(|list| lines(list.as_ref())),
    };
    if users.is_empty() && groups.is_empty() {
        if options.idmap.is_none() {
            return Ok(Vec::new());
        }
        (users, groups) = (own(|maps| &maps.users), own(|maps| &maps.groups));
    }
    let field = format!("{field}.uidMappings");
    if users != groups {
        return Err(unsupported(field).hint("gidMappings must be the same"));
    }
    if options.recursive && options.idmap != Some(true) {
        return Err(unsupported(field).hint("with rbind, give ridmap"));
    }
    idmap::check(&users).map_err(|error| error.flags(field))?;
    Ok(users)
}

/// The refusal of an option that belongs to another kind of mount.
pub(super) fn only_for(field: &str, option: &str, kind: &str) -> Error {
    wrong(
        format!("{field}.options: {option}"),
        format!("is only for {kind}"),
    )
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

fn bind(
    given: &Given,
    options: &Options,
    idmap: Vec<IdMap>,
    field: &str,
    bundle: &Path,
) -> Result<Content> {
    no_data(options, field)?;
    if options.copy_up {
        return Err(only_for(field, "tmpcopyup", "a new filesystem"));
    }
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
        idmap,
    })
}
