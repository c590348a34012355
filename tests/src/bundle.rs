//! An OCI bundle of a test, and the binary as an engine calls it.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::host::cgroups_of;
use crate::image::Image;
use crate::run::Run;
use crate::until;
use crate::world::World;

/// A directory with a root filesystem and a config.json, and the state directory of its containers.
#[derive(Debug)]
pub struct Bundle<'w> {
    world: &'w World,
    /// The bundle.
    pub dir: PathBuf,
}

impl<'w> Bundle<'w> {
    /// A bundle with the configuration of `spec`, changed by `change`, whose program is this shell script.
    ///
    /// # Panics
    /// When a file cannot be made.
    #[must_use]
    pub fn new(world: &'w World, script: &str, change: impl FnOnce(&mut Value)) -> Self {
        let dir = world.dir.join("bundle");
        fs::create_dir(&dir).expect("bundle");
        Image::at(&dir, "rootfs").build();
        let bundle = Self { world, dir };
        let _ = bundle.spec().text();
        let mut config = bundle.config();
        without_hosts(&mut config);
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = ["sh", "-c", script].into_iter().collect();
        config["linux"]["cgroupsPath"] = bundle.cgroup("one").into();
        change(&mut config);
        bundle.write(&config);
        bundle
    }

    /// A path for `linux.cgroupsPath`.
    #[must_use]
    pub fn cgroup(&self, id: &str) -> String {
        format!("/{}/{id}", self.world.name())
    }

    fn spec(&self) -> Run {
        let dir = self.dir.to_str().expect("path");
        self.world.bare(["spec", "--bundle", dir])
    }

    /// Its config.json.
    ///
    /// # Panics
    /// When it is no JSON.
    #[must_use]
    pub fn config(&self) -> Value {
        let text = fs::read(self.dir.join("config.json")).expect("config.json");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Replaces it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, config: &Value) {
        fs::write(self.dir.join("config.json"), config.to_string()).expect("config.json");
    }

    /// A file of its root filesystem, as the host sees it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join("rootfs").join(name)
    }

    /// Where the containers are.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.world.state.join("oci")
    }

    /// The log that every call writes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.world.dir.join("log.json")
    }

    /// The binary with these words behind the options that come first.
    #[must_use]
    pub fn call(&self, words: &[&str]) -> Run {
        let root = format!("--root={}", self.root().display());
        let log = format!("--log={}", self.log().display());
        let globals = [root.as_str(), &log, "--log-format", "json"];
        self.world.bare(globals).verb(words).cwd(&self.dir)
    }

    /// The same, which has to succeed: what it prints.
    pub fn ok(&self, words: &[&str]) -> String {
        self.call(words).text()
    }

    /// Expects that `create` refuses this configuration, with these words.
    ///
    /// # Panics
    /// When it does not.
    pub fn refuses(&self, config: &Value, told: &str) {
        self.write(config);
        let done = self.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        let text = done.err_text();
        assert!(text.contains(told), "{told}: {text}");
        assert!(text.starts_with("start-container: error: "), "{text}");
    }

    /// The state of a container.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).expect("JSON")
    }

    /// Waits for a container to be in a state.
    pub fn await_status(&self, id: &str, status: &str) {
        until(status, || {
            (self.state(id)["status"] == status).then_some(())
        });
    }

    /// The last line of the log.
    ///
    /// # Panics
    /// When there is none, or it is no JSON.
    #[must_use]
    pub fn last_log(&self) -> Value {
        let text = fs::read_to_string(self.log()).expect("log");
        serde_json::from_str(text.lines().next_back().expect("a line")).expect("JSON")
    }
}

impl Drop for Bundle<'_> {
    /// Cgroups are in no directory of the world, so the containers take them along.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let id = entry.file_name();
            let words = ["delete", "--force"];
            let _ = self.call(&words).verb([id]).done();
        }
        // What a deleted container has made above its cgroup stays while another one is in there.
        for cgroup in cgroups_of(self.world).iter().rev() {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// Takes from an example what is up to the host's cgroups: most tests have nothing to do with it.
pub fn without_hosts(config: &mut Value) {
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "cgroup");
    }
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("resources");
    }
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|one| one["type"] != "cgroup");
        namespaces.push(serde_json::json!({ "type": "cgroup" }));
    }
}
