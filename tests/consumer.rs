//! How a consumer of process events is tested; the README shows it. This file needs nothing but `pmon-core` and `pmon-fake`: copy it into a crate of yours.

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventKind};
use pmon_fake::{Fault, FaultScript, Kernel, Trigger};

/// The consumer: how many programs were run, and whether that is all.
fn execs(source: &mut impl Source) -> (usize, bool) {
    let (mut execs, mut is_all, mut batch) = (0, true, Batch::with_capacity(64));
    loop {
        match source.receive(&mut batch).unwrap() {
            Received::Datagrams(_) => {}
            Received::Overrun => is_all = false,
            Received::Empty | Received::Closed => return (execs, is_all),
        }
        let events = batch.datagrams().filter_map(|frame| Event::decode(frame.bytes, ByteOrder::NATIVE).ok());
        execs += events.filter(|event| event.kind() == EventKind::Exec).count();
        batch.clear();
    }
}

#[test]
fn it_counts_programs_and_notices_what_it_missed() {
    let mut kernel = Kernel::new(2);
    kernel.inject(FaultScript::new().with(Trigger::At(17), Fault::Overrun(5.into()), None), 0);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    let shell = kernel.add_process("sh");
    for _ in 0..10 {
        let child = kernel.fork(shell);
        kernel.exec(child, "/bin/true", &["true"]);
        kernel.exit(child, 0);
    }
    assert_eq!(execs(&mut socket), (10, false));
}
