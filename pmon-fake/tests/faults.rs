//! What each fault does, as a listener hears it.

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind, Message, WireError, messages};
use pmon_core::{Cpu, Seq, Task};
use pmon_fake::{Amount, Errno, Fault, FaultScript, Kernel, RecvFlags, Socket, Trigger};

/// A kernel with two CPUs, a socket that listens, and a process.
fn listener() -> (Kernel, Socket, Task) {
    let mut kernel = Kernel::new(2);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    assert_eq!(events(&mut socket)[0].kind(), EventKind::Ack);
    let task = kernel.add_process("test");
    (kernel, socket, task)
}

/// The same, with a fault before the third of six events.
fn with(fault: Fault) -> (Kernel, Socket) {
    let (mut kernel, socket, task) = listener();
    kernel.inject(FaultScript::new().with(Trigger::At(2), fault, None), 1);
    for n in 0..6 {
        kernel.rename(task, &format!("event {n}"));
    }
    (kernel, socket)
}

/// The next datagram, or what a call fails with.
fn next(socket: &mut Socket) -> Result<(Vec<u8>, u32), Errno> {
    let mut bytes = [0; 128];
    let datagram = socket.recv(&mut bytes, RecvFlags::empty())?;
    Ok((bytes[..datagram.len].to_vec(), datagram.sender))
}

/// All datagrams; errors are passed over.
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

fn numbers(events: &[Event]) -> Vec<u32> {
    events.iter().map(|event| event.seq.0).collect()
}

const SOME: Amount = Amount::new(3, 3);

#[test]
fn an_overrun_is_missing_counted_and_told_once_before_all_that_is_queued() {
    let (_, mut socket) = with(Fault::Overrun(SOME));
    assert_eq!(socket.memory().drops, 3);
    assert_eq!(next(&mut socket), Err(Errno::NOBUFS));
    assert_eq!(numbers(&events(&mut socket)), [1, 2, 6, 7, 8, 9]);
}

#[test]
fn with_no_enobufs_it_is_missing_and_counted() {
    let (mut kernel, mut socket, task) = listener();
    socket.set_no_enobufs(true);
    kernel.overrun(Cpu(0), 5);
    kernel.rename(task, "after");
    assert_eq!((numbers(&events(&mut socket)), socket.memory().drops), (vec![6], 5));
}

#[test]
fn what_had_no_memory_is_missing_and_nobody_counts() {
    let (_, mut socket) = with(Fault::NoMemory(SOME));
    assert_eq!(numbers(&events(&mut socket)), [1, 2, 6, 7, 8, 9]);
    assert_eq!(socket.memory().drops, 0);
}

#[test]
fn a_burst_is_heard() {
    let (_, mut socket) = with(Fault::Burst(SOME));
    let events = events(&mut socket);
    assert_eq!(numbers(&events), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(events[2..5].iter().all(|event| event.task() != events[0].task()));
}

#[test]
fn calls_are_interrupted_or_find_nothing_and_nothing_is_lost() {
    for (fault, errno) in [(Fault::Eintr(SOME), Errno::INTR), (Fault::Eagain(SOME), Errno::AGAIN)] {
        let (_, mut socket) = with(fault);
        for _ in 0..3 {
            assert_eq!(next(&mut socket), Err(errno));
        }
        assert_eq!(numbers(&events(&mut socket)), [1, 2, 3, 4, 5, 6]);
    }
    // A source makes an interrupted call anew, and says so if there is nothing.
    let mut batch = Batch::with_capacity(8);
    assert_eq!(with(Fault::Eintr(SOME)).1.receive(&mut batch), Ok(Received::Datagrams(6)));
    assert_eq!(with(Fault::Eagain(SOME)).1.receive(&mut batch), Ok(Received::Empty));
}

#[test]
fn a_datagram_is_cut() {
    let (_, mut socket) = with(Fault::Truncate(40.into()));
    let lengths: Vec<_> = datagrams(&mut socket).iter().map(|(bytes, _)| bytes.len()).collect();
    assert_eq!(lengths, [76, 76, 40, 76, 76, 76]);
}

#[test]
fn another_listener_subscribes() {
    let (_, mut socket) = with(Fault::ForeignAck);
    let kinds: Vec<_> = events(&mut socket).iter().map(Event::kind).collect();
    assert_eq!(kinds.iter().position(|&kind| kind == EventKind::Ack), Some(2));
    assert_eq!(kinds.len(), 7);
}

#[test]
fn what_user_space_sends_has_its_port_and_no_number_of_its_own() {
    let (_, mut socket) = with(Fault::Forge);
    let all = datagrams(&mut socket);
    let forged = Event::decode(&all[2].0, ByteOrder::NATIVE).unwrap();
    assert!(all[2].1 != 0 && forged.seq == Seq(3));
    let real: Vec<_> = all.iter().filter(|(_, sender)| *sender == 0).collect();
    assert_eq!(real.len(), 6);
}

#[test]
fn messages_that_are_no_events_are_what_netlink_says() {
    let read = |fault| -> Result<(), WireError> {
        let (_, mut socket) = with(fault);
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
        read(fault).unwrap();
    }
}

#[test]
fn an_unknown_kind_has_a_number() {
    let (_, mut socket) = with(Fault::Unknown(0x20));
    let events = events(&mut socket);
    assert_eq!(numbers(&events), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(events[2].body, EventBody::Unknown { what: 0x20 });
}

#[test]
fn an_event_is_held_back_behind_those_of_other_cpus_but_not_of_its_own() {
    let held = |then: &[u32]| {
        let (mut kernel, mut socket, task) = listener();
        kernel.inject(FaultScript::new().with(Trigger::At(0), Fault::Hold(2.into()), Some(1)), 0);
        for &cpu in then {
            kernel.run_on(Cpu(cpu));
            kernel.rename(task, "test");
        }
        kernel.release_delayed();
        events(&mut socket).iter().map(|event| (event.cpu.0, event.seq.0)).collect::<Vec<_>>()
    };
    assert_eq!(held(&[1, 0, 0, 0]), [(0, 1), (0, 2), (1, 0), (0, 3)]);
    assert_eq!(held(&[1, 0, 1, 0]), [(0, 1), (1, 0), (1, 1), (0, 2)]);
    assert_eq!(held(&[1, 0]), [(0, 1), (1, 0)]);
}

#[test]
fn the_clock_goes_on_at_once() {
    let (_, mut socket) = with(Fault::Step(1_000_000.into()));
    let times: Vec<_> = events(&mut socket).iter().map(|event| event.time.0).collect();
    let steps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(steps, [1_000, 1_001_000, 1_000, 1_000, 1_000]);
}

#[test]
fn what_nobody_is_told_of_has_no_number() {
    let (kernel, mut socket) = with(Fault::Blind(SOME));
    assert_eq!(numbers(&events(&mut socket)), [1, 2, 3]);
    assert_eq!((kernel.next_seq(Cpu(0)), kernel.events_happened()), (Seq(4), 6));
}

#[test]
fn at_the_end_there_is_an_end_of_file() {
    let (_, mut socket) = with(Fault::End);
    let mut batch = Batch::with_capacity(16);
    assert_eq!(socket.receive(&mut batch), Ok(Received::Datagrams(2)));
    assert_eq!(socket.receive(&mut batch), Ok(Received::Closed));
    assert_eq!(next(&mut socket), Ok((Vec::new(), 0)));
}

#[test]
fn amounts_that_are_out_of_all_proportion_harm_nobody() {
    let (mut kernel, mut socket, task) = listener();
    let most: Amount = u32::MAX.into();
    let faults = [
        Fault::Eintr(most),
        Fault::Eintr(most),
        Fault::Eagain(most),
        Fault::Eagain(most),
        Fault::Step(most),
        Fault::NoMemory(most),
        Fault::Overrun(most),
        Fault::Hold(most),
        Fault::Hold(most),
        Fault::Blind(most),
        Fault::Blind(most),
        // In the midst of that silence, there is none of it.
        Fault::Burst(SOME),
    ];
    let script =
        faults.into_iter().fold(FaultScript::new(), |script, fault| script.with(Trigger::At(1), fault, None));
    kernel.inject(script, 0);
    kernel.rename(task, "before");
    kernel.rename(task, "silenced");
    kernel.inject(FaultScript::new(), 0);
    kernel.rename(task, "after");
    assert_eq!(socket.drops(), Ok(Some(u32::MAX.into())));
    // 2^32 - 1 were skipped twice.
    assert_eq!(numbers(&events(&mut socket)), [1, 0]);
    let mut batch = Batch::with_capacity(1);
    assert_eq!(socket.receive(&mut batch), Ok(Received::Empty));
}
