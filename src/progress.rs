//! The status line of a recording.

use std::time::{Duration, Instant};

use pmon_record::Counters;

use crate::terminal::{counted, grouped};
use crate::time_spec::brief;

/// Minimum time over which the event rate is computed.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// Formats the status line from the counters of a recording.
pub(crate) struct StatusLine {
    began: Instant,
    /// Time of the last computation of the rate, and the number of events then.
    last: (Instant, u64),
    /// Events per second.
    rate: f64,
}

impl StatusLine {
    /// Creates the status line of a recording that begins now.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { began: now, last: (now, 0), rate: 0.0 }
    }

    /// Returns the line without the state of the queue; it usually fits 64 columns.
    pub(crate) fn short(&mut self, counters: &Counters, output: Option<&str>) -> String {
        let now = Instant::now();
        let totals = &counters.totals;
        let events = totals.events - totals.self_generated;
        let (then, before) = self.last;
        let passed = now.duration_since(then);
        if passed >= RATE_WINDOW || then == self.began {
            self.rate = (events - before) as f64 / passed.as_secs_f64().max(0.001);
        }
        if passed >= RATE_WINDOW {
            self.last = (now, events);
        }
        let elapsed = match now.duration_since(self.began).as_secs() {
            s @ 0..60 => format!("{s}s"),
            s => brief(s * 1_000_000_000),
        };
        let blind = if counters.blind { "BLIND, the kernel emits no events; " } else { "" };
        let (events, rate) = (counted(events, "event"), grouped(self.rate as u64));
        let lost = grouped(totals.lost.total());
        let output = output.map_or_else(String::new, |output| format!(", {output}"));
        format!("recording {elapsed}: {blind}{events} ({rate}/s), {lost} lost{output}")
    }

    /// Returns the line with the fill of the queue and the lag of the writer.
    pub(crate) fn long(&mut self, counters: &Counters, output: Option<&str>) -> String {
        let (fill, lag) = (counters.queue_fill * 100.0, brief(counters.lag_ns));
        format!("{}, queue {fill:.0}% full, lag {lag}", self.short(counters, output))
    }
}
