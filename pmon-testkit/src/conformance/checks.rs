//! The checks that every source must pass.

use std::time::{Duration, Instant};

use pmon_core::batch::{Arrival, SLOT_LEN};
use pmon_core::source::Received;
use pmon_core::wire::{EVENT_DATAGRAM_LEN, EventBody};

use super::fixture::{Fixture, own};
use super::{SourceUnderTest, skip_check};

type Check<S> = fn(&mut Fixture<S>);

/// Returns all checks. Each of them leaves the source empty.
pub(super) fn checks<S: SourceUnderTest>() -> [Check<S>; 12] {
    [
        every_cpu_is_received,
        an_empty_source_returns_at_once,
        events_arrive_whole_and_in_order,
        a_full_batch_leaves_the_rest_for_the_next,
        a_batch_that_is_already_full_is_not_changed,
        datagrams_are_appended_to_the_batch,
        each_cpu_keeps_its_own_order,
        losses_are_reported_and_counted,
        the_sender_of_a_datagram_is_reported,
        a_truncated_datagram_reports_its_length,
        a_request_is_acknowledged_with_its_number_plus_one,
        no_events_arrive_after_the_request_to_ignore,
    ]
}

fn every_cpu_is_received<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    fixture.tested.listen(0);
    fixture.fence();
}

fn an_empty_source_returns_at_once<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    fixture.drain();
    let since = Instant::now();
    // A source that waited would wait for the next event, which this thread does not emit.
    (0..100).for_each(|_| assert!(fixture.drain().own().is_empty()));
    assert!(since.elapsed() < Duration::from_secs(10));
}

fn events_arrive_whole_and_in_order<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    let cpu = fixture.tested.cpus()[0];
    let missing = fixture.missing;
    // No source receives that many by one call.
    let emitted = fixture.emit(cpu, 300);
    let drained = fixture.drain();
    assert_eq!(drained.own(), emitted.collect::<Vec<_>>());
    for datagram in drained.datagrams.iter().filter(|datagram| datagram.own.is_some()) {
        assert_eq!(datagram.arrival, Arrival { len: EVENT_DATAGRAM_LEN, sender: 0 });
        assert_eq!(
            (datagram.bytes.len(), datagram.event.map(|event| event.cpu)),
            (EVENT_DATAGRAM_LEN, Some(cpu))
        );
    }
    assert_eq!((fixture.missing - missing, drained.overruns), (0, 0));
}

fn a_full_batch_leaves_the_rest_for_the_next<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    let cpu = fixture.tested.cpus()[0];
    for datagrams in [1, 7, 64] {
        let emitted = fixture.emit(cpu, 128);
        assert_eq!(fixture.drain_by(datagrams).own(), emitted.collect::<Vec<_>>());
    }
}

fn a_batch_that_is_already_full_is_not_changed<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    let cpu = fixture.tested.cpus()[0];
    let emitted = fixture.emit(cpu, 3);
    let mut batch = fixture.batch(2);
    assert!(batch.push(b"this", 1) && batch.push(b"that", 2));
    assert_eq!(fixture.receive(&mut batch).0, Received::Datagrams(0));
    assert_eq!(fixture.receive(&mut batch).0, Received::Datagrams(0));
    assert_eq!(fixture.drain().own(), emitted.collect::<Vec<_>>());
}

fn datagrams_are_appended_to_the_batch<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    let cpu = fixture.tested.cpus()[0];
    let mut emitted = fixture.emit(cpu, 3);
    let mut batch = fixture.batch(512);
    assert!(batch.push(b"first", 5));
    let (_, received) = fixture.receive(&mut batch);
    fixture.account(&received);
    assert_eq!(batch.datagrams().next().map(|datagram| datagram.bytes), Some(&b"first"[..]));
    // A source may return fewer datagrams than it holds, but only the first ones.
    let rest = fixture.drain().own();
    assert!(own(&received).into_iter().chain(rest).eq(emitted.by_ref()));
    assert!(!received.is_empty());
}

fn each_cpu_keeps_its_own_order<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    let cpus = fixture.tested.cpus();
    if cpus.len() < 2 {
        return skip_check(fixture.name, "there is only one CPU");
    }
    let missing = fixture.missing;
    let mut emitted = Vec::new();
    for turn in 0..40 {
        let cpu = cpus[turn % cpus.len()];
        emitted.extend(fixture.emit(cpu, 1 + turn as u32 % 3).map(|number| (cpu, number)));
    }
    let datagrams = fixture.drain().datagrams;
    for &cpu in &cpus {
        let of_cpu = datagrams.iter().filter(|datagram| datagram.event.is_some_and(|event| event.cpu == cpu));
        let expected = emitted.iter().filter(|(on, _)| *on == cpu).map(|&(_, number)| number);
        assert!(of_cpu.filter_map(|datagram| datagram.own).eq(expected), "CPU {cpu}");
    }
    assert_eq!(fixture.missing, missing);
}

fn losses_are_reported_and_counted<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    fixture.drain();
    let cpu = fixture.tested.cpus()[0];
    for round in 1..=2 {
        let before = (fixture.missing, fixture.tested.dropped());
        fixture.tested.shrink_buffer();
        while fixture.tested.dropped() < before.1 + 10 {
            assert!(fixture.emit(cpu, 16).end < 100_000, "nothing is dropped");
        }
        fixture.tested.enlarge_buffer();
        if fixture.tested.reports_overruns() {
            let mut batch = fixture.batch(512);
            let first = fixture.receive(&mut batch).0;
            assert_eq!(first, Received::Overrun, "an overrun is reported before queued datagrams");
        }
        let drained = fixture.drain();
        assert_eq!(drained.overruns, 0, "an overrun is reported once, or not at all");
        // Events of other processes may have filled the small buffer.
        assert!(!drained.datagrams.is_empty() && drained.own().is_sorted(), "queued datagrams are not lost");
        // The next event of the CPU shows the gap. From here on nothing is dropped.
        fixture.fence();
        let total = fixture.tested.dropped();
        let (missing, dropped) = (fixture.missing - before.0, total - before.1);
        let without_number = dropped.checked_sub(missing).expect("each missing event was dropped");
        // Only datagrams from user space have no sequence number.
        let foreign = fixture.tested.foreign_datagrams();
        assert!(
            without_number <= foreign,
            "{missing} missing, {dropped} dropped, {foreign} from user space, round {round}"
        );
        assert!(fixture.drops().is_none_or(|drops| drops == total));
        events_arrive_whole_and_in_order(fixture);
    }
}

fn the_sender_of_a_datagram_is_reported<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    let datagram = format!("from thread {}, not from the kernel", fixture.tested.tid());
    check_forged(fixture, datagram.as_bytes());
}

fn a_truncated_datagram_reports_its_length<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    let mut datagram = format!("from thread {}, of many bytes", fixture.tested.tid()).into_bytes();
    for len in [SLOT_LEN, SLOT_LEN + 1, 3 * SLOT_LEN, 5000] {
        datagram.resize(len, b'.');
        check_forged(fixture, &datagram);
    }
}

/// Sends a datagram to the group between two events, and asserts that it arrives between them.
fn check_forged<S: SourceUnderTest>(fixture: &mut Fixture<S>, datagram: &[u8]) {
    let cpu = fixture.tested.cpus()[0];
    let mut emitted = fixture.emit(cpu, 1);
    let port = match fixture.tested.send_to_group(datagram) {
        Ok(port) => port,
        Err(why) => {
            fixture.drain();
            return skip_check(fixture.name, &why);
        }
    };
    emitted.end = fixture.emit(cpu, 1).end;
    let drained = fixture.drain();
    assert_eq!(drained.own(), emitted.collect::<Vec<_>>());
    let kept = &datagram[..datagram.len().min(SLOT_LEN)];
    let received = drained.datagrams.iter().filter(|received| received.bytes == kept);
    let arrivals: Vec<_> = received.map(|received| received.arrival).collect();
    let sender = if fixture.tested.reports_senders() { port } else { 0 };
    assert_eq!(arrivals, [Arrival { len: datagram.len(), sender }]);
}

fn a_request_is_acknowledged_with_its_number_plus_one<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    // Other processes send requests, too. They are unlikely to use the first of these numbers.
    for ack in [0x7A11_0000 ^ fixture.tested.tid(), u32::MAX] {
        fixture.tested.listen(ack);
        let expected = EventBody::Ack { ack: ack.wrapping_add(1), err: 0 };
        let datagrams = fixture.drain().datagrams;
        let is_ack = |event: pmon_core::wire::Event| event.body == expected;
        let acks = datagrams.iter().filter(|datagram| datagram.event.is_some_and(is_ack)).count();
        assert!(acks == 1 || ack == u32::MAX && acks > 0, "{acks} times {expected:?}");
    }
}

fn no_events_arrive_after_the_request_to_ignore<S: SourceUnderTest>(fixture: &mut Fixture<S>) {
    let cpu = fixture.tested.cpus()[0];
    fixture.drain();
    fixture.tested.ignore();
    fixture.drain();
    fixture.emit(cpu, 3);
    let datagrams = fixture.drain().datagrams;
    assert!(datagrams.iter().all(|datagram| datagram.event.is_none()), "{datagrams:?}");
    // If another process listens, these three events had numbers, so a gap is no error.
    fixture.tested.listen(1);
    let cpus = fixture.tested.cpus();
    let emitted: Vec<_> = cpus.iter().flat_map(|&cpu| fixture.emit(cpu, 1)).collect();
    assert_eq!(fixture.drain().own(), emitted);
}
