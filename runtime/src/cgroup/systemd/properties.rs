//! Limits in the words of systemd (systemd.resource-control(5)), from the lines for the files of version 2 that say the same.
//! What is not told here is left alone by systemd, because it has no word for it or was given none.

use rustbus::params::{Array, Base, Container, Param, Variant};
use rustbus::signature;

use crate::cgroup::Settings;

/// A value, by its type on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Int(i32),
    Unsigned(u32),
    Long(i64),
    Size(u64),
    Text(String),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
    Unsigneds(Vec<u32>),
}

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(super) name: String,
    pub(super) value: Value,
}

impl Property {
    pub(super) fn new(name: &str, value: Value) -> Self {
        Self {
            name: name.to_owned(),
            value,
        }
    }

    /// Those that say what the settings say. The last one of a name counts.
    pub(crate) fn of(settings: &Settings) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for setting in &settings.list {
            let lines = std::iter::once(&setting.line).chain(&setting.otherwise);
            for property in lines.flat_map(|line| said(&line.file, line.value.trim())) {
                found.retain(|one| one.name != property.name);
                found.push(property);
            }
        }
        found
    }

    /// `(sv)`
    pub(super) fn param(&self) -> Param<'static, 'static> {
        let base = |base: signature::Base, values: Vec<Param<'static, 'static>>| {
            Container::Array(Array {
                element_sig: signature::Type::Base(base),
                values,
            })
            .into()
        };
        let value: Param<'static, 'static> = match &self.value {
            Value::Bool(value) => Base::Boolean(*value).into(),
            Value::Int(value) => Base::Int32(*value).into(),
            Value::Unsigned(value) => Base::Uint32(*value).into(),
            Value::Long(value) => Base::Int64(*value).into(),
            Value::Size(value) => Base::Uint64(*value).into(),
            Value::Text(value) => Base::String(value.clone()).into(),
            Value::Texts(list) => {
                let list = list.iter().map(|text| Base::String(text.clone()).into());
                base(signature::Base::String, list.collect())
            }
            Value::Bytes(list) => {
                let list = list.iter().map(|byte| Base::Byte(*byte).into());
                base(signature::Base::Byte, list.collect())
            }
            Value::Unsigneds(list) => {
                let list = list.iter().map(|number| Base::Uint32(*number).into());
                base(signature::Base::Uint32, list.collect())
            }
        };
        let variant = Container::Variant(Box::new(Variant {
            sig: value.sig(),
            value,
        }));
        let name = Base::String(self.name.clone());
        Container::Struct(vec![name.into(), variant.into()]).into()
    }
}

/// What a line is in systemd's words.
fn said(file: &str, value: &str) -> Vec<Property> {
    let size = |name: &str| {
        let size = match value {
            "max" => Some(u64::MAX),
            number => number.parse().ok(),
        };
        Vec::from_iter(size.map(|size| Property::new(name, Value::Size(size))))
    };
    let set = |name: &str| {
        Vec::from_iter(mask(value).map(|mask| Property::new(name, Value::Bytes(mask))))
    };
    match file {
        "memory.max" => size("MemoryMax"),
        "memory.high" => size("MemoryHigh"),
        "memory.low" => size("MemoryLow"),
        "memory.min" => size("MemoryMin"),
        "memory.swap.max" => size("MemorySwapMax"),
        "pids.max" => size("TasksMax"),
        "cpu.weight" => size("CPUWeight"),
        "cpu.max" => quota(value),
        "cpuset.cpus" => set("AllowedCPUs"),
        "cpuset.mems" => set("AllowedMemoryNodes"),
        // Of the two for a weight the kernel has one; those of single devices have another form.
        "io.weight" => size("IOWeight"),
        _ => Vec::new(),
    }
}

/// `QUOTA PERIOD`. systemd counts per second, in steps of ten milliseconds: upwards, as other runtimes do.
fn quota(value: &str) -> Vec<Property> {
    const STEP: u64 = 10_000;
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let Ok(period) = period.parse::<u64>() else {
        return Vec::new();
    };
    let second = match quota.parse::<u64>() {
        Ok(quota) if period > 0 => quota.saturating_mul(1_000_000) / period,
        _ => u64::MAX,
    };
    let second = second.checked_next_multiple_of(STEP).unwrap_or(u64::MAX);
    vec![
        Property::new("CPUQuotaPerSecUSec", Value::Size(second)),
        Property::new("CPUQuotaPeriodUSec", Value::Size(period)),
    ]
}

/// A list like `0-2,5` as bits, the lowest first.
fn mask(list: &str) -> Option<Vec<u8>> {
    /// More than any kernel has.
    const MOST: usize = 1 << 16;
    let mut bytes = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        if bytes.len() <= last / 8 {
            bytes.resize(last / 8 + 1, 0_u8);
        }
        for bit in first..=last {
            *bytes.get_mut(bit / 8)? |= 1 << (bit % 8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_in_systemds_words() {
        let one = |file, value| {
            said(file, value)
                .first()
                .map(|one| (one.name.clone(), one.value.clone()))
        };
        let size = |name: &str, number| Some((name.to_owned(), Value::Size(number)));
        assert_eq!(one("memory.max", "4096"), size("MemoryMax", 4096));
        assert_eq!(
            one("memory.swap.max", "max"),
            size("MemorySwapMax", u64::MAX)
        );
        assert_eq!(one("pids.max", "7"), size("TasksMax", 7));
        assert_eq!(
            one("cpu.max", "50000 100000"),
            size("CPUQuotaPerSecUSec", 500_000)
        );
        assert_eq!(
            one("cpu.max", "33333 100000"),
            size("CPUQuotaPerSecUSec", 340_000)
        );
        assert_eq!(
            one("cpu.max", "max 100000"),
            size("CPUQuotaPerSecUSec", u64::MAX)
        );
        assert_eq!(one("io.weight", "8:0 100"), None);
        assert_eq!(one("hugetlb.2MB.max", "0"), None);
    }

    #[test]
    fn lists_become_bits() {
        assert_eq!(mask("0-2,5"), Some(vec![0b10_0111]));
        assert_eq!(mask("8"), Some(vec![0, 1]));
        for bad in ["", "x", "2-1", "0-99999999"] {
            assert_eq!(mask(bad), None, "{bad}");
        }
    }
}
