use std::time::Instant;

use pmon_core::batch::SLOT;
use pmon_core::{Cpu, Seq, Task, Tgid};

use super::*;
use crate::details::Share;

#[derive(Debug, Default)]
struct Texts(Vec<String>);

impl Sink for Texts {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.0.push(match record {
            Record::Event(frame) => match frame.event(ByteOrder::NATIVE) {
                Some(event) => format!("{} {}", event.kind(), event.seq),
                None => "raw".into(),
            },
            Record::Loss(loss) => format!("{} lost by {}", loss.count(), loss.cause.name()),
            Record::Details(details) => {
                let what = details.miss.map_or("found", Miss::name);
                format!("details of {}: {what}", details.subject.tgid())
            }
            Record::End(end) => format!("end: {} {} {}", end.events, end.lost.total(), end.rejected),
            other => format!("{other:?}"),
        });
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.0.push("finished".into());
        Ok(())
    }
}

fn exec(seq: u32, tgid: u32) -> Event {
    event(seq, Body::Exec { task: Task::new(tgid, tgid) })
}

fn sid(seq: u32) -> Event {
    event(seq, Body::Sid { task: Task::new(1, 1) })
}

/// An event whose time in ms is its number.
fn event(seq: u32, body: Body) -> Event {
    Event { time: ms(seq), seq: Seq(seq), cpu: Cpu(0), body }
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

fn assembler() -> Assembler<Texts> {
    Assembler::new(Texts::default(), ByteOrder::NATIVE, true)
}

fn found(seq: u32, tgid: u32, settles_at: u32) -> Outcome {
    let exec = Exec { tgid: Tgid(tgid), time: ms(seq) };
    let subject = Subject::Exec { tgid: exec.tgid, time: exec.time };
    let details = Box::new(Details { miss: None, ..Details::missed(subject, Miss::Gone) });
    Outcome { exec, details, began: ms(settles_at - 1), settles_at: ms(settles_at), _share: Share::default() }
}

#[test]
fn a_loss_stands_before_the_event_that_revealed_it_and_is_counted() {
    let mut assembler = assembler();
    assembler.chunk(&chunk(&[sid(1), sid(2), sid(6), sid(7)])).unwrap();
    let end = assembler.finish(ms(8)).unwrap();
    assert_eq!((end.events, end.lost.total()), (4, 3));
    let expected = ["sid 1", "sid 2", "3 lost by unknown", "sid 6", "sid 7", "end: 4 3 0", "finished"];
    assert_eq!(assembler.into_sink().0, expected);
}

#[test]
fn an_overrun_explains_the_gaps_that_began_before_the_socket_was_empty_again() {
    let mut assembler = assembler();
    assembler.chunk(&chunk(&[sid(1)])).unwrap();
    let mut overrun = chunk(&[sid(3), sid(10)]);
    (overrun.overruns, overrun.drained_at) = (1, Some(ms(12)));
    assembler.chunk(&overrun).unwrap();
    assembler.chunk(&chunk(&[sid(20), sid(30)])).unwrap();
    assert_eq!((assembler.counts().overruns, assembler.counts().lost.total()), (1, 1 + 6 + 9 + 9));
}

#[test]
fn what_user_space_sent_is_not_recorded_and_counts_for_nothing_else() {
    let mut assembler = assembler();
    let mut forged = chunk(&[sid(1)]);
    forged.batch.push(&exec(9, 5).encode(ByteOrder::NATIVE).unwrap(), 4711);
    forged.batch.push(&sid(2).encode(ByteOrder::NATIVE).unwrap(), 0);
    assembler.chunk(&forged).unwrap();
    let end = assembler.finish(ms(3)).unwrap();
    assert_eq!((end.events, end.lost.total(), end.rejected), (2, 0, 1));
}

#[test]
fn any_datagram_of_the_kernel_is_recorded_and_a_cut_one_is_counted() {
    let mut assembler = assembler();
    let mut odd = chunk(&[]);
    odd.batch.push(b"", 0);
    odd.batch.push(b"nonsense", 0);
    odd.batch.push(&[0; SLOT + 1], 0);
    assembler.chunk(&odd).unwrap();
    assert_eq!((assembler.counts().events, assembler.counts().truncated), (3, 1));
    assert_eq!(assembler.into_sink().0, ["raw", "raw", "raw"]);
}

#[test]
fn details_wait_until_all_events_up_to_their_reading_were_seen() {
    let mut assembler = assembler();
    assembler.chunk(&chunk(&[exec(1, 5)])).unwrap();
    assembler.details(found(1, 5, 4)).unwrap();
    let mut drained = chunk(&[sid(2)]);
    drained.drained_at = Some(ms(3));
    assembler.chunk(&drained).unwrap();
    assert_eq!(assembler.sink_mut().0.len(), 2);
    let mut drained = chunk(&[]);
    drained.drained_at = Some(ms(4));
    assembler.chunk(&drained).unwrap();
    assert_eq!(assembler.into_sink().0, ["exec 1", "sid 2", "details of 5: found"]);
}

#[test]
fn details_of_a_program_replaced_before_they_were_read_are_superseded() {
    let mut assembler = assembler();
    assembler.details(found(1, 5, 4)).unwrap();
    let mut chunk = chunk(&[exec(1, 5), exec(2, 6), exec(3, 5)]);
    chunk.drained_at = Some(ms(9));
    assembler.chunk(&chunk).unwrap();
    assembler.details(found(2, 6, 5)).unwrap();
    assembler.details(found(3, 5, 6)).unwrap();
    let details = &assembler.into_sink().0[3..];
    assert_eq!(details, ["details of 5: superseded", "details of 6: found", "details of 5: found"]);
}

#[test]
fn details_of_an_exec_that_was_queued_when_events_were_lost_are_void() {
    let mut assembler = assembler();
    let mut overrun = chunk(&[exec(1, 5)]);
    overrun.overruns = 1;
    assembler.chunk(&overrun).unwrap();
    assembler.details(found(1, 5, 4)).unwrap();
    // The queue is empty only now: whatever was lost, was lost after the exec.
    let mut drained = chunk(&[]);
    drained.drained_at = Some(ms(4));
    assembler.chunk(&drained).unwrap();
    let mut later = chunk(&[exec(2, 6)]);
    later.drained_at = Some(ms(9));
    assembler.details(found(2, 6, 8)).unwrap();
    assembler.chunk(&later).unwrap();
    assert_eq!(assembler.into_sink().0, ["exec 1", "details of 5: busy", "exec 2", "details of 6: found"]);
}

#[test]
fn each_exec_has_details_or_a_miss_by_the_end() {
    let mut assembler = assembler();
    let mut chunk = chunk(&[exec(1, 5), exec(2, 6), exec(3, 7)]);
    chunk.busy.push(1);
    assembler.chunk(&chunk).unwrap();
    assembler.details(found(1, 5, 4)).unwrap();
    assembler.finish(ms(4)).unwrap();
    assert_eq!(assembler.counts().details_missed, 3);
    let expected =
        ["exec 1", "exec 2", "details of 6: busy", "exec 3", "details of 5: busy", "details of 7: busy"];
    assert_eq!(assembler.into_sink().0[..6], expected);
}

#[test]
fn without_details_none_are_recorded() {
    let mut assembler = Assembler::new(Texts::default(), ByteOrder::NATIVE, false);
    assembler.chunk(&chunk(&[exec(1, 5)])).unwrap();
    assembler.finish(ms(2)).unwrap();
    assert_eq!(assembler.into_sink().0, ["exec 1", "end: 1 0 0", "finished"]);
}
