//! Tests that each error is one line, with the documented exit code.

use crate::live::can_record;
use crate::support::*;

/// Checks that all verbs that read a capture fail with this exit code and message.
#[track_caller]
fn all_refuse(file: &str, code: i32, expected: &str) {
    for verb in ["print", "info", "verify"] {
        let ran = pmon(&[verb, file]).expect(code);
        assert_eq!(ran.out, "");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert!(ran.err.starts_with("pmon: ") && ran.err.contains(expected), "{}", ran.err);
    }
}

#[test]
fn a_missing_file_is_an_error() {
    all_refuse("/nowhere/x.pmon", 6, "/nowhere/x.pmon");
}

#[test]
fn a_missing_file_with_a_partial_file_gives_a_hint() {
    let dir = Dir::new();
    dir.file("x.pmon.partial", b"");
    all_refuse(&arg(&dir.path("x.pmon")), 6, "x.pmon.partial exists");
}

#[test]
fn file_names_cannot_control_the_terminal() {
    let dir = Dir::new();
    let file = dir.file("\x1b[31mred\n.pmon", &capture(&git_status_records()[..5], 5));
    for verb in ["info", "print"] {
        for file in [&file, &format!("{file}.not")] {
            let ran = pmon(&[verb, file]);
            let text = ran.out + &ran.err;
            assert!(!text.contains('\x1b') && text.contains(r"\x1b[31mred\n.pmon"), "{text}");
        }
    }
    if can_record() {
        let ran = pmon(&["record", "--force", "--for", "1ms", "-o", &file]).expect(0);
        assert!(!ran.err.contains('\x1b') && ran.err.contains(r"\x1b[31mred\n.pmon"), "{ran:?}");
    }
}

#[test]
fn an_empty_directory_is_an_error() {
    let dir = Dir::new();
    all_refuse(&arg(&dir.path("")), 5, "the directory is empty");
}

#[test]
fn a_file_of_another_format_is_refused() {
    let dir = Dir::new();
    all_refuse(
        &dir.file("x", b"#!/bin/sh\necho this is no capture, however long it may be, and it goes on\n"),
        5,
        "not a pmon capture",
    );
    all_refuse(&dir.file("y", b""), 5, "empty");
}

#[test]
fn the_intact_part_of_a_truncated_file_is_printed() {
    let dir = Dir::new();
    let whole = capture(&git_status_records(), 5);
    // Cut within the second block.
    let first_block_only = capture(&git_status_records()[..5], 5).len();
    let file = dir.file("x.pmon", &whole[..first_block_only - 20]);
    let ran = pmon(&["print", &file, "--format", "classic"]).expect(4);
    assert!(ran.out.starts_with("set mcast listen ok\n"), "{ran:?}");
    assert!(ran.err.contains("the file ends within a block"), "{ran:?}");
    pmon(&["info", &file]).expect(4);
}

#[test]
fn damage_is_reported_and_the_rest_is_read() {
    let dir = Dir::new();
    let mut bytes = capture(&git_status_records(), 5);
    let from = capture(&git_status_records()[..5], 5).len();
    let at = from + 10;
    bytes[at] ^= 0xff;
    let ran = pmon(&["print", &dir.file("x.pmon", &bytes), "--format", "classic"]).expect(4);
    assert!(ran.out.contains("exit: tid=30 pid=30"), "{ran:?}");
    assert!(!ran.err.is_empty());
}

#[test]
fn a_capture_without_a_readable_part_is_reported() {
    let dir = Dir::new();
    let header = capture(&[], 5);
    let ran = pmon(&["print", &dir.file("x.pmon", &[&header[..], b"garbage"].concat())]);
    assert!(ran.err.contains("not ended cleanly; nothing could be read"), "{ran:?}");
    let mut records = git_status_records();
    records.pop();
    let mut bytes = capture(&records, 50);
    bytes[20] ^= 0xff;
    let ran = pmon(&["print", &dir.file("y.pmon", &bytes)]).expect(4);
    assert!(ran.err.contains("read up to 1002.000000000 s of the monotonic clock"), "{ran:?}");
}

#[test]
fn a_time_of_day_needs_an_intact_header() {
    let dir = Dir::new();
    let mut records = git_status_records();
    records.insert(0, clock());
    let mut bytes = capture(&records, 50);
    bytes[20] ^= 0xff;
    let file = dir.file("x.pmon", &bytes);
    for time in ["+1s", "03:04:06"] {
        let ran = pmon(&["print", &file, "--since", time]).expect(2);
        assert!(ran.err.contains("header is damaged") && ran.err.contains("with its date"), "{ran:?}");
    }
    let ran = pmon(&["print", &file, "--since", "2026-01-02 03:04:06"]).expect(4);
    assert_eq!(ran.out.matches("exit  ").count(), 1, "{ran:?}");
}

#[test]
fn a_future_version_is_refused() {
    let dir = Dir::new();
    let mut bytes = capture(&git_status_records(), 5);
    // The major version is at offset 8, the header's length at 12, and its checksum at its end.
    bytes[8] = 9;
    let len = bytes[12..16].iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte));
    let crc = crc32c::crc32c(&bytes[..len - 4]);
    bytes[len - 4..len].copy_from_slice(&crc.to_le_bytes());
    all_refuse(&dir.file("x.pmon", &bytes), 5, "newer than this version");
}

#[test]
fn a_full_output_is_an_error() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 5));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = command(&["print", &file]).stdout(full).output().expect("pmon runs");
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the output"));
}

#[test]
fn wrong_usage_ends_with_2() {
    pmon(&["print"]).expect(2);
    pmon(&["print", "x", "--kind", "spoon"]).expect(2);
    pmon(&["print", "x", "--since", "soon"]).expect(2);
    pmon(&["record", "--for", "5"]).expect(2);
    assert!(pmon(&["record", "--for", "300000d"]).expect(2).err.contains("is too long"));
    let help = pmon(&[]).expect(0).out;
    assert!(help.contains("Exit codes:") && help.contains("-- make"));
}
