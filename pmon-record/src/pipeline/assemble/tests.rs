use std::time::Instant;

use pmon_core::accounting::Discarded;
use pmon_core::capture::{Details, DetailsSubject, Fence, FencePosition, ForkReading, MissReason};
use pmon_core::wire::{ByteOrder, Comm};
use pmon_core::{Cpu, Seq, Task, Tgid};

use super::*;
use crate::details::exec::{ExecDetails, MemoryShare};

mod hostile;
mod secrets;
mod segments;

/// The recorder's process id.
const RECORDER: u32 = 77;

/// A sink that describes each record in a few words.
#[derive(Debug, Default)]
struct TextSink(Vec<String>);

impl Sink for TextSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.0.push(match record {
            Record::Event(datagram, _) => match datagram.event(ByteOrder::NATIVE) {
                Some(event) => format!("{} {}", event.kind(), event.seq),
                None => "raw".into(),
            },
            Record::Loss(loss) => format!("{} lost by {}", loss.count(), loss.cause.name()),
            Record::Details(details) => {
                let result = details.miss.map_or("found", MissReason::name);
                format!("details of {}: {result}", details.subject.tgid())
            }
            Record::Blind(blind) => {
                format!("blind {}..{}", blind.from.0 / 1_000_000, blind.until.0 / 1_000_000)
            }
            Record::Fence(fence) => format!("fence at the {:?}", fence.position),
            Record::Witness(witness) => format!("dropped {}, missing {}", witness.drops, witness.gaps),
            Record::End(end) => format!("end: {} {} {}", end.events, end.lost.total(), end.rejected),
            other => format!("{other:?}"),
        });
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.0.push("finished".into());
        Ok(())
    }
}

fn exec(seq: u32, tgid: u32) -> Event {
    event(seq, EventBody::Exec { task: Task::new(tgid, tgid) })
}

fn sid(seq: u32) -> Event {
    event(seq, EventBody::Sid { task: Task::new(1, 1) })
}

/// Returns an event of CPU 0 whose time in ms equals its sequence number.
fn event(seq: u32, body: EventBody) -> Event {
    Event { time: ms(seq), seq: Seq(seq), cpu: Cpu(0), body }
}

/// Returns an event of CPU 0 at `time` ms.
fn event_at(time: u32, seq: u32) -> Event {
    Event { time: ms(time), ..sid(seq) }
}

fn ms(ms: u32) -> MonoNs {
    MonoNs(u64::from(ms) * 1_000_000)
}

fn chunk(events: &[Event]) -> Chunk {
    let mut chunk = Chunk::with_capacity(8);
    for event in events {
        chunk.batch.push(&event.encode(ByteOrder::NATIVE).unwrap(), 0);
    }
    chunk
}

fn settings() -> AssemblerSettings {
    AssemblerSettings {
        details: true,
        drops_before: 100,
        ..AssemblerSettings::new(ByteOrder::NATIVE, Tgid(RECORDER))
    }
}

fn assembler() -> Assembler<TextSink> {
    Assembler::new(TextSink::default(), settings())
}

/// Returns details of an exec that were read completely.
fn found(seq: u32, tgid: u32, settles_at: u32) -> ExecDetails {
    let exec = Exec { tgid: Tgid(tgid), time: ms(seq) };
    let subject = exec.subject();
    let details = Box::new(Details { miss: None, ..Details::missed(subject, MissReason::Gone) });
    ExecDetails {
        exec,
        details,
        began: ms(settles_at - 1),
        settles_at: ms(settles_at),
        _share: MemoryShare::default(),
    }
}

#[test]
fn a_recording_ends_no_earlier_than_its_last_event() {
    let mut assembler = assembler();
    assembler.add_chunk(&chunk(&[sid(1), sid(2)])).unwrap();
    assert_eq!(assembler.finish(ms(1)).unwrap().time, ms(2));
}

#[test]
fn a_loss_is_recorded_before_the_event_that_reveals_it_and_is_counted() {
    let mut assembler = assembler();
    assembler.add_chunk(&chunk(&[sid(1), sid(2), sid(6), sid(7)])).unwrap();
    let end = assembler.finish(ms(8)).unwrap();
    assert_eq!((end.events, end.lost.total()), (4, 3));
    let expected = ["sid 1", "sid 2", "3 lost by unknown", "sid 6", "sid 7", "end: 4 3 0", "finished"];
    assert_eq!(assembler.into_sink().0, expected);
}

#[test]
fn the_sources_count_of_drops_decides_the_cause_of_a_loss() {
    let mut assembler = assembler();
    assembler.add_chunk(&chunk(&[sid(1)])).unwrap();
    let counted = |drops: u64, events: &[Event]| Chunk { drops: Some(100 + drops), ..chunk(events) };
    assembler.add_chunk(&counted(3, &[sid(5)])).unwrap();
    // The kernel had no memory for two of these.
    let mut next = counted(4, &[sid(9)]);
    next.drained_at = Some(ms(2000));
    assembler.add_chunk(&next).unwrap();
    let end = assembler.finish(ms(3000)).unwrap();
    assert_eq!((end.drops, end.lost.total()), (Some(4), 6));
    let expected = [
        "sid 1",
        "3 lost by socket",
        "sid 5",
        "1 lost by socket",
        "2 lost by kernel_memory",
        "sid 9",
        "dropped 4, missing 6",
        "end: 3 6 0",
        "finished",
    ];
    assert_eq!(assembler.into_sink().0, expected);
}

#[test]
fn events_dropped_for_lack_of_a_chunk_are_a_loss_before_the_next_event_or_the_end() {
    let at = |seq| (Seq(seq), ms(seq));
    let dropped = |first, last, count| Discarded {
        cpu: Cpu(0),
        first: at(first),
        last: at(last),
        count,
        excluded_before: 0,
        excluded: 0,
    };
    let mut assembler = assembler();
    assembler.add_chunk(&chunk(&[sid(1)])).unwrap();
    let mut next = chunk(&[sid(6)]);
    next.dropped.events.push(dropped(2, 5, 4));
    next.dropped.rejected = 2;
    assembler.add_chunk(&next).unwrap();
    let mut last = chunk(&[]);
    last.dropped.events.push(dropped(7, 8, 2));
    last.dropped.malformed = 1;
    assembler.add_chunk(&last).unwrap();
    let end = assembler.finish(ms(9)).unwrap();
    assert_eq!((end.rejected, end.malformed, assembler.counters().gaps), (2, 1, 2));
    let expected =
        ["sid 1", "4 lost by backpressure", "sid 6", "2 lost by backpressure", "end: 2 6 2", "finished"];
    assert_eq!(assembler.into_sink().0, expected);
}

/// Returns the checkpoint of a heartbeat at `time` ms.
fn heartbeat_at(time: u32) -> Checkpoint {
    Checkpoint::Heartbeat(Heartbeat { began: ms(time), ended: MonoNs(ms(time).0 + 9_000), cpu: Cpu(0) })
}

/// Returns a chunk with these events, which completes the events before this number of checkpoints.
fn completing(checkpoints: u64, events: &[Event]) -> Chunk {
    Chunk { checkpoints, ..chunk(events) }
}

#[test]
fn a_missing_heartbeat_means_blind_from_the_last_event_to_the_next_or_the_end() {
    let mut assembler = assembler();
    assembler.add_chunk(&chunk(&[sid(1)])).unwrap();
    assembler.add_checkpoint(1, heartbeat_at(2)).unwrap();
    assembler.add_chunk(&completing(1, &[])).unwrap();
    assert_eq!(
        (assembler.take_request(), assembler.take_request()),
        (Some(RecoveryRequest::Resubscribe), None)
    );
    assembler.add_checkpoint(2, heartbeat_at(3)).unwrap();
    assembler.add_chunk(&completing(2, &[])).unwrap();
    let mut forged = chunk(&[]);
    forged.batch.push(&sid(2).encode(ByteOrder::NATIVE).unwrap(), 4711);
    assembler.add_chunk(&forged).unwrap();
    assert_eq!(assembler.take_snapshot_reason(), None);
    assert!(assembler.misses_heartbeats());
    // While the kernel emits no events, it uses no sequence numbers, so there is no gap.
    assembler.add_chunk(&chunk(&[event_at(5, 2)])).unwrap();
    assert_eq!(
        (assembler.take_snapshot_reason(), assembler.take_snapshot_reason()),
        (Some(SnapshotReason::Blind), None)
    );
    assert!(!assembler.misses_heartbeats());
    assembler.add_checkpoint(3, heartbeat_at(6)).unwrap();
    assembler.add_chunk(&completing(3, &[])).unwrap();
    let end = assembler.finish(ms(7)).unwrap();
    assert_eq!((end.blind_ns, assembler.counters().blind_records, end.lost.total()), (6_000_000, 2, 0));
    let expected = ["sid 1", "blind 1..5", "sid 2", "blind 5..7", "end: 2 0 1", "finished"];
    assert_eq!(assembler.into_sink().0, expected);
}

#[test]
fn a_heartbeat_that_was_received_or_lost_does_not_mean_blind() {
    let comm = Comm(*b"pmon/heartbeat\0\0");
    let heartbeat = event_at(2, 2);
    let heartbeat =
        Event { body: EventBody::Comm { task: Task::new(RECORDER + 1, RECORDER), comm }, ..heartbeat };
    let mut assembler = assembler();
    assembler.add_chunk(&chunk(&[sid(1), heartbeat])).unwrap();
    assembler.add_checkpoint(1, heartbeat_at(2)).unwrap();
    assembler.add_chunk(&completing(1, &[])).unwrap();
    assert_eq!(assembler.take_request(), None);
    assembler.add_checkpoint(2, heartbeat_at(3)).unwrap();
    assembler.add_chunk(&completing(2, &[])).unwrap();
    assert_eq!(assembler.take_request(), Some(RecoveryRequest::Resubscribe));
    assembler.add_chunk(&chunk(&[event_at(5, 4)])).unwrap();
    let end = assembler.finish(ms(7)).unwrap();
    assert_eq!((end.blind_ns, assembler.counters().blind_records, end.lost.total()), (0, 0, 1));
}

#[test]
fn heartbeats_and_readings_from_before_the_recording_are_ignored() {
    let since = AssemblerSettings {
        since: ms(3),
        forks: true,
        ..AssemblerSettings::new(ByteOrder::NATIVE, Tgid(RECORDER))
    };
    let mut assembler = Assembler::new(TextSink::default(), since);
    assembler.add_checkpoint(1, heartbeat_at(2)).unwrap();
    assembler.add_checkpoint(2, forks(2, 9)).unwrap();
    assembler.add_checkpoint(3, forks(4, 1000)).unwrap();
    assembler.add_chunk(&completing(3, &[event_at(5, 4)])).unwrap();
    assembler.finish(ms(7)).unwrap();
    let texts = assembler.into_sink().0;
    assert_eq!((texts[0].as_str(), texts.len()), ("sid 4", 4), "{texts:?}");
    assert!(texts[1].contains("forks: 1000"), "{texts:?}");
}

/// Returns the checkpoint of a reading of the count of forks at `time` ms.
fn forks(time: u32, forks: u64) -> Checkpoint {
    let count = ForkCount { from: ms(time), until: MonoNs(ms(time).0 + 9_000), forks, running: 1 };
    Checkpoint::Forks { forks: ForkReading::Counted(count), fenced: true }
}

fn fork(time: u32, seq: u32) -> Event {
    Event { body: EventBody::Fork { parent: Task::new(1, 1), child: Task::new(2, 2) }, ..event_at(time, seq) }
}

#[test]
fn more_forks_than_fork_events_in_two_readings_mean_blind() {
    let settings =
        AssemblerSettings { forks: true, ..AssemblerSettings::new(ByteOrder::NATIVE, Tgid(RECORDER)) };
    let mut assembler = Assembler::new(TextSink::default(), settings);
    assembler.add_checkpoint(1, forks(1, 100)).unwrap();
    assembler.add_chunk(&completing(1, &[fork(2, 1)])).unwrap();
    assembler.add_checkpoint(2, forks(3, 101)).unwrap();
    assembler.add_chunk(&completing(2, &[fork(4, 2)])).unwrap();
    assert_eq!(assembler.take_request(), None);
    // Two more forks.
    assembler.add_checkpoint(3, forks(5, 104)).unwrap();
    assembler.add_chunk(&chunk(&[sid(3)])).unwrap();
    assert_eq!(assembler.take_request(), None, "more fork events may follow");
    assembler.add_chunk(&completing(3, &[])).unwrap();
    assert_eq!(assembler.take_request(), Some(RecoveryRequest::Recount));
    assert_eq!(assembler.counters().blind_records, 0);
    assembler.add_checkpoint(4, forks(6, 104)).unwrap();
    assembler.add_chunk(&completing(4, &[])).unwrap();
    assert_eq!(assembler.take_snapshot_reason(), Some(SnapshotReason::Blind));
    let end = assembler.finish(ms(7)).unwrap();
    assert_eq!((assembler.counters().blind_records, end.blind_ns), (1, 2_009_000));
    assert!(assembler.into_sink().0.contains(&"blind 3..5".into()));
}

#[test]
fn a_missing_heartbeat_explains_the_missing_forks_of_the_same_time() {
    let settings =
        AssemblerSettings { forks: true, ..AssemblerSettings::new(ByteOrder::NATIVE, Tgid(RECORDER)) };
    let mut assembler = Assembler::new(TextSink::default(), settings);
    assembler.add_checkpoint(1, forks(1, 100)).unwrap();
    assembler.add_chunk(&completing(1, &[fork(2, 1)])).unwrap();
    assembler.add_checkpoint(2, heartbeat_at(5)).unwrap();
    assembler.add_checkpoint(3, forks(6, 151)).unwrap();
    assembler.add_chunk(&completing(3, &[])).unwrap();
    assert_eq!(assembler.take_request(), Some(RecoveryRequest::Resubscribe));
    assembler.add_chunk(&chunk(&[event_at(8, 2)])).unwrap();
    assembler.add_checkpoint(4, forks(9, 151)).unwrap();
    assembler.add_checkpoint(5, forks(10, 151)).unwrap();
    assembler.add_chunk(&completing(5, &[])).unwrap();
    let end = assembler.finish(ms(12)).unwrap();
    // The time between the two events, plus the time since the reading before: the forks may
    // precede that first event.
    assert_eq!((assembler.counters().blind_records, end.blind_ns), (1, 6_000_000));
}

#[test]
fn self_generated_events_are_counted_separately_and_a_fence_follows_its_events() {
    let fence = Fence { time: ms(3), position: FencePosition::Start, unreached: Vec::new() };
    let renamed = |seq, tgid| {
        let comm = Comm(*b"pmon/fence\0\0\0\0\0\0");
        event(seq, EventBody::Comm { task: Task::new(tgid + 1, tgid), comm })
    };
    let mut assembler = assembler();
    let mut first = chunk(&[renamed(1, RECORDER), renamed(2, 5)]);
    first.fence = Some(fence);
    assembler.add_chunk(&first).unwrap();
    assert_eq!((assembler.counters().events, assembler.counters().self_generated), (2, 1));
    assert_eq!(assembler.into_sink().0, ["comm 1", "comm 2", "fence at the Start"]);
}

#[test]
fn a_loss_is_a_reason_for_one_snapshot() {
    let mut assembler = assembler();
    assembler.add_chunk(&chunk(&[sid(1), sid(3)])).unwrap();
    assert_eq!(
        (assembler.take_snapshot_reason(), assembler.take_snapshot_reason()),
        (Some(SnapshotReason::Loss), None)
    );
}

#[test]
fn a_datagram_from_user_space_is_only_counted_as_rejected() {
    let mut assembler = assembler();
    let mut forged = chunk(&[sid(1)]);
    forged.batch.push(&exec(9, 5).encode(ByteOrder::NATIVE).unwrap(), 4711);
    forged.batch.push(&sid(2).encode(ByteOrder::NATIVE).unwrap(), 0);
    assembler.add_chunk(&forged).unwrap();
    let end = assembler.finish(ms(3)).unwrap();
    assert_eq!((end.events, end.lost.total(), end.rejected), (2, 0, 1));
}

#[test]
fn any_datagram_of_the_kernel_is_recorded_and_malformed_ones_are_counted() {
    let mut assembler = assembler();
    let mut odd = chunk(&[]);
    odd.batch.push(b"", 0);
    odd.batch.push(b"nonsense", 0);
    odd.batch.push(&[0; SLOT_LEN + 1], 0);
    assembler.add_chunk(&odd).unwrap();
    assert_eq!((assembler.counters().events, assembler.counters().malformed), (3, 3));
    assert_eq!(assembler.into_sink().0, ["raw", "raw", "raw"]);
}

#[test]
fn details_wait_until_all_events_up_to_their_reading_are_received() {
    let mut assembler = assembler();
    assembler.add_chunk(&chunk(&[exec(1, 5)])).unwrap();
    assembler.add_details(found(1, 5, 4)).unwrap();
    let mut drained = chunk(&[sid(2)]);
    drained.drained_at = Some(ms(3));
    assembler.add_chunk(&drained).unwrap();
    assert_eq!(assembler.sink_mut().0.len(), 2);
    let mut drained = chunk(&[]);
    drained.drained_at = Some(ms(4));
    assembler.add_chunk(&drained).unwrap();
    assert_eq!(assembler.into_sink().0, ["exec 1", "sid 2", "details of 5: found"]);
}

#[test]
fn details_of_a_program_replaced_before_they_were_read_are_superseded() {
    let mut assembler = assembler();
    assembler.add_details(found(1, 5, 4)).unwrap();
    let mut chunk = chunk(&[exec(1, 5), exec(2, 6), exec(3, 5)]);
    chunk.drained_at = Some(ms(9));
    assembler.add_chunk(&chunk).unwrap();
    assembler.add_details(found(2, 6, 5)).unwrap();
    assembler.add_details(found(3, 5, 6)).unwrap();
    let details = &assembler.into_sink().0[3..];
    assert_eq!(details, ["details of 5: superseded", "details of 6: found", "details of 5: found"]);
}

#[test]
fn details_of_an_exec_that_was_queued_when_events_were_lost_are_void() {
    let mut assembler = assembler();
    let mut overrun = chunk(&[exec(1, 5)]);
    overrun.overruns = 1;
    assembler.add_chunk(&overrun).unwrap();
    assembler.add_details(found(1, 5, 4)).unwrap();
    // The queue is empty only now: whatever was lost, was lost after the exec.
    let mut drained = chunk(&[]);
    drained.drained_at = Some(ms(4));
    assembler.add_chunk(&drained).unwrap();
    let mut later = chunk(&[exec(2, 6)]);
    later.drained_at = Some(ms(9));
    assembler.add_details(found(2, 6, 8)).unwrap();
    assembler.add_chunk(&later).unwrap();
    assert_eq!(assembler.into_sink().0, ["exec 1", "details of 5: busy", "exec 2", "details of 6: found"]);
}

#[test]
fn each_exec_has_details_or_a_miss_by_the_end() {
    let mut assembler = assembler();
    let mut chunk = chunk(&[exec(1, 5), exec(2, 6), exec(3, 7)]);
    chunk.busy.push(1);
    assembler.add_chunk(&chunk).unwrap();
    assembler.add_details(found(1, 5, 4)).unwrap();
    assembler.finish(ms(4)).unwrap();
    assert_eq!(assembler.counters().details_missed, 3);
    let expected =
        ["exec 1", "exec 2", "details of 6: busy", "exec 3", "details of 5: busy", "details of 7: busy"];
    assert_eq!(assembler.into_sink().0[..6], expected);
}

#[test]
fn without_details_none_are_recorded() {
    let mut assembler =
        Assembler::new(TextSink::default(), AssemblerSettings { details: false, ..settings() });
    assembler.add_chunk(&chunk(&[exec(1, 5)])).unwrap();
    assembler.finish(ms(2)).unwrap();
    assert_eq!(assembler.into_sink().0, ["exec 1", "end: 1 0 0", "finished"]);
}

#[test]
fn earlier_first_events_of_a_cpu_are_not_recorded() {
    let settings = AssemblerSettings { since: MonoNs(10), details: false, ..settings() };
    let mut assembler = Assembler::new(TextSink(Vec::new()), settings);
    let mut chunk = Chunk::with_capacity(8);
    // On the second CPU, a later event has an earlier time, because the kernel was interrupted
    // before it sent the event.
    for (cpu, seq, time) in [(0, 1, 8), (0, 5, 12), (1, 7, 9), (1, 8, 11), (1, 9, 9), (0, 6, 13)] {
        let body = EventBody::Sid { task: Task::new(1, 1) };
        let event = Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body };
        assert!(chunk.batch.push(&event.encode(ByteOrder::NATIVE).unwrap(), 0));
    }
    assembler.add_chunk(&chunk).unwrap();
    assert_eq!((assembler.counters().events, assembler.counters().lost.total()), (4, 0));
}
