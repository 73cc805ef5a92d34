//! Reports tests that cannot run on this system.
//!
//! Each report is one line on standard error: `skipped NAME: REASON`, or `skipped a part of NAME:
//! REASON` if the rest of the test runs. `.ci/run` counts these lines.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Reports that the current thread's test is skipped. It avoids `eprintln!`, whose output the test
/// harness captures.
pub fn skip(why: &str) {
    skip_test(&name(), why);
}

/// Reports that a part of the current thread's test is skipped.
pub fn skip_part(why: &str) {
    skip_test(&format!("a part of {}", name()), why);
}

/// Reports that a test is skipped, once per reason.
pub fn skip_test(name: &str, why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("skipped {name}: {}", reason(why));
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(line.clone()) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

fn name() -> String {
    thread::current().name().unwrap_or("?").to_owned()
}

/// Extracts the reason from an error message: the capabilities that it names, or else its first
/// clause. Tests that lack the same thing then report the same reason.
pub fn reason(message: &str) -> String {
    let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
    let mut names: Vec<&str> =
        message.split(|c| !is_name(c)).filter(|word| word.starts_with("CAP_") && word.len() > 4).collect();
    names.sort_unstable();
    names.dedup();
    match names[..] {
        [] => {}
        [name] => return format!("{name} is missing"),
        _ => return format!("{} are missing", names.join(" and ")),
    }
    let line = message.trim().lines().next().unwrap_or_default();
    let line = line.strip_prefix("pmon: ").unwrap_or(line);
    let end = [" (", "; ", ". "].iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
    line[..end].to_owned()
}
