//! Finds out what a recording lacks within a range of time, for verbs that read it themselves.

use pmon_analysis::Filter;
use pmon_core::capture::{Header, Junction, Meta, Record};
use pmon_core::wire::ByteOrder;

use super::QueryOutcome;
use super::advance::QueryState;
use crate::input::ReadOutcome;

/// Observes all records of a recording in their order.
pub(crate) struct RangeObserver(QueryState);

impl RangeObserver {
    /// Creates an observer of a recording that begins with this header. `range` is the range of
    /// time.
    pub(crate) fn new(header: Option<&Header>, order: ByteOrder, range: &Filter) -> Self {
        let range = Filter { since: range.since, until: range.until, ..Filter::default() };
        let unknown = || Header { uuid: [0; 16], byte_order: order, meta: Meta::default() };
        let mut state = match header {
            Some(header) => QueryState::new(header, range),
            None => QueryState::of_unknown_start(&unknown(), range),
        };
        state.tracks_processes = false;
        Self(state)
    }

    /// Observes the next record.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        self.0.apply(record);
    }

    /// Continues with the next capture.
    pub(crate) fn begin_segment(&mut self, header: Option<&Header>, junction: Junction) {
        if self.0.begin_segment(header, junction) {
            self.0.set_clock(header, junction.is_reboot);
        }
    }

    /// Notes a damaged part.
    pub(crate) fn damage(&mut self) {
        self.0.add_damage();
    }

    /// Returns what the range lacks. `recorder` is the process that is still recording.
    pub(crate) fn outcome(self, read: ReadOutcome, recorder: Option<u32>) -> QueryOutcome {
        self.0.into_outcome(read, recorder)
    }
}
