//! Ends a query from another thread, or after a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Why a query was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Another thread requested it.
    Requested,
    /// The deadline has passed.
    Deadline,
}

/// A request to end the running query, which scans and the database check now and then.
#[derive(Debug, Default)]
pub struct Interruption {
    is_requested: AtomicBool,
    deadline: Mutex<Option<Instant>>,
}

impl Interruption {
    /// Creates a state without a request and without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests the end of the running query.
    pub fn request(&self) {
        self.is_requested.store(true, Ordering::Relaxed);
    }

    /// Clears an earlier request, and sets the deadline of the next query.
    pub fn reset(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        self.is_requested.store(false, Ordering::Relaxed);
    }

    /// Returns why the query must end; `None` if it may go on.
    pub fn check(&self) -> Option<StopReason> {
        if self.is_requested.load(Ordering::Relaxed) {
            return Some(StopReason::Requested);
        }
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.filter(|&deadline| Instant::now() >= deadline).map(|_| StopReason::Deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_query_ends_at_its_deadline_or_by_a_request() {
        let interruption = Interruption::new();
        assert_eq!(interruption.check(), None);
        let now = Instant::now();
        interruption.reset(Some(now + Duration::from_secs(3600)));
        assert_eq!(interruption.check(), None);
        interruption.reset(Some(now));
        assert_eq!(interruption.check(), Some(StopReason::Deadline));
        interruption.request();
        assert_eq!(interruption.check(), Some(StopReason::Requested));
        interruption.reset(None);
        assert_eq!(interruption.check(), None);
    }
}
