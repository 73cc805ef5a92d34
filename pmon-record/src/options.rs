//! How to record.

use std::time::Duration;

use crate::details::redact::Redact;
use crate::scope::Scope;
use crate::transport::ring::entry::MOST_ARGS;

/// How events come from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// The best that there is, in the order in which they stand here.
    #[default]
    Auto,
    /// By a ring that is mapped here, which also tells the details of processes at the moment of an exec, and what was used at an
    /// exit. What does not fit comes by the socket's queue, without.
    RingDetails,
    /// By the ring, without details, which are then read from `/proc`.
    Ring,
    /// By the socket's queue.
    Recvmmsg,
}

/// How to record. The defaults suit a production host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOptions {
    /// How events come from the kernel.
    pub transport: TransportChoice,
    /// Bytes of the ring, if there is one, of the kernel's memory: a power of two. An event takes 88, an exit with what was used 168,
    /// an exec with its details 4296 or more.
    pub ring: usize,
    /// What is to be recorded. Anything but everything takes a ring; then nothing spills, but is lost if the ring is full.
    pub scope: Scope,
    /// Bytes of socket buffer, as the kernel accounts for it: about 832 an event. Granted by `SO_RCVBUFFORCE`, or without
    /// privilege by `SO_RCVBUF`, which `net.core.rmem_max` bounds.
    pub socket_buffer: usize,
    /// With less socket buffer than this, nothing is recorded.
    pub require_buffer: usize,
    /// After an overrun, whether the socket takes events again as soon as there is room, and not only when it has been
    /// emptied (`NETLINK_NO_ENOBUFS`).
    pub no_enobufs: bool,
    /// While busy, events are taken from the socket this often, or as often as its buffer needs; while idle, as they come.
    pub latency: Duration,
    /// The nice value of the threads that take events and read details; the writer's is half of it. 0 leaves it alone. Below 0 takes privilege
    /// (`CAP_SYS_NICE`), and without it has no effect. Against workloads that keep every CPU busy, it decides between half
    /// of a storm's events lost and none.
    pub nice: i32,
    /// Memory in bytes between the drain thread and the writer thread: 224 per event. If it is
    /// full, because the output is slower than the events, events are dropped and counted.
    pub buffer: usize,
    /// Interval between two heartbeats, self-generated events that must be received back; zero for
    /// none. Without heartbeats, a time without events is detected only at the end, and only if it
    /// contains forks.
    pub heartbeat: Duration,
    /// Whether to record the details of each process after an exec.
    pub details: bool,
    /// Bytes of a process's arguments that are recorded; 0 for none at all. The ring has room for 128 KiB, and so much is read from
    /// `/proc`.
    pub args_max: usize,
    /// Pattern of what is replaced in command lines, paths, names and cgroups. Command lines are
    /// then read beyond `args_max`, at least 32 KiB, and redacted before they are truncated.
    pub redact: Option<Redact>,
    /// Whether to scan `/proc`: at the start, and after events were lost.
    pub snapshot: bool,
}

impl Default for RecordOptions {
    fn default() -> Self {
        Self {
            transport: TransportChoice::default(),
            ring: 16 << 20,
            scope: Scope::default(),
            socket_buffer: 64 << 20,
            require_buffer: 0,
            no_enobufs: true,
            latency: Duration::from_millis(10),
            nice: -10,
            buffer: 32 << 20,
            heartbeat: Duration::from_secs(1),
            details: true,
            args_max: 4096,
            redact: None,
            snapshot: true,
        }
    }
}

/// Minimum bytes of arguments that are read for redaction, of which fewer are recorded.
const REDACTED: usize = 32 << 10;
/// Minimum bytes of arguments that are read beyond the recorded ones, for a secret that spans the
/// cut.
const BEYOND: usize = 4 << 10;

impl RecordOptions {
    /// Bytes of a process's arguments that are read, so that a secret is redacted before it is cut.
    pub(crate) fn args_read(&self) -> usize {
        match (self.args_max, &self.redact) {
            (args_max, None) => args_max.min(MOST_ARGS),
            (0, _) => 0,
            (args_max, _) if args_max <= REDACTED - BEYOND => REDACTED,
            _ => MOST_ARGS,
        }
    }
}
