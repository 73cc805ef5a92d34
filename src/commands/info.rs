//! `pmon info`: summarizes the contents and the completeness of a capture.

use pmon_analysis::{Statistics, Verdict};
use pmon_core::MonoNs;
use pmon_core::capture::{Header, Meta, SignalTracing};
use serde_json::{Map, Value, json};

use crate::args::InfoArgs;
use crate::captures::Captures;
use crate::exit::{self, Failure};
use crate::input::{Examined, ReadOutcome};
use crate::output::{json_text, printable, shell_words};
use crate::report::details;
use crate::report::text_table::TextTable;
use crate::report::verdict::Completeness;
use crate::terminal::{self, counted, grouped, per_event, size};
use crate::time_spec::{brief, local_time, rfc3339};

/// Number of programs that are named.
const PROGRAMS: usize = 10;

/// Runs the verb.
pub(crate) fn run(args: &InfoArgs) -> Result<u8, Failure> {
    let input = Captures::find(&args.source.files, args.source.host.as_deref())?.open()?;
    let name = input.name().to_owned();
    let header = input.header().cloned();
    let mut statistics =
        Statistics::new(input.order(), header.as_ref().and_then(|header| header.meta.recorder()));
    let (completeness, outcome) = input.examine(|examined| match examined {
        Examined::Record(record) => statistics.count(record),
        Examined::Segment(header, _) => {
            statistics.set_recorder(header.and_then(|header| header.meta.recorder()));
        }
    })?;
    let facts = Facts { name, header, statistics, completeness, outcome };
    let text = if args.json { json_text(&facts.json()) + "\n" } else { facts.text() };
    terminal::print(&text)?;
    Ok(if facts.completeness.report.verdict() == Verdict::Damaged { exit::DAMAGED } else { exit::DONE })
}

struct Facts {
    name: String,
    header: Option<Header>,
    statistics: Statistics,
    completeness: Completeness,
    outcome: ReadOutcome,
}

impl Facts {
    /// Returns the time from the start of the recording to its end, or to the last event if the
    /// recorder did not end it.
    fn duration_ns(&self) -> u64 {
        let spans = &self.completeness.chain.spans;
        if let ([first, .., last], 2..) = (&spans[..], self.completeness.chain.segments)
            && let (Some(from), Some(until)) = (first.real_ns.0, last.real_ns.1)
        {
            return u64::try_from(until.saturating_sub(from)).unwrap_or(0);
        }
        let start = self.header.as_ref().map(|header| header.meta.start.mono);
        let last = self.statistics.span.map(|(_, last)| last);
        match (start, self.completeness.report.end.map(|end| end.time).or(last)) {
            (Some(MonoNs(start)), Some(MonoNs(end))) => end.saturating_sub(start),
            _ => self.statistics.span_ns(),
        }
    }

    fn json(&self) -> Value {
        let (statistics, outcome) = (&self.statistics, &self.outcome);
        let kinds: Map<String, Value> =
            statistics.by_kind().map(|(kind, n)| (kind.name().into(), n.into())).collect();
        let cpus: Map<String, Value> =
            statistics.by_cpu().into_iter().map(|(cpu, n)| (cpu.to_string(), n.into())).collect();
        let header = self.header.as_ref();
        let meta = header.map(|header| &header.meta);
        let start = meta.map(|meta| meta.start);
        let command = |meta: &Meta| -> Vec<_> {
            meta.command.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
        };
        let mut more = json!({
            "bytes": outcome.bytes,
            "bytes_per_event": per_event(outcome.bytes, statistics.events),
            "details": details::json(statistics),
            "duration_ns": self.duration_ns(),
            "events": { "total": statistics.events, "own": self.completeness.report.self_generated, "by_kind": kinds, "by_cpu": cpus },
            "snapshot_processes": statistics.scanned,
            "unknown": { "records": statistics.unknown_records, "blocks": outcome.unknown_blocks },
            "host": meta.map(|meta| &meta.host),
            "kernel": meta.map(|meta| &meta.kernel),
            "machine": meta.map(|meta| &meta.machine),
            "boot_id": meta.map(|meta| &meta.boot_id),
            "tool": meta.map(|meta| &meta.tool),
            "uuid": header.map(|header| format!("{:032x}", u128::from_be_bytes(header.uuid))),
            "cpus_online": meta.map(|meta| meta.cpus_online),
            "command": meta.map(command),
            "socket_buffer": meta.map(|meta| meta.socket_buffer),
            "start_mono_ns": start.map(|start| start.mono.0),
            "start": start.and_then(|start| rfc3339(start.real_ns)),
            "transport": meta.map(|meta| &meta.transport.name),
            "transport_why": meta.map(|meta| &meta.transport.why),
            "signal_senders": meta.and_then(signal_senders),
            "signal_senders_why": meta.and_then(no_signal_senders),
        });
        let mut facts = self.completeness.json();
        facts.extend(more.as_object_mut().map(std::mem::take).unwrap_or_default());
        Value::Object(facts)
    }

    fn text(&self) -> String {
        let mut table = TextTable::default();
        let (statistics, outcome) = (&self.statistics, &self.outcome);
        table.line("capture", &self.name);
        match &self.header {
            Some(header) => describe(&mut table, header),
            None => table.line("header", "damaged"),
        }
        table.line("duration", brief(self.duration_ns()));
        table.segments(&self.completeness, outcome.bytes);
        table.verdict(&self.completeness);
        table.chain(&self.completeness);
        table.size(outcome.bytes, statistics.events);
        table.kinds(statistics);
        table.line("by cpu", "");
        for (cpu, count) in statistics.by_cpu() {
            table.item(count, format_args!("cpu {cpu}"));
        }
        table.losses(&self.completeness);
        table.rejected(&self.completeness);
        if statistics.scanned > 0 {
            table.line("processes", format!("{} found in /proc", grouped(statistics.scanned)));
        }
        let (records, blocks) = (statistics.unknown_records, outcome.unknown_blocks);
        if records > 0 || blocks > 0 {
            let (records, blocks) = (counted(records, "record"), counted(blocks, "block"));
            table.line("skipped", format!("{records} and {blocks} of unknown kinds, from a newer pmon"));
        }
        table.details(statistics, PROGRAMS);
        table.into_text()
    }
}

fn describe(table: &mut TextTable, header: &Header) {
    let meta = &header.meta;
    let text = |text: &str| printable(text.as_bytes());
    let cpus = meta.cpus_online;
    table.line(
        "host",
        format!("{}, Linux {} {}, {cpus} CPUs", text(&meta.host), text(&meta.kernel), text(&meta.machine)),
    );
    table.line("recorded by", text(&meta.tool));
    if !meta.command.is_empty() {
        table.line("command", shell_words(meta.command.iter().map(Vec::as_slice)));
    }
    table.line("started", local_time(meta.start.real_ns));
    let buffer = size(meta.socket_buffer);
    table.line("transport", format!("{}, buffer {buffer}", text(&meta.transport.to_string())));
    match signal_senders(meta) {
        Some(true) => table.line("signals", "with the sender of each fatal one"),
        Some(false) => {
            let why = no_signal_senders(meta).unwrap_or_default();
            table.line("signals", format!("without their senders: {}", text(why)));
        }
        None => {}
    }
}

/// Whether the recorder observed the senders of signals; `None` if that is unknown.
fn signal_senders(meta: &Meta) -> Option<bool> {
    match meta.signals {
        SignalTracing::On => Some(true),
        SignalTracing::Off { .. } => Some(false),
        _ => None,
    }
}

/// Returns why the recorder did not observe the senders of signals.
fn no_signal_senders(meta: &Meta) -> Option<&str> {
    match &meta.signals {
        SignalTracing::Off { why } => Some(why),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
