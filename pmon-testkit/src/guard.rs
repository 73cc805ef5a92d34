//! The guard of live tests: their requirements, reports of skipped tests, and retries.
//!
//! A live test states its needs by [`needs`]. If a need is not met, the test is skipped: it prints
//! one line on standard error, `skipped NAME: REASON`, and passes. A retry prints `retried NAME:
//! REASON`. `.ci/run` counts these lines.
//!
//! With `PMON_REQUIRE_LIVE=1`, a skipped test fails, unless its reason is one of [`OPTIONAL`].

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::programs;

/// Reasons for skipping a test that are accepted with `PMON_REQUIRE_LIVE=1`: features that a
/// kernel, a file system or a container may lack although it emits process events. A reason matches
/// if it contains one of these.
pub const OPTIONAL: &[&str] = &[
    // Kernel features.
    "time namespaces",
    "cgroup",
    "CONFIG_CHECKPOINT_RESTORE",
    "Linux 6.9",
    "32-bit programs",
    // Hardware.
    "only one CPU",
    "block device without a medium",
    "files of a tebibyte",
    // Installed programs.
    "env(1) cannot set signals",
    "there is no /",
    "there is no `",
    // Settings of the environment in which the tests run.
    "core_pattern",
    "ulimit -Hc",
    "is ignored, as nohup",
    "the next process id cannot be chosen",
];

/// Maximum number of retries of a part of a test that other processes disturb.
pub const MAX_RETRIES: usize = 10;

/// Time between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A need of a live test.
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
            Self::Command(feature, line) => {
                let mut command = Command::new(line[0]);
                command.args(&line[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let is_available = command.status().is_ok_and(|status| status.success());
                (!is_available).then(|| format!("there are no {feature} for this user"))
            }
        }
    }
}

/// Returns why this system does not let the user record with these options. Each set of options is
/// tried once; any failure but a missing permission or kernel feature fails the test.
fn recording(options: &[&str]) -> Option<String> {
    static TRIED: Mutex<Option<HashMap<String, Option<String>>>> = Mutex::new(None);
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let tried = tried.get_or_insert_default();
    let number = tried.len();
    tried
        .entry(options.join(" "))
        .or_insert_with(|| {
            let file = probe_file(number);
            let mut command = Command::new(programs::pmon());
            command.args(["record", "-q", "--force"]).args(options).args(["--for", "1ms", "-o"]).arg(&file);
            let output = command.stdin(Stdio::null()).output().expect("pmon runs");
            let _ = fs::remove_file(&file);
            match output.status.code() {
                Some(0) => None,
                Some(6) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
                _ => panic!("{options:?}: {output:?}"),
            }
        })
        .clone()
}

/// Returns the path of a capture that only shows whether recording works.
fn probe_file(number: usize) -> PathBuf {
    env::temp_dir().join(format!("pmon-probe-{}-{number}.pmon", process::id()))
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    effective >> number & 1 == 1
}

/// Reports that the current thread's test is skipped.
#[track_caller]
pub fn skip(why: &str) {
    skip_test(&test_name(), why);
}

/// Reports that a part of the current thread's test is skipped.
#[track_caller]
pub fn skip_part(why: &str) {
    skip_test(&format!("a part of {}", test_name()), why);
}

/// Reports that a test is skipped, once per reason. Fails if live tests are required.
#[track_caller]
pub fn skip_test(name: &str, why: &str) {
    let reason = reason(why);
    print_once(format!("skipped {name}: {reason}"));
    let is_optional = OPTIONAL.iter().any(|optional| reason.contains(optional));
    assert!(is_optional || !are_required(), "PMON_REQUIRE_LIVE is set, but {name} cannot run: {reason}");
}

/// Returns whether a test that is skipped must fail.
fn are_required() -> bool {
    env::var_os("PMON_REQUIRE_LIVE").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Performs a part of the current thread's test until it succeeds, at most [`MAX_RETRIES`] times
/// more. An attempt fails with the reason for a retry; a panic fails the test at once.
///
/// # Errors
/// The last reason, if no attempt succeeded.
pub fn retry<T>(attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    retry_test(&test_name(), attempt)
}

/// Performs a part of a test, as [`retry`] does.
///
/// # Errors
/// The last reason, if no attempt succeeded.
pub fn retry_test<T>(name: &str, attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    retry_after(RETRY_PAUSE, name, attempt)
}

fn retry_after<T>(
    pause: Duration,
    name: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let mut retries = 0;
    loop {
        let why = match attempt() {
            Ok(result) => return Ok(result),
            Err(why) => why,
        };
        if retries == MAX_RETRIES {
            return Err(format!("{why}, {retries} times in a row"));
        }
        retries += 1;
        report_retry(name, &why);
        thread::sleep(pause);
    }
}

/// Reports a retry of a part of a test.
pub fn report_retry(name: &str, why: &str) {
    print(&format!("retried {name}: {}", reason(why)));
}

/// Prints a line to standard error, unless this process has printed it before.
fn print_once(line: String) {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !printed.contains(&line) {
        print(&line);
        printed.insert(line);
    }
}

/// Prints a line to standard error, in one write, since other tests print at the same time. It
/// avoids `eprintln!`, whose output the test harness captures.
fn print(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Returns the name of the current test, which is the name of its thread.
fn test_name() -> String {
    thread::current().name().unwrap_or("?").to_owned()
}

/// Extracts the reason from an error message: the capabilities that it names, or else its first
/// clause. Tests that lack the same thing then report the same reason.
fn reason(message: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_lack_the_same_thing_are_skipped_for_the_same_reason() {
        let ring = "pmon: no permission to load a BPF program: it takes CAP_BPF and CAP_PERFMON (kernel.unprivileged_bpf_disabled is 2)";
        assert_eq!(reason(ring), "CAP_BPF and CAP_PERFMON are missing");
        assert_eq!(
            reason("it takes CAP_PERFMON, and CAP_BPF; or --transport recvmmsg\n"),
            "CAP_BPF and CAP_PERFMON are missing"
        );
        assert_eq!(
            reason("pmon: cannot listen: this takes CAP_NET_ADMIN before Linux 6.6\n"),
            "CAP_NET_ADMIN is missing"
        );
        let namespace =
            "pmon: no process events come here: this is another PID namespace; run pmon outside\nmore\n";
        assert_eq!(reason(namespace), "no process events come here: this is another PID namespace");
        assert_eq!(reason("the user is not root"), "the user is not root");
    }

    #[test]
    fn retries_are_bounded() {
        let retry = |needed: usize| {
            let mut attempts = 0;
            retry_after(Duration::ZERO, "the test of retries", || {
                attempts += 1;
                if attempts < needed { Err("busy".to_owned()) } else { Ok(attempts) }
            })
        };
        assert_eq!(retry(1), Ok(1));
        assert_eq!(retry(MAX_RETRIES + 1), Ok(MAX_RETRIES + 1));
        assert_eq!(retry(MAX_RETRIES + 2), Err("busy, 10 times in a row".to_owned()));
    }
}
