//! What came out, in lines.

use std::fmt::Write as _;
use std::time::Duration;

use crate::recorder::{Account, Transport};

/// What became of one transport under one load, a value a round.
pub(crate) struct Row {
    pub(crate) transport: Transport,
    /// There is no such recorder here.
    pub(crate) is_absent: bool,
    /// CPU time of an end without a load.
    pub(crate) ends: Vec<Duration>,
    pub(crate) accounts: Vec<Account>,
    /// Events of the load,
    pub(crate) emitted: u64,
    /// and its time.
    pub(crate) seconds: Vec<f64>,
}

/// Median, lowest and highest of some values.
#[derive(Clone, Copy, Debug)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    /// `None` of nothing.
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&lowest, &highest) = values.first().zip(values.last())?;
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, lowest, highest })
    }

    fn by(self, divisor: f64) -> Self {
        let Self { median, lowest, highest } = self;
        Self { median: median / divisor, lowest: lowest / divisor, highest: highest / divisor }
    }

    fn text(self, digits: usize) -> String {
        let Self { median, lowest, highest } = self;
        format!("{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
    }
}

impl Row {
    pub(crate) fn new(transport: Transport) -> Self {
        let (ends, accounts, seconds) = Default::default();
        Self { transport, is_absent: false, ends, accounts, emitted: 0, seconds }
    }

    fn each(&self, value: impl Fn(&Account) -> f64) -> Option<Spread> {
        Spread::of(self.accounts.iter().map(value))
    }

    /// CPU time of an end, in ns.
    fn end(&self) -> Option<f64> {
        Some(Spread::of(self.ends.iter().map(|cpu| cpu.as_nanos() as f64))?.median)
    }

    /// CPU time for each event, in ns.
    fn cpu(&self) -> Option<Spread> {
        let end = self.end()?;
        Some(self.each(|account| account.cpu.as_nanos() as f64 - end)?.by(self.emitted as f64))
    }

    /// Events lost, in per cent.
    fn lost(&self) -> Option<f64> {
        let lost = |&Account { kept, lost, .. }: &Account| lost as f64 * 100.0 / (kept + lost).max(1) as f64;
        Some(self.each(lost)?.median)
    }

    fn slowdown(&self, alone: Option<f64>) -> Option<Spread> {
        Some(Spread::of(self.seconds.iter().copied())?.by(alone?))
    }

    fn line(&self, alone: Option<f64>) -> String {
        let name = self.transport.name();
        if self.is_absent {
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

/// A table, and the ratios that matter.
pub(crate) fn text(title: &str, rows: &[Row]) -> String {
    let find = |transport| rows.iter().find(|row| row.transport == transport && !row.is_absent);
    let alone = find(Transport::None).and_then(|row| Spread::of(row.seconds.iter().copied()));
    let emitted = rows.iter().map(|row| row.emitted).max().unwrap_or(0);
    let mut text = format!("{title}: {emitted} events");
    if let Some(alone) = alone {
        let _ = write!(text, ", {} s while nobody listens", alone.text(3));
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
        // Otherwise it says nothing.
        (row.lost()? < 1.0).then(|| row.cpu()).flatten()
    };
    let time = |transport| Spread::of(find(transport)?.seconds.iter().copied());
    for transport in [Transport::Ring, Transport::RingDetails] {
        let name = transport.name();
        if let Some((recv, ring)) = cpu(Transport::Recv).zip(cpu(transport)) {
            let _ = writeln!(text, "CPU per event, recv by {name}: {:.1}", recv.median / ring.median);
        }
        if let Some((ring, bare)) = time(transport).zip(time(Transport::BareRing)) {
            let _ = writeln!(text, "slowdown, {name} by bare-ring: {:.2}", ring.median / bare.median);
        }
    }
    text
}
