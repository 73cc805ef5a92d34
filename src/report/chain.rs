//! The segments of a recording in words and in JSON: when it has events, and what was found.

use pmon_analysis::verify::{Finding, Span, SpanState};
use serde_json::{Map, Value, json};

use super::text_table::TextTable;
use super::verdict::{Completeness, unobserved_reason};
use crate::output::printable;
use crate::terminal::{counted, grouped, size};
use crate::time_spec::{brief, local_time, rfc3339};

/// Maximum number of spans that the verdict names.
const SPANS_IN_VERDICT: u64 = 7;
/// Maximum number of spans and of findings in the text.
const LINES: usize = 12;

impl Completeness {
    /// Whether the recording lacks its earliest segments. Of one segment, that is not known.
    fn is_pruned(&self) -> bool {
        self.chain.is_pruned && self.is_store
    }

    /// States from when on the recording is complete, if earlier segments are gone.
    pub(super) fn since(&self) -> String {
        let start = self.chain.spans.first().and_then(|span| span.real_ns.0);
        match start {
            Some(start) if self.is_pruned() => {
                format!(" since {}", local_time(start))
            }
            _ => String::new(),
        }
    }

    /// Describes a recording with times without events. `except` names what else is missing.
    pub(super) fn unobserved_sentence(&self, except: &str) -> String {
        let spans = &self.chain.spans;
        let unobserved = self.report.unobserved;
        let is_short = self.chain.span_count <= SPANS_IN_VERDICT && spans.iter().any(is_gap);
        if !is_short {
            let length = brief(self.report.unobserved_ns);
            return match unobserved {
                1 => {
                    let reason = self.report.unobserved_reason.map_or("", unobserved_reason);
                    format!("unobserved for {length} ({reason}), else complete{except}")
                }
                times => {
                    format!("unobserved for {length} in {}, else complete{except}", counted(times, "time"))
                }
            };
        }
        let mut text = String::new();
        for (at, span) in spans.iter().enumerate() {
            match span.state {
                SpanState::Observed { .. } if at == 0 => {
                    text = format!("complete from {} to {}", wall(span.real_ns.0), wall(span.real_ns.1));
                }
                SpanState::Observed { .. } => {
                    text += &format!(", complete to {}", wall(span.real_ns.1));
                }
                SpanState::Unobserved { reason, .. } => {
                    text += &format!(
                        ", then unobserved until {} ({})",
                        wall(span.real_ns.1),
                        unobserved_reason(reason)
                    );
                }
            }
        }
        text + except
    }

    /// Returns the JSON fields of a recording of segments; none for a single capture of another
    /// kind.
    pub(super) fn chain_json(&self) -> Map<String, Value> {
        let chain = &self.chain;
        let mut fields = Map::new();
        if !self.is_store && chain.single.is_none() && self.report.unobserved == 0 {
            return fields;
        }
        let spans: Vec<_> = chain.spans.iter().map(span_json).collect();
        let findings: Vec<_> = chain.findings.iter().map(finding_json).collect();
        let single = chain
            .single
            .map(|(reason, continues)| json!({ "reason": reason.name(), "continues": continues }));
        fields.insert("segments".into(), chain.segments.into());
        fields.insert("segment".into(), json!(single));
        fields.insert("pruned".into(), self.is_pruned().into());
        fields.insert("unobserved_ns".into(), self.report.unobserved_ns.into());
        fields.insert("unobserved_intervals".into(), self.report.unobserved.into());
        fields.insert("absent".into(), self.report.absent.into());
        fields.insert("spans".into(), spans.into());
        fields.insert("span_count".into(), chain.span_count.into());
        fields.insert("findings".into(), findings.into());
        fields.insert("finding_count".into(), chain.finding_count.into());
        fields
    }
}

impl TextTable {
    /// Adds the number of segments, the time that they span, and their average size if `bytes` is
    /// their total size.
    pub(crate) fn segments(&mut self, completeness: &Completeness, bytes: u64) {
        let chain = &completeness.chain;
        if chain.segments <= 1 {
            return;
        }
        let average = match bytes {
            0 => String::new(),
            bytes => format!(", {} on average", size(bytes / chain.segments)),
        };
        self.line("segments", format!("{}{average}", grouped(chain.segments)));
        if let (Some(first), Some(last)) = (chain.spans.first(), chain.spans.last()) {
            self.line("from", wall(first.real_ns.0));
            self.line("to", wall(last.real_ns.1));
        }
    }

    /// Adds the times without events and the findings, if there are any.
    pub(crate) fn chain(&mut self, completeness: &Completeness) {
        let chain = &completeness.chain;
        if let Some((reason, continues)) = chain.single
            && !completeness.is_store
        {
            let why = reason.name();
            let text = match continues {
                true => format!(
                    "one of a recording; it began by {why} after another one, which is not checked here"
                ),
                false => format!("the first one of a recording; it began by {why}"),
            };
            self.sentence("segment", &text);
        }
        let gaps: Vec<&Span> = chain.spans.iter().filter(|span| is_gap(span)).collect();
        for span in gaps.iter().take(LINES) {
            self.sentence("unobserved", &gap(span));
        }
        let all = chain.findings.len();
        for found in chain.findings.iter().take(LINES) {
            self.sentence("found", &finding(found));
        }
        let more = chain.finding_count - all.min(LINES) as u64;
        if more > 0 {
            self.line("found", format!("{} more", counted(more, "such case")));
        }
    }
}

fn is_gap(span: &Span) -> bool {
    matches!(span.state, SpanState::Unobserved { .. })
}

fn wall(real_ns: Option<i64>) -> String {
    real_ns.map_or_else(|| "an unknown time".into(), local_time)
}

fn gap(span: &Span) -> String {
    let SpanState::Unobserved { reason, events } = span.state else { return String::new() };
    let events = events.map(|events| format!("; {} missing", counted(events, "event"))).unwrap_or_default();
    let (from, until) = (wall(span.real_ns.0), wall(span.real_ns.1));
    let length =
        span.real_ns.0.zip(span.real_ns.1).and_then(|(from, until)| u64::try_from(until - from).ok());
    let length = length.map(|ns| format!(" ({})", brief(ns))).unwrap_or_default();
    format!("from {from} until {until}{length}: {}{events}", unobserved_reason(reason))
}

fn finding(finding: &Finding) -> String {
    let name = |name: &str| printable(name.as_bytes());
    match finding {
        Finding::Missing { after, before, events } => {
            let events =
                events.map(|events| format!(", with {}", counted(events, "event"))).unwrap_or_default();
            format!("segments are missing between {} and {}{events}", name(after), name(before))
        }
        Finding::Duplicate { name: file, same_as } if file == same_as => {
            format!("{} is given twice; it is read once", name(file))
        }
        Finding::Duplicate { name: file, same_as } => {
            format!("{} is the same capture as {}; it is read once", name(file), name(same_as))
        }
        Finding::Misnamed { name: file } => {
            format!("{} has another start time than its name; the order is that of the headers", name(file))
        }
        Finding::OtherMachine { name: file } => format!("{} is of another machine", name(file)),
        Finding::Unclean { name: file, unwritten } => {
            let events = match unwritten {
                Some(0) => "no event is missing after it".to_owned(),
                Some(events) => format!("{} missing", counted(*events, "event")),
                None => "its last events may be missing".to_owned(),
            };
            format!("{} has no end: its recorder was killed, or it is truncated; {events}", name(file))
        }
        Finding::Absent { after, before, events, is_damaged } => {
            let (events, after, before) = (counted(*events, "event"), name(after), name(before));
            match is_damaged {
                true => format!("{events} missing in the damaged {after}, or between it and {before}"),
                false => format!("{events} missing between {after} and {before}"),
            }
        }
        Finding::Overlap { after, before, is_repeated } => {
            let why = match is_repeated {
                true => "both hold the same part of one recording; read them separately",
                false => "two recorders ran; read their captures separately",
            };
            format!("{} begins before {} ends: {why}", name(before), name(after))
        }
        Finding::Unreadable { name: file, why } => format!("{} cannot be read: {}", name(file), name(why)),
    }
}

fn span_json(span: &Span) -> Value {
    let (state, reason, lost, events) = match span.state {
        SpanState::Observed { lost } => ("observed", None, Some(lost), None),
        SpanState::Unobserved { reason, events } => ("unobserved", Some(reason.name()), None, events),
    };
    json!({
        "state": state,
        "reason": reason,
        "from": span.real_ns.0.and_then(rfc3339),
        "until": span.real_ns.1.and_then(rfc3339),
        "from_mono_ns": span.mono.0,
        "until_mono_ns": span.mono.1,
        "lost": lost,
        "missing": events,
    })
}

fn finding_json(found: &Finding) -> Value {
    let mut fields = match found {
        Finding::Missing { after, before, events } => {
            json!({ "kind": "missing", "after": after, "before": before, "events": events })
        }
        Finding::Duplicate { name, same_as } => {
            json!({ "kind": "duplicate", "name": name, "same_as": same_as })
        }
        Finding::Misnamed { name } => json!({ "kind": "misnamed", "name": name }),
        Finding::OtherMachine { name } => json!({ "kind": "other_machine", "name": name }),
        Finding::Unclean { name, unwritten } => {
            json!({ "kind": "unclean", "name": name, "events": unwritten })
        }
        Finding::Absent { after, before, events, .. } => {
            json!({ "kind": "absent", "after": after, "before": before, "events": events })
        }
        Finding::Overlap { after, before, is_repeated } => {
            json!({ "kind": "overlap", "after": after, "before": before, "same_recording": is_repeated })
        }
        Finding::Unreadable { name, why } => json!({ "kind": "unreadable", "name": name, "why": why }),
    };
    if let Value::Object(fields) = &mut fields {
        fields.insert("text".into(), finding(found).into());
    }
    fields
}
