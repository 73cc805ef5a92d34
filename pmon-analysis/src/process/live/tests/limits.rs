//! Limits of memory and time.

use super::*;
use crate::process::MAX_PROCESSES;

#[test]
fn without_room_details_are_stored_without_texts() {
    let mut live = live(&[exec(1, 10, Some("sh"))]);
    live.bytes = MAX_BYTES - index::PROCESS_BYTES;
    live.apply_alone(&exec(2, 20, Some("sh")));
    let known = live_process(&live, 20).details.as_ref().unwrap();
    assert!(known.strings().iter().all(|text| text.is_none()));
    assert!(known.ids.is_some() && known.context.is_some());
    assert_eq!(live.incomplete(), 1);
}

#[test]
fn a_lower_memory_limit_drops_texts_of_details() {
    let mut live = live(&[exec(1, 10, Some("sh")), exec(1, 20, Some("sh"))]);
    let bytes = live.bytes;
    live.set_memory_limit(bytes);
    assert_eq!(live.incomplete(), 0);
    live.set_memory_limit(bytes - 1);
    assert!(live.bytes < bytes);
    let has_texts = |pid| live_process(&live, pid).details.as_ref().unwrap().exe.is_some();
    assert_eq!((has_texts(10), has_texts(20), live.incomplete()), (false, true, 1));
}

#[test]
fn without_room_new_processes_and_threads_are_dropped_and_counted() {
    let mut live = live(&[fork(1, 1, 10)]);
    live.set_memory_limit(live.bytes);
    live.apply_alone(&fork(2, 1, 20));
    live.apply_alone(&thread(3, 30, 10));
    assert!(!live.processes.contains_key(&Tgid(20)) && live.threads.is_empty());
    assert_eq!(live.incomplete(), 2);
    // The name of a thread that was dropped is not that of the process.
    live.apply_alone(&comm(4, Task::new(30, 10), "other"));
    assert_eq!(name(live_process(&live, 10)), None);
}

/// A chain of processes, each the child of the previous one. Each record names the last one as the
/// parent of the first one.
#[test]
fn the_time_per_record_is_bounded_in_a_tree_of_any_depth() {
    let depth = 4_000;
    let mut live = live(&[]);
    assert_eq!(live.credit, 1_048_576);
    (10..10 + depth).for_each(|pid| live.apply_alone(&fork(1, pid - 1, pid)));
    let last = leader(9 + depth);
    let named = event(2, EventBody::Fork { parent: last, child: Task::new(100_000, 10) }, None);
    let (before, records) = (live.credit, 1000);
    for _ in 0..records {
        live.apply_alone(&named);
    }
    // Some of these records were checked up to the top of the tree. The others were not.
    let unchecked = live.incomplete();
    assert_eq!(records - unchecked, before / (u64::from(depth) - CREDIT));
    assert_eq!(live_process(&live, 10).ppid, Some(Tgid(9)), "a process never descends from itself");
    // Scans that find no process visit all of them, while there is credit.
    for _ in 0..1000 {
        live.apply_alone(&snapshot(0, 0));
    }
    assert!(live.incomplete() > unchecked + 500, "{}", live.incomplete());
}

#[test]
fn processes_are_bounded() {
    const { assert!(MAX_PROCESSES * index::PROCESS_BYTES <= MAX_BYTES) };
    let mut live = live(&[]);
    let process = |pid| Box::new(LiveProcess { pid, ..LiveProcess::default() });
    live.processes = (1..MAX_PROCESSES as u32).map(|pid| (Tgid(pid), process(Tgid(pid)))).collect();
    for pid in [1_000_000, 1_000_001] {
        live.apply_alone(&sid(1, pid));
        assert_eq!(live.processes.len(), MAX_PROCESSES);
    }
}

#[test]
fn the_memory_of_a_process_includes_its_name_and_its_entries_in_tables() {
    let entries = 2 * size_of::<(Tgid, Box<LiveProcess>)>() + 2 * size_of::<(Tgid, BTreeSet<Tgid>)>();
    assert!(index::PROCESS_BYTES > size_of::<LiveProcess>() + entries + 2 * size_of::<usize>() + 16);
}

#[test]
fn threads_are_bounded() {
    let mut live = live(&[fork(1, 1, 1)]);
    live.threads = (0..MAX_THREADS as u32).map(|tid| (Tid(1000 + tid), Tgid(5))).collect();
    live.apply_alone(&thread(2, 7, 1));
    assert!(live_process(&live, 1).threads.is_empty());
    assert_eq!(live.threads.len(), MAX_THREADS);
}
