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
mod tests {
    use pmon_core::capture::{Details, DetailsSubject, Record};
    use pmon_core::wire::ByteOrder;
    use pmon_core::{MonoNs, Tgid};

    use super::*;

    fn statistics(details: impl IntoIterator<Item = Details>) -> Statistics {
        let mut statistics = Statistics::new(ByteOrder::Little, None);
        details.into_iter().for_each(|details| statistics.count(&Record::Details(Box::new(details))));
        statistics
    }

    fn missed(miss: MissReason) -> Details {
        Details::missed(DetailsSubject::Exec { tgid: Tgid(1), time: MonoNs(1) }, miss)
    }

    #[test]
    fn missing_fields_are_named_with_their_reason() {
        assert_eq!(text(&statistics([])), "0 execs known, 0 execs missed");
        let part =
            Details { comm: Some("x".into()), ids: Some(Default::default()), ..missed(MissReason::Denied) };
        let denied = Details { args: Some("x\0".into()), cgroup: Some("0::/".into()), ppid: Some(1), ..part };
        let gone = Details { miss: Some(MissReason::Gone), args: None, ..denied.clone() };
        let long = Details {
            miss: Some(MissReason::TooLong),
            exe: Some("/x".into()),
            cwd: Some("/".into()),
            ..gone.clone()
        };
        let all = statistics([denied.clone(), denied.clone(), gone, long, missed(MissReason::Gone)]);
        let text = text(&all);
        assert_eq!(
            text,
            "4 execs known (exe and cwd of 2 denied; exe, cwd and args of 1 gone; args of 1 too long), 1 exec missed"
        );
        let expected = json!({
            "known": 1, "missed": 0, "partial": 1,
            "missing": [
                { "field": "exe", "why": "denied", "execs": 1 },
                { "field": "cwd", "why": "denied", "execs": 1 },
            ],
        });
        assert_eq!(json(&statistics([denied])), expected);
    }
}
