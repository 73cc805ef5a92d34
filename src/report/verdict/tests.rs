use pmon_core::accounting::LossCause;
use pmon_core::capture::{ClockAnchor, FencePosition, UnreachedCpu, UnreachedReason, Witness};
use pmon_core::{Cpu, MonoNs};

use super::*;

fn lost(counts: &[(LossCause, u64)]) -> LossByCause {
    let mut lost = LossByCause::default();
    counts.iter().for_each(|&(cause, count)| lost.add(cause, count));
    lost
}

fn sealed() -> VerifyReport {
    VerifyReport { is_sealed: true, accounted_until: Some(MonoNs(0)), ..VerifyReport::default() }
}

fn completeness(report: VerifyReport, wall: WallClock) -> Completeness {
    Completeness { report, chain: ChainReport::default(), wall, is_store: false, recorder: None }
}

/// Returns the sentence for a report, without a wall clock.
fn sentence(report: VerifyReport) -> String {
    completeness(report, WallClock::new()).sentence()
}

#[test]
fn each_verdict_has_its_sentence() {
    let one = lost(&[(LossCause::Socket, 1)]);
    let more = lost(&[(LossCause::Socket, 1_000), (LossCause::Backpressure, 234)]);
    let blind = VerifyReport { blinds: 2, blind_ns: 2_100_000_000, ..sealed() };
    let damaged =
        VerifyReport { damaged: 1, damaged_bytes: 2048, missing_records: 9, missing: 8, ..sealed() };
    let up_to = "complete up to 0.000000000 s of the monotonic clock";
    for (report, expected) in [
        (sealed(), "complete"),
        (
            VerifyReport { lost: one, intervals: 1, ..sealed() },
            "complete except 1 event lost in 1 interval (socket)",
        ),
        (
            VerifyReport { lost: more, intervals: 3, ..sealed() },
            "complete except 1,234 events lost in 3 intervals (1,000 socket, 234 backpressure)",
        ),
        (
            VerifyReport { witness: Some(Witness { drops: 2, ..Witness::default() }), ..sealed() },
            "complete except 2 messages that the source dropped and no gap tells of",
        ),
        (blind.clone(), "blind for 2.10s, else complete"),
        (
            VerifyReport {
                forks: ForkReport { missing: 1_234, ..ForkReport::default() },
                unreported_blinds: 1,
                unreported_blind_ns: 1_000_000_000,
                ..sealed()
            },
            "blind for 1.00s (at least 1,234 forks without an event), else complete",
        ),
        (
            VerifyReport { lost: one, intervals: 1, ..blind.clone() },
            "blind for 2.10s, else complete except 1 event lost in 1 interval (socket)",
        ),
        (
            VerifyReport { is_sealed: false, ..sealed() },
            &format!("unsealed (the recorder did not end cleanly; {up_to})"),
        ),
        (
            VerifyReport { is_sealed: false, lost: one, intervals: 1, ..blind },
            &format!(
                "unsealed (the recorder did not end cleanly; {up_to} except 1 event lost in 1 interval (socket) \
                 and blind for 2.10s)"
            ),
        ),
        (VerifyReport::default(), "unsealed (the recorder did not end cleanly; no event in it)"),
        (
            damaged,
            &format!(
                "damaged (1 damaged part of 2 KiB in all, 9 records missing, 8 events missing without a \
                 record of their loss; {up_to})"
            ),
        ),
        (VerifyReport { problem_count: 2, ..sealed() }, &format!("damaged (2 contradictions; {up_to})")),
    ] {
        assert_eq!(sentence(report), expected);
    }
}

#[test]
fn cpus_that_were_not_reached_are_named() {
    let unreached = |cpu, why| UnreachedCpu { cpu: Cpu(cpu), why };
    let unreached = vec![
        (FencePosition::Start, unreached(3, UnreachedReason::Offline)),
        (FencePosition::End, unreached(5, UnreachedReason::Silent)),
    ];
    let completeness = completeness(VerifyReport { unreached, ..sealed() }, WallClock::new());
    assert_eq!(
        completeness.sentence(),
        "complete except what cpu 5 emitted around the end, where no event was received"
    );
    assert_eq!(
        completeness.unreached().as_deref(),
        Some("cpu 3 at the start (offline), cpu 5 at the end (silent)")
    );
}

#[test]
fn json_has_the_end_of_the_complete_part_of_an_unsealed_capture() {
    let mut wall = WallClock::new();
    wall.observe(ClockAnchor { mono: MonoNs(0), boot_ns: 0, real_ns: 1_767_323_045_000_000_000 });
    let json = |is_sealed| completeness(VerifyReport { is_sealed, ..sealed() }, wall.clone()).json();
    assert_eq!(json(false)["complete_up_to"], "2026-01-02T03:04:05.000000000Z");
    assert!(json(true)["complete_up_to"].is_null());
}
