//! Notes the signals that have killed processes.

use pmon_core::Tgid;
use pmon_core::capture::{FatalSignal, SignalOrigin, SignalSender};

use super::LifeTracker;
use crate::life::{LifeSignal, ProcessId};

impl LifeTracker {
    /// Notes the signal that has killed a process.
    pub(super) fn note_signal(&mut self, pid: Tgid, signal: FatalSignal) {
        let sender_id = match signal.origin {
            SignalOrigin::Process { sender, .. } => self.sender_id(&sender),
            SignalOrigin::Unknown | SignalOrigin::Kernel { .. } => None,
        };
        if let Some(slot) = self.model.slot(pid) {
            self.states[slot as usize]
                .signal
                .get_or_insert_with(|| Box::new(LifeSignal { signal, sender_id }));
        }
    }

    /// Returns the identity of a process that sent a signal: of the process that has its ID and its
    /// start time, or had them a short time ago.
    fn sender_id(&mut self, sender: &SignalSender) -> Option<ProcessId> {
        // The time of the fork event is slightly later than the start time.
        let is_start = |ticks: u64| ticks.abs_diff(sender.start_ticks) <= 1;
        if let Some(process) = self.model.last_process(Tgid(sender.pid))
            && process.start_ticks().is_some_and(is_start)
        {
            let slot = self.model.slot(Tgid(sender.pid))?;
            self.touch(slot, self.model.now());
            return Some(self.identity(slot).0);
        }
        let ended = self.recently_ended.find(sender.pid)?;
        let start = ended.start_ticks.or_else(|| self.model.ticks_of(ended.forked?))?;
        is_start(start).then_some(ended.id)
    }
}
