//! Counts the programs that a recorded command ran.

use std::collections::HashMap;

use pmon_core::Tgid;
use pmon_core::capture::{Header, ProcessState, Record};
use pmon_core::wire::{ByteOrder, EventBody};

use crate::terminal::{counted, grouped};

/// Maximum number of running processes that are followed.
const MAX_PROCESSES: usize = 1 << 16;

/// Counts the programs that the children of the recorder and their descendants ran.
pub(crate) struct ProgramCounter {
    order: ByteOrder,
    recorder: Option<Tgid>,
    /// The running processes, and whether each has executed a program.
    running: HashMap<Tgid, bool>,
    programs: u64,
    failed: u64,
}

impl ProgramCounter {
    /// Creates a counter for the recording with this header.
    pub(crate) fn new(header: &Header) -> Self {
        let (order, recorder) = (header.byte_order, header.meta.recorder());
        Self { order, recorder, running: HashMap::new(), programs: 0, failed: 0 }
    }

    /// Counts an exec, or the exit of a process that executed a program.
    pub(crate) fn count(&mut self, record: &Record<'_>) {
        let Record::Event(datagram, usage) = record else { return };
        match datagram.event(self.order).map(|event| event.body) {
            Some(EventBody::Fork { parent, child }) if child.is_leader() => {
                let is_descendant =
                    Some(parent.tgid) == self.recorder || self.running.contains_key(&parent.tgid);
                if is_descendant && self.running.len() < MAX_PROCESSES {
                    self.running.insert(child.tgid, false);
                }
            }
            Some(EventBody::Exec { task }) => {
                if let Some(has_executed) = self.running.get_mut(&task.tgid) {
                    *has_executed = true;
                    self.programs += 1;
                }
            }
            Some(EventBody::Exit { task, code, .. }) => {
                let state = usage.as_ref().map(|usage| usage.process_state(task.is_leader(), code));
                let status = match state {
                    Some(ProcessState::Ended { status }) => status,
                    // Without usage, the exit of the first thread counts as that of the process.
                    None if task.is_leader() => code,
                    _ => return,
                };
                if self.running.remove(&task.tgid) == Some(true) && status != 0 {
                    self.failed += 1;
                }
            }
            _ => {}
        }
    }

    /// Describes the result in words, for example `7 programs; 3 of them failed`; `None` if no
    /// program was seen.
    pub(crate) fn sentence(&self) -> Option<String> {
        let failed = match (self.failed, self.programs) {
            (_, 0) => return None,
            (0, _) => "none of them failed".to_owned(),
            (1, 1) => "it failed".to_owned(),
            (failed, _) => format!("{} of them failed", grouped(failed)),
        };
        Some(format!("{}; {failed}", counted(self.programs, "program")))
    }
}

#[cfg(test)]
mod tests {
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
    fn programs_of_the_command_and_its_descendants_are_counted() {
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
        assert_eq!(sentence(&records).as_deref(), Some("3 programs; 1 of them failed"));
        assert_eq!(sentence(&[fork(10, 20)]), None);
        assert_eq!(sentence(&[fork(10, 20), exec(20)]).as_deref(), Some("1 program; none of them failed"));
    }
}
