//! The kernel's count of listeners, put right.
//!
//! The kernel emits events while it counts at least one listener (`drivers/connector/cn_proc.c`,
//! `proc_event_num_listeners`). Any process that may listen can make it count too few: since Linux 6.6, by a request with an
//! invalid operation and one to ignore, on one socket, again and again. Then no listener receives anything, without an error. The
//! same helps against it: a request with an invalid operation and one to listen count one more, each time. (Before 6.6, each
//! request to listen does, and the invalid one changes nothing.) What was added stays, so that rounds add up.

use std::io;
use std::time::{Duration, Instant};

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};

use crate::host;
use crate::netlink::Socket;

/// Datagrams that are looked at in one go.
const BATCH: usize = 64;
/// Of its time, this part may go into rounds, in the long run,
const SHARE: u32 = 10;
/// and so much at once.
const MOST: Duration = Duration::from_millis(500);
/// With less than this, a round is not worth it.
const LEAST: Duration = Duration::from_millis(5);

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Whether the kernel emits events.
    pub(crate) emits: bool,
    /// Listeners that the kernel counts more than before.
    pub(crate) added: u64,
}

/// A socket that receives whatever the kernel emits, without being counted.
pub(crate) struct Helper {
    socket: Socket,
    batch: Batch,
}

impl Helper {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::open()?;
        socket.bind()?;
        Ok(Self { socket, batch: Batch::with_capacity(BATCH) })
    }

    /// Whether the kernel has sent anything since this was asked last.
    pub(crate) fn receives(&mut self) -> io::Result<bool> {
        let mut receives = false;
        loop {
            self.batch.clear();
            match self.socket.receive(&mut self.batch)? {
                // Anybody can send to a socket's port; only the kernel's is 0.
                Received::Frames(_) => receives |= self.batch.frames().any(|frame| frame.arrival.sender == 0),
                Received::Overrun => {}
                Received::Empty | Received::Closed => return Ok(receives),
            }
            if receives {
                return Ok(true);
            }
        }
    }

    /// Adds listeners until the kernel emits events, for `limit` at the most, or until it `is_over`.
    pub(crate) fn round(&mut self, limit: Duration, is_over: impl Fn() -> bool) -> io::Result<Round> {
        let (began, nonce) = (Instant::now(), u32::from_ne_bytes(host::random()));
        let mut added: u64 = 0;
        while began.elapsed() < limit && !is_over() {
            // The acknowledgement goes to every listener, if the kernel counts any.
            self.socket.add_listener(nonce.wrapping_add(added as u32))?;
            added += 1;
            if self.receives()? {
                return Ok(Round { emits: true, added });
            }
        }
        Ok(Round { emits: false, added })
    }
}

/// How long rounds may take: whoever lowers the count all the time does not get the recorder to spend more of the CPU than that.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Duration,
    at: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: MOST, at: now }
    }

    /// How long a round may take now; `None` if it is not worth it.
    pub(crate) fn limit(&mut self, now: Instant) -> Option<Duration> {
        let gained = now.saturating_duration_since(self.at) / SHARE;
        (self.left, self.at) = ((self.left + gained).min(MOST), now);
        (self.left >= LEAST).then_some(self.left)
    }

    /// A round has taken so long.
    pub(crate) fn spend(&mut self, took: Duration) {
        self.left = self.left.saturating_sub(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_take_a_tenth_of_the_time_in_the_long_run_and_half_a_second_at_once() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(budget.limit(start), Some(MOST));
        let (mut now, mut spent) = (start, Duration::ZERO);
        while now - start < Duration::from_secs(100) {
            match budget.limit(now) {
                Some(limit) => {
                    assert!(limit <= MOST);
                    budget.spend(limit);
                    (now, spent) = (now + limit, spent + limit);
                }
                None => now += Duration::from_millis(70),
            }
        }
        assert!((9.5..=11.5).contains(&spent.as_secs_f64()), "{spent:?}");
        assert_eq!(budget.limit(now + Duration::from_secs(60)), Some(MOST));
    }
}
