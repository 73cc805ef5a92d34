//! The last error of a store, for its status.

use std::time::{Duration, Instant};

/// Time for which the store must have been written without an error until the last one is over. The
/// status is read once a second.
const OVER_AFTER: Duration = Duration::from_secs(3);

/// The last error of a store, until it is over.
#[derive(Debug, Default)]
pub(super) struct LastError {
    text: Option<String>,
    /// Since when the store is written again.
    written_since: Option<Instant>,
}

impl LastError {
    /// Replaces the error.
    pub(super) fn set(&mut self, text: String) {
        *self = Self { text: Some(text), written_since: None };
    }

    /// Returns the error, with the file and the operation.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Removes the error if it is over. `is_written` states whether a segment is being written.
    pub(super) fn tick(&mut self, now: Instant, is_written: bool) {
        if !is_written {
            self.written_since = None;
        } else if now.saturating_duration_since(*self.written_since.get_or_insert(now)) >= OVER_AFTER {
            self.text = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_over_once_the_store_has_been_written_for_three_seconds() {
        let (mut error, start) = (LastError::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        error.tick(at(0), true);
        error.set("full".into());
        error.tick(at(10), false);
        error.tick(at(20), true);
        error.tick(at(22), true);
        assert_eq!(error.text(), Some("full"));
        error.set("full again".into());
        error.tick(at(24), true);
        assert_eq!(error.text(), Some("full again"));
        error.tick(at(27), true);
        assert_eq!(error.text(), None);
    }
}
