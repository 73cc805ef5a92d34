//! Recordings that are divided while processes run.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use pmon_core::Cpu;
use pmon_core::capture::{DetailsSubject, UnreachedReason};
use pmon_core::wire::EventBody;
use pmon_record::{RecordOptions, Recording, TransportChoice};

use crate::sinks::{DividedSink, Recorded};
use crate::{one_at_a_time, subscribe};

/// Time between two divisions.
const INTERVAL: Duration = Duration::from_millis(100);
/// Duration of the recording.
const DURATION: Duration = Duration::from_millis(1500);

/// Returns the execs of a segment, and the subjects of its details, both sorted.
fn execs(segment: &Recorded) -> [Vec<(u32, u64)>; 2] {
    let execs = segment.events.iter().filter_map(|event| match event.body {
        EventBody::Exec { task } => Some((task.tgid.0, event.time.0)),
        _ => None,
    });
    let details = segment.details.iter().filter_map(|details| match details.subject {
        DetailsSubject::Exec { tgid, time } => Some((tgid.0, time.0)),
        _ => None,
    });
    let mut both = [execs.collect::<Vec<_>>(), details.collect()];
    both.iter_mut().for_each(|list| list.sort());
    both
}

fn divide_while_processes_run(transport: TransportChoice) {
    let options = RecordOptions { transport, snapshot: false, ..RecordOptions::default() };
    let _guard = one_at_a_time();
    let Some(subscription) = subscribe(&options) else { return };
    let recording = Recording::start(subscription, DividedSink::new(INTERVAL), &options).unwrap();
    let (began, mut runs) = (Instant::now(), 0);
    while began.elapsed() < DURATION {
        let script = "i=0; while [ $i -lt 20 ]; do /bin/true x; i=$((i+1)); done";
        assert!(Command::new("/bin/sh").args(["-c", script]).status().unwrap().success());
        runs += 21;
    }
    recording.stopper().stop();
    let (sink, _) = recording.join().unwrap();
    let segments = sink.segments;
    let all: usize = segments.iter().map(|segment| execs(segment)[0].len()).sum();
    eprintln!("{} segments, {all} execs", segments.len());
    assert!(segments.len() >= 4 && all >= runs, "{} segments, {all} execs of {runs}", segments.len());
    let mut next: BTreeMap<Cpu, u32> = BTreeMap::new();
    for (at, segment) in segments.iter().enumerate() {
        assert_eq!((segment.losses.len(), segment.blind.len()), (0, 0), "segment {at}");
        let [execs, details] = execs(segment);
        assert_eq!(details, execs, "segment {at}");
        for event in &segment.events {
            let seq = event.seq.0;
            assert_eq!(next.insert(event.cpu, seq.wrapping_add(1)).unwrap_or(seq), seq, "segment {at}");
        }
        let positions = segment.positions.iter().flat_map(|positions| &positions.cpus);
        let positions: BTreeMap<_, _> = positions.map(|position| (position.cpu, position.next.0)).collect();
        assert_eq!(positions, next, "segment {at}");
        assert_eq!(segment.end.events, segment.datagrams, "segment {at}");
        let mut unreached = segment.fences.iter().flat_map(|fence| &fence.unreached);
        assert!(unreached.all(|cpu| cpu.why != UnreachedReason::Silent), "{:?}", segment.fences);
    }
}

#[test]
fn a_recording_from_the_ring_is_divided_without_a_loss() {
    divide_while_processes_run(TransportChoice::RingDetails);
}

#[test]
fn a_recording_from_the_socket_is_divided_without_a_loss_and_keeps_details_with_their_exec() {
    divide_while_processes_run(TransportChoice::Recvmmsg);
}
