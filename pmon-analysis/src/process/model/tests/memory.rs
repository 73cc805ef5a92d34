//! The memory of a model: what is counted, kept, released and dropped.

use super::super::image::{IMAGE_BYTES, Image, ImageId};
use super::super::table::{PROCESS_BYTES, THREAD_BYTES, Thread};
use super::*;

/// Number of free images that keep their buffers, and the largest buffer that they keep.
const SPARES: u32 = 256;
const SPARE_BYTES: usize = 1024;

fn apply(model: &mut ProcessModel, records: &[Record<'static>]) {
    records.iter().for_each(|record| model.apply(record));
}

/// Lets process 1 fork processes that each exec a program with arguments of `len` bytes.
fn run(model: &mut ProcessModel, pids: impl Iterator<Item = u32>, len: usize) {
    for pid in pids {
        apply(model, &[fork(1, 1, pid), exec(2, pid), exec_details(2, pid, &vec![b'x'; len])]);
    }
}

fn end(model: &mut ProcessModel, pids: impl Iterator<Item = u32>) {
    pids.for_each(|pid| model.apply(&exit(3, pid)));
    // The next event removes the last zombie.
    model.apply(&event(4, EventBody::Sid { task: Task::new(1, 1) }));
}

/// Returns the memory of a model with a number of processes that share no program.
fn bytes_of(processes: u32) -> usize {
    let mut model = model();
    run(&mut model, 2..2 + processes, 0);
    model.bytes()
}

#[test]
fn the_memory_of_processes_threads_and_programs_is_counted() {
    let (few, many) = (bytes_of(100), bytes_of(1100));
    assert_eq!(many - few, 1000 * (PROCESS_BYTES + IMAGE_BYTES));
    // A slot, its place in the list of free slots, and an entry in the index.
    assert!(PROCESS_BYTES >= size_of::<Process>() + size_of::<Slot>() + 2 * size_of::<(u32, Slot)>());
    assert!(IMAGE_BYTES >= size_of::<Image>() + size_of::<ImageId>());
    assert!(THREAD_BYTES >= size_of::<Thread>() + size_of::<Slot>() + 2 * size_of::<(u32, Slot)>());
    let mut model = model();
    run(&mut model, 2..3, 1000);
    let before = model.bytes();
    run(&mut model, 3..13, 1000);
    assert_eq!(model.bytes() - before, 10 * (PROCESS_BYTES + IMAGE_BYTES + 1000));
    let before = model.bytes();
    for tid in 100..110 {
        model.apply(&event(3, EventBody::Fork { parent: Task::new(1, 1), child: Task::new(tid, 2) }));
    }
    assert_eq!(model.bytes() - before, 10 * THREAD_BYTES);
}

#[test]
fn a_steady_state_takes_no_more_memory() {
    let mut model = model();
    model.apply(&fork(1, 1, 2));
    let mut cycle = |n: u32| {
        let unknown_parent = 1_000_000 + n;
        let subject = DetailsSubject::Snapshot { tgid: Tgid(6) };
        let found = Details { ppid: Some(unknown_parent), ..Details::missed(subject, MissReason::Busy) };
        run(&mut model, 3..5, 500);
        // 5 shares the program of 4 until its exec.
        apply(&mut model, &[fork(3, 4, 5), exec(4, 5), exec_details(4, 5, b"other\0")]);
        apply(&mut model, &[Record::Details(Box::new(found)), exit(5, 6)]);
        end(&mut model, 3..6);
        model.bytes()
    };
    (0..3).for_each(|n| _ = cycle(n));
    let before = cycle(3);
    for n in 4..1000 {
        assert_eq!(cycle(n), before, "{n}");
    }
}

#[test]
fn a_process_that_shares_its_program_with_no_other_needs_no_second_one() {
    let mut model = model();
    run(&mut model, 2..3, 100);
    let before = model.bytes();
    model.apply(&exec(3, 2));
    assert_eq!(model.bytes(), before);
    let subject = DetailsSubject::Snapshot { tgid: Tgid(2) };
    let found = Details { args: Some(vec![b'y'; 100]), ..Details::missed(subject, MissReason::Busy) };
    model.apply(&Record::Details(Box::new(found)));
    assert_eq!(model.bytes(), before);
}

#[test]
fn a_limited_number_of_small_buffers_is_kept() {
    let mut model = model();
    let left = |model: &mut ProcessModel, processes: u32, len: usize| {
        run(model, 2..2 + processes, len);
        let before = model.bytes();
        end(model, 2..2 + processes);
        before - model.bytes()
    };
    assert_eq!(left(&mut model, 10, SPARE_BYTES + 1), 10 * (SPARE_BYTES + 1));
    // Programs without texts have no buffers to keep.
    assert_eq!(left(&mut model, 2 * SPARES, 0), 0);
    assert_eq!(left(&mut model, 10, SPARE_BYTES), 0);
    assert_eq!(left(&mut model, SPARES + 50, SPARE_BYTES), 50 * SPARE_BYTES);
}

#[test]
fn texts_are_dropped_only_beyond_the_limit_and_as_few_as_needed() {
    const LEN: usize = 64 << 10;
    let mut model = model();
    // A program without texts has none to drop.
    apply(&mut model, &[fork(1, 1, 2), exec(1, 2)]);
    let mut dropped = 0;
    for pid in 3..1500 {
        let before = model.bytes();
        run(&mut model, pid..=pid, LEN);
        let has_dropped = std::mem::replace(&mut dropped, model.incomplete()) < model.incomplete();
        assert!(model.bytes() <= MAX_BYTES);
        if has_dropped {
            assert!(before + LEN + PROCESS_BYTES + IMAGE_BYTES > MAX_BYTES, "{before}");
            assert!(model.bytes() > MAX_BYTES / 8 * 7 - LEN, "{}", model.bytes());
        }
    }
    let missed: Vec<_> =
        model.processes().filter(|details| details.miss == Some(MissReason::TooLong)).collect();
    assert_eq!(missed.len() as u64, dropped);
    assert!(
        missed.iter().all(|details| details.comm.as_deref() == Some(b"worker") && details.args.is_none())
    );
    check_links(&model).unwrap();
}

#[test]
fn a_program_without_its_texts_keeps_the_rest_and_still_gets_its_details() {
    let mut model = model();
    let subject = DetailsSubject::Snapshot { tgid: Tgid(10) };
    let context = ProcessContext { session: 3, group: 4, login_uid: 1000, ..ProcessContext::default() };
    let found = Details {
        cwd: Some("/srv".into()),
        context: Some(context),
        ..Details::missed(subject, MissReason::Busy)
    };
    apply(&mut model, &[Record::Details(Box::new(found)), exec(1, 10), fork(2, 10, 11)]);
    run(&mut model, 100..1000, 64 << 10);
    let known = |model: &ProcessModel| {
        let process = model.get(Tgid(11)).unwrap();
        (process.cwd().map(<[u8]>::to_vec), process.args().map(<[u8]>::to_vec), process.context())
    };
    assert!(model.incomplete() > 0);
    assert_eq!(known(&model), (None, None, Some(ProcessContext { pid: 0, ..context })));
    // The exec is still awaited for the child, although its parent is gone.
    apply(&mut model, &[exit(5, 10), fork(6, 1, 12), exec_details(1, 10, b"late\0")]);
    assert_eq!(known(&model).1.as_deref(), Some(&b"late\0"[..]));
    check_links(&model).unwrap();
}

#[test]
fn details_are_awaited_for_the_children_of_256_ended_processes() {
    let mut model = model();
    let parents = 1000..1000 + SPARES + 1;
    for pid in parents.clone() {
        apply(&mut model, &[fork(1, 1, pid), exec(2, pid), fork(3, pid, pid + 1000), exit(4, pid)]);
        // No process is left that could get these details.
        apply(&mut model, &[fork(1, 1, 10), exec(2, 10), exit(4, 10)]);
    }
    for pid in parents.clone() {
        model.apply(&exec_details(2, pid, b"late\0"));
    }
    let with_args = parents.filter(|pid| model.get(Tgid(pid + 1000)).unwrap().args().is_some());
    assert_eq!(with_args.collect::<Vec<_>>(), (1001..1001 + SPARES).collect::<Vec<_>>());
}
