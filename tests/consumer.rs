//! A test of a consumer of process events, which the README shows.
//!
//! The file needs only `pmon-core` and `pmon-fake`, and can be copied into another crate.

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventKind};
use pmon_fake::{Fault, FaultScript, Kernel, Trigger};

/// The consumer under test: returns the number of programs that were run, and whether the count is
/// complete.
fn count_execs(source: &mut impl Source) -> (usize, bool) {
    let (mut execs, mut is_complete, mut batch) = (0, true, Batch::with_capacity(64));
    loop {
        match source.receive(&mut batch).unwrap() {
            Received::Datagrams(_) => {}
            Received::Overrun => is_complete = false,
            Received::Empty | Received::Closed => return (execs, is_complete),
        }
        let events =
            batch.datagrams().filter_map(|datagram| Event::decode(datagram.bytes, ByteOrder::NATIVE).ok());
        execs += events.filter(|event| event.kind() == EventKind::Exec).count();
        batch.clear();
    }
}

#[test]
fn it_counts_programs_and_reports_a_loss() {
    let mut kernel = Kernel::new(2);
    // Before event 17, five events are lost.
    kernel.inject(FaultScript::new().with(Trigger::At(17), Fault::Overrun(5.into()), None), 0);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    let shell = kernel.add_process("sh");
    for _ in 0..10 {
        let child = kernel.fork(shell);
        kernel.exec(child, "/bin/true", &["true"]);
        kernel.exit(child, 0);
    }
    assert_eq!(count_execs(&mut socket), (10, false));
}
