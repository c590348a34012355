//! The verbs on containers and their mounts: what their words mean.

use std::path::PathBuf;

use super::super::args::{
    BindMountArgs, Command, CreateFsArgs, DestroyFsArgs, ExecArgs, InspectArgs, Invocation,
    MountAddArgs, MountListArgs, MountRemoveArgs, PipeWrapArgs, RunArgs,
};
use super::super::scan::{Scan, Stop};
use super::super::values;
use super::options::{Options, required};
use crate::ids::{Guid, ImageId};
use crate::mounts;

pub(super) fn launch(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let rootfs = options.operand(&mut scan, "ROOTFS")?.into();
    let command = options.command(scan.restart())?;
    Ok(Invocation::Launch(options.launch(rootfs, command)?))
}

pub(super) fn run(mut options: Options, scan: Scan) -> Result<Invocation, Stop> {
    let command = options.command(scan)?;
    let image = required("--image", options.process.image.clone())?;
    let launch = options.launch(PathBuf::new(), command)?;
    Ok(Invocation::Run(RunArgs { image, launch }))
}

pub(super) fn exec(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let rootfs = options.operand(&mut scan, "ROOTFS")?.into();
    let missing = scan.lacks("COMMAND", "missing");
    let command = options.command(scan.restart())?.ok_or(missing)?;
    Ok(Invocation::Exec(ExecArgs {
        rootfs,
        command,
        dry_run: options.dry_run()?,
        process: options.process,
        dirs: options.dirs,
    }))
}

pub(super) fn inspect(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let rootfs = options.operand(&mut scan, "ROOTFS")?.into();
    options.until_end(&mut scan)?;
    Ok(Invocation::Inspect(InspectArgs {
        rootfs,
        dirs: options.dirs,
    }))
}

pub(super) fn create_fs(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let image = ImageId::new(options.operand(&mut scan, "IMAGE_ID")?)?;
    let name = options.until_operand(&mut scan)?;
    let name = name.map(|name| values::text("NAME", name)).transpose()?;
    options.until_end(&mut scan)?;
    Ok(Invocation::CreateFs(CreateFsArgs {
        image,
        name: name.filter(|name| !name.is_empty()),
        userns: options.userns,
        verity: options.verity,
        dirs: options.dirs,
    }))
}

pub(super) fn destroy_fs(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let guid = Guid::new(options.operand(&mut scan, "GUID")?)?;
    options.until_end(&mut scan)?;
    Ok(Invocation::DestroyFs(DestroyFsArgs {
        guid,
        dirs: options.dirs,
    }))
}

pub(super) fn mount_add(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let rootfs = options.operand(&mut scan, "ROOTFS")?.into();
    let entry = values::utf8("MOUNT", options.operand(&mut scan, "MOUNT")?)?;
    options.until_end(&mut scan)?;
    Ok(Invocation::MountAdd(MountAddArgs {
        rootfs,
        spec: mounts::parse(&entry)?,
        dirs: options.dirs,
    }))
}

pub(super) fn mount_remove(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let rootfs = options.operand(&mut scan, "ROOTFS")?.into();
    let path = options.operand(&mut scan, "PATH")?;
    options.until_end(&mut scan)?;
    Ok(Invocation::MountRemove(MountRemoveArgs {
        rootfs,
        target: values::target(&path)?,
        dirs: options.dirs,
    }))
}

pub(super) fn mount_list(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let rootfs = options.operand(&mut scan, "ROOTFS")?.into();
    options.until_end(&mut scan)?;
    Ok(Invocation::MountList(MountListArgs {
        rootfs,
        json: options.json,
        dirs: options.dirs,
    }))
}

pub(super) fn bind_mount(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    options.until_end(&mut scan)?;
    Ok(Invocation::BindMount(BindMountArgs {
        source: required("--source", options.source)?,
        target: required("--target", options.target)?,
        recursive: options.recursive,
        readonly: options.readonly,
        file: options.file,
        idmap: options.idmap,
        dirs: options.dirs,
    }))
}

pub(super) fn pipe_wrap(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let program = options.operand(&mut scan, "COMMAND")?;
    let arguments = scan.rest();
    let command = Command { program, arguments };
    Ok(Invocation::PipeWrap(PipeWrapArgs { command }))
}
