//! The summary at the end of a recording to a store. It comes from counters, because a store can be
//! larger than memory.

use std::path::Path;
use std::time::Duration;

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_record::Counters;
use pmon_store::StoreStatus;
use serde_json::{Map, Value, json};

use crate::exit;
use crate::output::shell_word;
use crate::report::text_table::TextTable;
use crate::terminal::{counted, grouped, size};
use crate::time_spec::brief;

/// What one recorder has added to a store.
pub(super) struct StoreSummary<'a> {
    directory: &'a Path,
    /// Whether the segments are in memory.
    is_flight: bool,
    recorded: u64,
    lost: LossByCause,
    blind_periods: u64,
    blind_ns: u64,
    store: StoreStatus,
    duration: Duration,
}

impl<'a> StoreSummary<'a> {
    pub(super) fn new(
        directory: &'a Path,
        is_flight: bool,
        counters: &Counters,
        store: StoreStatus,
        duration: Duration,
    ) -> Self {
        let totals = &counters.totals;
        let (recorded, lost) = recorded_and_lost(counters, &store);
        Self {
            directory,
            is_flight,
            recorded,
            lost,
            blind_periods: totals.blind_records.max(counters.blind_periods),
            blind_ns: totals.blind_ns,
            store,
            duration,
        }
    }

    /// Returns aligned lines for people.
    pub(super) fn text(&self) -> String {
        let mut table = TextTable::default();
        table.line(
            "recorded",
            format!("{} in {}", counted(self.recorded, "event"), brief(self.duration_ns())),
        );
        let causes = self.lost.by_cause().filter(|(_, lost)| *lost > 0);
        let causes: Vec<_> = causes.map(|(cause, lost)| format!("{} {lost}", cause.name())).collect();
        let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
        table.line("lost", grouped(self.lost.total()) + &causes);
        if self.blind_periods > 0 {
            let periods = counted(self.blind_periods, "period");
            table.line("blind", format!("{periods}, {} in all", brief(self.blind_ns)));
        }
        let segments = counted(self.store.segments as u64, "segment");
        let pruned = match self.store.pruned {
            0 => String::new(),
            pruned => format!("; {} removed by the limits", counted(pruned, "segment")),
        };
        table.line(
            if self.is_flight { "memory" } else { "store" },
            format!("{}, {segments}{pruned}", size(self.store.used)),
        );
        let directory = shell_word(self.directory.as_os_str().as_encoded_bytes());
        if self.is_flight {
            table.line("next", format!("ls {directory}"));
        } else {
            table.line("next", format!("pmon print {directory} --since -10m"));
            table.line("", format!("pmon verify {directory}"));
        }
        table.into_text()
    }

    /// Returns the fields of the JSON object.
    pub(super) fn json(&self) -> Map<String, Value> {
        let causes: Map<_, _> =
            self.lost.by_cause().map(|(cause, lost)| (cause.name().to_owned(), lost.into())).collect();
        let mut lost = Map::from_iter([("total".to_owned(), Value::from(self.lost.total()))]);
        lost.extend(causes);
        let fields = json!({
            "store": self.directory.to_string_lossy(),
            "events": self.recorded,
            "lost": lost,
            "blind_periods": self.blind_periods,
            "blind_ns": self.blind_ns,
            "duration_ns": self.duration_ns(),
            "used_bytes": self.store.used,
            "segments": self.store.segments,
            "pruned_segments": self.store.pruned,
            "oldest": self.store.oldest,
        });
        fields.as_object().cloned().unwrap_or_default()
    }

    /// Returns the exit code of `--strict`.
    pub(super) fn exit_code(&self) -> u8 {
        if self.lost.total() > 0 || self.blind_periods > 0 { exit::INCOMPLETE } else { exit::DONE }
    }

    fn duration_ns(&self) -> u64 {
        u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Returns the numbers of events that are in the store, and of lost ones. The recorder's counters
/// contain events that the store could not write as recorded.
pub(super) fn recorded_and_lost(counters: &Counters, store: &StoreStatus) -> (u64, LossByCause) {
    let totals = &counters.totals;
    let mut lost = totals.lost;
    lost.add(LossCause::Storage, store.lost_to_storage);
    ((totals.events - totals.self_generated).saturating_sub(store.lost_to_storage), lost)
}
