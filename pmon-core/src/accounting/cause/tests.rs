use super::*;
use crate::{Cpu, MonoNs, Seq};

fn gap(count: u32, discarded: u64) -> Gap {
    let (after, before) = (MonoNs(1), MonoNs(2));
    Gap {
        cpu: Cpu(0),
        first: Seq(u32::MAX),
        last: Seq(count.wrapping_sub(2)),
        after,
        before,
        discarded,
        excluded: 0,
        follows_restart: false,
    }
}

fn split(ledger: &mut LossLedger, count: u32, discarded: u64) -> Vec<(LossCause, u64)> {
    ledger.split(&gap(count, discarded)).collect()
}

#[test]
fn without_a_count_of_drops_the_cause_is_unknown() {
    let mut ledger = LossLedger::default();
    assert_eq!(split(&mut ledger, 3, 0), [(LossCause::Unknown, 3)]);
    assert_eq!(split(&mut ledger, 3, 1), [(LossCause::Backpressure, 1), (LossCause::Unknown, 2)]);
}

#[test]
fn drops_explain_gaps_once_and_the_rest_never_reached_the_socket() {
    let mut ledger = LossLedger::default();
    ledger.note_drops(5);
    assert_eq!(split(&mut ledger, 4, 0), [(LossCause::Socket, 4)]);
    assert_eq!(
        split(&mut ledger, 4, 1),
        [(LossCause::Backpressure, 1), (LossCause::Socket, 1), (LossCause::KernelMemory, 2)]
    );
    assert_eq!(split(&mut ledger, 1, 0), [(LossCause::KernelMemory, 1)]);
    // The count of drops never decreases.
    ledger.note_drops(4);
    ledger.note_drops(7);
    assert_eq!(split(&mut ledger, 2, 0), [(LossCause::Socket, 2)]);
}

#[test]
fn each_cause_has_its_own_index_and_name() {
    let mut lost = LossByCause::default();
    for (n, cause) in LossCause::ALL.into_iter().enumerate() {
        lost.add(cause, 1 << n);
    }
    let names: std::collections::BTreeSet<_> = LossCause::ALL.map(LossCause::name).into_iter().collect();
    assert_eq!(names.len(), LossCause::ALL.len());
    assert_eq!((lost.total(), lost.in_source(), lost.of(LossCause::KernelMemory)), (127, 27, 8));
    assert_eq!(lost.by_cause().last(), Some((LossCause::Restart, 64)));
}
