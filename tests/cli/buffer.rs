//! Tests the options for the size of the socket's buffer.

use std::fs::{self, File};

use pmon_core::capture::Reader;

use crate::live::*;
use crate::support::*;

/// Returns the largest buffer that the kernel grants without privilege: twice its limit.
fn unprivileged() -> u64 {
    let most = fs::read_to_string("/proc/sys/net/core/rmem_max").expect("/proc");
    2 * most.trim().parse::<u64>().expect("a number")
}

/// Returns the effective buffer that a capture states.
fn of_capture(file: &str) -> u64 {
    let reader = Reader::open(File::open(file).expect("the capture")).expect("it can be read");
    reader.header().expect("a header").meta.socket_buffer
}

/// Returns the effective size in the refusal of a buffer.
#[track_caller]
fn refused(ran: RunOutput, required: u64) -> u64 {
    let ran = ran.expect(6);
    let words: Vec<_> = ran.err.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "only").expect(&ran.err);
    assert!(ran.err.contains(&format!("of the {required} bytes required")), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    words[at + 1].parse().expect(&ran.err)
}

#[test]
fn a_buffer_beyond_the_kernels_maximum_is_refused_and_leaves_no_file() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let ran = pmon(&["record", "--require-buffer", "8G", "-o", &file, "--", "true"]);
    let effective = refused(ran, 8 << 30);
    assert!((1..4 << 30).contains(&effective), "{effective}");
    assert!(dir.is_empty());
}

#[test]
fn an_unprivileged_refusal_names_the_kernels_limit() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let Some(ran) = as_nobody(&dir, &["record", "--require-buffer", "1G", "--", "true"]) else { return };
    assert_eq!(refused(ran, 1 << 30), unprivileged().min(1 << 30));
    assert!(dir.is_empty());
}

#[test]
fn a_capture_states_the_effective_buffer() {
    if !can_record() {
        return;
    }
    for (asked, bytes) in [("1M", 1 << 20), ("256K", 256 << 10)] {
        let dir = Dir::new();
        let file = arg(&dir.path("x.pmon"));
        pmon(&["record", "--socket-buffer", asked, "--for", "1ms", "-o", &file]).expect(0);
        let effective = of_capture(&file);
        assert!(effective == bytes || effective == unprivileged().min(bytes), "{effective} of {asked}");
        // A buffer of exactly the required size is not refused.
        let enough = effective.to_string();
        let file = arg(&dir.path("y.pmon"));
        pmon(&["record", "--require-buffer", &enough, "--for", "1ms", "-o", &file]).expect(0);
        assert!(of_capture(&file) >= effective);
    }
}
