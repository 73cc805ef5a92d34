use super::*;

use crate::wire::EventBody;

fn event(cpu: u32, seq: u32) -> Event {
    let body = EventBody::Ack { ack: 0, err: 0 };
    Event { time: MonoNs(seq.into()), seq: Seq(seq), cpu: Cpu(cpu), body }
}

fn observe(accountant: &mut Accountant, cpu: u32, seq: u32) -> Continuity {
    accountant.observe(&event(cpu, seq), 0)
}

#[test]
fn a_gap_names_its_first_and_last_number_and_its_neighbours() {
    let mut accountant = Accountant::new();
    assert_eq!(observe(&mut accountant, 1, 10), Continuity::First);
    assert_eq!(observe(&mut accountant, 1, 11), Continuity::Next);
    let Continuity::Gap(gap) = observe(&mut accountant, 1, 15) else { panic!("no gap") };
    assert_eq!((gap.first, gap.last, gap.count()), (Seq(12), Seq(14), 3));
    assert_eq!((gap.cpu, gap.after, gap.before), (Cpu(1), MonoNs(11), MonoNs(15)));
    assert_eq!(accountant.lost(), 3);
}

#[test]
fn numbers_continue_across_the_wrap() {
    let mut accountant = Accountant::new();
    observe(&mut accountant, 0, u32::MAX - 1);
    assert_eq!(observe(&mut accountant, 0, u32::MAX), Continuity::Next);
    assert_eq!(observe(&mut accountant, 0, 0), Continuity::Next);
    let mut accountant = Accountant::new();
    observe(&mut accountant, 0, u32::MAX - 1);
    let Continuity::Gap(gap) = observe(&mut accountant, 0, 2) else { panic!("no gap") };
    assert_eq!((gap.first, gap.last, gap.count()), (Seq(u32::MAX), Seq(1), 3));
}

#[test]
fn each_cpu_has_its_own_numbers() {
    let mut accountant = Accountant::new();
    for seq in 0..5 {
        observe(&mut accountant, 0, seq);
        observe(&mut accountant, 7, 1000 + seq);
    }
    assert_eq!(accountant.lost(), 0);
}

#[test]
fn an_old_number_is_no_loss_and_changes_no_state() {
    let mut accountant = Accountant::new();
    observe(&mut accountant, 0, 5);
    observe(&mut accountant, 0, 6);
    assert_eq!(observe(&mut accountant, 0, 5), Continuity::Backwards);
    assert_eq!(observe(&mut accountant, 0, 7), Continuity::Next);
    assert_eq!(accountant.lost(), 0);
}

#[test]
fn discarded_events_are_part_of_the_gap_around_them() {
    let discarded = |cpu, first, last, count| {
        let at = |seq| (Seq(seq), MonoNs(seq.into()));
        Discarded { cpu: Cpu(cpu), first: at(first), last: at(last), count, excluded_before: 0, excluded: 0 }
    };
    let mut accountant = Accountant::new();
    observe(&mut accountant, 0, 10);
    accountant.discard(&discarded(0, 12, 15, 3));
    accountant.discard(&discarded(0, 16, 16, 1));
    let Continuity::Gap(gap) = observe(&mut accountant, 0, 20) else { panic!("no gap") };
    assert_eq!((gap.first, gap.last, gap.discarded), (Seq(11), Seq(19), 4));

    // Discarded events at the end, also of a CPU without any other event.
    accountant.discard(&discarded(0, 22, 23, 2));
    accountant.discard(&discarded(3, 100, 104, 4));
    let gaps = accountant.finish();
    let sums: Vec<_> = gaps.iter().map(|gap| (gap.cpu.0, gap.count(), gap.discarded)).collect();
    assert_eq!(sums, [(0, 3, 2), (3, 5, 4)]);
    assert_eq!((gaps[1].first, gaps[1].after, gaps[1].before), (Seq(100), MonoNs(100), MonoNs(104)));
    assert_eq!(accountant.lost(), 9 + 3 + 5);
    assert!(accountant.finish().is_empty());
    assert_eq!(observe(&mut accountant, 3, 105), Continuity::Next);
}

#[test]
fn excluded_events_are_not_lost() {
    let mut accountant = Accountant::new();
    let mut observe = |seq, excluded| accountant.observe(&event(0, seq), excluded);
    assert_eq!(observe(u32::MAX, u32::MAX - 1), Continuity::First);
    assert_eq!(observe(3, 1), Continuity::Next);
    assert_eq!(observe(4, 1), Continuity::Next);
    let Continuity::Gap(gap) = observe(10, 4) else { panic!("no gap") };
    assert_eq!((gap.first, gap.last, gap.count(), gap.excluded), (Seq(5), Seq(9), 2, 3));
    let last = (Seq(14), MonoNs(14));
    let first = (Seq(12), MonoNs(12));
    accountant.discard(&Discarded { cpu: Cpu(0), first, last, count: 2, excluded_before: 4, excluded: 6 });
    let gaps = accountant.finish();
    assert_eq!(gaps.iter().map(|gap| (gap.count(), gap.discarded)).collect::<Vec<_>>(), [(2, 2)]);
    assert_eq!(accountant.excluded().collect::<Vec<_>>(), [(Cpu(0), Seq(14), 3 + 3 + 2)]);
    assert_eq!(accountant.lost(), 4);
}

#[test]
fn an_impossible_cpu_allocates_nothing() {
    assert_eq!(observe(&mut Accountant::new(), u32::MAX, 0), Continuity::NoSuchCpu);
}
