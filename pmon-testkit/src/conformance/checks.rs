//! What holds for every source.

use std::time::{Duration, Instant};

use pmon_core::batch::{Arrival, SLOT_LEN};
use pmon_core::source::Received;
use pmon_core::wire::{EVENT_DATAGRAM_LEN, EventBody};

use super::stage::{Stage, own};
use super::{Host, skip_part};

type Check<H> = fn(&mut Stage<H>);

/// All of them; each leaves nothing behind that waits.
pub(crate) fn checks<H: Host>() -> [Check<H>; 12] {
    [
        every_cpu_is_heard,
        nothing_that_waits_is_told_at_once,
        events_come_whole_and_in_their_order,
        a_full_batch_leaves_the_rest_for_the_next,
        a_batch_that_is_full_already_is_not_touched,
        datagrams_go_behind_what_the_batch_holds,
        each_cpu_is_in_its_own_order,
        what_is_lost_is_told_and_counted,
        who_sent_a_datagram_is_known,
        a_longer_datagram_is_marked,
        a_request_is_acknowledged_by_its_number_plus_one,
        silence_that_was_asked_for_is_kept,
    ]
}

fn every_cpu_is_heard<H: Host>(stage: &mut Stage<H>) {
    stage.host.listen(0);
    stage.fence();
}

fn nothing_that_waits_is_told_at_once<H: Host>(stage: &mut Stage<H>) {
    stage.drain();
    let since = Instant::now();
    // If it waited, it would do so for the next event, which here is nobody's to cause.
    (0..100).for_each(|_| assert!(stage.drain().own().is_empty()));
    assert!(since.elapsed() < Duration::from_secs(10));
}

fn events_come_whole_and_in_their_order<H: Host>(stage: &mut Stage<H>) {
    let cpu = stage.host.cpus()[0];
    let missing = stage.missing;
    // More than one call takes, of any source.
    let emitted = stage.emit(cpu, 300);
    let drained = stage.drain();
    assert_eq!(drained.own(), emitted.collect::<Vec<_>>());
    for heard in drained.heard.iter().filter(|heard| heard.own.is_some()) {
        assert_eq!(heard.arrival, Arrival { len: EVENT_DATAGRAM_LEN, sender: 0 });
        assert_eq!((heard.bytes.len(), heard.event.unwrap().cpu), (EVENT_DATAGRAM_LEN, cpu));
    }
    assert_eq!((stage.missing - missing, drained.overruns), (0, 0));
}

fn a_full_batch_leaves_the_rest_for_the_next<H: Host>(stage: &mut Stage<H>) {
    let cpu = stage.host.cpus()[0];
    for frames in [1, 7, 64] {
        let emitted = stage.emit(cpu, 128);
        assert_eq!(stage.drain_by(frames).own(), emitted.collect::<Vec<_>>());
    }
}

fn a_batch_that_is_full_already_is_not_touched<H: Host>(stage: &mut Stage<H>) {
    let cpu = stage.host.cpus()[0];
    let emitted = stage.emit(cpu, 3);
    let mut batch = stage.batch(2);
    assert!(batch.push(b"this", 1) && batch.push(b"that", 2));
    assert_eq!(stage.receive(&mut batch).0, Received::Datagrams(0));
    assert_eq!(stage.receive(&mut batch).0, Received::Datagrams(0));
    assert_eq!(stage.drain().own(), emitted.collect::<Vec<_>>());
}

fn datagrams_go_behind_what_the_batch_holds<H: Host>(stage: &mut Stage<H>) {
    let cpu = stage.host.cpus()[0];
    let mut emitted = stage.emit(cpu, 3);
    let mut batch = stage.batch(512);
    assert!(batch.push(b"held", 5));
    let (_, first) = stage.receive(&mut batch);
    stage.account(&first);
    assert_eq!(batch.datagrams().next().map(|frame| frame.bytes), Some(&b"held"[..]));
    // As many as it gives at once, it gives from the first on.
    let rest = stage.drain().own();
    assert!(own(&first).into_iter().chain(rest).eq(emitted.by_ref()));
    assert!(!first.is_empty());
}

fn each_cpu_is_in_its_own_order<H: Host>(stage: &mut Stage<H>) {
    let cpus = stage.host.cpus();
    if cpus.len() < 2 {
        return skip_part(stage.name, "there is only one CPU");
    }
    let missing = stage.missing;
    let mut emitted = Vec::new();
    for turn in 0..40 {
        let cpu = cpus[turn % cpus.len()];
        emitted.extend(stage.emit(cpu, 1 + turn as u32 % 3).map(|number| (cpu, number)));
    }
    let heard = stage.drain().heard;
    for &cpu in &cpus {
        let of_cpu = heard.iter().filter(|heard| heard.event.is_some_and(|event| event.cpu == cpu));
        let expected = emitted.iter().filter(|(on, _)| *on == cpu).map(|&(_, number)| number);
        assert!(of_cpu.filter_map(|heard| heard.own).eq(expected), "CPU {cpu}");
    }
    assert_eq!(stage.missing, missing);
}

fn what_is_lost_is_told_and_counted<H: Host>(stage: &mut Stage<H>) {
    stage.drain();
    let cpu = stage.host.cpus()[0];
    for round in 1..=2 {
        let before = (stage.missing, stage.host.lost());
        stage.host.squeeze();
        while stage.host.lost() < before.1 + 10 {
            assert!(stage.emit(cpu, 16).end < 100_000, "nothing is ever lost");
        }
        stage.host.relieve();
        if stage.host.tells_overruns() {
            let mut batch = stage.batch(512);
            assert_eq!(stage.receive(&mut batch).0, Received::Overrun, "before what is queued");
        }
        let drained = stage.drain();
        assert_eq!(drained.overruns, 0, "it is told once, or not at all");
        // The little room may have gone to others.
        assert!(!drained.heard.is_empty() && drained.own().is_sorted(), "what was queued is not lost");
        // The gap shows when the CPU says something again, and nothing is lost any more.
        stage.fence();
        let lost = stage.host.lost();
        let (missing, dropped) = (stage.missing - before.0, lost - before.1);
        let without_number = dropped.checked_sub(missing).expect("what is missing was dropped");
        // Nothing but what others have forged meanwhile.
        let forged = stage.host.forged();
        assert!(
            without_number <= forged,
            "{missing} missing, {dropped} dropped, {forged} forged, round {round}"
        );
        assert!(stage.drops().is_none_or(|drops| drops == lost));
        events_come_whole_and_in_their_order(stage);
    }
}

fn who_sent_a_datagram_is_known<H: Host>(stage: &mut Stage<H>) {
    let datagram = format!("from {}, to be told from the kernel's", stage.host.tid());
    forged(stage, datagram.as_bytes());
}

fn a_longer_datagram_is_marked<H: Host>(stage: &mut Stage<H>) {
    let mut datagram = format!("from {}, of many bytes", stage.host.tid()).into_bytes();
    for len in [SLOT_LEN, SLOT_LEN + 1, 3 * SLOT_LEN, 5000] {
        datagram.resize(len, b'.');
        forged(stage, &datagram);
    }
}

/// Sends a datagram between two events, and finds it there.
fn forged<H: Host>(stage: &mut Stage<H>, datagram: &[u8]) {
    let cpu = stage.host.cpus()[0];
    let mut emitted = stage.emit(cpu, 1);
    let port = match stage.host.forge(datagram) {
        Ok(port) => port,
        Err(why) => {
            stage.drain();
            return skip_part(stage.name, &why);
        }
    };
    emitted.end = stage.emit(cpu, 1).end;
    let drained = stage.drain();
    assert_eq!(drained.own(), emitted.collect::<Vec<_>>());
    let kept = &datagram[..datagram.len().min(SLOT_LEN)];
    let arrivals: Vec<_> =
        drained.heard.iter().filter(|heard| heard.bytes == kept).map(|heard| heard.arrival).collect();
    let sender = if stage.host.knows_senders() { port } else { 0 };
    assert_eq!(arrivals, [Arrival { len: datagram.len(), sender }]);
}

fn a_request_is_acknowledged_by_its_number_plus_one<H: Host>(stage: &mut Stage<H>) {
    // Others ask too: their numbers are not so likely to be these.
    for ack in [0x7A11_0000 ^ stage.host.tid(), u32::MAX] {
        stage.host.listen(ack);
        let expected = EventBody::Ack { ack: ack.wrapping_add(1), err: 0 };
        let acks = stage
            .drain()
            .heard
            .iter()
            .filter(|heard| heard.event.is_some_and(|e| e.body == expected))
            .count();
        assert!(acks == 1 || ack == u32::MAX && acks > 0, "{acks} times {expected:?}");
    }
}

fn silence_that_was_asked_for_is_kept<H: Host>(stage: &mut Stage<H>) {
    let cpu = stage.host.cpus()[0];
    stage.drain();
    stage.host.ignore();
    stage.drain();
    stage.emit(cpu, 3);
    let heard = stage.drain().heard;
    assert!(heard.iter().all(|heard| heard.event.is_none()), "{heard:?}");
    // What it did not hear had numbers if somebody else listens.
    stage.host.listen(1);
    let cpus = stage.host.cpus();
    let emitted: Vec<_> = cpus.iter().flat_map(|&cpu| stage.emit(cpu, 1)).collect();
    assert_eq!(stage.drain().own(), emitted);
}
