//! Annotations `org.systemd.property.NAME`: further properties of the scope, with values in GVariant's text form, as other
//! runtimes take them. The form is read strictly, and what the container's place and confinement stand on cannot be said.

use shim::{Error, Result};

use super::properties::{Property, Value};

const PREFIX: &str = "org.systemd.property.";

/// What is decided elsewhere. A unit gets its processes, its place and its devices from the configuration alone.
const DECIDED: [&str; 10] = [
    "Delegate",
    "DelegateControllers",
    "DeviceAllow",
    "DevicePolicy",
    "Names",
    "PIDs",
    "Slice",
    "Controller",
    "RequestStop",
    "CollectMode",
];

/// The properties that annotations ask for.
///
/// # Errors
/// Names the annotation that is none.
pub(crate) fn asked<'a>(
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Property>> {
    let mut found = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let failed = |why: &'static str| {
            Error::new("use annotation")
                .on(key)
                .because(why)
                .hint("for instance org.systemd.property.TimeoutStopUSec: uint64 5000000")
        };
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.len() >= 3
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_name {
            return Err(failed("it is no name of a property"));
        }
        if DECIDED.contains(&name) || name.starts_with("Exec") {
            return Err(failed("it is not the configuration's to say"));
        }
        let value = value(text.trim()).ok_or_else(|| failed("the value cannot be read"))?;
        let property = in_microseconds(name, &value).unwrap_or_else(|| Property::new(name, value));
        found.push(property);
    }
    Ok(found)
}

/// `TimeoutStopSec` is written in unit files; on the bus it is `TimeoutStopUSec`.
fn in_microseconds(name: &str, value: &Value) -> Option<Property> {
    let stem = name
        .strip_suffix("Sec")
        .filter(|stem| !stem.ends_with('U'))?;
    let seconds = match value {
        Value::Int(number) => u64::try_from(*number).ok()?,
        Value::Unsigned(number) => u64::from(*number),
        Value::Long(number) => u64::try_from(*number).ok()?,
        Value::Size(number) => *number,
        _ => return None,
    };
    let microseconds = Value::Size(seconds.checked_mul(1_000_000)?);
    Some(Property::new(&format!("{stem}USec"), microseconds))
}

/// A boolean, a number with or without its type, a text in quotes, or a list of such texts.
fn value(text: &str) -> Option<Value> {
    if let Some(list) = text.strip_prefix('[') {
        return texts(list.strip_suffix(']')?).map(Value::Texts);
    }
    match text.split_once(' ') {
        Some(("int32", number)) => number.parse().ok().map(Value::Int),
        Some(("uint32", number)) => number.parse().ok().map(Value::Unsigned),
        Some(("int64", number)) => number.parse().ok().map(Value::Long),
        Some(("uint64", number)) => number.parse().ok().map(Value::Size),
        _ => match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            number if number.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                number.parse().ok().map(Value::Int)
            }
            quoted => match quotation(quoted)? {
                (text, "") => Some(Value::Text(text)),
                _ => None,
            },
        },
    }
}

fn texts(list: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = list.trim();
    while !rest.is_empty() {
        let (text, after) = quotation(rest)?;
        found.push(text);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(more) if !more.trim().is_empty() => rest = more.trim_start(),
            None if rest.is_empty() => {}
            _ => return None,
        }
    }
    Some(found)
}

/// A text in quotes, and what is behind it. Escapes and control characters are refused: no property needs them.
fn quotation(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (inside, rest) = text.get(1..)?.split_once(quote)?;
    let plain = !inside.contains('\\') && !inside.contains(char::is_control);
    plain.then(|| (inside.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, text: &str) -> Result<Vec<Property>> {
        asked([(key, text)].into_iter())
    }

    #[test]
    fn values_are_of_the_type_that_they_say() {
        for (name, text, expected) in [
            ("TimeoutStopUSec", "uint64 5", Value::Size(5)),
            ("SendSIGHUP", "true", Value::Bool(true)),
            ("KillSignal", "15", Value::Int(15)),
            ("KillMode", "'mixed'", Value::Text("mixed".to_owned())),
            (
                "After",
                "['a.service', \"b.service\"]",
                Value::Texts(vec!["a.service".to_owned(), "b.service".to_owned()]),
            ),
        ] {
            let found = one(&format!("{PREFIX}{name}"), text).expect(text);
            assert_eq!(found, [Property::new(name, expected)]);
        }
        let found = one("org.systemd.property.TimeoutStopSec", "7").expect("seconds");
        assert_eq!(
            found,
            [Property::new("TimeoutStopUSec", Value::Size(7_000_000))]
        );
        assert_eq!(one("org.example", "anything").expect("of others"), []);
    }

    #[test]
    fn nothing_else_is_taken() {
        for (name, text) in [
            ("ExecStart", "'x'"),
            ("PIDs", "uint32 1"),
            ("DevicePolicy", "'auto'"),
            ("Delegate", "false"),
            ("Kill Mode", "'x'"),
            ("killMode", "'x'"),
            ("A", "1"),
            ("", "1"),
            ("KillMode", "mixed"),
            ("KillMode", "'mixed' 'x'"),
            ("KillMode", "'mi\\xed'"),
            ("KillMode", "'a\nb'"),
            ("After", "['a',]"),
            ("After", "['a' 'b']"),
            ("TimeoutStopUSec", "uint64 -1"),
            ("TimeoutStopUSec", "@t 1"),
        ] {
            let why = one(&format!("{PREFIX}{name}"), text);
            assert!(why.is_err(), "{name} {text}");
        }
    }
}
