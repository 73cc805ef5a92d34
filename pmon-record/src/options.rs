//! The options of a recording.

use std::path::PathBuf;
use std::time::Duration;

use crate::details::redact::Redact;
use crate::scope::Scope;
use crate::transport::ring::entry::MAX_ARGS_BYTES;

/// The requested transport of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// The first of the following that is available.
    #[default]
    Auto,
    /// A BPF ring in mapped memory. It also delivers details of a process at the moment of an exec,
    /// and resource usage at an exit.
    ///
    /// Events spill into the socket's queue, without details, if the ring is full.
    RingDetails,
    /// A BPF ring without details, which are read from `/proc` instead.
    Ring,
    /// Only the netlink socket, read with `recvmmsg(2)`.
    Recvmmsg,
}

/// The options of a recording. The defaults suit a production host.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The transport of events.
    pub transport: TransportChoice,
    /// Bytes of kernel memory of the ring, if there is one; a power of two.
    ///
    /// An event takes 88 bytes, an exit with resource usage 168, and an exec with details 4296 or
    /// more.
    pub ring: usize,
    /// The events to record.
    ///
    /// A scope that excludes events needs a ring. Events are then lost instead of spilled if the
    /// ring is full.
    pub scope: Scope,
    /// Bytes of the socket's receive buffer, as the kernel accounts for it: about 832 per event.
    ///
    /// It is set by `SO_RCVBUFFORCE`, or without privilege by `SO_RCVBUF`, which is limited by
    /// `net.core.rmem_max`.
    pub socket_buffer: usize,
    /// Minimum bytes of the socket's receive buffer. Recording fails if the effective size is
    /// smaller.
    pub require_buffer: usize,
    /// Whether the socket accepts events as soon as it has space again after an overrun
    /// (`NETLINK_NO_ENOBUFS`), and not only once it has been emptied.
    pub no_enobufs: bool,
    /// Time between two receptions while events arrive. Receptions are more frequent if the
    /// socket's buffer fills up, and immediate while events are rare.
    pub latency: Duration,
    /// The nice value of the threads that receive events and read details; the writer thread has
    /// half of it. 0 leaves it unchanged.
    ///
    /// Values below 0 need `CAP_SYS_NICE` and have no effect without it. If the workload keeps
    /// every CPU busy, this value decides between losing half of a storm's events and none.
    pub nice: i32,
    /// Bytes of memory between the drain thread and the writer thread: 224 per event.
    ///
    /// If it is full, because the output is slower than the events, events are dropped and counted.
    pub buffer: usize,
    /// Interval between two heartbeats, self-generated events that must be received back; zero for
    /// no heartbeats.
    ///
    /// Without heartbeats, a time without events is detected only at the end, and only if it
    /// contains forks.
    pub heartbeat: Duration,
    /// Whether to record the details of each process after an exec.
    pub details: bool,
    /// Maximum bytes recorded of a process's arguments, at most 128 KiB; 0 records none.
    pub args_max: usize,
    /// Pattern of texts to replace in command lines, paths, names, cgroups and names of containers.
    ///
    /// Command lines are then read beyond `args_max`, at least 32 KiB, and redacted before they are
    /// truncated.
    pub redact: Option<Redact>,
    /// Directory below which the bundles of containers are searched for their names, normally `/`;
    /// `None` records no names.
    pub containers: Option<PathBuf>,
    /// Whether to scan `/proc` at the start and after events were lost.
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
            containers: Some("/".into()),
            snapshot: true,
        }
    }
}

/// Minimum bytes of arguments that are read for redaction, even if fewer are recorded.
const MIN_READ_FOR_REDACTION: usize = 32 << 10;
/// Minimum bytes of arguments that are read beyond the recorded ones, for a secret that spans the
/// cut.
const READ_BEYOND_CUT: usize = 4 << 10;

impl RecordOptions {
    /// Returns the number of bytes of a process's arguments to read, so that a secret is redacted
    /// before it is truncated.
    pub(crate) fn args_read(&self) -> usize {
        match (self.args_max, &self.redact) {
            (args_max, None) => args_max.min(MAX_ARGS_BYTES),
            (0, _) => 0,
            (args_max, _) if args_max <= MIN_READ_FOR_REDACTION - READ_BEYOND_CUT => MIN_READ_FOR_REDACTION,
            _ => MAX_ARGS_BYTES,
        }
    }
}
