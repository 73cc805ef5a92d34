//! A consumer of process events, and its test on the fake kernel.
//!
//! The function `count_execs` and the test need only `pmon-core` and `pmon-fake`: copy them into
//! your crate. `main` runs the same consumer on a capture:
//!
//! ```sh
//! cargo run --example consumer -- FILE
//! ```
#![allow(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::fs::File;

use pmon_core::batch::Batch;
use pmon_core::capture::Reader;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventKind};
use pmon_replay::Replay;

/// Counts the programs that were executed. Returns the number, and whether it is complete.
fn count_execs<S: Source>(source: &mut S) -> Result<(usize, bool), S::Error> {
    let (mut execs, mut is_complete, mut batch) = (0, true, Batch::with_capacity(64));
    loop {
        match source.receive(&mut batch)? {
            Received::Datagrams(_) => {}
            Received::Overrun => is_complete = false,
            Received::Empty | Received::Closed => return Ok((execs, is_complete)),
        }
        let events =
            batch.datagrams().filter_map(|datagram| Event::decode(datagram.bytes, ByteOrder::NATIVE).ok());
        execs += events.filter(|event| event.kind() == EventKind::Exec).count();
        batch.clear();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: consumer FILE")?;
    let mut replay = Replay::new(Reader::open(File::open(file)?)?);
    let (execs, is_complete) = count_execs(&mut replay)?;
    println!("{execs} programs{}", if is_complete { "" } else { ", and lost events" });
    Ok(())
}

#[cfg(test)]
use pmon_fake::{Fault, FaultScript, Kernel, Trigger};

#[test]
fn counts_programs_and_reports_a_loss() {
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
    assert_eq!(count_execs(&mut socket).unwrap(), (10, false));
}
