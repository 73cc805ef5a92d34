//! Fault scripts in a replay: places by the details of the capture, lost events, and the recorder's
//! subscription.

use pmon_analysis::Filter;
use pmon_core::batch::Batch;
use pmon_core::capture::{
    Details, DetailsSubject, Encoder, Header, Meta, MissReason, Reader, Record, RecordedDatagram, Snapshot,
    SnapshotReason,
};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind, SubscribeOp, SubscribeRequest};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_fake::{Errno, FaultScript, RecvFlags, Socket};
use pmon_interpose::{NextEvent, ReplayWorld};
use pmon_replay::{CaptureWorld, Replay, Speed};

const ORDER: ByteOrder = ByteOrder::NATIVE;

fn task(pid: u32) -> Task {
    Task::new(pid, pid)
}

fn exit(pid: u32) -> EventBody {
    EventBody::Exit { task: task(pid), code: 0, signal: 17, parent: Some(task(1)) }
}

fn details(subject: DetailsSubject, comm: &str, args: &str) -> Record<'static> {
    let (comm, args) = (Some(comm.as_bytes().into()), Some(args.replace(' ', "\0").into()));
    Record::Details(Box::new(Details {
        miss: None,
        comm,
        args,
        ..Details::missed(subject, MissReason::Gone)
    }))
}

/// Creates a capture with process 50 from a scan, and nine events with the numbers 100 to 108:
///
/// | number | event | name | command line |
/// | --- | --- | --- | --- |
/// | 0 | exec 50 | shell | sh -c all |
/// | 1 | fork 5071 | shell | sh -c all |
/// | 2 | exec 5071 | make | make -j2 |
/// | 3 | fork 5072 of 5071 | make | make -j2 |
/// | 4 | exec 5072 | unknown | unknown |
/// | 5 | sid 5072 | unknown | unknown |
/// | 6 | exit 5072 | unknown | unknown |
/// | 7 | exit 5071 | make | make -j2 |
/// | 8 | sid 50 | shell | sh -c all |
fn capture() -> Vec<u8> {
    let fork = |parent, child| EventBody::Fork { parent: task(parent), child: task(child) };
    let exec = |pid| EventBody::Exec { task: task(pid) };
    let sid = |pid| EventBody::Sid { task: task(pid) };
    let events = [
        exec(50),
        fork(50, 5071),
        exec(5071),
        fork(5071, 5072),
        exec(5072),
        sid(5072),
        exit(5072),
        exit(5071),
        sid(50),
    ];
    let time = |n: usize| MonoNs(1_000_000 * n as u64);
    let mut records = vec![
        details(DetailsSubject::Snapshot { tgid: Tgid(50) }, "login", "login "),
        Record::Snapshot(Snapshot {
            started: MonoNs(0),
            ended: MonoNs(0),
            processes: 1,
            reason: SnapshotReason::Start,
            atomic: false,
        }),
    ];
    for (n, body) in events.into_iter().enumerate() {
        let event = Event { time: time(n), seq: Seq(100 + n as u32), cpu: Cpu(0), body };
        records.push(RecordedDatagram::Event(event).into());
        let subject = |pid| DetailsSubject::Exec { tgid: Tgid(pid), time: time(n) };
        match (n, body) {
            (0, _) => records.push(details(subject(50), "shell", "sh -c all ")),
            (2, _) => records.push(details(subject(5071), "make", "make -j2 ")),
            (4, _) => {
                records.push(Record::Details(Box::new(Details::missed(subject(5072), MissReason::Gone))));
            }
            _ => {}
        }
    }
    let meta = Meta { cpus_online: 1, ..Meta::default() };
    let mut encoder = Encoder::new(&Header { uuid: [1; 16], byte_order: ORDER, meta }).unwrap();
    records.iter().for_each(|record| encoder.push(record).unwrap());
    [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat()
}

fn script(place: &str, fault: &str) -> FaultScript {
    format!("[[fault]]\nat = {{ {place} }}\n{fault}\n").parse().unwrap()
}

fn replay(capture: &[u8], script: FaultScript) -> Replay<Reader<&[u8]>> {
    Replay::new(Reader::open(capture).unwrap()).faults(script, 0)
}

/// Returns what a source delivers: the numbers of the events, and `None` for an overrun.
fn delivered(replay: &mut Replay<Reader<&[u8]>>) -> Vec<Option<u32>> {
    let (mut all, mut batch) = (Vec::new(), Batch::with_capacity(7));
    loop {
        match replay.receive(&mut batch).unwrap() {
            Received::Datagrams(_) => {}
            Received::Overrun => all.push(None),
            Received::Empty | Received::Closed => return all,
        }
        let number = |bytes: &[u8]| Event::decode(bytes, ORDER).unwrap().seq.0 - 100;
        all.extend(batch.datagrams().map(|datagram| Some(number(datagram.bytes))));
        batch.clear();
    }
}

/// Returns the number of the event that is lost at a place; `None` if the place is not reached.
fn lost_at(place: &str) -> Option<u32> {
    let capture = capture();
    let mut replay = replay(&capture, script(place, "lose = 1"));
    let delivered = delivered(&mut replay);
    let at = delivered.iter().position(Option::is_none)?;
    let expected = (0..9).map(|n| (n != at as u32).then_some(n));
    assert_eq!((delivered, replay.drops().unwrap()), (expected.collect(), Some(1)), "{place}");
    Some(at as u32)
}

#[test]
fn places_name_the_processes_of_the_capture() {
    assert_eq!(lost_at(r#"kind = "fork", pid = 5071"#), Some(1));
    assert_eq!(lost_at(r#"parent = 5071"#), Some(3));
    assert_eq!(lost_at(r#"comm = "shell""#), Some(0));
    assert_eq!(lost_at(r#"comm = "shell", nth = 3"#), Some(8));
    assert_eq!(lost_at(r#"comm = "make""#), Some(2));
    assert_eq!(lost_at(r#"comm = "make", kind = "exit""#), Some(7));
    assert_eq!(lost_at(r#"comm = "login""#), None);
    assert_eq!(lost_at(r#"args = "^sh -c all$""#), Some(0));
    assert_eq!(lost_at(r#"args = "^sh -c all$", pid = 5071"#), Some(1));
    assert_eq!(lost_at(r#"args = "-j[0-9]""#), Some(2));
    assert_eq!(lost_at(r#"args = "-j[0-9]", kind = "exit""#), Some(7));
    // Missing details match no pattern.
    assert_eq!(lost_at(r#"args = "", pid = 5072, nth = 2"#), None);
    assert_eq!(lost_at(r#"pid = 5072, nth = 2"#), Some(4));
}

#[test]
fn a_filter_before_or_after_the_script_hides_events_from_its_places() {
    let capture = capture();
    let place = || script(r#"args = "^sh", nth = 2"#, "lose = 1");
    let execs = || Filter { kinds: vec![EventKind::Exec, EventKind::Sid], ..Filter::default() };
    let source = || Replay::new(Reader::open(capture.as_slice()).unwrap());
    // The second event of the shell that is shown is the last of the five.
    for mut replay in
        [source().filter(execs()).faults(place(), 0), source().faults(place(), 0).filter(execs())]
    {
        assert_eq!(delivered(&mut replay), [Some(0), Some(1), Some(2), Some(3), None]);
        assert!(replay.processes().is_some());
    }
}

#[test]
fn events_are_lost_up_to_a_place() {
    let capture = capture();
    let until = r#"lose_until = { kind = "exit", comm = "make" }"#;
    let mut lost = replay(&capture, script(r#"kind = "fork""#, until));
    let expected = [Some(0), None, Some(7), Some(8)];
    assert_eq!((delivered(&mut lost), lost.drops().unwrap()), (expected.to_vec(), Some(6)));
    let mut unreached = replay(&capture, script(r#"kind = "fork""#, r#"lose_until = { comm = "none" }"#));
    assert_eq!(delivered(&mut unreached), [Some(0), None]);
    assert!(unreached.kernel().fault_counts()[0].is_losing);
}

/// Receives the number of the next event.
fn next(socket: &mut Socket) -> Result<u32, Errno> {
    let mut bytes = [0; 128];
    let len = socket.recv(&mut bytes, RecvFlags::empty())?.len;
    Ok(Event::decode(&bytes[..len], ORDER).unwrap().seq.0.wrapping_sub(100))
}

fn send(socket: &mut Socket, op: SubscribeOp) {
    socket.send_to(&SubscribeRequest::new(op, 0).encode(0, ORDER), 0, 0).unwrap();
}

#[test]
fn a_bound_socket_receives_the_events_without_a_subscription_of_its_own() {
    let capture = capture();
    let mut replay = replay(&capture, FaultScript::new());
    let mut socket = replay.socket().unwrap();
    assert!(!socket.receives_events());
    socket.bind(0, 1).unwrap();
    assert!(socket.receives_events() && !socket.is_subscribed());
    while replay.step().unwrap().is_some() {}
    assert_eq!((0..9).map(|_| next(&mut socket)).collect::<Vec<_>>(), (0..9).map(Ok).collect::<Vec<_>>());
    assert_eq!(next(&mut socket), Err(Errno::AGAIN));
}

#[test]
fn a_socket_that_ignores_events_receives_none_and_continues_after_it_listens_again() {
    let capture = capture();
    let mut world = CaptureWorld::new(replay(&capture, FaultScript::new()), Speed::Instant);
    let mut socket = world.kernel().socket();
    socket.listen().unwrap();
    assert!(next(&mut socket).is_ok());
    world.step().unwrap();
    assert_eq!(next(&mut socket), Ok(0));
    send(&mut socket, SubscribeOp::Ignore);
    assert!(!socket.receives_events() && !socket.is_subscribed());
    world.step().unwrap();
    assert_eq!(next(&mut socket), Err(Errno::AGAIN));
    send(&mut socket, SubscribeOp::Listen);
    assert!(socket.receives_events() && socket.is_subscribed());
    // The acknowledgements of both requests have a number.
    assert_eq!(next(&mut socket), Ok(3));
    world.step().unwrap();
    assert_eq!((next(&mut socket), world.next_event().unwrap()), (Ok(2 + 2), NextEvent::OnDemand));
}

#[test]
fn a_lost_event_has_happened_to_the_processes() {
    let capture = capture();
    let script = script(r#"kind = "fork", pid = 5071"#, "lose = 1");
    let mut world = CaptureWorld::new(replay(&capture, script), Speed::Instant);
    let mut socket = world.kernel().socket();
    socket.bind(0, 1).unwrap();
    let mut received = Vec::new();
    for _ in 0..3 {
        world.step().unwrap();
        received.push(next(&mut socket));
        world.mark_received(world.position());
    }
    assert_eq!(received, [Ok(0), Err(Errno::NOBUFS), Ok(2)]);
    assert!(world.processes().pids().contains(&5071));
}
