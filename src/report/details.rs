//! Counts of execs with and without details, as text and as JSON.

use pmon_analysis::Statistics;
use pmon_core::capture::MissReason;
use serde_json::{Value, json};

use crate::terminal::{counted, grouped};

/// Returns a text such as `159 execs known (exe and cwd of 159 denied), 0 execs missed`.
pub(crate) fn text(statistics: &Statistics) -> String {
    let (known, missed) =
        (counted(statistics.details_known, "exec"), counted(statistics.details_missed, "exec"));
    let mut parts: Vec<(MissReason, u64, Vec<&str>)> = Vec::new();
    for (why, field, execs) in statistics.missing() {
        match parts.iter_mut().find(|part| (part.0, part.1) == (why, execs)) {
            Some((_, _, fields)) => fields.push(field),
            None => parts.push((why, execs, vec![field])),
        }
    }
    let parts = parts.into_iter().map(|(why, execs, fields)| {
        let why = why.name().replace('_', " ");
        format!("{} of {} {why}", list(&fields), grouped(execs))
    });
    let parts = parts.collect::<Vec<_>>().join("; ");
    let parts = if parts.is_empty() { parts } else { format!(" ({parts})") };
    format!("{known} known{parts}, {missed} missed")
}

/// Returns the field `details` of `info`, `record` and `replay`.
pub(crate) fn json(statistics: &Statistics) -> Value {
    let missing: Vec<_> = statistics
        .missing()
        .map(|(why, field, execs)| json!({ "field": field, "why": why.name(), "execs": execs }))
        .collect();
    json!({
        "known": statistics.details_known,
        "missed": statistics.details_missed,
        "partial": statistics.details_partial,
        "missing": missing,
    })
}

/// Joins words, such as `exe`, `exe and cwd`, `args, exe and cwd`.
fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} and {last}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests;
