//! The effect of each fault on a listener.

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind, Message, WireError, messages};
use pmon_core::{Cpu, Seq, Task};
use pmon_fake::{Amount, Errno, Fault, FaultScript, Kernel, RecvFlags, Socket, Trigger};

/// Returns a kernel with two CPUs, a subscribed socket, and a process.
fn listener() -> (Kernel, Socket, Task) {
    let mut kernel = Kernel::new(2);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    assert_eq!(events(&mut socket)[0].kind(), EventKind::Ack);
    let task = kernel.add_process("test");
    (kernel, socket, task)
}

/// Injects a fault before the third of six events.
fn inject(fault: Fault) -> (Kernel, Socket) {
    let (mut kernel, socket, task) = listener();
    kernel.inject(FaultScript::new().with(Trigger::At(2), fault, None), 1);
    for n in 0..6 {
        kernel.rename(task, &format!("event {n}"));
    }
    (kernel, socket)
}

/// Receives the next datagram and its sender.
fn next(socket: &mut Socket) -> Result<(Vec<u8>, u32), Errno> {
    let mut bytes = [0; 128];
    let datagram = socket.recv(&mut bytes, RecvFlags::empty())?;
    Ok((bytes[..datagram.len].to_vec(), datagram.sender))
}

/// Receives all datagrams, regardless of errors.
fn datagrams(socket: &mut Socket) -> Vec<(Vec<u8>, u32)> {
    let mut all = Vec::new();
    loop {
        match next(socket) {
            Ok((bytes, _)) if bytes.is_empty() && !socket.poll().error => return all,
            Ok(datagram) => all.push(datagram),
            Err(Errno::AGAIN) if !socket.poll().readable => return all,
            Err(_) => {}
        }
    }
}

fn events(socket: &mut Socket) -> Vec<Event> {
    let decoded = |(bytes, _): (Vec<u8>, u32)| Event::decode(&bytes, ByteOrder::NATIVE).ok();
    datagrams(socket).into_iter().filter_map(decoded).collect()
}

fn seqs(events: &[Event]) -> Vec<u32> {
    events.iter().map(|event| event.seq.0).collect()
}

const THREE: Amount = Amount::new(3, 3);

#[test]
fn an_overrun_leaves_a_gap_counts_drops_and_returns_enobufs_once_before_queued_datagrams() {
    let (_, mut socket) = inject(Fault::Overrun(THREE));
    assert_eq!(socket.memory().drops, 3);
    assert_eq!(next(&mut socket), Err(Errno::NOBUFS));
    assert_eq!(seqs(&events(&mut socket)), [1, 2, 6, 7, 8, 9]);
}

#[test]
fn with_no_enobufs_an_overrun_leaves_a_gap_and_counts_drops() {
    let (mut kernel, mut socket, task) = listener();
    socket.set_no_enobufs(true);
    kernel.overrun(Cpu(0), 5);
    kernel.rename(task, "after");
    assert_eq!((seqs(&events(&mut socket)), socket.memory().drops), (vec![6], 5));
}

#[test]
fn events_without_memory_leave_a_gap_without_drops() {
    let (_, mut socket) = inject(Fault::NoMemory(THREE));
    assert_eq!(seqs(&events(&mut socket)), [1, 2, 6, 7, 8, 9]);
    assert_eq!(socket.memory().drops, 0);
}

#[test]
fn a_burst_emits_additional_events() {
    let (_, mut socket) = inject(Fault::Burst(THREE));
    let events = events(&mut socket);
    assert_eq!(seqs(&events), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(events[2..5].iter().all(|event| event.task() != events[0].task()));
}

#[test]
fn interrupted_and_empty_calls_lose_nothing() {
    for (fault, errno) in [(Fault::Eintr(THREE), Errno::INTR), (Fault::Eagain(THREE), Errno::AGAIN)] {
        let (_, mut socket) = inject(fault);
        for _ in 0..3 {
            assert_eq!(next(&mut socket), Err(errno));
        }
        assert_eq!(seqs(&events(&mut socket)), [1, 2, 3, 4, 5, 6]);
    }
    // A source repeats interrupted calls, and reports empty ones.
    let mut batch = Batch::with_capacity(8);
    assert_eq!(inject(Fault::Eintr(THREE)).1.receive(&mut batch), Ok(Received::Datagrams(6)));
    assert_eq!(inject(Fault::Eagain(THREE)).1.receive(&mut batch), Ok(Received::Empty));
}

#[test]
fn the_next_datagram_is_truncated() {
    let (_, mut socket) = inject(Fault::Truncate(40.into()));
    let lengths: Vec<_> = datagrams(&mut socket).iter().map(|(bytes, _)| bytes.len()).collect();
    assert_eq!(lengths, [76, 76, 40, 76, 76, 76]);
}

#[test]
fn a_foreign_ack_is_received() {
    let (_, mut socket) = inject(Fault::ForeignAck);
    let kinds: Vec<_> = events(&mut socket).iter().map(Event::kind).collect();
    assert_eq!(kinds.iter().position(|&kind| kind == EventKind::Ack), Some(2));
    assert_eq!(kinds.len(), 7);
}

#[test]
fn a_forged_event_has_a_port_and_the_next_sequence_number() {
    let (_, mut socket) = inject(Fault::Forge);
    let all = datagrams(&mut socket);
    let forged = Event::decode(&all[2].0, ByteOrder::NATIVE).unwrap();
    assert!(all[2].1 != 0 && forged.seq == Seq(3));
    let real: Vec<_> = all.iter().filter(|(_, sender)| *sender == 0).collect();
    assert_eq!(real.len(), 6);
}

#[test]
fn control_messages_are_those_of_netlink() {
    let check = |fault: Fault| -> Result<(), WireError> {
        let (_, mut socket) = inject(fault.clone());
        let (bytes, sender) = datagrams(&mut socket).swap_remove(2);
        let message = messages(&bytes, ByteOrder::NATIVE).next().unwrap()?;
        match fault {
            Fault::Noop => assert_eq!(message, Message::Noop),
            Fault::Error(errno) => assert_eq!(message, Message::Error { errno }),
            _ => assert_eq!(message, Message::Overrun),
        }
        assert_eq!(sender, 0);
        Ok(())
    };
    for fault in [Fault::Noop, Fault::Error(105), Fault::Overflow] {
        check(fault).unwrap();
    }
}

#[test]
fn an_event_of_an_unknown_kind_has_a_sequence_number() {
    let (_, mut socket) = inject(Fault::Unknown(0x20));
    let events = events(&mut socket);
    assert_eq!(seqs(&events), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(events[2].body, EventBody::Unknown { what: 0x20 });
}

#[test]
fn a_held_event_is_delivered_after_events_of_other_cpus_but_before_those_of_its_own() {
    let delivered = |cpus: &[u32]| {
        let (mut kernel, mut socket, task) = listener();
        kernel.inject(FaultScript::new().with(Trigger::At(0), Fault::Hold(2.into()), Some(1)), 0);
        for &cpu in cpus {
            kernel.run_on(Cpu(cpu));
            kernel.rename(task, "test");
        }
        kernel.release_delayed();
        events(&mut socket).iter().map(|event| (event.cpu.0, event.seq.0)).collect::<Vec<_>>()
    };
    assert_eq!(delivered(&[1, 0, 0, 0]), [(0, 1), (0, 2), (1, 0), (0, 3)]);
    assert_eq!(delivered(&[1, 0, 1, 0]), [(0, 1), (1, 0), (1, 1), (0, 2)]);
    assert_eq!(delivered(&[1, 0]), [(0, 1), (1, 0)]);
}

#[test]
fn a_step_advances_the_clock() {
    let (_, mut socket) = inject(Fault::Step(1_000_000.into()));
    let times: Vec<_> = events(&mut socket).iter().map(|event| event.time.0).collect();
    let steps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(steps, [1_000, 1_001_000, 1_000, 1_000, 1_000]);
}

#[test]
fn suppressed_events_have_no_sequence_number() {
    let (kernel, mut socket) = inject(Fault::Blind(THREE));
    assert_eq!(seqs(&events(&mut socket)), [1, 2, 3]);
    assert_eq!((kernel.next_seq(Cpu(0)), kernel.events_happened()), (Seq(4), 6));
}

#[test]
fn the_end_is_an_end_of_file_after_queued_datagrams() {
    let (_, mut socket) = inject(Fault::End);
    let mut batch = Batch::with_capacity(16);
    assert_eq!(socket.receive(&mut batch), Ok(Received::Datagrams(2)));
    assert_eq!(socket.receive(&mut batch), Ok(Received::Closed));
    assert_eq!(next(&mut socket), Ok((Vec::new(), 0)));
}

#[test]
fn maximal_amounts_neither_overflow_nor_hang() {
    let (mut kernel, mut socket, task) = listener();
    let most: Amount = u32::MAX.into();
    let faults = [
        Fault::Eintr(most),
        Fault::Eintr(most),
        Fault::Eagain(most),
        Fault::Eagain(most),
        Fault::Step(std::time::Duration::MAX.into()),
        Fault::Lose(0.into()),
        Fault::NoMemory(most),
        Fault::Overrun(most),
        Fault::Hold(most),
        Fault::Hold(most),
        Fault::Blind(most),
        Fault::Blind(most),
        // While events are suppressed, a burst emits nothing.
        Fault::Burst(THREE),
    ];
    let script =
        faults.into_iter().fold(FaultScript::new(), |script, fault| script.with(Trigger::At(1), fault, None));
    kernel.inject(script, 0);
    kernel.rename(task, "before");
    kernel.rename(task, "suppressed");
    kernel.inject(FaultScript::new(), 0);
    kernel.rename(task, "after");
    assert_eq!(socket.drops(), Ok(Some(u32::MAX.into())));
    // Twice, 2^32 - 1 sequence numbers were skipped.
    assert_eq!(seqs(&events(&mut socket)), [1, 0]);
    let mut batch = Batch::with_capacity(1);
    assert_eq!(socket.receive(&mut batch), Ok(Received::Empty));
}
