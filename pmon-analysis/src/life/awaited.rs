//! The execs whose details have not arrived.

use std::collections::{HashMap, VecDeque};

use pmon_core::{MonoNs, Tgid};

use super::ProcessProgram;
use crate::process::IdHash;

/// Maximum number of execs that wait for their details.
const MAX_AWAITED: usize = 1 << 14;
/// Maximum time that an exec waits for its details, in ns of event time.
const MAX_WAIT_NS: u64 = 1_000_000_000;

/// The execs whose details have not arrived, the oldest first.
#[derive(Debug, Default)]
pub(super) struct AwaitedPrograms {
    programs: HashMap<(Tgid, MonoNs), ProcessProgram, IdHash>,
    order: VecDeque<(Tgid, MonoNs)>,
    /// The newest exec, which is in neither collection. Most details follow right after their exec.
    newest: Option<((Tgid, MonoNs), ProcessProgram)>,
}

impl AwaitedPrograms {
    /// Adds an exec.
    pub(super) fn insert(&mut self, pid: Tgid, time: MonoNs, program: ProcessProgram) {
        if let Some((key, program)) = self.newest.replace(((pid, time), program)) {
            self.programs.insert(key, program);
            self.order.push_back(key);
        }
    }

    /// Returns the exec whose details have arrived.
    pub(super) fn take(&mut self, pid: Tgid, time: MonoNs) -> Option<ProcessProgram> {
        match self.newest.take_if(|(key, _)| *key == (pid, time)) {
            Some((_, program)) => Some(program),
            None => self.programs.remove(&(pid, time)),
        }
    }

    /// Returns whether there is no exec.
    pub(super) fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.newest.is_none()
    }

    /// Gives up the execs that have waited for too long, or that are too many.
    pub(super) fn expire(&mut self, now: MonoNs) {
        while let Some(&key) = self.order.front() {
            let is_arrived = !self.programs.contains_key(&key);
            let count = self.order.len() + usize::from(self.newest.is_some());
            let is_late = is_late(key, now) || count > MAX_AWAITED;
            if !(is_arrived || is_late) {
                return;
            }
            if let Some(program) = self.programs.remove(&key) {
                program.give_up();
            }
            self.order.pop_front();
        }
        if let Some((_, program)) = self.newest.take_if(|(key, _)| is_late(*key, now)) {
            program.give_up();
        }
    }

    /// Gives up all execs.
    pub(super) fn clear(&mut self) {
        self.programs.drain().for_each(|(_, program)| program.give_up());
        self.order.clear();
        self.newest.take().iter().for_each(|(_, program)| program.give_up());
    }
}

fn is_late((_, time): (Tgid, MonoNs), now: MonoNs) -> bool {
    now.0.saturating_sub(time.0) > MAX_WAIT_NS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::Program;

    #[test]
    fn the_newest_exec_counts_as_one_that_waits() {
        let mut awaited = AwaitedPrograms::default();
        let programs: Vec<_> = (0..=MAX_AWAITED as u32)
            .map(|pid| {
                let program = ProcessProgram::awaited(Program::default());
                awaited.insert(Tgid(pid), MonoNs(5), program.clone());
                program
            })
            .collect();
        awaited.expire(MonoNs(6));
        let given_up: Vec<_> = programs.iter().map(|program| !program.is_awaited()).collect();
        assert!(given_up[0] && !given_up[1..].contains(&true));
    }

    #[test]
    fn execs_beyond_the_limit_are_given_up_in_their_order() {
        let mut awaited = AwaitedPrograms::default();
        assert!(awaited.is_empty());
        let programs: Vec<_> = (0..=MAX_AWAITED as u32 + 1)
            .map(|pid| {
                let program = ProcessProgram::awaited(Program::default());
                awaited.insert(Tgid(pid), MonoNs(5), program.clone());
                program
            })
            .collect();
        let waiting = || programs.iter().filter(|program| program.is_awaited()).count();
        assert!(awaited.take(Tgid(1), MonoNs(5)).is_some() && awaited.take(Tgid(1), MonoNs(5)).is_none());
        awaited.expire(MonoNs(6));
        assert!(!programs[0].is_awaited() && programs[2].is_awaited());
        assert_eq!(waiting(), MAX_AWAITED + 1);
        awaited.expire(MonoNs(5 + MAX_WAIT_NS));
        assert_eq!(waiting(), MAX_AWAITED + 1);
        awaited.expire(MonoNs(6 + MAX_WAIT_NS));
        // The one that was taken is no longer in the list.
        assert_eq!((waiting(), awaited.is_empty()), (1, true));
    }
}
