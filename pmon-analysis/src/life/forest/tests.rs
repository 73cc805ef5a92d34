use pmon_core::capture::{ClockAnchor, Header, Meta, Record, RecordedDatagram};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, Seq, Task};

use super::*;
use crate::life::LifeTracker;

fn event(time: u64, body: EventBody) -> Record<'static> {
    RecordedDatagram::Event(Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body }).into()
}

fn task(pid: u32) -> Task {
    Task::new(pid, pid)
}

/// Appends a process that runs from one time to another, with a name of its own.
fn run(
    records: &mut Vec<(u64, Record<'static>)>,
    (parent, pid): (u32, u32),
    name: &str,
    span: (u64, u64),
    code: u32,
) {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name.as_bytes());
    let bodies = [
        (span.0, EventBody::Fork { parent: task(parent), child: task(pid) }),
        (span.0, EventBody::Comm { task: task(pid), comm }),
        (span.1, EventBody::Exit { task: task(pid), code, signal: 17, parent: None }),
    ];
    records.extend(bodies.into_iter().map(|(time, body)| (time, event(time, body))));
}

fn tracker() -> LifeTracker {
    let start = ClockAnchor { mono: MonoNs(0), boot_ns: 0, real_ns: 0 };
    let meta = Meta { ticks_per_second: 100, start, ..Meta::default() };
    LifeTracker::new(&Header { uuid: [1; 16], byte_order: ByteOrder::Little, meta })
}

/// Adds the processes of these records. `judge` returns whether a process is selected, and whether
/// it is kept.
fn forest(
    mut records: Vec<(u64, Record<'static>)>,
    fold: usize,
    judge: impl Fn(&Life) -> (bool, bool),
) -> LifeForest {
    records.sort_by_key(|&(time, _)| time);
    let (mut tracker, mut forest) = (tracker(), LifeForest::new(fold));
    let add = |forest: &mut LifeForest, life: Life| {
        let (is_selected, is_kept) = judge(&life);
        let lasted_ns = life.duration_ns();
        forest.add(ForestRow { life, boot: 0, lasted_ns, is_selected, is_kept });
    };
    for (_, record) in &records {
        tracker.apply(record);
        std::iter::from_fn(|| tracker.pop()).for_each(|life| add(&mut forest, life));
    }
    tracker.finish();
    std::iter::from_fn(|| tracker.pop()).for_each(|life| add(&mut forest, life));
    forest
}

/// Returns the trees as text, one line a branch.
fn text(branches: Vec<Branch>) -> String {
    fn push(text: &mut String, branches: Vec<Branch>, depth: usize) {
        for branch in branches {
            text.push_str(&"  ".repeat(depth));
            let children = match branch {
                Branch::Node(node) => {
                    let name = node.name().map_or("?".into(), String::from_utf8_lossy);
                    text.push_str(&format!("{} {name}\n", node.pid()));
                    node.into_children()
                }
                Branch::Folded(folded) => {
                    let name = folded.name.as_deref().map_or("?".into(), String::from_utf8_lossy);
                    text.push_str(&format!(
                        "{} x {name}, {} ns, {} failed\n",
                        folded.count, folded.lasted_ns, folded.failed
                    ));
                    folded.into_children()
                }
            };
            push(text, children, depth + 1);
        }
    }
    let mut all = String::new();
    push(&mut all, branches, 0);
    all
}

fn shown(
    records: &[(u64, Record<'static>)],
    fold: usize,
    judge: impl Fn(&Life) -> (bool, bool),
) -> (String, u64) {
    let records = records.iter().map(|(time, record)| (*time, record.clone())).collect();
    let is_selection = fold == SELECTION;
    let (branches, hidden) = forest(records, fold, judge).finish(is_selection);
    (text(branches), hidden)
}

/// Folds nothing, and begins with the selected processes.
const SELECTION: usize = 99;

/// A `make` that runs four times `gcc`, which runs `cc1` and `as`. One `cc1` fails.
fn build() -> Vec<(u64, Record<'static>)> {
    let mut records = Vec::new();
    run(&mut records, (1, 10), "make", (100, 900), 0);
    for n in 0..4u32 {
        let (pid, at) = (20 + 10 * n, 110 + u64::from(n) * 100);
        run(&mut records, (10, pid), "gcc", (at, at + 90), 0);
        run(
            &mut records,
            (pid, pid + 1),
            "cc1",
            (at + 10, at + 50 + u64::from(n)),
            if n == 2 { 256 } else { 0 },
        );
        run(&mut records, (pid, pid + 2), "as", (at + 60, at + 80), 0);
    }
    records
}

#[test]
fn children_are_below_their_parents_in_the_order_of_their_starts() {
    let (text, _) = shown(&build(), 4, |_| (false, true));
    let compile = |pid: u32| format!("    {pid} gcc\n      {} cc1\n      {} as\n", pid + 1, pid + 2);
    assert_eq!(
        text,
        ["1 ?\n  10 make\n".to_owned(), compile(20), compile(30), compile(40), compile(50)].concat()
    );
}

#[test]
fn many_siblings_of_the_same_name_are_folded_with_their_descendants() {
    let (text, _) = shown(&build(), 3, |_| (false, true));
    assert_eq!(
        text,
        "1 ?\n  10 make\n    4 x gcc, 360 ns, 0 failed\n      4 x cc1, 166 ns, 1 failed\n      4 x as, 80 ns, 0 failed\n"
    );
}

#[test]
fn a_hidden_process_is_shown_above_one_that_is_not() {
    let failed = |life: &Life| (false, life.has_failed());
    let (text, hidden) = shown(&build(), 3, failed);
    assert_eq!((text.as_str(), hidden), ("1 ?\n  10 make\n    40 gcc\n      41 cc1\n", 10));
}

#[test]
fn trees_can_begin_with_the_selected_processes() {
    let named = |name: &'static [u8]| move |life: &Life| (life.comm() == Some(name), true);
    let (text, _) = shown(&build(), SELECTION, named(b"gcc"));
    assert_eq!(text.lines().next(), Some("20 gcc"));
    assert_eq!(text.lines().count(), 12);
    // Also of processes that are folded.
    let (branches, _) = forest(build(), 3, named(b"as")).finish(true);
    assert_eq!(self::text(branches), "4 x as, 80 ns, 0 failed\n");
}

#[test]
fn an_orphan_is_below_the_process_that_forked_it() {
    let mut records = Vec::new();
    run(&mut records, (1, 10), "sh", (100, 200), 0);
    run(&mut records, (10, 11), "daemon", (150, 800), 0);
    run(&mut records, (1, 10), "ls", (300, 400), 0);
    let (text, _) = shown(&records, 3, |_| (false, true));
    assert_eq!(text, "1 ?\n  10 sh\n    11 daemon\n  10 ls\n");
}

#[test]
fn running_processes_with_children_are_not_folded() {
    let mut records = Vec::new();
    for n in 0..5u32 {
        run(&mut records, (1, 10 + n), "sshd", (100, 10_000), 0);
        run(&mut records, (10 + n, 20 + n), "bash", (200, 300), 0);
        run(&mut records, (1, 30 + n), "httpd", (100, 10_000), 0);
    }
    records.retain(|&(time, _)| time < 10_000);
    let (text, _) = shown(&records, 2, |_| (false, true));
    assert_eq!(text.matches("sshd").count(), 5);
    assert!(text.contains("  5 x httpd"), "{text}");
}

#[test]
fn a_million_short_children_take_the_memory_of_a_few() {
    let (mut tracker, mut forest) = (tracker(), LifeForest::new(5));
    let mut most = 0;
    for n in 0..20_000u32 {
        let mut records = Vec::new();
        let at = u64::from(n) * 10;
        run(&mut records, (1, 100 + n % 1000), "ls", (at, at + 5), 0);
        records.iter().for_each(|(_, record)| tracker.apply(record));
        while let Some(life) = tracker.pop() {
            forest.add(ForestRow { life, boot: 0, lasted_ns: Some(5), is_selected: false, is_kept: true });
        }
        let parent = forest.nodes.values().next();
        let siblings = parent.map_or(0, |parent| parent.children.0.values().map(|of| of.nodes.len()).sum());
        most = most.max(forest.nodes.len() + siblings);
    }
    assert!(most <= 8, "{most}");
    assert!(text(forest.finish(false).0).contains("x ls"));
}

/// Returns the folded branch of this name, anywhere in the trees.
fn folded(branches: Vec<Branch>, name: &str) -> Option<FoldedLives> {
    branches.into_iter().find_map(|branch| match branch {
        Branch::Node(node) => folded(node.into_children(), name),
        Branch::Folded(found) if found.name.as_deref() == Some(name.as_bytes()) => Some(*found),
        Branch::Folded(other) => folded(other.into_children(), name),
    })
}

#[test]
fn folded_processes_are_summed_up_also_below_folded_parents() {
    // Three `gcc`, the later ones with more and longer children. Some of these fail or still run.
    let mut records = Vec::new();
    for n in 0..3u32 {
        let (pid, at) = (100 * (3 - n), 100 * u64::from(n));
        run(&mut records, (1, pid), "gcc", (1000 + at, 1090 + at + u64::from(n)), 0);
        for m in 0..=n {
            let (start, child) = (1010 + at + u64::from(m), pid + 1 + m);
            run(&mut records, (pid, child), "cc1", (start, start + 10 + u64::from(m)), 256 * (m % 2));
            run(&mut records, (pid, child + 50), "as", (start, 9_000), 0);
        }
    }
    records.retain(|&(time, _)| time < 9_000);
    let of = |name| folded(forest(records.clone(), 1, |_| (false, true)).finish(false).0, name).unwrap();
    let sums = |of: &FoldedLives| (of.count, of.failed, of.running, of.lasted_ns, of.first.1);
    let (gcc, cc1, assembler) = (of("gcc"), of("cc1"), of("as"));
    assert_eq!(sums(&gcc), (3, 0, 0, 273, Some(MonoNs(1000))));
    assert_eq!(sums(&cc1), (6, 2, 0, 64, Some(MonoNs(1010))));
    assert_eq!(sums(&assembler), (6, 0, 6, 0, Some(MonoNs(1010))));
    let longest = |of: &FoldedLives| of.longest.as_ref().map(|row| row.life.pid);
    assert_eq!((longest(&gcc), longest(&cc1)), (Some(100), Some(103)));
}

#[test]
fn the_sums_do_not_depend_on_the_order_in_which_folded_parts_are_merged() {
    let part = |first: u64, lasted: u64| {
        let mut records = Vec::new();
        run(&mut records, (1, 10), "a", (first, first + lasted), 256);
        run(&mut records, (1, 11), "a", (first + 1, 9_000), 0);
        records.retain(|&(time, _)| time < 9_000);
        folded(forest(records, 0, |_| (false, true)).finish(false).0, "a").unwrap()
    };
    for (mut one, other) in [(part(100, 5), part(200, 9)), (part(200, 9), part(100, 5))] {
        (one.cpu_ns, one.first.0) = (Some(3), 1);
        let other = FoldedLives { cpu_ns: Some(4), first: (1, other.first.1), ..other };
        one.merge(other, 0);
        assert_eq!((one.count, one.failed, one.running, one.lasted_ns, one.cpu_ns), (4, 2, 2, 14, Some(7)));
        assert_eq!((one.first, one.longest.as_ref().unwrap().lasted_ns), ((1, Some(MonoNs(100))), Some(9)));
    }
    let mut none = FoldedLives::default();
    none.merge(part(100, 5), 0);
    assert_eq!((none.count, none.first.1), (2, Some(MonoNs(100))));
}

#[test]
fn the_first_of_equally_long_processes_stands_for_the_folded_ones() {
    let mut records = Vec::new();
    for n in 0..3 {
        run(&mut records, (1, 10 + n), "a", (100 * u64::from(n), 100 * u64::from(n) + 7), 0);
    }
    let folded = folded(forest(records, 0, |_| (false, true)).finish(false).0, "a").unwrap();
    assert_eq!((folded.count, folded.longest.unwrap().life.pid), (3, 10));
}

#[test]
fn an_ancestor_without_a_row_is_shown_as_it_was_when_its_first_descendant_was_added() {
    let mut records = Vec::new();
    run(&mut records, (1, 10), "old", (100, 9_000), 0);
    run(&mut records, (10, 20), "first", (200, 210), 0);
    run(&mut records, (10, 21), "second", (400, 410), 0);
    let mut comm = Comm::default();
    comm.0[..3].copy_from_slice(b"new");
    records.push((300, event(300, EventBody::Comm { task: task(10), comm })));
    records.retain(|&(time, _)| time < 9_000);
    records.sort_by_key(|&(time, _)| time);
    let (mut tracker, mut forest) = (tracker(), LifeForest::new(5));
    records.iter().for_each(|(_, record)| tracker.apply(record));
    tracker.finish();
    for life in std::iter::from_fn(|| tracker.pop()).filter(|life| life.pid >= 20) {
        forest.add(ForestRow { life, boot: 0, lasted_ns: None, is_selected: false, is_kept: true });
    }
    assert_eq!(text(forest.finish(false).0), "1 ?\n  10 old\n    20 first\n    21 second\n");
}

#[test]
fn only_processes_that_can_be_folded_count() {
    // One running process with a child, and `others` that have ended.
    let text = |others: u32| {
        let mut records = Vec::new();
        run(&mut records, (1, 10), "sshd", (100, 10_000), 0);
        run(&mut records, (10, 20), "bash", (200, 300), 0);
        for n in 0..others {
            run(&mut records, (1, 30 + n), "sshd", (100, 150), 0);
        }
        records.retain(|&(time, _)| time < 10_000);
        shown(&records, 2, |_| (false, true)).0
    };
    assert!(!text(1).contains(" x ") && !text(2).contains(" x "), "{}", text(2));
    // The running process is added last.
    assert_eq!(text(3), "1 ?\n  3 x sshd, 150 ns, 0 failed\n  10 sshd\n    20 bash\n");
}

#[test]
fn a_node_has_the_program_of_its_row_or_of_the_ancestor() {
    let subject = pmon_core::capture::DetailsSubject::Exec { tgid: pmon_core::Tgid(10), time: MonoNs(110) };
    let missed = pmon_core::capture::Details::missed(subject, pmon_core::capture::MissReason::Gone);
    let details = pmon_core::capture::Details { args: Some(b"make\0-j\0".to_vec()), ..missed };
    let mut records = vec![
        (110, event(110, EventBody::Exec { task: task(10) })),
        (111, Record::Details(Box::new(details))),
    ];
    run(&mut records, (10, 20), "cc", (200, 300), 0);
    for with_rows in [true, false] {
        let mut forest = LifeForest::new(5);
        let mut tracker = tracker();
        records.iter().for_each(|(_, record)| tracker.apply(record));
        tracker.finish();
        for life in std::iter::from_fn(|| tracker.pop()) {
            if with_rows || life.pid == 20 {
                forest.add(ForestRow { life, boot: 0, lasted_ns: None, is_selected: false, is_kept: true });
            }
        }
        let (branches, hidden) = forest.finish(false);
        let [Branch::Node(node)] = &branches[..] else { panic!("one tree") };
        assert_eq!((node.pid(), node.row.is_some(), hidden), (10, with_rows, 0));
        assert_eq!(node.program().unwrap().argv().collect::<Vec<_>>(), [b"make", &b"-j"[..]]);
    }
}

#[test]
fn an_ancestor_that_a_scan_finds_later_completes_the_chain() {
    use pmon_core::Tgid;
    use pmon_core::capture::{Details, DetailsSubject, MissReason, Snapshot, SnapshotReason};
    let found = |pid, ppid, ticks| {
        let missed = Details::missed(DetailsSubject::Snapshot { tgid: Tgid(pid) }, MissReason::Busy);
        Record::Details(Box::new(Details { ppid: Some(ppid), start_ticks: Some(ticks), ..missed }))
    };
    let reason = SnapshotReason::Start;
    let scan = Snapshot { started: MonoNs(0), ended: MonoNs(0), processes: 3, reason, atomic: false };
    let mut records = Vec::new();
    run(&mut records, (30, 40), "early", (100, 110), 0);
    records.extend(
        [found(1, 0, 1), found(20, 1, 2), found(30, 20, 3), Record::Snapshot(scan)].map(|of| (120, of)),
    );
    run(&mut records, (30, 41), "late", (200, 210), 0);
    // Only the children have rows.
    let mut forest = LifeForest::new(5);
    let mut tracker = tracker();
    records.iter().for_each(|(_, record)| {
        tracker.apply(record);
        for life in std::iter::from_fn(|| tracker.pop()) {
            forest.add(ForestRow { life, boot: 0, lasted_ns: None, is_selected: false, is_kept: true });
        }
    });
    tracker.finish();
    for life in std::iter::from_fn(|| tracker.pop()).filter(|life| life.pid > 39) {
        forest.add(ForestRow { life, boot: 0, lasted_ns: None, is_selected: false, is_kept: true });
    }
    assert_eq!(text(forest.finish(false).0), "1 ?\n  20 ?\n    30 ?\n      40 early\n      41 late\n");
}

#[test]
fn a_deep_chain_is_several_trees() {
    let mut records = Vec::new();
    // Half of the processes end before their descendants.
    let end = |pid: u32| if pid.is_multiple_of(2) { u64::from(pid) + 5_000 } else { 20_000 - u64::from(pid) };
    for pid in 10..1010 {
        run(&mut records, (pid - 1, pid), "chain", (u64::from(pid), end(pid)), 0);
    }
    let (branches, hidden) = forest(records, 3, |_| (false, true)).finish(false);
    let lines: Vec<_> = text(branches).lines().map(|line| line.len() - line.trim_start().len()).collect();
    let deepest = lines.iter().max().expect("lines") / 2;
    assert_eq!((lines.len(), hidden), (1001, 0));
    assert_eq!(deepest + 1, usize::from(MAX_LEVELS));
}
