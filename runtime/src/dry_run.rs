//! Prints a plan instead of applying it: the steps in the order of their system calls, or the whole plan as JSON.
//!
//! Values of environment variables are left out of both: they may be secrets.

use std::fmt::Write as _;

use serde::Serialize;
use shim::Result;
use shim::plan::Plan;
use shim::step::Side;

use crate::cli::{Format, Outcome};
use crate::json;

#[derive(Serialize)]
struct Document<'p, P: Serialize> {
    verb: &'static str,
    #[serde(flatten)]
    plan: &'p P,
    steps: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    side: &'static str,
    call: String,
}

pub(crate) fn print(plan: Plan<'_>, format: Format) -> Result<Outcome> {
    let text = match format {
        Format::Text => text(plan),
        Format::Json => match plan {
            Plan::Launch(launch) => json("launch", plan, launch)?,
            Plan::Exec(exec) => json("exec", plan, exec)?,
        },
    };
    Ok(Outcome::text(text))
}

fn lines(plan: Plan<'_>) -> impl Iterator<Item = Line> {
    plan.steps().into_iter().map(move |step| Line {
        side: side(step.side()),
        call: step.text(plan),
    })
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Host => "host",
        Side::Child => "child",
        Side::Init => "init",
    }
}

fn text(plan: Plan<'_>) -> String {
    let verb = match plan {
        Plan::Launch(_) => "launch",
        Plan::Exec(_) => "exec",
    };
    let mut text = format!("{verb} in {}\n", plan.rootfs().display());
    for (number, line) in (1..).zip(lines(plan)) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{number:>3}  {:<5}  {}", line.side, line.call);
    }
    text
}

fn json(verb: &'static str, plan: Plan<'_>, value: &impl Serialize) -> Result<String> {
    json::pretty(&Document {
        verb,
        plan: value,
        steps: lines(plan).collect(),
    })
}
