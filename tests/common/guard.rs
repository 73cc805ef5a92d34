//! What a live test needs of this system, and what is said where it is not there.
//!
//! Each test states its own needs; where one is missing, it says so, and passes.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

#[allow(unused_imports, reason = "each test program uses a part of it")]
pub(crate) use super::skipped::{skip, skip_part};

/// Something that a live test needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need<'a> {
    /// `pmon record` with these options, as the user who runs the test.
    Recording(&'a [&'a str]),
    /// The effective user is root.
    Root,
    /// A capability of the test itself, by its number and name (`capabilities(7)`).
    Capability(u32, &'a str),
    /// Something that is there if this command ends well.
    Command(&'a str, &'a [&'a str]),
}

/// Whether all of it is there. If not, the test that asks is skipped, which is said.
pub(crate) fn needs(needs: &[Need<'_>]) -> bool {
    let missing = needs.iter().find_map(|need| need.missing());
    missing.iter().for_each(|why| skip(why));
    missing.is_none()
}

impl Need<'_> {
    /// Why it is not there; `None` if it is.
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

/// Why this system does not let this user record with these options. Tried once for each set of options; any other failure fails the test.
fn recording(options: &[&str]) -> Option<String> {
    static TRIED: Mutex<Option<HashMap<String, Option<String>>>> = Mutex::new(None);
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let tried = tried.get_or_insert_default();
    tried
        .entry(options.join(" "))
        .or_insert_with(|| {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let mut command = Command::new(env!("CARGO_BIN_EXE_pmon"));
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
