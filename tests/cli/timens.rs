//! Tests a recorder in its own time namespace (`time_namespaces(7)`), whose clocks differ from
//! those of the events.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use pmon_core::capture::{Details, DetailsSubject, Item, Reader, Record};
use pmon_core::wire::EventBody;
use rustix::time::{ClockId, clock_gettime};

use crate::live::*;
use crate::support::*;

/// Returns the start time of a process in clock ticks, as this process sees it: field 22 of
/// `/proc/<pid>/stat`.
fn start_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is running");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    fields.split(' ').nth(19).expect("22 fields").parse().expect("a number")
}

/// Returns `CLOCK_MONOTONIC` and `CLOCK_REALTIME` in ns.
fn clocks() -> (u64, u64) {
    let mono = clock_gettime(ClockId::Monotonic);
    let real = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (mono.tv_sec as u64 * 1_000_000_000 + mono.tv_nsec as u64, real.as_nanos() as u64)
}

#[test]
fn a_recorder_in_a_time_namespace_writes_times_of_the_initial_one() {
    let offsets = [["--boottime=100000", "--monotonic=5000"], ["--boottime=-100", "--monotonic=-50"]];
    if !needs(&[Need::Recording(&[]), Need::Command("time namespaces", &["unshare", "--time", "true"])]) {
        return;
    }
    let dir = Dir::new();
    let mut older = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep runs");
    let started = start_ticks(older.id());
    for [boottime, monotonic] in offsets {
        for transport in ["recvmmsg", "auto"] {
            let file = arg(&dir.path("x.pmon"));
            let mut recorder = Command::new("unshare");
            recorder.args([
                "--time",
                boottime,
                monotonic,
                env!("CARGO_BIN_EXE_pmon"),
                "record",
                "-q",
                "--force",
            ]);
            recorder.args([
                "--transport",
                transport,
                "-o",
                &file,
                "--",
                "sh",
                "-c",
                "sleep 0.2; /bin/true; sleep 0.2",
            ]);
            let before = clocks();
            run(recorder).expect(0);
            let after = clocks();
            let what = format!("{boottime} {monotonic} {transport}");

            let mut reader = Reader::open(File::open(&file).expect("the capture")).expect("it can be read");
            let anchor = reader.header().expect("a header").meta.start;
            assert!(
                (before.0..=after.0).contains(&anchor.mono.0),
                "{what}: {anchor:?} is not in {before:?}..{after:?}"
            );
            assert!((before.1..=after.1).contains(&(anchor.real_ns as u64)), "{what}: {anchor:?}");
            // Both clocks belong to the same namespace, so their difference is the time spent in
            // suspend.
            let (mono, _) = clocks();
            let boot = clock_gettime(ClockId::Boottime);
            let boot = boot.tv_sec as u64 * 1_000_000_000 + boot.tv_nsec as u64;
            let ahead = (boot - mono).abs_diff(anchor.boot_ns - anchor.mono.0);
            assert!(ahead < 100_000_000, "{what}: {ahead} ns");

            let (mut seen, mut execs) = (None::<Details>, Vec::new());
            while let Some(item) = reader.next_item().expect("it can be read") {
                let Item::Block(block) = item else { panic!("damage") };
                for record in block.records() {
                    match record {
                        Record::Details(details) => match details.subject {
                            DetailsSubject::Snapshot { tgid } if tgid.0 == older.id() => {
                                seen = Some(*details)
                            }
                            DetailsSubject::Exec { .. } => execs.push(*details),
                            DetailsSubject::Snapshot { .. } => {}
                        },
                        Record::Event(frame, _) => {
                            let event = frame.event(pmon_core::wire::ByteOrder::NATIVE).expect("an event");
                            if !matches!(event.body, EventBody::Ack { .. }) {
                                assert!((before.0..=after.0).contains(&event.time.0), "{what}: {event:?}");
                            }
                        }
                        _ => {}
                    }
                }
            }
            let seen = seen.expect("it is older than the recording");
            assert_eq!(seen.start_ticks, Some(started), "{what}");
            let sleep = execs.iter().find(|details| details.comm.as_deref() == Some(b"sleep"));
            let sleep = sleep.unwrap_or_else(|| panic!("{what}: {execs:#?}")).start_ticks.expect("its start");
            let range = started..=after.0 / 10_000_000 + (boot - after.0) / 10_000_000 + 1;
            assert!(range.contains(&sleep), "{what}: {sleep} is not in {range:?}");
        }
    }
    older.kill().expect("it has not been waited for");
    older.wait().expect("it ends");
}
