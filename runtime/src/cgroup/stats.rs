//! What the cgroups have counted, in the form that `runc events --stats` prints.

use serde_json::{Map, Value, json};

use super::dir::Dir;
use super::group::{Group, Member};
use super::hierarchies::Version;

impl Group {
    /// All of it.
    pub(crate) fn stats(&self) -> Value {
        json!({
            "cpu": self.cpu(),
            "memory": self.of("memory").map(memory),
            "pids": self.of("pids").map(|member| json!({
                "current": member.dir.number("pids.current"),
                "limit": member.dir.number("pids.max"),
            })),
            "blkio": self.block_io(),
            "hugetlb": self.of("hugetlb").map(huge_pages),
        })
    }

    fn cpu(&self) -> Value {
        if let Some(Member { dir, .. }) = self.of("cpuacct") {
            let times = numbers(dir, "cpuacct.stat");
            // In ticks of a hundredth of a second, which is what user space sees on every architecture.
            let ticks = |name: &str| {
                times
                    .get(name)
                    .and_then(Value::as_u64)
                    .map(|one| one * 10_000_000)
            };
            let throttled = self
                .of("cpu")
                .map(|member| numbers(&member.dir, "cpu.stat"));
            let throttled = throttled.unwrap_or_default();
            return json!({
                "usage": {
                    "total": dir.number("cpuacct.usage"),
                    "user": ticks("user"),
                    "kernel": ticks("system"),
                },
                "throttling": {
                    "periods": throttled.get("nr_periods"),
                    "throttledPeriods": throttled.get("nr_throttled"),
                    "throttledTime": throttled.get("throttled_time"),
                },
            });
        }
        // Every cgroup of version 2 has times, with the controller or without.
        let Some(Member { dir, .. }) = self.second() else {
            return Value::Null;
        };
        let times = numbers(dir, "cpu.stat");
        let nanoseconds = |name: &str| {
            times
                .get(name)
                .and_then(Value::as_u64)
                .map(|one| one * 1000)
        };
        json!({
            "usage": {
                "total": nanoseconds("usage_usec"),
                "user": nanoseconds("user_usec"),
                "kernel": nanoseconds("system_usec"),
            },
            "throttling": {
                "periods": times.get("nr_periods"),
                "throttledPeriods": times.get("nr_throttled"),
                "throttledTime": nanoseconds("throttled_usec"),
            },
            "psi": pressure(dir, "cpu.pressure"),
        })
    }

    fn block_io(&self) -> Value {
        match (self.of("blkio"), self.of("io")) {
            (Some(member), _) => json!({
                "ioServiceBytesRecursive": entries(&member.dir, "blkio.throttle.io_service_bytes_recursive"),
                "ioServicedRecursive": entries(&member.dir, "blkio.throttle.io_serviced_recursive"),
            }),
            (None, Some(member)) => {
                let text = member.dir.read("io.stat").unwrap_or_default();
                let pick = |of: &[(&str, &str)]| -> Vec<Value> {
                    text.lines()
                        .flat_map(|line| second_entries(line, of))
                        .collect()
                };
                json!({
                    "ioServiceBytesRecursive": pick(&[("rbytes", "Read"), ("wbytes", "Write")]),
                    "ioServicedRecursive": pick(&[("rios", "Read"), ("wios", "Write")]),
                    "psi": pressure(&member.dir, "io.pressure"),
                })
            }
            (None, None) => Value::Null,
        }
    }

    /// How often the kernel has ended a process here because memory was used up.
    pub(crate) fn out_of_memory(&self) -> Option<u64> {
        let member = self.of("memory")?;
        let file = match member.place.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        numbers(&member.dir, file).get("oom_kill")?.as_u64()
    }
}

/// Lines with a name and a number.
fn numbers(dir: &Dir, file: &str) -> Map<String, Value> {
    let text = dir.read(file).unwrap_or_default();
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse::<u64>().ok()?.into()))
    };
    text.lines().filter_map(line).collect()
}

fn memory(member: &Member) -> Value {
    let dir = &member.dir;
    let raw = numbers(dir, "memory.stat");
    let first = |prefix: &str| {
        json!({
            "usage": dir.number(&format!("memory.{prefix}usage_in_bytes")),
            "max": dir.number(&format!("memory.{prefix}max_usage_in_bytes")),
            "failcnt": dir.number(&format!("memory.{prefix}failcnt")),
            "limit": dir.number(&format!("memory.{prefix}limit_in_bytes")),
        })
    };
    match member.place.version {
        Version::One => json!({
            "cache": raw.get("cache"),
            "usage": first(""),
            "swap": first("memsw."),
            "kernelTCP": first("kmem.tcp."),
            "raw": raw,
        }),
        Version::Two => json!({
            "cache": raw.get("file"),
            "usage": {
                "usage": dir.number("memory.current"),
                "max": dir.number("memory.peak"),
                "limit": dir.number("memory.max"),
            },
            "swap": { "usage": dir.number("memory.swap.current"), "limit": dir.number("memory.swap.max") },
            "raw": raw,
            "psi": pressure(dir, "memory.pressure"),
        }),
    }
}

/// How long processes have waited for something (Documentation/accounting/psi.rst). Nothing where the kernel does not count it.
fn pressure(dir: &Dir, file: &str) -> Value {
    let text = dir.read(file).unwrap_or_default();
    let lines: Map<String, Value> = text.lines().filter_map(stalls).collect();
    match lines.is_empty() {
        true => Value::Null,
        false => lines.into(),
    }
}

/// `some avg10=0.12 avg60=0.00 avg300=0.00 total=4096`
fn stalls(line: &str) -> Option<(String, Value)> {
    let (who, rest) = line.split_once(' ')?;
    let number = |word: &str| {
        let (name, value) = word.split_once('=')?;
        let value: Value = match name {
            "total" => value.parse::<u64>().ok()?.into(),
            _ => value.parse::<f64>().ok()?.into(),
        };
        Some((name.to_owned(), value))
    };
    let numbers: Map<String, Value> = rest.split_whitespace().filter_map(number).collect();
    Some((who.to_owned(), numbers.into()))
}

fn huge_pages(member: &Member) -> Value {
    let mut sizes = Map::new();
    let all = std::fs::read_dir("/sys/kernel/mm/hugepages");
    for entry in all.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let size = name.to_str().and_then(|name| {
            let kilobytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            kilobytes.parse::<u64>().ok()
        });
        let Some(size) = size.map(page_size) else {
            continue;
        };
        let number = |file: &str| member.dir.number(&format!("hugetlb.{size}.{file}"));
        let one = match member.place.version {
            Version::One => {
                json!({ "usage": number("usage_in_bytes"), "failcnt": number("failcnt") })
            }
            Version::Two => json!({ "usage": number("current") }),
        };
        sizes.insert(size, one);
    }
    Value::Object(sizes)
}

/// As the names of the files have it: 64KB, 2MB, 1GB.
fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes >> 20),
        1024.. => format!("{}MB", kilobytes >> 10),
        _ => format!("{kilobytes}KB"),
    }
}

/// `8:0 Read 4096`
fn entries(dir: &Dir, file: &str) -> Vec<Value> {
    let text = dir.read(file).unwrap_or_default();
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (op, value) = rest.split_once(' ')?;
        of_device(device, op, value)
    };
    text.lines().filter_map(entry).collect()
}

/// `8:0 rbytes=4096 wbytes=0 …`
fn second_entries(line: &str, of: &[(&str, &str)]) -> Vec<Value> {
    let mut words = line.split(' ');
    let device = words.next().unwrap_or_default();
    let found = words.filter_map(|word| {
        let (key, value) = word.split_once('=')?;
        let (_, op) = of.iter().find(|(name, _)| *name == key)?;
        of_device(device, op, value)
    });
    found.collect()
}

fn of_device(device: &str, op: &str, value: &str) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    Some(json!({
        "major": major.parse::<u32>().ok()?,
        "minor": minor.parse::<u32>().ok()?,
        "op": op,
        "value": value.trim().parse::<u64>().ok()?,
    }))
}
