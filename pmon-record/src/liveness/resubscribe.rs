//! Raises the kernel's count of listeners.
//!
//! The kernel emits events while it counts at least one listener (`drivers/connector/cn_proc.c`,
//! `proc_event_num_listeners`). Any process that may listen can make the count too low. Since Linux
//! 6.6, one socket can do that by alternating a request with an invalid operation and a request to
//! ignore. All listeners then receive no events and no error.
//!
//! The remedy uses the same effect: each pair of an invalid request and a request to listen raises
//! the count by one. Before 6.6, each request to listen does, and the invalid one has no effect.
//! The increase is permanent, so attempts add up.

use std::io;
use std::time::{Duration, Instant};

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};

use crate::machine;
use crate::transport::netlink::NetlinkSocket;

/// Maximum number of datagrams received in one call.
const BATCH: usize = 64;
/// Attempts to add listeners may take one part in this number of the time in the long run.
const TIME_DIVISOR: u32 = 10;
/// Maximum time for attempts that may be saved up.
const MAX_SAVED: Duration = Duration::from_millis(500);
/// Minimum duration of a worthwhile attempt.
const MIN_USEFUL: Duration = Duration::from_millis(5);

/// The result of [`ListenerSocket::add_listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResubscribeResult {
    /// Whether the kernel emits events.
    pub(crate) emits: bool,
    /// Number of listeners added to the kernel's count.
    pub(crate) added: u64,
}

/// A socket that receives the kernel's events without being counted as a listener.
pub(crate) struct ListenerSocket {
    socket: NetlinkSocket,
    batch: Batch,
}

impl ListenerSocket {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = NetlinkSocket::open()?;
        socket.bind()?;
        Ok(Self { socket, batch: Batch::with_capacity(BATCH) })
    }

    /// Whether the kernel has sent any event since the last call.
    pub(crate) fn receives_events(&mut self) -> io::Result<bool> {
        loop {
            self.batch.clear();
            let received = self.socket.receive(&mut self.batch)?;
            // Any process can send to a socket's port; only the kernel's port is 0.
            if self.batch.datagrams().any(|datagram| datagram.arrival.sender == 0) {
                return Ok(true);
            }
            if matches!(received, Received::Empty | Received::Closed) {
                return Ok(false);
            }
        }
    }

    /// Adds listeners until the kernel emits events, `limit` has passed, or `is_over` returns true.
    pub(crate) fn add_listeners(
        &mut self,
        limit: Duration,
        is_over: impl Fn() -> bool,
    ) -> io::Result<ResubscribeResult> {
        let (began, nonce) = (Instant::now(), u32::from_ne_bytes(machine::random()));
        let mut added: u64 = 0;
        while began.elapsed() < limit && !is_over() {
            // Every listener receives the acknowledgement, if the kernel counts any.
            self.socket.add_listener(nonce.wrapping_add(added as u32))?;
            added += 1;
            if self.receives_events()? {
                return Ok(ResubscribeResult { emits: true, added });
            }
        }
        Ok(ResubscribeResult { emits: false, added })
    }
}

/// Limits the CPU time of attempts to add listeners, even if another process keeps lowering the
/// count.
#[derive(Debug)]
pub(crate) struct ResubscribeBudget {
    left: Duration,
    at: Instant,
}

impl ResubscribeBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: MAX_SAVED, at: now }
    }

    /// Returns the maximum duration of an attempt now; `None` if it is not worthwhile.
    pub(crate) fn limit(&mut self, now: Instant) -> Option<Duration> {
        let gained = now.saturating_duration_since(self.at) / TIME_DIVISOR;
        (self.left, self.at) = ((self.left + gained).min(MAX_SAVED), now);
        (self.left >= MIN_USEFUL).then_some(self.left)
    }

    /// Subtracts the duration of an attempt.
    pub(crate) fn spend(&mut self, took: Duration) {
        self.left = self.left.saturating_sub(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_take_a_tenth_of_the_time_in_the_long_run_and_half_a_second_at_once() {
        let start = Instant::now();
        let mut budget = ResubscribeBudget::new(start);
        assert_eq!(budget.limit(start), Some(MAX_SAVED));
        let (mut now, mut spent) = (start, Duration::ZERO);
        while now - start < Duration::from_secs(100) {
            match budget.limit(now) {
                Some(limit) => {
                    assert!(limit <= MAX_SAVED);
                    budget.spend(limit);
                    (now, spent) = (now + limit, spent + limit);
                }
                None => now += Duration::from_millis(70),
            }
        }
        assert!((9.5..=11.5).contains(&spent.as_secs_f64()), "{spent:?}");
        assert_eq!(budget.limit(now + Duration::from_secs(60)), Some(MAX_SAVED));
    }
}
