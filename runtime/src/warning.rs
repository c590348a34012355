//! What the user should know although it is no failure: one line on stderr, at the moment when it is true.

use std::io::{self, Write as _};

/// Says it. Where stderr is closed or full there is nobody left to tell.
pub fn say(text: &str) {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = writeln!(io::stderr(), "start-container: warning: {line}");
}
