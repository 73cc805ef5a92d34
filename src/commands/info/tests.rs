use pmon_core::capture::{Damage, DamageKind, End, Record};
use pmon_core::wire::ByteOrder;

use super::*;
use crate::report::verdict::CompletenessChecker;

fn facts(statistics: Statistics, end: End, damage: Option<Damage>, outcome: ReadOutcome) -> Facts {
    let mut checker = CompletenessChecker::new(None, ByteOrder::Little);
    damage.iter().for_each(|damage| checker.damage(damage));
    checker.count(&Record::End(end));
    Facts { name: "x".into(), header: None, statistics, completeness: checker.finish(true), outcome }
}

#[test]
fn anomalies_are_shown_only_if_there_are_any() {
    let mut statistics = Statistics::new(ByteOrder::Little, None);
    let text = facts(statistics.clone(), End::default(), None, ReadOutcome::default()).text();
    for label in ["rejected", "skipped", "processes", "missing", "malformed", "witness", "unreached"] {
        assert!(!text.contains(label), "{text}");
    }

    (statistics.unknown_records, statistics.scanned) = (1, 1234);
    let end = End { rejected: 5, malformed: 1, ..End::default() };
    let damage = Damage { offset: 0, bytes: 7, what: DamageKind::Missing { records: 12 } };
    let outcome = ReadOutcome { unknown_blocks: 2, ..ReadOutcome::default() };
    let text = facts(statistics, end, Some(damage), outcome).text();
    for line in [
        "verdict      damaged (1 damaged part of 7 B in all, 12 records missing; no event",
        "             in it)",
        "rejected     5 messages from user space",
        "malformed    1 message",
        "processes    1,234 found in /proc",
        "skipped      1 record and 2 blocks of unknown kinds, from a newer pmon",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} not in\n{text}");
    }
}
