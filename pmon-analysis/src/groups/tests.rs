use pmon_core::capture::{
    Details, DetailsSubject, Header, Meta, MissReason, Record, RecordedDatagram, Snapshot, SnapshotReason,
    Usage,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};

use super::*;
use crate::life::LifeTracker;

fn event(time: u64, body: EventBody, usage: Option<Usage>) -> Record<'static> {
    let event = Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body };
    Record::Event(RecordedDatagram::Event(event), usage.map(Box::new))
}

fn fork(time: u64, parent: u32, child: u32) -> Record<'static> {
    let (parent, child) = (Task::new(parent, parent), Task::new(child, child));
    event(time, EventBody::Fork { parent, child }, None)
}

fn exit(time: u64, pid: u32, code: u32, usage: Option<Usage>) -> Record<'static> {
    let task = Task::new(pid, pid);
    event(time, EventBody::Exit { task, code, signal: 17, parent: None }, usage)
}

fn rename(time: u64, pid: u32, name: &[u8]) -> Record<'static> {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name);
    event(time, EventBody::Comm { task: Task::new(pid, pid), comm }, None)
}

fn lives(records: &[Record<'_>]) -> Vec<Life> {
    let header = Header { uuid: [1; 16], byte_order: ByteOrder::Little, meta: Meta::default() };
    let mut tracker = LifeTracker::new(&header);
    records.iter().for_each(|record| tracker.apply(record));
    tracker.finish();
    std::iter::from_fn(|| tracker.pop()).collect()
}

/// A process 10 forks 20, which forks `a` and `b`; a process 11 forks `a`.
fn sample() -> Vec<Life> {
    let usage = |cpu_us, max_rss_kib| Some(Usage { cpu_us, max_rss_kib, ..Usage::default() });
    lives(&[
        fork(100, 10, 20),
        rename(101, 20, b"sh"),
        fork(200, 20, 21),
        rename(201, 21, b"a"),
        fork(202, 20, 22),
        rename(203, 22, b"b"),
        exit(1200, 21, 0, usage(5, 7)),
        exit(1202, 22, 3 << 8, None),
        fork(1300, 11, 23),
        rename(1301, 23, b"a"),
        exit(3300, 23, 9, usage(6, 4)),
    ])
}

fn table(by: GroupBy, lives: &[Life]) -> HashMap<GroupKey, GroupSums> {
    let mut table = GroupTable::new(by);
    lives.iter().for_each(|life| table.add(life, life.pid != 23));
    table.into_groups().into_iter().collect()
}

fn text(text: &str) -> GroupKey {
    GroupKey::Text(text.as_bytes().into())
}

#[test]
fn sums_are_those_of_the_processes_with_the_same_name() {
    let groups = table(GroupBy::Comm, &sample());
    let a = &groups[&text("a")];
    assert_eq!((a.count, a.started, a.failures), (2, 1, 1));
    assert_eq!((a.cpu_ns, a.max_rss_bytes), (Some(11_000), Some(7 * 1024)));
    assert_eq!((a.durations.percentile(1), a.durations.max()), (Some(1_000), Some(2_000)));
    let b = &groups[&text("b")];
    assert_eq!((b.count, b.failures, b.cpu_ns, b.max_rss_bytes), (1, 1, None, None));
    // Nothing but their forks is known of 10 and 11.
    assert_eq!(groups[&GroupKey::None].count, 2);
    let sh = &groups[&text("sh")];
    assert_eq!((sh.count, sh.failures, sh.durations.max()), (1, 0, None));
    assert_eq!((sh.running, a.running, groups[&GroupKey::None].running), (1, 0, 2));
}

#[test]
fn a_process_counts_for_its_parent_or_for_all_its_ancestors() {
    let lives = sample();
    let counts = |by| {
        let groups = table(by, &lives).into_iter();
        let mut counts: Vec<_> =
            groups.map(|(_, sums)| (sums.ancestor.map(|ancestor| ancestor.pid), sums.count)).collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(counts(GroupBy::Parent), [(None, 2), (Some(10), 1), (Some(11), 1), (Some(20), 2)]);
    assert_eq!(counts(GroupBy::Subtree), [(Some(10), 3), (Some(11), 1), (Some(20), 2)]);
}

#[test]
fn groups_beyond_the_limit_are_one_group() {
    let mut table = GroupTable { max_groups: 2, ..GroupTable::new(GroupBy::Comm) };
    sample().iter().for_each(|life| table.add(life, true));
    let groups: HashMap<_, _> = table.into_groups().into_iter().collect();
    assert_eq!(groups.len(), 3);
    assert_eq!(groups.values().map(|sums| sums.count).sum::<u64>(), 6);
    assert_eq!(groups[&text("a")].count, 2);
    assert_eq!(groups[&GroupKey::Other].count, 3);
}

#[test]
fn a_small_table_bounds_groups_and_the_bytes_of_keys() {
    let lives = sample();
    let mut table = GroupTable::small(GroupBy::User);
    let mut life = lives[0].clone();
    for user in 0..MAX_GROUPS_SMALL as u32 + 10 {
        life.uid = Some((user, user));
        table.add(&life, true);
    }
    let groups: HashMap<_, _> = table.into_groups().into_iter().collect();
    assert_eq!((groups.len(), groups[&GroupKey::Other].count), (MAX_GROUPS_SMALL + 1, 10));
    // The keys `a`, `b` and `sh` have four bytes.
    let others = |max_key_bytes| {
        let mut table = GroupTable { max_key_bytes, ..GroupTable::small(GroupBy::Comm) };
        lives.iter().for_each(|life| table.add(life, true));
        let groups: HashMap<_, _> = table.into_groups().into_iter().collect();
        groups.get(&GroupKey::Other).map(|sums| sums.count)
    };
    assert_eq!((others(4), others(3)), (None, Some(1)));
}

#[test]
fn a_process_counts_for_ancestors_that_a_scan_finds_after_the_fork() {
    let found = |pid, ppid| {
        let missed = Details::missed(DetailsSubject::Snapshot { tgid: Tgid(pid) }, MissReason::Busy);
        Record::Details(Box::new(Details { ppid: Some(ppid), start_ticks: Some(1), ..missed }))
    };
    let (started, reason) = (MonoNs(0), SnapshotReason::Start);
    let scan = Snapshot { started, ended: started, processes: 3, reason, atomic: false };
    let rows = lives(&[
        fork(100, 30, 40),
        found(1, 0),
        found(20, 1),
        found(30, 20),
        Record::Snapshot(scan),
        exit(1_000, 40, 0, None),
    ]);
    let rows: Vec<_> = rows.into_iter().filter(|life| life.pid == 40).collect();
    let pids = |by| -> Vec<_> {
        let mut pids: Vec<_> =
            table(by, &rows).into_values().filter_map(|sums| Some(sums.ancestor?.pid)).collect();
        pids.sort_unstable();
        pids
    };
    assert_eq!((pids(GroupBy::Parent), pids(GroupBy::Subtree)), (vec![30], vec![1, 20, 30]));
}

/// A process with a path and a cgroup, and the names of its container.
fn in_container(pid: u32, exe: &[u8], id: &str, name: &str) -> Vec<Record<'static>> {
    let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
    let details = Details {
        exe: Some(exe.to_vec()),
        cgroup: (!id.is_empty()).then(|| format!("0::/docker/{id}").into_bytes()),
        container: (!name.is_empty()).then(|| format!("{name}\0\0\0\0").into_bytes()),
        ..Details::missed(subject, MissReason::Busy)
    };
    let reason = SnapshotReason::Start;
    let snapshot = Snapshot { started: MonoNs(0), ended: MonoNs(0), processes: 1, reason, atomic: false };
    vec![Record::Details(Box::new(details)), Record::Snapshot(snapshot)]
}

#[test]
fn the_group_of_a_container_has_its_name_if_one_of_its_processes_has() {
    let id = |n: u32| format!("{n:064x}");
    let names = |max_key_bytes: usize| {
        let mut table = GroupTable { max_key_bytes, ..GroupTable::new(GroupBy::Container) };
        for (pid, of, name) in [(10, 1, ""), (11, 1, "web"), (12, 1, "other"), (13, 2, "db"), (14, 3, "")] {
            lives(&in_container(pid, b"/bin/a", &id(of), name)).iter().for_each(|life| table.add(life, true));
        }
        let mut names: Vec<_> = table
            .into_groups()
            .into_iter()
            .map(|(_, sums)| {
                (sums.count, sums.container.map(|name| String::from_utf8_lossy(&name).into_owned()))
            })
            .collect();
        names.sort();
        names
    };
    let named = |name: &str| Some(name.to_owned());
    let all = [(1, None), (1, named("db")), (3, named("web"))];
    assert_eq!(names(1000), all);
    assert_eq!(names(3 * 64 + 3 + 2), [(1, None), (1, named("db")), (3, named("web"))]);
    // The names count with the identifiers.
    let without_room = names(2 * 64 + 3 + 1);
    assert_eq!(without_room, [(1, None), (1, None), (3, named("web"))]);
}

#[test]
fn keys_and_durations_are_bounded_in_bytes() {
    let small = GroupTable::small(GroupBy::Exe);
    assert_eq!((small.max_groups, small.max_key_bytes), (8192, 4 << 20));
    assert_eq!(small.max_buckets * size_of::<(u16, u32)>(), 4 << 20);
    // Five paths of 1 MiB.
    let mut table = small;
    for (pid, letter) in (10..).zip(*b"abcde") {
        let lives = lives(&in_container(pid, &vec![letter; 1 << 20], "", ""));
        lives.iter().for_each(|life| table.add(life, true));
    }
    let groups: HashMap<_, _> = table.into_groups().into_iter().collect();
    assert_eq!((groups.len(), groups[&GroupKey::Other].count), (5, 1));
    let mut table = GroupTable { max_buckets: 2, ..GroupTable::new(GroupBy::User) };
    for pid in 10..15 {
        let lives = lives(&[fork(100, 1, pid), exit(100 + (1000 << (pid - 10)), pid, 0, None)]);
        lives.iter().for_each(|life| table.add(life, true));
    }
    assert_eq!(table.buckets, 2);
    let (_, sums) = &table.into_groups()[0];
    // Further durations count as the nearest one.
    assert_eq!(sums.durations.max(), Some(16_000));
    assert!(sums.durations.percentile(95).is_some_and(|p95| (1900..2100).contains(&p95)));
}

#[test]
fn groups_have_the_names_of_their_options() {
    use GroupBy::{Args, Comm, Container, Exe, Parent, Subtree, Unit, User};
    let names = [Comm, Exe, Args, User, Unit, Container, Parent, Subtree].map(GroupBy::name);
    assert_eq!(names, ["comm", "exe", "args", "user", "unit", "container", "parent", "subtree"]);
}
