//! `Replay`: which events a listener receives, and when.

use pmon_analysis::Filter;
use pmon_core::accounting::LossCause;
use pmon_core::batch::Batch;
use pmon_core::capture::{
    Blind, ClockAnchor, Details, DetailsSubject, Encoder, Header, Loss, Meta, MissReason, Reader, Record,
    RecordedDatagram, ScopeInfo,
};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody, EventKind, layout};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_fake::{Errno, Fault, FaultScript, RecvFlags, Socket, Trigger};
use pmon_replay::{PassedRecord, Replay, ReplayError, StepResult};

const ORDER: ByteOrder = ByteOrder::NATIVE;

/// Creates a capture with blocks of `block` records.
fn capture(records: &[Record<'_>], block: usize) -> Vec<u8> {
    let meta = Meta { cpus_online: 2, ..Meta::default() };
    let mut encoder = Encoder::new(&Header { uuid: [1; 16], byte_order: ORDER, meta }).unwrap();
    let mut bytes = encoder.header().to_vec();
    for some in records.chunks(block) {
        some.iter().for_each(|record| encoder.push(record).unwrap());
        bytes.extend_from_slice(encoder.seal());
    }
    bytes.extend_from_slice(encoder.finish());
    bytes
}

fn replay(capture: &[u8]) -> Replay<Reader<&[u8]>> {
    Replay::new(Reader::open(capture).unwrap())
}

/// Creates event `n` of a CPU, with sequence number `100 + n` at the time `n` ms.
fn nth(cpu: u32, n: u32, body: EventBody) -> Event {
    Event { time: MonoNs(u64::from(n) * 1_000_000), seq: Seq(100 + n), cpu: Cpu(cpu), body }
}

fn exec(cpu: u32, n: u32) -> Record<'static> {
    RecordedDatagram::Event(nth(cpu, n, EventBody::Exec { task: Task::new(n, n) })).into()
}

fn comm(cpu: u32, n: u32) -> Record<'static> {
    RecordedDatagram::Event(nth(cpu, n, EventBody::Comm { task: Task::new(n, n), comm: Comm::default() }))
        .into()
}

/// Creates a loss of the events `first` to `last` of CPU 0.
fn loss(first: u32, last: u32, cause: LossCause) -> Record<'static> {
    let at = |n: u32| MonoNs(u64::from(n) * 1_000_000);
    let (after, before) = (at(first - 1), at(last + 1));
    Record::Loss(Loss { cpu: Cpu(0), first: Seq(100 + first), last: Seq(100 + last), after, before, cause })
}

/// Returns all that a source delivers: sequence numbers, and `None` for an overrun.
fn delivered(source: &mut impl Source) -> Vec<Option<u32>> {
    let (mut all, mut batch) = (Vec::new(), Batch::with_capacity(7));
    loop {
        match source.receive(&mut batch).unwrap() {
            Received::Datagrams(_) => {}
            Received::Overrun => all.push(None),
            Received::Empty | Received::Closed => return all,
        }
        let event = |frame: pmon_core::batch::Datagram<'_>| Event::decode(frame.bytes, ORDER).unwrap();
        all.extend(batch.datagrams().map(|frame| Some(event(frame).seq.0)));
        batch.clear();
    }
}

fn some(numbers: impl IntoIterator<Item = u32>) -> Vec<Option<u32>> {
    numbers.into_iter().map(Some).collect()
}

/// Returns the events in the buffer of a socket.
fn received(socket: &mut Socket) -> Vec<Event> {
    let mut events = Vec::new();
    let mut bytes = [0; 128];
    while let Ok(datagram) = socket.recv(&mut bytes, RecvFlags::empty()) {
        events.push(Event::decode(&bytes[..datagram.len], ORDER).unwrap());
    }
    events
}

#[test]
fn a_loss_is_delivered_in_its_place_and_counted() {
    let records = [exec(0, 0), exec(0, 1), loss(2, 5, LossCause::Socket), exec(0, 6), exec(0, 7)];
    for block in 1..6 {
        let bytes = capture(&records, block);
        let mut replay = replay(&bytes);
        let expected = [some([100, 101]), vec![None], some([106, 107])].concat();
        assert_eq!(delivered(&mut replay), expected);
        assert_eq!(replay.drops().unwrap(), Some(4));
    }
}

#[test]
fn a_loss_for_lack_of_kernel_memory_is_a_gap_without_an_overrun() {
    let bytes = capture(&[exec(0, 1), loss(2, 5, LossCause::KernelMemory), exec(0, 6)], 10);
    let mut replay = replay(&bytes);
    assert_eq!(delivered(&mut replay), some([101, 106]));
    assert_eq!(replay.drops().unwrap(), Some(0));
}

#[test]
fn events_hidden_by_a_filter_leave_no_gap() {
    let records: Vec<_> = (0..4).map(|n| if n % 2 == 0 { exec(0, n) } else { comm(0, n) }).collect();
    let records =
        [records, vec![loss(4, 6, LossCause::Socket), exec(0, 7), comm(1, 8), comm(1, 9), exec(1, 10)]]
            .concat();
    let bytes = capture(&records, 3);
    let filter = Filter { kinds: vec![EventKind::Exec], ..Filter::default() };
    let mut replay = replay(&bytes).filter(filter).follow_processes();
    // On CPU 0, 102 follows 100 directly, and three events are lost. On CPU 1, 110 is the first.
    assert_eq!(delivered(&mut replay), [some([100, 101]), vec![None], some([105, 108])].concat());
    assert!(replay.processes().unwrap().process(pmon_core::Tgid(2)).is_some());
}

#[test]
fn in_a_capture_with_excluded_events_only_losses_are_gaps() {
    let scope = Record::Scope(ScopeInfo { text: "execs".into() });
    let records =
        [scope, exec(0, 0), exec(0, 4), exec(1, 9), loss(7, 9, LossCause::Ring), exec(0, 12), exec(1, 20)];
    let bytes = capture(&records, 10);
    assert_eq!(
        delivered(&mut replay(&bytes)),
        [some([100, 101, 109]), vec![None], some([105, 110])].concat()
    );
}

#[test]
fn a_time_range_can_be_replayed_from_any_reader_position() {
    let records: Vec<_> = (0..40).map(|n| exec(n % 2, n)).collect();
    let bytes = capture(&records, 4);
    let (from, until) = (MonoNs(17_000_000), MonoNs(23_500_000));
    let mut whole = replay(&bytes).from(from).until(until);
    assert_eq!(delivered(&mut whole), some(117..124));
    let mut sought = Replay::new(Reader::open(std::io::Cursor::new(&bytes)).unwrap()).until(until);
    assert!(sought.seek(from).unwrap());
    assert_eq!(delivered(&mut sought), some(117..124));
    assert_eq!(delivered(&mut replay(&bytes).from(MonoNs(1 << 40))), []);
}

#[test]
fn a_time_range_is_the_same_from_any_reader_position() {
    let details = |n: u32| {
        let subject = DetailsSubject::Exec { tgid: Tgid(n), time: MonoNs(u64::from(n) * 1_000_000) };
        Record::Details(Box::new(Details::missed(subject, MissReason::Gone)))
    };
    let mut records = vec![Record::Scope(ScopeInfo { text: "execs".into() })];
    // Every second number is excluded, and details arrive late.
    records.extend((0..40).flat_map(|n| [exec(0, 2 * n), details(2 * n.max(1) - 2)]));
    let bytes = capture(&records, 10);
    let (from, until) = (MonoNs(41_000_000), MonoNs(60_000_000));
    let passed = |mut replay: Replay<Reader<std::io::Cursor<&Vec<u8>>>>| {
        let (mut all, mut batch) = (Vec::new(), Batch::with_capacity(64));
        while replay.receive(&mut batch).unwrap() != Received::Closed {
            all.extend(std::iter::from_fn(|| replay.take_passed_record()));
        }
        (batch.datagrams().map(|frame| frame.bytes.to_vec()).collect::<Vec<_>>(), all)
    };
    let open =
        || Replay::new(Reader::open(std::io::Cursor::new(&bytes)).unwrap()).until(until).pass_records();
    let mut sought = open();
    assert!(sought.seek(from).unwrap());
    let (frames, all) = passed(sought);
    assert_eq!(passed(open().from(from)), (frames.clone(), all.clone()));
    let numbers = frames.iter().map(|frame| Event::decode(frame, ORDER).unwrap().seq.0).collect::<Vec<_>>();
    assert_eq!(numbers, (142..152).collect::<Vec<_>>(), "the numbers are contiguous");
    assert_eq!(all.len(), 1 + 10, "the scope, and the details of the execs that are played");
}

#[test]
fn a_consumer_first_receives_its_acknowledgement_with_the_number_before() {
    let bytes = capture(&[exec(1, 5), exec(1, 6), exec(0, 7)], 10);
    let mut replay = replay(&bytes);
    let mut socket = replay.socket().unwrap();
    socket.listen().unwrap();
    assert_eq!(replay.next_time().unwrap(), Some(MonoNs(5_000_000)));
    assert_eq!(replay.advance(MonoNs(6_000_000)).unwrap(), 2);
    let events = received(&mut socket);
    assert_eq!(events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [104, 105, 106]);
    assert!(events[0].kind() == EventKind::Ack && events[0].cpu == Cpu(1) && events[0].time < events[1].time);
    // A second subscription takes a number, as in the real kernel, and shifts the later ones.
    socket.listen().unwrap();
    let Some(StepResult::Event(event)) = replay.step().unwrap() else { panic!("an event") };
    assert_eq!(event.seq, Seq(107));
    assert_eq!(
        received(&mut socket).iter().map(|event| (event.cpu.0, event.seq.0)).collect::<Vec<_>>(),
        [(1, 107), (0, 107)]
    );
    assert_eq!((replay.step().unwrap(), replay.next_time().unwrap()), (None, None));
}

#[test]
fn a_sleeping_consumer_loses_events_that_do_not_fit() {
    let records: Vec<_> = (0..1000).map(|n| exec(0, n)).collect();
    let bytes = capture(&records, 100);
    let mut replay = replay(&bytes);
    let mut socket = replay.socket().unwrap();
    socket.set_rcvbuf(832 * 10 / 2);
    socket.listen().unwrap();
    while replay.step().unwrap().is_some() {}
    assert_eq!(socket.recv(&mut [], RecvFlags::empty()), Err(Errno::NOBUFS));
    // The acknowledgement takes space in the buffer too.
    assert_eq!((received(&mut socket).len(), socket.memory().drops), (10, 1000 - 9));
}

#[test]
fn faults_count_the_events_of_the_replay() {
    let records: Vec<_> = (0..10).map(|n| exec(0, n)).collect();
    let bytes = capture(&records, 4);
    let script = FaultScript::new().with(Trigger::At(3), Fault::Overrun(2.into()), None).with(
        Trigger::At(8),
        Fault::End,
        None,
    );
    let mut replay = replay(&bytes).faults(script, 0);
    assert_eq!(delivered(&mut replay), [some(100..103), vec![None], some(105..110)].concat());
}

#[test]
fn other_records_are_passed_in_their_place_between_events() {
    let clock = Record::Clock(ClockAnchor::default());
    let blind = Blind { from: MonoNs(1_000_000), until: MonoNs(6_000_000) };
    let records = [
        exec(0, 0),
        exec(0, 1),
        clock.clone(),
        Record::Blind(blind),
        exec(0, 2),
        loss(3, 3, LossCause::Socket),
        exec(0, 4),
    ];
    let bytes = capture(&records, 10);
    let mut replay = replay(&bytes).pass_records();
    let mut batch = Batch::with_capacity(16);
    let mut next = || {
        batch.clear();
        let received = replay.receive(&mut batch).unwrap();
        (received, std::iter::from_fn(|| replay.take_passed_record()).collect::<Vec<_>>())
    };
    assert_eq!(next(), (Received::Datagrams(2), vec![]));
    assert_eq!(next(), (Received::Empty, vec![PassedRecord::Record(Box::new(clock))]));
    assert_eq!(next(), (Received::Empty, vec![PassedRecord::Blind(blind)]));
    assert_eq!(next(), (Received::Datagrams(1), vec![]));
    let (received, passed) = next();
    assert!(received == Received::Overrun && matches!(passed[..], [PassedRecord::Loss(_)]));
    assert_eq!(next(), (Received::Datagrams(1), vec![]));
    assert_eq!(next(), (Received::Closed, vec![]));
}

#[test]
fn damage_is_reported_and_the_rest_is_replayed() {
    let records: Vec<_> = (0..30).map(|n| exec(0, n)).collect();
    let mut bytes = capture(&records, 10);
    let blocks: Vec<_> =
        (0..bytes.len() - 8).filter(|&at| bytes[at..].starts_with(&bytes_of_marker(&bytes))).collect();
    bytes[blocks[1] + 40] ^= 1;
    let mut replay = replay(&bytes);
    let mut batch = Batch::with_capacity(64);
    assert_eq!(replay.receive(&mut batch).unwrap(), Received::Datagrams(10));
    let damaged = |result| matches!(result, Err(ReplayError::Damaged(_)));
    assert!(damaged(replay.receive(&mut batch)));
    let rest = std::iter::from_fn(|| match replay.receive(&mut batch) {
        Ok(Received::Closed) => None,
        other => Some(damaged(other)),
    });
    assert!(rest.count() >= 1);
    assert_eq!(batch.len(), 20);
}

/// Returns the first bytes of each block: those after the header.
fn bytes_of_marker(bytes: &[u8]) -> Vec<u8> {
    let meta = Meta { cpus_online: 2, ..Meta::default() };
    let header = Encoder::new(&Header { uuid: [1; 16], byte_order: ORDER, meta }).unwrap();
    bytes[header.header().len()..][..8].to_vec()
}

#[test]
fn datagrams_of_any_form_are_delivered_unchanged() {
    let mut unknown = nth(0, 3, EventBody::Sid { task: Task::default() }).encode(ORDER).unwrap();
    unknown[layout::WHAT].copy_from_slice(&0x20_u32.to_ne_bytes());
    let datagrams: [&[u8]; 4] = [b"", b"what is this?", &unknown, &[7; 100]];
    let records: Vec<_> = datagrams.iter().map(|bytes| RecordedDatagram::Raw(bytes).into()).collect();
    let bytes = capture(&records, 10);
    let mut replay = replay(&bytes);
    let mut batch = Batch::with_capacity(16);
    while replay.receive(&mut batch).unwrap() != Received::Closed {}
    assert_eq!(batch.datagrams().map(|frame| frame.bytes).collect::<Vec<_>>(), datagrams);
}
