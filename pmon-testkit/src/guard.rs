//! States the needs of live tests, and skips tests whose needs are not met.
//!
//! A skipped test prints the reason and passes.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::programs;
pub use crate::skipped::{skip, skip_part};

/// A requirement of a live test.
#[derive(Clone, Copy, Debug)]
pub enum Need<'a> {
    /// `pmon record` works with these options, for the user who runs the test.
    Recording(&'a [&'a str]),
    /// The effective user is root.
    Root,
    /// The test process has a capability, given by number and name (`capabilities(7)`).
    Capability(u32, &'a str),
    /// A feature, given by name, is available if a command succeeds.
    Command(&'a str, &'a [&'a str]),
}

/// Returns whether all needs are met; skips the test otherwise.
pub fn needs(needs: &[Need<'_>]) -> bool {
    let missing = needs.iter().find_map(|need| need.missing());
    missing.iter().for_each(|why| skip(why));
    missing.is_none()
}

impl Need<'_> {
    /// Returns why the need is not met; `None` if it is met.
    fn missing(self) -> Option<String> {
        match self {
            Self::Recording(options) => recording(options),
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "the user is not root".to_owned()),
            Self::Capability(number, name) => (!has_capability(number)).then(|| format!("{name} is missing")),
            Self::Command(what, line) => {
                let mut command = Command::new(line[0]);
                command.args(&line[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let is_there = command.status().is_ok_and(|status| status.success());
                (!is_there).then(|| format!("there are no {what} for this user"))
            }
        }
    }
}

/// Returns why this system does not let the user record with these options. Each set of options is
/// tried once; any other failure fails the test.
fn recording(options: &[&str]) -> Option<String> {
    static TRIED: Mutex<Option<HashMap<String, Option<String>>>> = Mutex::new(None);
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let tried = tried.get_or_insert_default();
    tried
        .entry(options.join(" "))
        .or_insert_with(|| {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let mut command = Command::new(programs::pmon());
            command.args(["record", "-q"]).args(options).args(["--for", "1ms", "-o"]);
            let output =
                command.arg(dir.path().join("probe.pmon")).stdin(Stdio::null()).output().expect("pmon runs");
            match output.status.code() {
                Some(0) => None,
                Some(6) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
                _ => panic!("{options:?}: {output:?}"),
            }
        })
        .clone()
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    effective >> number & 1 == 1
}
