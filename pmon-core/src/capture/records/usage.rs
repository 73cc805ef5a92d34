//! The resources that a task used until its exit.

use super::fatal_signal::FatalSignal;

/// Resources used until an exit: by the process if its first thread exits, otherwise by the thread
/// alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
    /// CPU time in us as of the scheduler's last update, at most one tick before the exit.
    pub cpu_us: u64,
    /// CPU time in user mode in us, sampled by the clock tick.
    pub user_us: u64,
    /// CPU time in kernel mode in us, sampled by the clock tick.
    pub system_us: u64,
    /// Peak resident memory of the process since its last exec, in KiB (`VmHWM` of
    /// `proc_pid_status(5)`). The value is 0 if it is unknown, and for a thread that is neither the
    /// first nor the last one to exit.
    pub max_rss_kib: u64,
    /// Number of minor page faults.
    pub minor_faults: u64,
    /// Number of major page faults.
    pub major_faults: u64,
    /// Bytes read from storage; 0 if the kernel does not count them.
    pub read_bytes: u64,
    /// Bytes written to storage; 0 if the kernel does not count them.
    pub write_bytes: u64,
    /// Number of other threads of the process that had not exited. The sums include what these
    /// threads used so far.
    pub threads: u32,
    /// Whether threads were exiting at the same time and may be missing from the sums.
    pub at_least: bool,
    /// State of the process after this exit.
    pub process: ProcessState,
    /// CPU time of all threads of the process, in us, if the process has ended; 0 otherwise.
    pub process_cpu_us: u64,
    /// The signal that killed the process, if the process has ended by a signal.
    pub fatal_signal: FatalSignal,
}

impl Usage {
    /// Returns the state of the process after an exit with this usage; `code` is the exit code of
    /// the thread.
    ///
    /// Captures before version 1.2 do not contain the state. There, the exit of the first thread
    /// ends the process if it counts no other thread.
    pub fn process_state(&self, is_leader: bool, code: u32) -> ProcessState {
        match self.process {
            ProcessState::Unknown if is_leader && self.threads == 0 && !self.at_least => {
                ProcessState::Ended { status: code }
            }
            state => state,
        }
    }
}

/// Whether a process still has threads after the exit of one of them.
///
/// If the last two threads exit at the same time on two CPUs, both exits can report the end of the
/// process, with the same status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcessState {
    /// The recorder could not determine the state.
    #[default]
    Unknown,
    /// Other threads are still running.
    Alive,
    /// No thread is left.
    Ended {
        /// Raw wait status of the process, as `wait(2)` returns it to the parent.
        status: u32,
    },
}
