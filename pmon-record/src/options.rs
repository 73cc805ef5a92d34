//! How to record.

use std::time::Duration;

/// How to record. The defaults suit a production host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of socket buffer to ask of `SO_RCVBUFFORCE`, or without privilege of `SO_RCVBUF`, which
    /// `net.core.rmem_max` bounds. The kernel grants twice as much and charges about 832 bytes an event.
    pub socket_buffer: usize,
    /// While busy, events are taken from the socket this often; while idle, as they come.
    pub latency: Duration,
    /// The nice value of the threads that take events and read details; the writer's is half of it. 0 leaves it alone. Below 0 takes privilege
    /// (`CAP_SYS_NICE`), and without it has no effect. Against workloads that keep every CPU busy, it decides between half
    /// of a storm's events lost and none.
    pub nice: i32,
    /// Bytes of memory between the drain thread and the writer thread.
    pub queue: usize,
    /// Whether to read the details of each process after an exec.
    pub details: bool,
    /// Whether to scan `/proc` at the start.
    pub snapshot: bool,
    /// How long to wait for the kernel to acknowledge the subscription.
    pub ack_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            socket_buffer: 32 << 20,
            latency: Duration::from_millis(10),
            nice: -10,
            queue: 16 << 20,
            details: true,
            snapshot: true,
            ack_timeout: Duration::from_secs(2),
        }
    }
}
