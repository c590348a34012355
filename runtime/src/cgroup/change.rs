//! Other limits for cgroups that are in use: all of them, or what held before.

use shim::Result;

use super::group::{Group, Member};
use super::settings::{Line, Setting, Settings};

impl Group {
    /// Makes other limits hold, and does `then`.
    ///
    /// # Errors
    /// Those of [`Group::apply`] and of `then`. What held before holds again then, as far as the kernel lets it.
    pub(crate) fn change(
        &self,
        settings: &Settings,
        then: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before: Vec<_> = settings
            .list
            .iter()
            .filter_map(|setting| self.before(setting))
            .collect();
        let changed = self.apply(settings).and_then(|()| then());
        if changed.is_err() {
            // The last first; what depends on another limit is taken the second time.
            for _ in 0..2 {
                for (member, line) in before.iter().rev() {
                    let _ = member.dir.write(&line.file, &line.value);
                }
            }
        }
        changed
    }

    /// What to write to have again what a setting is going to change.
    fn before(&self, setting: &Setting) -> Option<(&Member, Line)> {
        let member = self.member_of(setting)?;
        let lines = [Some(&setting.line), setting.otherwise.as_ref()];
        lines.into_iter().flatten().find_map(|line| {
            let now = member.dir.read(&line.file).ok()?;
            let (file, value) = (line.file.clone(), undoing(line, &now)?);
            Some((member, Line { file, value }))
        })
    }
}

/// What undoes a line that is written to a file which says `now`.
fn undoing(line: &Line, now: &str) -> Option<String> {
    let file = line.file.as_str();
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let key = first(&line.value).unwrap_or_default();
    if key.contains(':') || matches!(file, "rdma.max" | "net_prio.ifpriomap") {
        // A line for each device, and none for a device without limits.
        let was = now.lines().find(|line| first(line).as_ref() == Some(&key));
        return Some(match (was, file) {
            (Some(was), _) => was.to_owned(),
            (None, "io.max") => format!("{key} rbps=max wbps=max riops=max wiops=max"),
            (None, "io.weight") => format!("{key} default"),
            (None, _) => format!("{key} 0"),
        });
    }
    match file {
        "memory.oom_control" => {
            let mut lines = now.lines();
            lines.find_map(|line| line.strip_prefix("oom_kill_disable ").map(str::to_owned))
        }
        // The line for all devices is the first.
        "io.weight" | "io.bfq.weight" => now.lines().next().map(str::to_owned),
        // An empty line is how to say "none".
        _ => Some(format!("{}\n", now.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_undoes_a_limit_is_what_the_file_said_of_it() {
        for (file, value, now, undoing_it) in [
            ("memory.max", "64", "max\n", "max\n"),
            ("cpu.max", "5 10", "max 100000\n", "max 100000\n"),
            ("cpuset.cpus", "0", "\n", "\n"),
            (
                "io.max",
                "8:0 rbps=5",
                "8:0 rbps=7 wbps=max\n",
                "8:0 rbps=7 wbps=max",
            ),
            (
                "io.max",
                "8:16 rbps=5",
                "8:0 rbps=7 wbps=max\n",
                "8:16 rbps=max wbps=max riops=max wiops=max",
            ),
            ("io.weight", "50", "default 100\n8:0 50\n", "default 100"),
            ("io.weight", "8:0 60", "default 100\n8:0 50\n", "8:0 50"),
            (
                "io.weight",
                "8:16 60",
                "default 100\n8:0 50\n",
                "8:16 default",
            ),
            ("blkio.throttle.read_bps_device", "8:0 5", "", "8:0 0"),
            (
                "memory.oom_control",
                "1",
                "oom_kill_disable 0\nunder_oom 0\n",
                "0",
            ),
            (
                "rdma.max",
                "mlx hca_handle=2",
                "mlx hca_handle=max hca_object=max\n",
                "mlx hca_handle=max hca_object=max",
            ),
        ] {
            let line = Line {
                file: file.to_owned(),
                value: value.to_owned(),
            };
            assert_eq!(
                undoing(&line, now).as_deref(),
                Some(undoing_it),
                "{file} {value}"
            );
        }
    }
}
