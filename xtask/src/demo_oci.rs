//! The second part of the demo: a container of an OCI bundle, driven as engines do, and nothing left of it, cgroups
//! included.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::demo_stage::Stage;
use crate::task_demo::{expect, starts_with, success};
use crate::{Result, children};

/// No verb takes a second; one that takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(1);
const CGROUPS: &str = "/sys/fs/cgroup";

/// A container on the stage.
struct Container {
    bundle: PathBuf,
    root: String,
    id: String,
}

/// Performs it, with the image of the first part.
pub(crate) fn perform(stage: &mut Stage, layout: &str) -> Result<()> {
    let container = Container {
        bundle: stage.dir().join("bundle"),
        root: stage.dir().join("oci").display().to_string(),
        id: format!("start-container-demo-{}", std::process::id()),
    };
    let before = stage.traces()?;
    stage.step("make an OCI bundle", |stage| container.make(stage, layout))?;
    stage.step("create", |stage| {
        let _ = container.call(stage, &["create", "--bundle", &container.bundle()])?;
        container.await_status(stage, "created")
    })?;
    stage.step("start", |stage| {
        let _ = container.call(stage, &["start"])?;
        container.await_status(stage, "running")
    })?;
    stage.step("exec: id", |stage| {
        let words = ["exec", &container.id, "id"];
        starts_with(&container.run(stage, &words)?, "uid=0 gid=0")
    })?;
    stage.step("kill: SIGKILL", |stage| {
        let words = ["kill", &container.id, "KILL"];
        let _ = container.run(stage, &words)?;
        container.await_status(stage, "stopped")
    })?;
    stage.step("delete", |stage| {
        let _ = container.call(stage, &["delete"])?;
        expect(&container.run(stage, &["list", "--quiet"])?, "")?;
        Ok("the list of containers is empty".into())
    })?;
    stage.step("what is left", |stage| {
        let cgroups = below(Path::new(CGROUPS), &container.id);
        match cgroups.first() {
            None => stage.nothing_is_left(&before),
            Some(cgroup) => Err(format!("a cgroup is left: {}", cgroup.display())),
        }
    })
}

impl Container {
    fn bundle(&self) -> String {
        self.bundle.display().to_string()
    }

    /// Unpacks the image as one directory, and has a configuration written that is then changed a little.
    fn make(&self, stage: &Stage, layout: &str) -> Result<String> {
        let import = ["image", "import", layout, "--flat", "--id=bundle"];
        success(&stage.start_container(&import, b"")?)?;
        let failed = |error| format!("make {}: {error}", self.bundle());
        fs::create_dir(&self.bundle).map_err(failed)?;
        let _ = self.run(stage, &["spec", "--bundle", &self.bundle()])?;
        let file = self.bundle.join("config.json");
        let text = fs::read(&file).map_err(failed)?;
        let mut config: Value = serde_json::from_slice(&text)
            .map_err(|error| format!("config.json is not JSON: {error}"))?;
        config["root"]["path"] = json!(stage.base().join("images/bundle"));
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sleep", "600"]);
        config["linux"]["resources"] = json!({ "pids": { "limit": 50 } });
        fs::write(&file, config.to_string()).map_err(failed)?;
        Ok("config.json and a root filesystem".into())
    }

    /// A verb with the id of this container behind it.
    fn call(&self, stage: &Stage, words: &[&str]) -> Result<String> {
        self.run(stage, &[words, &[&self.id]].concat())
    }

    /// A verb: what it prints. That goes to files, since the container keeps what `create` has for streams.
    fn run(&self, stage: &Stage, words: &[&str]) -> Result<String> {
        let [out, err] = ["oci.out", "oci.err"].map(|name| stage.dir().join(name));
        let failed = |error| format!("run {words:?}: {error}");
        let mut command = stage.bare_command(&[&["--root", &self.root], words].concat());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).map_err(failed)?)
            .stderr(File::create(&err).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let status = children::wait(&mut child, DEADLINE)?;
        let read = |path: &Path| fs::read_to_string(path).map_err(failed);
        if status.success() {
            read(&out)
        } else {
            Err(format!("ended with {status}\n{}", read(&err)?))
        }
    }

    fn await_status(&self, stage: &Stage, wanted: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            let state = self.call(stage, &["state"])?;
            let state: Value = serde_json::from_str(&state)
                .map_err(|error| format!("the state is not JSON: {error}"))?;
            if state["status"] == wanted {
                return Ok(wanted.into());
            }
            if begun.elapsed() > DEADLINE {
                return Err(format!("it is {}, not {wanted}", state["status"]));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Every directory of this name.
fn below(directory: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let inside = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path());
    inside
        .flat_map(|path| {
            let mut found = below(&path, name);
            found.extend(path.ends_with(name).then_some(path));
            found
        })
        .collect()
}
