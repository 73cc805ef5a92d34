//! `CaptureWorld`: the events that a program under test receives, and the processes in its `/proc`.

use std::collections::HashMap;
use std::time::Duration;

use pmon_analysis::Filter;
use pmon_core::capture::{
    ClockAnchor, Details, DetailsSubject, Encoder, Header, Meta, MissReason, Reader, Record,
    RecordedDatagram, Snapshot, SnapshotReason,
};
use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_fake::{RecvFlags, Socket};
use pmon_interpose::{ClockTimes, NextEvent, ProcEntry, ReplayWorld};
use pmon_replay::synth::{Synth, SynthOptions};
use pmon_replay::{CaptureWorld, Replay, ReplayError, Speed};

const ORDER: ByteOrder = ByteOrder::NATIVE;

/// Creates a capture with one block.
fn capture(records: &[Record<'_>]) -> Vec<u8> {
    blocks(records).concat()
}

/// Creates the header, a block for every ten records, and the end.
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

fn replay(capture: &[u8]) -> Replay<Reader<&[u8]>> {
    Replay::new(Reader::open(capture).unwrap())
}

fn world(capture: &[u8]) -> CaptureWorld<Reader<&[u8]>> {
    CaptureWorld::new(replay(capture), Speed::Instant)
}

/// Creates event `n` at the time `n` ms.
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

fn file(world: &mut CaptureWorld<Reader<&[u8]>>, pid: u32, name: &str) -> Option<Vec<u8>> {
    world.processes().entries(pid).into_iter().find_map(|(path, node)| match node {
        ProcEntry::File(content) if path == name => Some(content),
        _ => None,
    })
}

fn comm(world: &mut CaptureWorld<Reader<&[u8]>>, pid: u32) -> String {
    String::from_utf8(file(world, pid, "comm").unwrap_or_default()).unwrap()
}

/// Creates a listening socket that has received its acknowledgement.
fn listener(world: &mut CaptureWorld<Reader<&[u8]>>) -> Socket {
    let mut socket = world.kernel().socket();
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
fn processes_are_as_of_the_last_received_event() {
    let records =
        [scan(&[1, 10]), vec![fork(1, 10, 20)], exec(2, 20).into(), vec![exit(3, 20), fork(4, 10, 30)]];
    let bytes = capture(&records.concat());
    let mut world = world(&bytes);
    // Before the first event, the processes are those of the scan.
    assert_eq!(world.processes().pids(), [1, 10]);
    assert_eq!(world.next_event().unwrap(), NextEvent::OnDemand);
    world.step().unwrap();
    assert_eq!(world.processes().pids(), [1, 10]);
    world.mark_received(world.position());
    assert_eq!((world.processes().pids(), comm(&mut world, 20)), (vec![1, 10, 20], "p10\n".into()));
    world.step().unwrap();
    assert_eq!(comm(&mut world, 20), "p10\n");
    world.mark_received(world.position());
    assert_eq!(
        (comm(&mut world, 20), file(&mut world, 20, "cmdline")),
        ("p20\n".into(), Some(b"p20\0".to_vec()))
    );
    world.step().unwrap();
    world.mark_received(world.position());
    assert!(file(&mut world, 20, "stat").is_some_and(|stat| stat.starts_with(b"20 (p20) Z 10 ")));
    world.step().unwrap();
    world.mark_received(world.position());
    assert_eq!(world.processes().pids(), [1, 10, 30]);
    assert_eq!(world.next_event().unwrap(), NextEvent::Never);
    // Further calls after the end have no effect.
    world.step().unwrap();
    world.mark_received(world.position());
    assert_eq!(world.processes().pids(), [1, 10, 30]);
}

#[test]
fn events_that_happened_at_once_can_be_received_one_by_one() {
    let bytes = capture(&[scan(&[1]), vec![fork(1, 1, 20), fork(2, 20, 30), exit(3, 20)]].concat());
    let mut world = world(&bytes);
    let mut positions = vec![world.position()];
    for _ in 0..3 {
        world.step().unwrap();
        positions.push(world.position());
    }
    let expected: [&[u32]; 4] = [&[1], &[1, 20], &[1, 20, 30], &[1, 20, 30]];
    for (position, expected) in positions.into_iter().zip(expected) {
        world.mark_received(position);
        assert_eq!(world.processes().pids(), expected, "position {position}");
    }
    assert!(file(&mut world, 20, "stat").is_some_and(|stat| stat.starts_with(b"20 (p1) Z ")));
}

#[test]
fn several_events_can_be_received_at_once() {
    let bytes = capture(&[scan(&[1]), vec![fork(1, 1, 20), fork(2, 20, 30), exit(3, 20)]].concat());
    let mut world = world(&bytes);
    let socket = listener(&mut world);
    for _ in 0..3 {
        world.step().unwrap();
    }
    assert_eq!(world.processes().pids(), [1]);
    assert!(socket.poll().readable);
    world.mark_received(world.position());
    assert_eq!(world.processes().pids(), [1, 20, 30]);
    assert!(file(&mut world, 30, "stat").is_some_and(|stat| stat.starts_with(b"30 (p1) S 1 ")));
}

#[test]
fn every_exec_of_a_capture_finds_its_command_line() {
    let synth = Synth::new(SynthOptions { events: 3_000, seed: 5, ..SynthOptions::default() }).unwrap();
    let mut encoder = Encoder::new(&synth.header()).unwrap();
    let mut expected = HashMap::new();
    let generated = synth.generate(|record| {
        if let Record::Details(details) = record
            && let (DetailsSubject::Exec { tgid, time }, Some(args)) = (details.subject, &details.args)
        {
            expected.insert((tgid, time), args.clone());
        }
        encoder.push(record)
    });
    generated.unwrap();
    let bytes = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
    let mut world = world(&bytes);
    let mut socket = listener(&mut world);
    let mut found = 0;
    while world.next_event().unwrap() == NextEvent::OnDemand {
        world.step().unwrap();
        world.mark_received(world.position());
        for event in received(&mut socket) {
            match event.body {
                EventBody::Exec { task } => {
                    let args = expected.get(&(task.tgid, event.time)).cloned();
                    found += u32::from(args.is_some());
                    assert!(args.is_none() || file(&mut world, task.tgid.0, "cmdline") == args, "{event:?}");
                }
                EventBody::Exit { task, .. } if task.is_leader() => {
                    assert!(world.processes().task(task.tgid.0).is_some(), "{event:?}");
                }
                _ => {}
            }
        }
    }
    assert!(found > 50 && found as usize == expected.len(), "{found} of {}", expected.len());
    let uptime = world.processes().uptime().unwrap();
    assert!(uptime > Duration::from_nanos(world.meta().start.boot_ns));
}

#[test]
fn clocks_are_those_at_the_last_received_event() {
    let ms = Duration::from_millis;
    let clock = |mono: u64, boot: u64, real: i64| {
        let mono = MonoNs(mono * 1_000_000);
        Record::Clock(ClockAnchor { mono, boot_ns: boot * 1_000_000, real_ns: real * 1_000_000 })
    };
    // Between the second and the third event, the machine sleeps and the wall clock is set.
    let records = [clock(1, 11, 101), fork(2, 1, 11), fork(3, 1, 12), clock(4, 54, 1_004), fork(6, 1, 13)];
    let bytes = capture(&records);
    let mut world = world(&bytes);
    let times = |monotonic, boottime, realtime| {
        let [monotonic, boottime, realtime] = [monotonic, boottime, realtime].map(ms);
        Some(ClockTimes { monotonic, boottime, realtime })
    };
    let _socket = listener(&mut world);
    for (step, expected) in
        [times(2, 12, 102), times(3, 13, 103), times(6, 56, 1_006)].into_iter().enumerate()
    {
        let before = world.processes().clocks();
        world.step().unwrap();
        assert_eq!(world.processes().clocks(), before, "event {step} is not received yet");
        world.mark_received(world.position());
        assert_eq!(world.processes().clocks(), expected, "event {step}");
    }
}

#[test]
fn the_clocks_of_a_capture_without_clock_readings_are_unknown() {
    let bytes = capture(&[fork(2, 1, 11)]);
    let mut world = world(&bytes);
    world.step().unwrap();
    world.mark_received(world.position());
    assert_eq!(world.processes().clocks(), None);
}

#[test]
fn hidden_events_change_the_processes() {
    let records = [scan(&[1]), vec![fork(1, 1, 20)], exec(2, 20).into(), vec![fork(3, 20, 30), exit(4, 20)]];
    let bytes = capture(&records.concat());
    let filter = Filter { kinds: vec![EventKind::Exit], ..Filter::default() };
    let mut world = CaptureWorld::new(replay(&bytes).filter(filter), Speed::Instant);
    let mut socket = listener(&mut world);
    world.step().unwrap();
    world.mark_received(world.position());
    assert!(matches!(received(&mut socket)[..], [Event { body: EventBody::Exit { .. }, .. }]));
    assert_eq!((world.processes().pids(), comm(&mut world, 20)), (vec![1, 20, 30], "p20\n".into()));
    assert_eq!(world.next_event().unwrap(), NextEvent::Never);
}

#[test]
fn a_range_starts_and_ends_with_the_processes_of_its_bounds() {
    let bytes = capture(&[scan(&[1]), (1..8).map(|n| fork(n, 1, 10 + n)).collect()].concat());
    let at = |n: u64| MonoNs(n * 1_000_000);
    let mut world = CaptureWorld::new(replay(&bytes).from(at(3)).until(at(5)), Speed::Instant);
    assert_eq!(world.processes().pids(), [1, 11, 12]);
    let mut socket = listener(&mut world);
    while world.next_event().unwrap() == NextEvent::OnDemand {
        world.step().unwrap();
    }
    world.mark_received(world.position());
    assert_eq!(received(&mut socket).len(), 3);
    assert_eq!(world.processes().pids(), [1, 11, 12, 13, 14, 15]);
}

/// Returns the processes and their files at the end of a capture. The processes are looked at after
/// every `every` events.
fn final_processes(bytes: &[u8], every: usize) -> Vec<(u32, Vec<(String, ProcEntry)>)> {
    let mut world = world(bytes);
    let mut step = 0;
    while world.next_event().unwrap() == NextEvent::OnDemand {
        world.step().unwrap();
        world.mark_received(world.position());
        step += 1;
        if step % every == 0 {
            assert!(world.processes().task(1).is_some());
        }
    }
    world.step().unwrap();
    world.mark_received(world.position());
    let view = world.processes();
    view.pids().into_iter().map(|pid| (pid, view.entries(pid))).collect()
}

#[test]
fn processes_are_the_same_however_often_they_are_looked_at() {
    let synth = Synth::new(SynthOptions { events: 5_000, ..SynthOptions::default() }).unwrap();
    let mut encoder = Encoder::new(&synth.header()).unwrap();
    synth.generate(|record| encoder.push(record)).unwrap();
    let bytes = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
    let always = final_processes(&bytes, 1);
    assert!(always.len() > 10);
    for every in [7, 2_000, usize::MAX] {
        assert_eq!(final_processes(&bytes, every), always, "every {every} events");
    }
}

#[test]
fn at_a_pace_events_happen_in_their_time_even_if_not_received() {
    let bytes = capture(&[scan(&[1]), vec![fork(1, 1, 20), fork(3_600_001, 1, 30)]].concat());
    let mut world = CaptureWorld::new(replay(&bytes), Speed::Times(1.0));
    assert_eq!(world.next_event().unwrap(), NextEvent::In(Duration::ZERO));
    world.step().unwrap();
    assert_eq!(world.processes().pids(), [1, 20]);
    // One hour, minus the time that has passed.
    let NextEvent::In(left) = world.next_event().unwrap() else { panic!("nothing is left") };
    assert!(left > Duration::from_secs(3_000) && left <= Duration::from_secs(3_600), "{left:?}");
    world.step().unwrap();
    assert_eq!((world.processes().pids(), world.next_event().unwrap()), (vec![1, 20, 30], NextEvent::Never));
}

#[test]
fn damage_is_reported_and_the_rest_is_replayed() {
    let mut parts = blocks(&[scan(&[1]), (1..29).map(|n| fork(n, 1, 10 + n)).collect()].concat());
    parts[2][40] ^= 1;
    let bytes = parts.concat();
    let mut world = world(&bytes);
    let (mut steps, mut damages) = (0, 0);
    loop {
        match world.next_event() {
            Ok(NextEvent::Never) => break,
            Ok(_) => {
                steps += 1;
                world.step().unwrap();
            }
            Err(ReplayError::Damaged(_)) => damages += 1,
            Err(error) => panic!("{error}"),
        }
    }
    world.mark_received(world.position());
    // The first block had eight events, each other block ten. The missing events are reported too.
    assert_eq!((steps, damages), (18, 2));
    assert_eq!(world.processes().pids().len(), 19);
}

#[test]
fn the_first_call_reports_damage_before_the_first_event() {
    let mut parts = blocks(&[scan(&[1]), (1..29).map(|n| fork(n, 1, 10 + n)).collect()].concat());
    parts[1][40] ^= 1;
    let bytes = parts.concat();
    let mut world = world(&bytes);
    assert!(matches!(world.step(), Err(ReplayError::Damaged(_))));
    assert!(matches!(world.next_event(), Err(ReplayError::Damaged(_))));
    assert_eq!(world.next_event().unwrap(), NextEvent::OnDemand);
    world.step().unwrap();
    world.mark_received(world.position());
    assert_eq!(world.processes().pids(), [1, 19]);
}
