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
mod tests;
