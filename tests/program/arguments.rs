//! Every call with every kind of argument: the result, the error, the datagrams that are left and
//! the memory that is written are those of the real kernel.

use std::fmt::Write as _;
use std::fs;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::guard::{Need, needs, retry};
use crate::harness::{ProgramReplay, Programs, programs, skip};
use crate::test_capture::TestCapture;

/// Maximum number of differing lines that a failure shows.
const SHOWN: usize = 20;

/// Returns whether this is the kernel version of the model, apart from its last number.
fn is_model_kernel() -> bool {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().starts_with("6.18.")
}

/// Returns the first of three ports that no other test uses.
fn ports() -> u32 {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    0x4000_0000 + process::id() * 32 + RUNS.fetch_add(1, Ordering::Relaxed) * 4
}

/// Checks that a client prints the same lines on the real kernel and under replay, of which there
/// are at least `count`.
fn check(client: &str, count: usize) {
    let Some(programs) = programs() else { return };
    if !needs(&[Need::Root, Need::Capability(12, "CAP_NET_ADMIN")]) {
        return;
    }
    if !is_model_kernel() {
        return skip("the fake kernel's socket options are those of Linux 6.18");
    }
    // On the real kernel, events that other processes cause can reach a socket of the client.
    if let Err(why) = retry(|| compare(programs, client, count)) {
        panic!("{why}");
    }
}

/// Runs a client once on each kernel.
fn compare(programs: &Programs, client: &str, count: usize) -> Result<(), String> {
    let port = ports().to_string();
    let real = Command::new(programs.path(client)).arg(&port).output().unwrap();
    let error = String::from_utf8_lossy(&real.stderr);
    if error.starts_with("socket:") {
        skip("this network namespace has no proc connector");
        return Ok(());
    }
    assert!(real.status.success(), "{error}");
    let real = String::from_utf8(real.stdout).unwrap();
    assert!(real.lines().count() >= count, "{} calls", real.lines().count());
    for is_root in [false, true] {
        let Some(replay) = ProgramReplay::of(&TestCapture::new()) else { return Ok(()) };
        let replay = if is_root { replay.with_root() } else { replay };
        let replayed = replay.client(client, &[&port]).expect(0).out;
        assert_eq!(real.lines().count(), replayed.lines().count());
        let differing: Vec<_> = real.lines().zip(replayed.lines()).filter(|(a, b)| a != b).collect();
        if !differing.is_empty() {
            let mut why = format!("{} of {} calls differ", differing.len(), real.lines().count());
            for (real, replayed) in differing.iter().take(SHOWN) {
                write!(why, "\nkernel: {real}\nreplay: {replayed}").unwrap();
            }
            return Err(why);
        }
    }
    Ok(())
}

#[test]
fn receiving_calls_return_what_the_real_kernel_returns() {
    check("receive_arguments", 2_000);
}

#[test]
fn sending_calls_return_what_the_real_kernel_returns() {
    check("send_arguments", 2_000);
}

#[test]
fn options_return_what_the_real_kernel_returns() {
    check("option_arguments", 15_000);
}

#[test]
fn calls_on_addresses_and_descriptors_return_what_the_real_kernel_returns() {
    check("descriptor_arguments", 1_500);
}

#[test]
fn waiting_calls_return_what_the_real_kernel_returns() {
    check("wait_arguments", 2_000);
}
