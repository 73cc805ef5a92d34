//! Tasks by their ids.

use pmon_core::{Task, Tgid, Tid};

use super::{PID_MAX, TaskTable};
use crate::kernel::Kernel;

impl TaskTable {
    fn task(&self, tid: Tid) -> Option<Task> {
        let tgid = self.threads.get(tid.0).copied().unwrap_or(Tgid(tid.0));
        let process = self.processes.get(tgid.0)?;
        process.thread_index(tid).is_ok().then_some(Task { tid, tgid })
    }
}

/// Ids of tasks.
impl Kernel {
    /// Returns the running task with an id.
    pub fn task(&self, tid: Tid) -> Option<Task> {
        self.tasks.task(tid)
    }

    /// Sets the id of the next process or thread (`/proc/sys/kernel/ns_last_pid`, plus 1). If it is
    /// taken, the next free id is used.
    ///
    /// # Panics
    /// Panics if the id is 0, or not below 4,194,304 (`kernel.pid_max`).
    pub fn set_next_pid(&mut self, pid: u32) {
        assert!((1..PID_MAX).contains(&pid), "{pid} is not a process id");
        self.tasks.next_id = pid;
    }
}
