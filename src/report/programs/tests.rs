use pmon_core::capture::{Meta, RecordedDatagram, Usage};
use pmon_core::wire::Event;
use pmon_core::{Cpu, MonoNs, Seq, Task};

use super::*;

fn event(body: EventBody, usage: Option<Usage>) -> Record<'static> {
    let event = Event { time: MonoNs(0), seq: Seq(0), cpu: Cpu(0), body };
    Record::Event(RecordedDatagram::Event(event), usage.map(Box::new))
}

fn fork(parent: u32, child: u32) -> Record<'static> {
    event(EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child, child) }, None)
}

fn exec(pid: u32) -> Record<'static> {
    event(EventBody::Exec { task: Task::new(pid, pid) }, None)
}

fn exit(tid: u32, pid: u32, code: u32, process: Option<ProcessState>) -> Record<'static> {
    let usage = process.map(|process| Usage { process, ..Usage::default() });
    event(EventBody::Exit { task: Task::new(tid, pid), code, signal: 17, parent: None }, usage)
}

fn sentence(records: &[Record<'_>]) -> Option<String> {
    let meta = Meta { recorder_pid: 10, ..Meta::default() };
    let header = Header { uuid: [0; 16], byte_order: ByteOrder::NATIVE, meta };
    let mut counter = ProgramCounter::new(&header);
    records.iter().for_each(|record| counter.count(record));
    counter.sentence()
}

#[test]
fn programs_and_failures_of_the_command_and_its_descendants_are_counted() {
    let ended = |status| Some(ProcessState::Ended { status });
    let records = [
        fork(10, 20),
        exec(20),
        fork(20, 21),
        exec(21),
        // The first thread exits before another one that ends the process.
        exit(21, 21, 0, Some(ProcessState::Alive)),
        exit(22, 21, 9, ended(9)),
        // A process that runs no program of its own, and one that is no descendant.
        fork(20, 23),
        exit(23, 23, 256, None),
        fork(1, 30),
        exec(30),
        exit(30, 30, 256, None),
        exec(20),
        exit(20, 20, 0, None),
    ];
    assert_eq!(sentence(&records).as_deref(), Some("3 programs in 3 processes; 2 processes failed"));
    assert_eq!(sentence(&[fork(10, 20)]), None);
    assert_eq!(
        sentence(&[fork(10, 20), exec(20)]).as_deref(),
        Some("1 program in 1 process; no process failed")
    );
}
