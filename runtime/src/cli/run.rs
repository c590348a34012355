//! Carries out an invocation: the one `match` from what was asked to the code that does it. Decides nothing itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use shim::idmap::IdMap;
use shim::signals;

use super::args::{
    BindMountArgs, BuildErofsArgs, CreateFsArgs, IdmapRange, ImageExportArgs, ImageImportArgs,
    Invocation,
};
use super::{Outcome, image_verbs};
use crate::bind_mount::{self, BindMount};
use crate::config::{self, Config, DirFlags, Dirs};
use crate::idrange::Pool;
use crate::ids::ImageId;
use crate::image::{self, ErofsRequest, ExportRequest, ImportRequest, Imported, Progress, Rights};
use crate::{exec, inspect, launch, leader, mounts, rootfs, rootless, run, userns};

/// Carries out what was asked.
///
/// # Errors
/// The one error that ends the program; its exit status says whose failure it is.
pub fn run(invocation: Invocation) -> shim::Result<Outcome> {
    if !matches!(invocation, Invocation::Help(_) | Invocation::Version) {
        rootless::refuse_elevated()?;
    }
    match invocation {
        Invocation::Help(text) => Ok(Outcome::text(text)),
        Invocation::Version => Ok(Outcome::text(version())),

        // Before any file is looked at, so that a signal that arrives from now on reaches the command.
        Invocation::Launch(args) => {
            let signals = signals::block_all()?;
            let config = config()?;
            launch::launch(&args, &config.dirs(&args.dirs)?, &config, &signals)
        }
        Invocation::Exec(args) => {
            let signals = signals::block_all()?;
            exec::exec(&args, &dirs(&args.dirs)?, &signals)
        }
        Invocation::Run(args) => {
            let signals = signals::block_all()?;
            let config = config()?;
            let dirs = config.dirs(&args.launch.dirs)?;
            run::run(&args, &dirs, &config, &signals)
        }
        Invocation::Inspect(args) => {
            let dirs = dirs(&args.dirs)?;
            leader::join_view(&dirs.state, &args.rootfs, true)?;
            inspect::inspect(&args, &dirs)
        }
        Invocation::CreateFs(args) => create_fs(&args, &config()?),
        Invocation::DestroyFs(args) => {
            destroy_fs(&dirs(&args.dirs)?, args.guid.as_str()).map(|()| Outcome::SILENT)
        }
        Invocation::MountAdd(args) => {
            let dirs = dirs(&args.dirs)?;
            leader::join_view(&dirs.state, &args.rootfs, true)?;
            mounts::verbs::add(&args.rootfs, &args.spec, &dirs).map(|()| Outcome::SILENT)
        }
        Invocation::MountRemove(args) => {
            let dirs = dirs(&args.dirs)?;
            leader::join_view(&dirs.state, &args.rootfs, true)?;
            mounts::verbs::remove(&args.rootfs, &args.target, &dirs).map(|()| Outcome::SILENT)
        }
        Invocation::MountList(args) => {
            let dirs = dirs(&args.dirs)?;
            leader::join_view(&dirs.state, &args.rootfs, true)?;
            mounts::verbs::show(&args.rootfs, args.json, &dirs).map(Outcome::text)
        }
        Invocation::BindMount(args) => {
            let dirs = dirs(&args.dirs)?;
            bind_mount::bind(&bind_request(args, dirs)).map(|()| Outcome::SILENT)
        }
        Invocation::ImagePull(_) => crate::pull::hand_over(),
        Invocation::ImageImport(args) => import(args, &config()?),
        Invocation::ImageList(args) => image_verbs::list(&args, &dirs(&args.dirs)?),
        Invocation::ImageRemove(args) => image_verbs::remove(&args, &dirs(&args.dirs)?),
        Invocation::ImageGc(args) => image_verbs::collect(&args, &dirs(&args.dirs)?),
        Invocation::ImageVerify(args) => image_verbs::verify(&args, &dirs(&args.dirs)?),
        Invocation::BuildErofs(args) => {
            let dirs = dirs(&args.dirs)?;
            build_erofs(args, &dirs)
        }
        Invocation::ImageExport(args) => {
            let dirs = dirs(&args.dirs)?;
            export(args, &dirs)
        }
        Invocation::ImageInspect(args) => {
            let known = image::inspect(&dirs(&args.dirs)?, &args.id)?;
            let text = if args.json {
                known.json()?
            } else {
                known.text()?
            };
            Ok(Outcome::text(text))
        }
        Invocation::ImageTag(args) => {
            let dirs = dirs(&args.dirs)?;
            image::tag(&dirs, &args.id, &args.new, args.replace)?;
            if !args.json {
                return Ok(Outcome::SILENT);
            }
            image::inspect(&dirs, &args.new)?.json().map(Outcome::text)
        }
        Invocation::PipeWrap(args) => {
            let words: Vec<OsString> = std::iter::once(args.command.program)
                .chain(args.command.arguments)
                .collect();
            shim::pipe_wrap::pipe_wrap(&words).map(Outcome::Ended)
        }
    }
}

fn create_fs(args: &CreateFsArgs, config: &Config) -> shim::Result<Outcome> {
    let dirs = &config.dirs(&args.dirs)?;
    let (image, name) = (args.image.as_str(), args.name.as_deref());
    let settings = config.settings(Some(image));
    let userns = args.userns.as_ref().or(settings.userns.as_ref());
    let created = if rootless::enter()?.entered {
        userns::check_deferred(userns)?;
        if args.verity.is_some() {
            return Err(shim::Error::new("check digest of")
                .on(image)
                .because("without root an image that is a file cannot be used")
                .hint("run as root, or leave --verity out"));
        }
        rootfs::create_deferred(dirs, image, name)?
    } else {
        let ids = userns::of_create_fs(userns, config.id_pool.unwrap_or_else(Pool::of_host))?;
        rootfs::create_verified(dirs, image, args.verity, name, &ids)?
    };
    let mut text = created.rootfs.into_os_string().into_vec();
    text.push(b'\n');
    // A root filesystem that nobody was told of could not be destroyed by anybody.
    if let Err(error) = super::print(&text) {
        let stop = |rootfs: &Path| leader::stop(&dirs.state, rootfs);
        return match rootfs::destroy(dirs, &created.guid, stop) {
            Ok(()) => Err(error),
            Err(_) => Err(error.hint(format!(
                "what was made is still there: start-container subcontainer destroy-fs {}",
                created.guid
            ))),
        };
    }
    Ok(Outcome::Text {
        text: Vec::new(),
        warning: created.warning,
    })
}

fn destroy_fs(dirs: &Dirs, guid: &str) -> shim::Result<()> {
    let stop = |rootfs: &Path| leader::stop(&dirs.state, rootfs);
    if rootless::is_needed()? {
        // From inside a user namespace of one's own another one's processes with other ids are out of reach.
        stop(&rootfs::path(dirs, guid))?;
        rootless::enter()?;
    }
    rootfs::destroy(dirs, guid, stop)
}

fn bind_request(args: BindMountArgs, dirs: Dirs) -> BindMount {
    let range = |line: &IdmapRange| IdMap {
        from: line.from,
        to: line.to,
        range: line.range,
    };
    BindMount {
        source: args.source,
        target: args.target,
        recursive: args.recursive,
        readonly: args.readonly,
        file: args.file,
        idmap: args.idmap.iter().map(range).collect(),
        dirs,
    }
}

fn import(args: ImageImportArgs, config: &Config) -> shim::Result<Outcome> {
    let dirs = config.dirs(&args.dirs)?;
    let all = args.id.is_none();
    // Of all images each gets an id of its own.
    let id = args.id.map_or_else(|| ImageId::new("all"), Ok)?;
    let mut request = ImportRequest::new(args.source, id, dirs.base, dirs.data);
    request.limits = request.limits.with(&config.import).with(&args.limits);
    request.flat = args.flat;
    request.reference = args.reference;
    request.replace = args.replace;
    request.verity = args.verity;
    request.progress = Progress::new(args.progress);
    import_as_caller(request, args.squash, |request| {
        if !all {
            return image::import(request).map(|one| (String::new(), vec![one]));
        }
        let mut text = String::new();
        let mut images = Vec::new();
        for (id, imported) in image::import_all(request)? {
            let reference = imported.reference.as_deref().unwrap_or_default();
            text.push_str(&format!("{} {reference}\n", id.as_str()));
            images.push(imported);
        }
        Ok((text, images))
    })
}

/// Imports with the rights that the caller has, from a user namespace of its own where it lacks them; must be called with
/// one thread. `squash` is what `--squash` asks for; the text that `import` gives is for stdout.
///
/// # Errors
/// Those of entering it, and those of `import`.
pub fn import_as_caller(
    mut request: ImportRequest,
    squash: bool,
    import: impl FnOnce(&ImportRequest) -> shim::Result<(String, Vec<Imported>)>,
) -> shim::Result<Outcome> {
    let origin = rootless::enter_for_files()?;
    request.rights = if origin.single_id.is_some() {
        Rights::SingleId
    } else if origin.entered || !origin.initial_userns {
        match squash {
            true => Rights::Squash,
            false => Rights::UserNamespace,
        }
    } else if rootless::is_needed()? {
        Rights::NoMounts
    } else {
        Rights::Root
    };
    let (text, imported) = import(&request)?;
    let one_owner = origin
        .single_id
        .map(|why| format!("all files belong to one user, because {why}"));
    let warnings: Vec<String> = one_owner
        .into_iter()
        .chain(imported.into_iter().filter_map(|imported| imported.warning))
        .collect();
    Ok(Outcome::Text {
        text: text.into_bytes(),
        warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
    })
}

fn export(args: ImageExportArgs, dirs: &Dirs) -> shim::Result<Outcome> {
    // Files have the ids that they have in a container only there.
    rootless::enter()?;
    let exported = image::export(
        dirs,
        &ExportRequest {
            id: args.id,
            file: args.file,
            format: args.format,
            replace: args.replace,
        },
    )?;
    let text = if args.json {
        exported.json()?
    } else {
        String::new()
    };
    Ok(Outcome::Text {
        text: text.into_bytes(),
        warning: exported.warning,
    })
}

fn build_erofs(args: BuildErofsArgs, dirs: &Dirs) -> shim::Result<Outcome> {
    rootless::enter()?;
    let built = image::build_erofs(
        dirs,
        &ErofsRequest {
            source: args.source,
            file: args.file,
            replace: args.replace,
            digest: args.json,
        },
    )?;
    let text = if args.json {
        built.json()?
    } else {
        String::new()
    };
    Ok(Outcome::Text {
        text: text.into_bytes(),
        warning: built.warning,
    })
}

fn version() -> String {
    format!("start-container {}\n", env!("CARGO_PKG_VERSION"))
}

fn config() -> shim::Result<Config> {
    Config::load(Path::new(config::PATH))
}

fn dirs(flags: &DirFlags) -> shim::Result<Dirs> {
    config()?.dirs(flags)
}
