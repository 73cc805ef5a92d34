//! Counts the programs that a recorded command ran, and the processes that failed.

use std::collections::HashSet;

use pmon_core::Tgid;
use pmon_core::capture::{Header, ProcessState, Record};
use pmon_core::wire::{ByteOrder, EventBody};

use crate::terminal::{counted, grouped};

/// Maximum number of running processes that are followed.
const MAX_PROCESSES: usize = 1 << 16;

/// Counts the programs and failures of the recorder's children and their descendants.
pub(crate) struct ProgramCounter {
    order: ByteOrder,
    recorder: Option<Tgid>,
    running: HashSet<Tgid>,
    processes: u64,
    programs: u64,
    /// Processes that exited with a status other than 0.
    failed: u64,
}

impl ProgramCounter {
    /// Creates a counter for the recording with this header.
    pub(crate) fn new(header: &Header) -> Self {
        let (order, recorder) = (header.byte_order, header.meta.recorder());
        Self { order, recorder, running: HashSet::new(), processes: 0, programs: 0, failed: 0 }
    }

    /// Counts a fork, an exec or an exit.
    pub(crate) fn count(&mut self, record: &Record<'_>) {
        let Record::Event(datagram, usage) = record else { return };
        match datagram.event(self.order).map(|event| event.body) {
            Some(EventBody::Fork { parent, child }) if child.is_leader() => {
                let is_descendant = Some(parent.tgid) == self.recorder || self.running.contains(&parent.tgid);
                if is_descendant && self.running.len() < MAX_PROCESSES {
                    self.running.insert(child.tgid);
                    self.processes += 1;
                }
            }
            Some(EventBody::Exec { task }) if self.running.contains(&task.tgid) => self.programs += 1,
            Some(EventBody::Exit { task, code, .. }) => {
                let state = usage.as_ref().map(|usage| usage.process_state(task.is_leader(), code));
                let status = match state {
                    Some(ProcessState::Ended { status }) => status,
                    // Without usage, the exit of the first thread counts as that of the process.
                    None if task.is_leader() => code,
                    _ => return,
                };
                if self.running.remove(&task.tgid) && status != 0 {
                    self.failed += 1;
                }
            }
            _ => {}
        }
    }

    /// Describes the result in words, for example `7 programs in 8 processes; 3 processes failed`;
    /// `None` if no program was seen.
    pub(crate) fn sentence(&self) -> Option<String> {
        let processes = |number| match number {
            0 => "no process".to_owned(),
            1 => "1 process".to_owned(),
            _ => format!("{} processes", grouped(number)),
        };
        let (programs, failed) = (counted(self.programs, "program"), processes(self.failed));
        (self.programs > 0).then(|| format!("{programs} in {}; {failed} failed", processes(self.processes)))
    }
}

#[cfg(test)]
mod tests;
