//! How to record.

use std::time::Duration;

use crate::redact::Redact;
use crate::ring::entry::MOST_ARGS;
use crate::scope::Scope;

/// How events come from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
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
pub struct Options {
    /// How events come from the kernel.
    pub transport: Transport,
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
    pub hush_overruns: bool,
    /// While busy, events are taken from the socket this often, or as often as its buffer needs; while idle, as they come.
    pub latency: Duration,
    /// The nice value of the threads that take events and read details; the writer's is half of it. 0 leaves it alone. Below 0 takes privilege
    /// (`CAP_SYS_NICE`), and without it has no effect. Against workloads that keep every CPU busy, it decides between half
    /// of a storm's events lost and none.
    pub nice: i32,
    /// Bytes of memory between the drain thread and the writer thread: 224 an event. When it is full, because the output does
    /// not keep up, events are dropped and counted.
    pub buffer: usize,
    /// Time between two heartbeats: events of the recorder's own, each of which must come back. Zero for none; then a kernel that emits no
    /// events any more is noticed only at the end, and only if something forked meanwhile.
    pub heartbeat: Duration,
    /// Whether to record the details of each process after an exec.
    pub details: bool,
    /// Bytes of a process's arguments that are recorded; 0 for none at all. The ring has room for 128 KiB, and so much is read from
    /// `/proc`.
    pub args_max: usize,
    /// What is not recorded of command lines, paths, names and cgroups. Command lines are then read
    /// beyond `args_max`, to 32 KiB at least, and redacted before they are cut.
    pub redact: Option<Redact>,
    /// Whether to scan `/proc`: at the start, and after events were lost.
    pub snapshot: bool,
    /// How long to wait for the kernel to acknowledge the subscription.
    pub ack_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            transport: Transport::default(),
            ring: 16 << 20,
            scope: Scope::default(),
            socket_buffer: 64 << 20,
            require_buffer: 0,
            hush_overruns: true,
            latency: Duration::from_millis(10),
            nice: -10,
            buffer: 32 << 20,
            heartbeat: Duration::from_secs(1),
            details: true,
            args_max: 4096,
            redact: None,
            snapshot: true,
            ack_timeout: Duration::from_secs(1),
        }
    }
}

/// Bytes of arguments that are read at least where something is to be redacted, of which fewer are recorded.
const REDACTED: usize = 32 << 10;
/// Bytes of arguments that are read more than are recorded, at least: a secret that begins before the cut and ends after it.
const BEYOND: usize = 4 << 10;

impl Options {
    /// Bytes of a process's arguments that are read: a secret is redacted before it is cut.
    pub(crate) fn args_read(&self) -> usize {
        match (self.args_max, &self.redact) {
            (args_max, None) => args_max.min(MOST_ARGS),
            (0, _) => 0,
            (args_max, _) if args_max <= REDACTED - BEYOND => REDACTED,
            _ => MOST_ARGS,
        }
    }
}
