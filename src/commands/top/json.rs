//! An interval as lines of JSON.

use serde_json::{Value, json};

use super::interval::{Interval, TopRow};
use crate::output::json_line;
use crate::query::{group_json, time};

/// Returns one line per group, and then one about the interval.
pub(super) fn lines(interval: &Interval, rows: &[&TopRow]) -> String {
    let groups = rows.iter().map(|row| group(interval, row));
    groups.chain(std::iter::once(totals(interval))).map(|value| json_line(&value) + "\n").collect()
}

fn group(interval: &Interval, row: &TopRow) -> Value {
    let sums = &row.sums;
    let mut fields = group_json(&row.key, sums, interval.by);
    let numbers = json!({
        "until": time(interval.facts.until_ns),
        "started": sums.started,
        "ended": row.ended(),
        "failures": sums.failures,
        "running": sums.running,
        "cpu_ns": sums.cpu_ns,
        "duration_p50_ns": row.p50,
        "duration_max_ns": sums.durations.max(),
        "max_rss_bytes": sums.max_rss_bytes,
        "rate": interval.rate(sums.started),
    });
    fields.extend(numbers.as_object().cloned().unwrap_or_default());
    Value::Object(fields)
}

fn totals(interval: &Interval) -> Value {
    let (totals, facts) = (&interval.totals, &interval.facts);
    json!({
        "kind": "interval",
        "host": facts.host,
        "until": time(facts.until_ns),
        "length_ns": facts.length_ns,
        "events": totals.events,
        "started": totals.started,
        "ended": totals.ended,
        "failures": totals.failures,
        "running": totals.running,
        "cpu_ns": totals.cpu_ns,
        "ended_without_cpu": totals.ended_without_cpu,
        "running_cpu": facts.has_running_cpu,
        "complete": facts.missing.is_none(),
        "missing": facts.missing,
    })
}
