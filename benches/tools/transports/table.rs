//! Prints the results as a table.

use std::fmt::Write as _;
use std::time::Duration;

use crate::listener::{ListenerKind, ListenerResult};

/// The results of one listener under one load, one value per round.
pub(crate) struct ListenerRow {
    pub(crate) transport: ListenerKind,
    /// The listener is not installed.
    pub(crate) is_missing: bool,
    /// CPU time of an end without a load.
    pub(crate) ends: Vec<Duration>,
    pub(crate) accounts: Vec<ListenerResult>,
    /// Number of events of the load.
    pub(crate) emitted: u64,
    /// Times of the load, in s.
    pub(crate) seconds: Vec<f64>,
}

/// Median, minimum and maximum of some values.
#[derive(Clone, Copy, Debug)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Returns `None` if there are no values.
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = values.first().zip(values.last())?;
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, min, max })
    }

    fn by(self, divisor: f64) -> Self {
        let Self { median, min, max } = self;
        Self { median: median / divisor, min: min / divisor, max: max / divisor }
    }

    fn text(self, digits: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
    }
}

impl ListenerRow {
    pub(crate) fn new(transport: ListenerKind) -> Self {
        let (ends, accounts, seconds) = Default::default();
        Self { transport, is_missing: false, ends, accounts, emitted: 0, seconds }
    }

    fn each(&self, value: impl Fn(&ListenerResult) -> f64) -> Option<Spread> {
        Spread::of(self.accounts.iter().map(value))
    }

    /// Returns the CPU time of an end, in ns.
    fn end(&self) -> Option<f64> {
        Some(Spread::of(self.ends.iter().map(|cpu| cpu.as_nanos() as f64))?.median)
    }

    /// Returns the CPU time per event, in ns.
    fn cpu(&self) -> Option<Spread> {
        let end = self.end()?;
        Some(self.each(|account| account.cpu.as_nanos() as f64 - end)?.by(self.emitted as f64))
    }

    /// Returns the lost events, in percent.
    fn lost(&self) -> Option<f64> {
        let lost = |&ListenerResult { kept, lost, .. }: &ListenerResult| {
            lost as f64 * 100.0 / (kept + lost).max(1) as f64
        };
        Some(self.each(lost)?.median)
    }

    fn slowdown(&self, alone: Option<f64>) -> Option<Spread> {
        Some(Spread::of(self.seconds.iter().copied())?.by(alone?))
    }

    fn line(&self, alone: Option<f64>) -> String {
        let name = self.transport.name();
        if self.is_missing {
            return format!("{name:<13} not installed");
        }
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let kept = self.each(|account| account.kept as f64);
        let overruns =
            Spread::of(self.accounts.iter().filter_map(|account| account.overruns).map(|n| n as f64));
        let start = self.each(|account| account.start.as_secs_f64() * 1e3);
        format!(
            "{name:<13} {:>8} {:>7} {:>9} {:>24} {:>9} {:>7} {:>21}",
            or_dash(kept.map(|kept| format!("{:.0}", kept.median))),
            or_dash(self.lost().map(|lost| format!("{lost:.2}"))),
            or_dash(overruns.map(|overruns| format!("{:.0}", overruns.median))),
            or_dash(self.cpu().map(|cpu| cpu.text(0))),
            or_dash(start.map(|start| format!("{:.1}", start.median))),
            or_dash(self.end().map(|end| format!("{:.1}", end / 1e6))),
            or_dash(self.slowdown(alone).map(|slowdown| slowdown.text(2))),
        )
    }
}

/// Formats a table, and the most important ratios.
pub(crate) fn text(title: &str, rows: &[ListenerRow]) -> String {
    let find = |transport| rows.iter().find(|row| row.transport == transport && !row.is_missing);
    let alone = find(ListenerKind::None).and_then(|row| Spread::of(row.seconds.iter().copied()));
    let emitted = rows.iter().map(|row| row.emitted).max().unwrap_or(0);
    let mut text = format!("{title}: {emitted} events");
    if let Some(alone) = alone {
        let _ = write!(text, ", {} s without a listener", alone.text(3));
    }
    let _ = writeln!(
        text,
        "\n{:<13} {:>8} {:>7} {:>9} {:>24} {:>9} {:>7} {:>21}",
        "", "kept", "lost %", "overruns", "ns/event", "start ms", "end ms", "slowdown"
    );
    let alone = alone.map(|alone| alone.median);
    for row in rows {
        let _ = writeln!(text, "{}", row.line(alone));
    }
    let cpu = |transport| {
        let row = find(transport)?;
        // With more losses, CPU times are not comparable.
        (row.lost()? < 1.0).then(|| row.cpu()).flatten()
    };
    let time = |transport| Spread::of(find(transport)?.seconds.iter().copied());
    for transport in [ListenerKind::Ring, ListenerKind::RingDetails] {
        let name = transport.name();
        if let Some((recv, ring)) = cpu(ListenerKind::Recv).zip(cpu(transport)) {
            let _ = writeln!(text, "CPU per event, recv by {name}: {:.1}", recv.median / ring.median);
        }
        if let Some((ring, bare)) = time(transport).zip(time(ListenerKind::BareRing)) {
            let _ = writeln!(text, "slowdown, {name} by bare-ring: {:.2}", ring.median / bare.median);
        }
    }
    text
}
