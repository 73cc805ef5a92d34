//! How a recording goes, in one line.

use std::time::{Duration, Instant};

use pmon_record::Counters;

use crate::terminal::{grouped, size};
use crate::time_spec::brief;

/// Rates are those of this time at the least.
const WINDOW: Duration = Duration::from_secs(1);

/// Makes the line out of counters; knows the counters before, for rates.
pub(crate) struct StatusLine {
    began: Instant,
    /// When rates were worked out last, and the number of events then.
    last: (Instant, u64),
    rate: f64,
}

impl StatusLine {
    /// The meter of a recording that begins now.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { began: now, last: (now, 0), rate: 0.0 }
    }

    /// The line, now: for how long, events, events/s, losses, and where it is slow.
    pub(crate) fn line(&mut self, counters: &Counters, bytes: Option<u64>) -> String {
        let now = Instant::now();
        let totals = &counters.totals;
        let events = totals.events - totals.self_generated;
        let (then, before) = self.last;
        let passed = now.duration_since(then);
        if passed >= WINDOW || then == self.began {
            self.rate = (events - before) as f64 / passed.as_secs_f64().max(0.001);
        }
        if passed >= WINDOW {
            self.last = (now, events);
        }
        let elapsed = match now.duration_since(self.began).as_secs() {
            s @ 0..60 => format!("{s}s"),
            s => brief(s * 1_000_000_000),
        };
        let (events, rate) = (grouped(events), grouped(self.rate as u64));
        let (lost, fill) = (grouped(totals.lost.total()), counters.queue_fill * 100.0);
        let lag = brief(counters.lag_ns);
        let bytes = bytes.map_or_else(String::new, |bytes| format!(", {}", size(bytes)));
        let blind = if counters.blind { "; BLIND: nothing is heard" } else { "" };
        format!(
            "recording {elapsed}: {events} events ({rate}/s), {lost} lost, queue {fill:.0} % full, lag {lag}{bytes}{blind}"
        )
    }
}
