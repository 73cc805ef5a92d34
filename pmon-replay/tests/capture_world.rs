//! What a program under replay lives through: events, and the processes that it then sees.

use std::collections::HashMap;
use std::time::Duration;

use pmon_analysis::Filter;
use pmon_core::capture::{
    Details, DetailsSubject, Encoder, Header, Meta, MissReason, Reader, Record, RecordedDatagram, Snapshot,
    SnapshotReason,
};
use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_fake::{RecvFlags, Socket};
use pmon_interpose::{NextEvent, ProcEntry, ReplayWorld};
use pmon_replay::synth::{Synth, SynthOptions};
use pmon_replay::{CaptureWorld, Replay, ReplayError, Speed};

const ORDER: ByteOrder = ByteOrder::NATIVE;

/// A capture of one block.
fn capture(records: &[Record<'_>]) -> Vec<u8> {
    blocks(records).concat()
}

/// Its header, a block of every ten records, and its end.
fn blocks(records: &[Record<'_>]) -> Vec<Vec<u8>> {
    let meta = Meta { cpus_online: 1, ticks_per_second: 100, ..Meta::default() };
    let mut encoder = Encoder::new(&Header { uuid: [1; 16], byte_order: ORDER, meta }).unwrap();
    let mut parts = vec![encoder.header().to_vec()];
    for some in records.chunks(10) {
        some.iter().for_each(|record| encoder.push(record).unwrap());
        parts.push(encoder.seal().to_vec());
    }
    parts.push(encoder.finish().to_vec());
    parts
}

fn replay(capture: &[u8]) -> Replay<&[u8]> {
    Replay::new(Reader::open(capture).unwrap())
}

fn live(capture: &[u8]) -> CaptureWorld<&[u8]> {
    CaptureWorld::new(replay(capture), Speed::Instant)
}

/// Event `n`, at n ms.
fn nth(n: u32, body: EventBody) -> Record<'static> {
    RecordedDatagram::Event(Event {
        time: MonoNs(u64::from(n) * 1_000_000),
        seq: Seq(100 + n),
        cpu: Cpu(0),
        body,
    })
    .into()
}

fn leader(pid: u32) -> Task {
    Task::new(pid, pid)
}

fn fork(n: u32, parent: u32, child: u32) -> Record<'static> {
    nth(n, EventBody::Fork { parent: leader(parent), child: leader(child) })
}

fn exec(n: u32, pid: u32) -> [Record<'static>; 2] {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(u64::from(n) * 1_000_000) };
    [nth(n, EventBody::Exec { task: leader(pid) }), details(subject)]
}

fn exit(n: u32, pid: u32) -> Record<'static> {
    nth(n, EventBody::Exit { task: leader(pid), code: 0, signal: 17, parent: None })
}

fn details(subject: DetailsSubject) -> Record<'static> {
    let name = format!("p{}", subject.tgid());
    Record::Details(Box::new(Details {
        miss: None,
        comm: Some(name.clone().into()),
        args: Some(format!("{name}\0").into()),
        ..Details::missed(subject, MissReason::Gone)
    }))
}

fn scan(pids: &[u32]) -> Vec<Record<'static>> {
    let seen = pids.iter().map(|&pid| details(DetailsSubject::Snapshot { tgid: Tgid(pid) }));
    let snapshot = Snapshot {
        started: MonoNs(0),
        ended: MonoNs(0),
        processes: pids.len() as u32,
        reason: SnapshotReason::Start,
        atomic: false,
    };
    seen.chain([Record::Snapshot(snapshot)]).collect()
}

fn file(live: &CaptureWorld<&[u8]>, pid: u32, name: &str) -> Option<Vec<u8>> {
    live.processes().entries(pid).into_iter().find_map(|(path, node)| match node {
        ProcEntry::File(content) if path == name => Some(content),
        _ => None,
    })
}

fn comm(live: &CaptureWorld<&[u8]>, pid: u32) -> String {
    String::from_utf8(file(live, pid, "comm").unwrap_or_default()).unwrap()
}

/// A socket that listens, past its acknowledgement.
fn listener(live: &mut CaptureWorld<&[u8]>) -> Socket {
    let mut socket = live.kernel().socket();
    socket.listen().unwrap();
    socket.recv(&mut [], RecvFlags::empty()).unwrap();
    socket
}

fn received(socket: &mut Socket) -> Vec<Event> {
    let mut bytes = [0; 128];
    std::iter::from_fn(|| socket.recv(&mut bytes, RecvFlags::empty()).ok())
        .map(|datagram| datagram.len)
        .collect::<Vec<_>>()
        .into_iter()
        .map(|len| Event::decode(&bytes[..len], ORDER).unwrap())
        .collect()
}

#[test]
fn processes_are_as_of_the_event_that_was_received() {
    let records =
        [scan(&[1, 10]), vec![fork(1, 10, 20)], exec(2, 20).into(), vec![exit(3, 20), fork(4, 10, 30)]];
    let bytes = capture(&records.concat());
    let mut live = live(&bytes);
    // Before anything, those of the scan.
    assert_eq!(live.processes().pids(), [1, 10]);
    assert_eq!(live.next_event().unwrap(), NextEvent::OnDemand);
    live.step().unwrap();
    assert_eq!(live.processes().pids(), [1, 10]);
    live.mark_received();
    assert_eq!((live.processes().pids(), comm(&live, 20)), (vec![1, 10, 20], "p10\n".into()));
    live.step().unwrap();
    assert_eq!(comm(&live, 20), "p10\n");
    live.mark_received();
    assert_eq!((comm(&live, 20), file(&live, 20, "cmdline")), ("p20\n".into(), Some(b"p20\0".to_vec())));
    live.step().unwrap();
    live.mark_received();
    assert!(file(&live, 20, "stat").is_some_and(|stat| stat.starts_with(b"20 (p20) Z 10 ")));
    live.step().unwrap();
    live.mark_received();
    assert_eq!(live.processes().pids(), [1, 10, 30]);
    assert_eq!(live.next_event().unwrap(), NextEvent::Never);
    // Whoever asks for more has nothing of it.
    live.step().unwrap();
    live.mark_received();
    assert_eq!(live.processes().pids(), [1, 10, 30]);
}

#[test]
fn several_events_may_be_received_at_once() {
    let bytes = capture(&[scan(&[1]), vec![fork(1, 1, 20), fork(2, 20, 30), exit(3, 20)]].concat());
    let mut live = live(&bytes);
    let socket = listener(&mut live);
    for _ in 0..3 {
        live.step().unwrap();
    }
    assert_eq!(live.processes().pids(), [1]);
    assert!(socket.poll().readable);
    live.mark_received();
    assert_eq!(live.processes().pids(), [1, 20, 30]);
    assert!(file(&live, 30, "stat").is_some_and(|stat| stat.starts_with(b"30 (p1) S 1 ")));
}

#[test]
fn every_exec_of_a_capture_finds_its_command_line() {
    let synth = Synth::new(SynthOptions { events: 3_000, seed: 5, ..SynthOptions::default() }).unwrap();
    let mut encoder = Encoder::new(&synth.header()).unwrap();
    let mut expected = HashMap::new();
    let told = synth.generate(|record| {
        if let Record::Details(details) = record
            && let (DetailsSubject::Exec { tgid, time }, Some(args)) = (details.subject, &details.args)
        {
            expected.insert((tgid, time), args.clone());
        }
        encoder.push(record)
    });
    told.unwrap();
    let bytes = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
    let mut live = live(&bytes);
    let mut socket = listener(&mut live);
    let mut found = 0;
    while live.next_event().unwrap() == NextEvent::OnDemand {
        live.step().unwrap();
        live.mark_received();
        for event in received(&mut socket) {
            match event.body {
                EventBody::Exec { task } => {
                    let args = expected.get(&(task.tgid, event.time)).cloned();
                    found += u32::from(args.is_some());
                    assert!(args.is_none() || file(&live, task.tgid.0, "cmdline") == args, "{event:?}");
                }
                EventBody::Exit { task, .. } if task.is_leader() => {
                    assert!(live.processes().task(task.tgid.0).is_some(), "{event:?}");
                }
                _ => {}
            }
        }
    }
    assert!(found > 50 && found as usize == expected.len(), "{found} of {}", expected.len());
    let uptime = live.processes().uptime().unwrap();
    assert!(uptime > Duration::from_nanos(live.meta().start.boot_ns));
}

#[test]
fn what_a_filter_hides_changes_the_processes() {
    let records = [scan(&[1]), vec![fork(1, 1, 20)], exec(2, 20).into(), vec![fork(3, 20, 30), exit(4, 20)]];
    let bytes = capture(&records.concat());
    let filter = Filter { kinds: vec![EventKind::Exit], ..Filter::default() };
    let mut live = CaptureWorld::new(replay(&bytes).filter(filter), Speed::Instant);
    let mut socket = listener(&mut live);
    live.step().unwrap();
    live.mark_received();
    assert!(matches!(received(&mut socket)[..], [Event { body: EventBody::Exit { .. }, .. }]));
    assert_eq!((live.processes().pids(), comm(&live, 20)), (vec![1, 20, 30], "p20\n".into()));
    assert_eq!(live.next_event().unwrap(), NextEvent::Never);
}

#[test]
fn a_range_begins_with_the_processes_of_then_and_ends_with_those() {
    let bytes = capture(&[scan(&[1]), (1..8).map(|n| fork(n, 1, 10 + n)).collect()].concat());
    let at = |n: u64| MonoNs(n * 1_000_000);
    let mut live = CaptureWorld::new(replay(&bytes).from(at(3)).until(at(5)), Speed::Instant);
    assert_eq!(live.processes().pids(), [1, 11, 12]);
    let mut socket = listener(&mut live);
    while live.next_event().unwrap() == NextEvent::OnDemand {
        live.step().unwrap();
    }
    live.mark_received();
    assert_eq!(received(&mut socket).len(), 3);
    assert_eq!(live.processes().pids(), [1, 11, 12, 13, 14, 15]);
}

#[test]
fn at_a_pace_all_happens_in_its_time_whatever_is_received() {
    let bytes = capture(&[scan(&[1]), vec![fork(1, 1, 20), fork(3_600_001, 1, 30)]].concat());
    let mut live = CaptureWorld::new(replay(&bytes), Speed::Times(1.0));
    assert_eq!(live.next_event().unwrap(), NextEvent::In(Duration::ZERO));
    live.step().unwrap();
    assert_eq!(live.processes().pids(), [1, 20]);
    // An hour, less what has passed since.
    let NextEvent::In(left) = live.next_event().unwrap() else { panic!("nothing is left") };
    assert!(left > Duration::from_secs(3_000) && left <= Duration::from_secs(3_600), "{left:?}");
    live.step().unwrap();
    assert_eq!((live.processes().pids(), live.next_event().unwrap()), (vec![1, 20, 30], NextEvent::Never));
}

#[test]
fn damage_is_told_and_the_rest_happens() {
    let mut parts = blocks(&[scan(&[1]), (1..29).map(|n| fork(n, 1, 10 + n)).collect()].concat());
    parts[2][40] ^= 1;
    let bytes = parts.concat();
    let mut live = live(&bytes);
    let (mut steps, mut damages) = (0, 0);
    loop {
        match live.next_event() {
            Ok(NextEvent::Never) => break,
            Ok(_) => {
                steps += 1;
                live.step().unwrap();
            }
            Err(ReplayError::Damaged(_)) => damages += 1,
            Err(error) => panic!("{error}"),
        }
    }
    live.mark_received();
    // Eight events were in the first block, ten in each of the others; that some are missing is told as well.
    assert_eq!((steps, damages), (18, 2));
    assert_eq!(live.processes().pids().len(), 19);
}

#[test]
fn damage_before_the_first_event_is_told_by_the_first_call() {
    let mut parts = blocks(&[scan(&[1]), (1..29).map(|n| fork(n, 1, 10 + n)).collect()].concat());
    parts[1][40] ^= 1;
    let bytes = parts.concat();
    let mut live = live(&bytes);
    assert!(matches!(live.step(), Err(ReplayError::Damaged(_))));
    assert!(matches!(live.next_event(), Err(ReplayError::Damaged(_))));
    assert_eq!(live.next_event().unwrap(), NextEvent::OnDemand);
    live.step().unwrap();
    live.mark_received();
    assert_eq!(live.processes().pids(), [1, 19]);
}
