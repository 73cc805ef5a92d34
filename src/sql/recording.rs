//! The recording that a query reads, once for each scan of a table.

use std::error::Error;
use std::io::{IsTerminal as _, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use pmon_sql::{Bound, BoundOp, Interruption, ScanError};

use crate::args::{QuerySourceArgs, QueryTimeArgs};
use crate::exit::{self, Failure};
use crate::input::is_stdio;
use crate::query::{Query, QueryOutcome};
use crate::time_spec::Moment;

/// The recording that a query reads.
pub(crate) struct SqlRecording {
    source: QuerySourceArgs,
    time: QueryTimeArgs,
    /// Whether `processes` has the types of osquery's table of that name.
    pub(crate) for_osquery: bool,
    pub(crate) interruption: Arc<Interruption>,
    /// Whether standard input was read.
    is_used: AtomicBool,
    /// Why a scan failed, which SQLite passes on only as text.
    failure: Mutex<Option<Failure>>,
    /// What the scans of the statement lack.
    outcome: Mutex<Option<QueryOutcome>>,
}

impl SqlRecording {
    /// Creates the description of a recording, which is not opened yet.
    pub(crate) fn new(source: QuerySourceArgs, time: QueryTimeArgs, for_osquery: bool) -> Self {
        Self {
            source,
            time,
            for_osquery,
            interruption: Arc::default(),
            is_used: AtomicBool::new(false),
            failure: Mutex::default(),
            outcome: Mutex::default(),
        }
    }

    /// Opens the recording for a scan. `since` and `until` are further limits in ns since 1970.
    pub(crate) fn open(&self, since: Option<i64>, until: Option<i64>) -> Result<Query, ScanError> {
        if is_stdio(&self.source.file) && self.is_used.swap(true, Ordering::Relaxed) {
            let why =
                "standard input can be read only once, and this query reads it several times; use a file";
            return Err(self.fail(Failure::new(exit::USAGE, why)));
        }
        let moment = |ns: i64| Timestamp::from_nanosecond(ns.into()).ok().map(Moment::At);
        let time = QueryTimeArgs {
            since: self.time.since.or(since.and_then(moment)),
            until: self.time.until.or(until.and_then(moment)),
        };
        let query = Query::over(&self.source, &time).map_err(|failure| self.fail(failure))?;
        Ok(if stdout().is_terminal() { query.without_progress() } else { query })
    }

    /// Returns why the scan must end.
    pub(crate) fn check(&self) -> Result<(), ScanError> {
        match self.interruption.check() {
            Some(_) => Err("interrupted".into()),
            None => Ok(()),
        }
    }

    /// Keeps the failure of a scan, and returns it for SQLite.
    pub(crate) fn fail(&self, failure: Failure) -> ScanError {
        let error: Box<dyn Error + Send + Sync> = failure.message().into();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        error
    }

    /// Takes the failure of a scan.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps what a scan lacks: that of the scan that lacks most.
    pub(crate) fn add_outcome(&self, outcome: QueryOutcome) {
        let mut kept = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|kept| kept.coverage.count() <= outcome.coverage.count()) {
            *kept = Some(outcome);
        }
    }

    /// Takes what the scans of the last statement lack; `None` if no scan reached its end.
    pub(crate) fn take_outcome(&self) -> Option<QueryOutcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Returns the range of time that the conditions on a column of ns since 1970 leave.
pub(crate) fn range(bounds: &[Bound], column: Option<usize>) -> (Option<i64>, Option<i64>) {
    let bounds = || bounds.iter().filter(|bound| Some(bound.column) == column);
    let since = bounds().filter(|bound| bound.op != BoundOp::AtMost).map(|bound| bound.value).max();
    let until = bounds().filter(|bound| bound.op != BoundOp::AtLeast).map(|bound| bound.value).min();
    (since, until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_a_time_are_a_range() {
        let bound = |column, op, value| Bound { column, op, value };
        let bounds = [
            bound(3, BoundOp::AtLeast, 10),
            bound(3, BoundOp::AtLeast, 20),
            bound(3, BoundOp::AtMost, 90),
            bound(3, BoundOp::AtMost, 80),
            bound(4, BoundOp::Equal, 50),
            bound(5, BoundOp::AtLeast, 60),
        ];
        assert_eq!(range(&bounds, Some(3)), (Some(20), Some(80)));
        assert_eq!(range(&bounds, Some(4)), (Some(50), Some(50)));
        assert_eq!(range(&bounds, Some(5)), (Some(60), None));
        assert_eq!(range(&bounds, None), (None, None));
    }
}
