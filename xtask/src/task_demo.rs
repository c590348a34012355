//! `cargo xtask demo`: the whole life of a container with the real binary, each step with its time, and the proof that
//! nothing is left; then that of a container of an OCI bundle. Needs cargo and root, and touches nothing outside one directory
//! of its own but the cgroups of that container.
//!
//! What each step must have had for a result is checked here; how the steps are run and cleaned up is `demo_stage`'s.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use crate::demo_stage::Stage;
use crate::{Result, demo_image, demo_oci, task_build, task_guest};

const MIB: usize = 1024 * 1024;

/// Runs the demo.
pub(crate) fn run() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err("mounts and namespaces need root; run it with sudo".into());
    }
    let binary = task_build::release_binary()?;
    let guest = task_guest::program()?;
    let mut stage = Stage::new(binary)?;
    println!();
    let outcome = perform(&mut stage, &guest);
    if outcome.is_err() {
        eprint!("{}", stage.log_of_launch());
    }
    // Also after a failure: the stage takes down whatever still stands.
    let cleaned = stage.clear();
    outcome.and(cleaned)
}

fn perform(stage: &mut Stage, guest: &std::path::Path) -> Result<()> {
    let layout = stage.dir().join("layout");
    let layout_name = layout.display().to_string();
    stage.step("make an OCI image", |_| {
        let tools = std::process::Command::new(guest)
            .arg("tools")
            .output()
            .map_err(|error| format!("run {}: {error}", guest.display()))?;
        let tools = String::from_utf8_lossy(&tools.stdout).into_owned();
        let tools: Vec<String> = tools.lines().map(str::to_string).collect();
        demo_image::write(&layout, guest, &tools)
    })?;
    stage.step("image import", |stage| {
        let command = ["image", "import", &layout_name, "--id", "demo"];
        success(&stage.start_container(&command, b"")?)?;
        imported(stage)
    })?;
    subcontainer(stage)?;
    demo_oci::perform(stage, &layout_name)
}

/// Makes a root filesystem, launches it, runs commands in it, and takes it all down.
fn subcontainer(stage: &mut Stage) -> Result<()> {
    let before = stage.traces()?;
    stage.step("subcontainer create-fs", |stage| {
        let guid = stage.create_fs("demo")?;
        merged(stage)?;
        Ok(guid)
    })?;
    stage.step("subcontainer launch", |stage| {
        stage.launch()?;
        stage.wait_until_visible()
    })?;
    commands(stage)?;
    volume(stage)?;
    stage.step("SIGTERM to launch", |stage| stage.stop())?;
    stage.step("subcontainer destroy-fs", |stage| stage.destroy_fs())?;
    stage.step("what is left", |stage| {
        stage.volume_is_untouched()?;
        stage.nothing_is_left(&before)
    })
}

/// The two layers are one tree.
fn merged(stage: &Stage) -> Result<()> {
    let path = stage.rootfs().join(demo_image::APP_FILE);
    let text = fs::read_to_string(&path);
    let text = text.map_err(|error| format!("read {}: {error}", path.display()))?;
    expect(&text, demo_image::APP_TEXT)?;
    if stage.rootfs().join("etc").join(demo_image::GONE).exists() {
        return Err("a file that the second layer takes away is still there".into());
    }
    Ok(())
}

/// The image has its record, and its environment and configuration beside it.
fn imported(stage: &Stage) -> Result<String> {
    let images = stage.base().join("images");
    let read = |path: String| {
        let path = images.join(path);
        fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))
    };
    if !images.join("demo.image").is_file() {
        return Err("there is no record of the image".into());
    }
    expect(
        &read("demo.env".into())?,
        "PATH=/bin\nGREETING=hello from the image\n",
    )?;
    let config: serde_json::Value = serde_json::from_str(&read("demo.json".into())?)
        .map_err(|error| format!("demo.json is not JSON: {error}"))?;
    expect(config["user"].as_str().unwrap_or_default(), "app")?;
    expect(config["workdir"].as_str().unwrap_or_default(), "/home/app")?;
    Ok("images/demo.image, demo.env, demo.json".into())
}

/// Commands in the running container: identity, environment, exit codes, signals, streams.
fn commands(stage: &mut Stage) -> Result<()> {
    let env_file = stage.base().join("images/demo.env").display().to_string();
    let from_image = format!("--env-file={env_file}");
    stage.step("exec: id, as root", |stage| {
        let out = success(&stage.exec(&[], &["id"], b"")?)?;
        starts_with(&out, "uid=0 gid=0 ")
    })?;
    stage.step("exec --user=app: id", |stage| {
        let out = success(&stage.exec(&["--user=app"], &["id"], b"")?)?;
        let id = demo_image::USER_ID;
        let groups = out.trim().rsplit('=').next().unwrap_or_default();
        if !groups
            .split(',')
            .any(|group| group == demo_image::EXTRA_GROUP.to_string())
        {
            return Err(format!(
                "group {} of /etc/group is missing: {out}",
                demo_image::EXTRA_GROUP
            ));
        }
        starts_with(&out, &format!("uid={id} gid={id} "))
    })?;
    stage.step("exec --user=app: HOME", |stage| {
        let options = ["--user=app", &from_image];
        let out = success(&stage.exec(&options, &["print-env", "HOME"], b"")?)?;
        expect(&out, "/home/app\n")
    })?;
    stage.step("exec --env-file: the image's", |stage| {
        let out = success(&stage.exec(&[&from_image], &["print-env", "GREETING"], b"")?)?;
        expect(&out, "hello from the image\n")
    })?;
    stage.step("exec --env: wins over the file", |stage| {
        let options = [&from_image, "--env=GREETING=hello from the caller"];
        let out = success(&stage.exec(&options, &["print-env", "GREETING"], b"")?)?;
        expect(&out, "hello from the caller\n")
    })?;
    stage.step("exec: exit 7", |stage| {
        let output = stage.exec(&[], &["exit", "7"], b"")?;
        match output.status.code() {
            Some(7) => Ok("exit code 7".into()),
            _ => Err(format!("ended with {}", ending(&output))),
        }
    })?;
    stage.step("exec: killed by SIGKILL", |stage| {
        let output = stage.exec(&[], &["kill-self", "KILL"], b"")?;
        match output.status.signal() {
            Some(9) => Ok("died of SIGKILL, as the command did".into()),
            _ => Err(format!("ended with {}", ending(&output))),
        }
    })?;
    stage.step("exec: 1 MiB through cat", |stage| {
        let sent: Vec<u8> = (0u8..=250).cycle().take(MIB).collect();
        let output = stage.exec(&[], &["cat"], &sent)?;
        success(&output)?;
        if output.stdout == sent {
            Ok("byte for byte".into())
        } else {
            Err(format!(
                "{} bytes came back, not the {MIB} sent",
                output.stdout.len()
            ))
        }
    })
}

/// A directory of the host that is bound into the container while it runs.
fn volume(stage: &mut Stage) -> Result<()> {
    stage.step("bind-mount a volume, later", |stage| {
        let volume = stage.make_volume()?.display().to_string();
        let target = stage.rootfs().join("srv/volume").display().to_string();
        let command = ["bind-mount", "--source", &volume, "--target", &target];
        success(&stage.start_container_bare(&command, b"")?)?;
        Ok("srv/volume".into())
    })?;
    stage.step("exec: read the volume", |stage| {
        let out = success(&stage.exec(&[], &["read", "/srv/volume/note"], b"")?)?;
        expect(&out, Stage::NOTE)
    })
}

/// Standard output as text of a command that must have succeeded.
pub(crate) fn success(output: &Output) -> Result<String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("ended with {}", ending(output)))
    }
}

fn ending(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{}\n{}", output.status, stderr.trim_end())
}

pub(crate) fn expect(found: &str, expected: &str) -> Result<String> {
    if found == expected {
        Ok(found.trim_end().to_string())
    } else {
        Err(format!("expected {expected:?}, got {found:?}"))
    }
}

pub(crate) fn starts_with(found: &str, expected: &str) -> Result<String> {
    if found.starts_with(expected) {
        Ok(found.trim_end().to_string())
    } else {
        Err(format!("expected {expected:?} first, got {found:?}"))
    }
}
