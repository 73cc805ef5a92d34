//! What a tracker shows of the processes as of its last record, and of their ancestors.

use pmon_core::capture::{FatalSignal, Junction, Unobserved, UnobservedReason};

use super::*;
use crate::life::ancestor::{Ancestor, MAX_ANCESTORS};
use crate::process::ProcessExit;

fn tracker(records: &[Record<'static>]) -> LifeTracker {
    let mut tracker = LifeTracker::new(&header());
    records.iter().for_each(|record| tracker.apply(record));
    tracker
}

fn rename(time: u64, pid: u32, name: &str) -> Record<'static> {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name.as_bytes());
    event(time, EventBody::Comm { task: task(pid), comm })
}

fn chain(life: &Life) -> Vec<u32> {
    life.ancestors().map(|ancestor| ancestor.pid).collect()
}

#[test]
fn a_tracker_shows_the_processes_as_of_its_last_record() {
    let end = Usage {
        process: ProcessState::Ended { status: 9 },
        fatal_signal: FatalSignal { oom_victim: Some(true), ..FatalSignal::default() },
        ..Usage::default()
    };
    let forks = [scanned(10, "sh -i", 1, 3), snapshot(1), fork(100, 10, 30), fork(110, 10, 20)];
    let mut tracker = tracker(&forks);
    let pids = |tracker: &mut LifeTracker| tracker.running().iter().map(|life| life.pid).collect::<Vec<_>>();
    tracker.note(Tgid(20));
    let sh = tracker.process_id(Tgid(10));
    assert!(sh.is_some() && tracker.last_life(Tgid(20)).unwrap().parent_id == sh);
    assert_eq!(pids(&mut tracker), [10, 20, 30]);
    let of = |tracker: &LifeTracker| {
        let life = tracker.last_life(Tgid(20)).unwrap();
        let ancestors: Vec<_> = life.ancestors().map(|ancestor| ancestor.pid).collect();
        (life.comm().map(<[u8]>::to_vec), life.duration_ns(), life.end, ancestors)
    };
    assert_eq!(of(&tracker), (Some(b"sh".to_vec()), None, None, vec![10]));
    tracker.apply(&exec(120, 20));
    tracker.apply(&exec_details(120, 20, "make all"));
    assert_eq!(of(&tracker).0.as_deref(), Some(&b"make"[..]));
    let process = tracker.last_process(Tgid(20)).unwrap();
    assert_eq!((process.pid(), process.args()), (Tgid(20), Some(&b"make\0all\0"[..])));
    assert_eq!((tracker.last_exit(), tracker.last_oom_kill(), tracker.now()), (None, None, MonoNs(120)));
    tracker.apply(&exit_with(150, 20, 20, 9, end));
    assert_eq!(of(&tracker).1, Some(40));
    assert_eq!(of(&tracker).2, Some(MonoNs(150)));
    assert_eq!(tracker.last_exit(), Some(ProcessExit::Ended { status: 9 }));
    assert_eq!(tracker.last_oom_kill(), Some(true));
    // The process has ended, but is the one that has this ID until the next event.
    assert_eq!(pids(&mut tracker), [10, 30]);
    assert!(tracker.get(Tgid(20)).is_none() && tracker.get(Tgid(30)).is_some());
    let id = tracker.last_known(Tgid(20)).map(|life| life.id);
    assert!(id.is_some() && tracker.process_id(Tgid(20)) == id);
    assert_eq!((tracker.process_id(Tgid(99)), tracker.incomplete()), (None, 0));
    tracker.advance_to(MonoNs(1_000));
    assert_eq!(tracker.now(), MonoNs(1_000));
}

#[test]
fn a_tracker_without_rows_shows_the_processes_only() {
    let usage = Usage { cpu_us: 5, process: ProcessState::Alive, ..Usage::default() };
    let records = [
        fork(100, 10, 20),
        thread(101, 10, 20, 21),
        exit_with(110, 20, 20, 0, usage),
        fork(120, 10, 30),
        exit(130, 30, 30, 0),
        fork(140, 10, 40),
    ];
    for has_rows in [true, false] {
        let mut tracker = LifeTracker::new(&header());
        if !has_rows {
            tracker.omit_rows();
        }
        records.iter().for_each(|record| tracker.apply(record));
        assert!(tracker.get(Tgid(20)).unwrap().usage.is_some());
        assert_eq!(tracker.pop().map(|life| life.pid), Some(30).filter(|_| has_rows));
        tracker.finish();
        assert_eq!(tracker.pop().is_some(), has_rows);
    }
}

#[test]
fn after_a_reboot_the_model_has_texts_as_before() {
    let exe = |tracker: &LifeTracker| tracker.last_process(Tgid(10)).unwrap().args().map(<[u8]>::to_vec);
    for has_texts in [true, false] {
        let mut tracker = LifeTracker::new(&header());
        if !has_texts {
            tracker = tracker.without_model_texts();
        }
        tracker.apply(&scanned(10, "sh -i", 1, 3));
        assert_eq!(exe(&tracker).is_some(), has_texts);
        let reboot = Junction { continues: false, is_followed: true, is_reboot: true, unobserved: None };
        tracker.begin_segment(Some(&header()), reboot);
        assert!(tracker.last_process(Tgid(10)).is_none());
        tracker.apply(&scanned(10, "sh -i", 1, 3));
        assert_eq!(exe(&tracker).is_some(), has_texts);
    }
}

#[test]
fn between_segments_threads_can_start_unobserved() {
    let reason = UnobservedReason::Stopped;
    let span = Unobserved { from: MonoNs(101), until: MonoNs(102), reason };
    for unobserved in [None, Some(span)] {
        let mut tracker = tracker(&[fork(100, 10, 20)]);
        let next = Junction { continues: true, is_followed: true, is_reboot: false, unobserved };
        tracker.begin_segment(None, next);
        tracker.apply(&exit(110, 20, 20, 0));
        let expected =
            if unobserved.is_some() { ProcessExit::Unknown } else { ProcessExit::Ended { status: 0 } };
        assert_eq!(tracker.last_exit(), Some(expected));
    }
}

#[test]
fn a_parent_is_shown_as_it_was_at_each_fork() {
    let uid = |time, real| event(time, EventBody::Uid { task: task(10), real, effective: 0 });
    let lives = lives(&[
        scanned(10, "sh -i", 1, 3),
        snapshot(1),
        fork(100, 10, 20),
        fork(101, 10, 21),
        exec(110, 10),
        exec_details(110, 10, "sh -c"),
        fork(111, 10, 22),
        uid(120, 5),
        fork(121, 10, 23),
        rename(130, 10, "new"),
        fork(131, 10, 24),
        uid(140, 6),
        rename(141, 10, "newer"),
        fork(142, 10, 25),
    ]);
    let parent = |pid| life(&lives, pid).parent.clone().unwrap();
    let seen = |pid| {
        let parent = parent(pid);
        let name = String::from_utf8_lossy(parent.comm().unwrap()).into_owned();
        (command(&parent.program), name, parent.uid.map(|(real, _)| real))
    };
    let expected = |args: &str, name: &str, uid| (args.to_owned(), name.to_owned(), uid);
    assert_eq!(seen(20), expected("sh -i", "sh", None));
    assert_eq!(seen(22), expected("sh -c", "sh", None));
    assert_eq!(seen(23), expected("sh -c", "sh", Some(5)));
    assert_eq!(seen(24), expected("sh -c", "new", Some(5)));
    assert_eq!(seen(25), expected("sh -c", "newer", Some(6)));
    // Children of an unchanged parent share it.
    assert!(Arc::ptr_eq(&parent(20), &parent(21)));
    assert!(!Arc::ptr_eq(&parent(20), &parent(22)));
}

#[test]
fn a_chain_of_forks_is_cut_after_256_ancestors() {
    let forks: Vec<_> = (0..600).map(|n| fork(100 + u64::from(n), 1000 + n, 1001 + n)).collect();
    let lives = lives(&forks);
    for n in 1..=600 {
        let ancestors = chain(life(&lives, 1000 + n)).len() as u32;
        // The ancestors begin again after 256 of them.
        assert_eq!(ancestors, (n - 1) % u32::from(MAX_ANCESTORS) + 1, "{n}");
    }
}

#[test]
fn a_chain_of_scanned_processes_of_any_length_is_followed_up_to_a_limit() {
    let check = || {
        let count = 20_000;
        let mut records: Vec<_> = (0..count).rev().map(|n| scanned(1000 + n, "sh", 999 + n, 3)).collect();
        records.push(snapshot(count));
        let lives = lives(&records);
        let longest = lives.iter().map(|life| chain(life).len()).max();
        assert_eq!(longest, Some(usize::from(MAX_ANCESTORS)));
        assert_eq!(chain(life(&lives, 1000 + count - 1))[..2], [1000 + count - 2, 1000 + count - 3]);
    };
    // A stack on which 20,000 calls do not fit.
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(check).unwrap();
    thread.join().unwrap();
}

#[test]
fn the_identity_of_a_process_with_events_stays_when_an_opening_states_its_fork() {
    let mut tracker = tracker(&[exec(100, 20)]);
    let id = tracker.process_id(Tgid(20));
    let subject = DetailsSubject::Snapshot { tgid: Tgid(20) };
    let opening = Details { forked: Some(MonoNs(50)), ..details(subject, "sh", 1) };
    tracker.apply(&Record::Details(Box::new(opening)));
    assert!(id.is_some() && tracker.process_id(Tgid(20)) == id);
}

#[test]
fn a_long_chain_is_dropped_without_recursion() {
    let mut chain: Option<Arc<Ancestor>> = None;
    for pid in 0..200_000 {
        chain = Some(Arc::new(Ancestor {
            id: ProcessId(1),
            pid,
            start: None,
            name: crate::process::Name::default(),
            program: ProcessProgram::default(),
            uid: None,
            parent: chain,
            depth: 0,
            found: std::sync::OnceLock::new(),
        }));
    }
    drop(chain);
}

#[test]
fn the_children_that_a_process_forked_before_its_scan_get_its_ancestors() {
    // The process changes its name before each fork, so each child has another parent.
    let children = 70;
    let mut records: Vec<_> =
        (0..children).flat_map(|n| [rename(100, 10, &format!("n{n}")), fork(101, 10, 100 + n)]).collect();
    records.extend([scanned(5, "init", 0, 1), scanned(10, "sh -i", 5, 3), snapshot(2)]);
    let lives = lives(&records);
    let complete: Vec<_> = (0..children).filter(|n| chain(life(&lives, 100 + n)) == [10, 5]).collect();
    // The first 64 and the last one.
    assert_eq!(complete, (0..64).chain([children - 1]).collect::<Vec<_>>());
}

#[test]
fn the_peak_memory_is_that_of_the_first_and_the_last_thread() {
    let peak = |leader, last| {
        let of = |max_rss_kib, process| Usage { max_rss_kib, process, ..Usage::default() };
        let lives = lives(&[
            fork(100, 10, 20),
            thread(101, 10, 20, 21),
            exit_with(110, 20, 20, 0, of(leader, ProcessState::Alive)),
            exit_with(120, 21, 20, 0, of(last, ProcessState::Ended { status: 0 })),
        ]);
        life(&lives, 20).usage.as_ref().unwrap().max_rss_bytes
    };
    assert_eq!(
        [(0, 0), (0, 3), (2, 0), (2, 3), (4, 3)].map(|(leader, last)| peak(leader, last)),
        [None, Some(3 << 10), Some(2 << 10), Some(3 << 10), Some(4 << 10)]
    );
}

#[test]
fn a_text_that_an_exec_keeps_is_stored_once() {
    let directory = "d".repeat(5000);
    let exec_in = |time| {
        let subject = DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(time) };
        let cwd = Some(directory.clone().into_bytes());
        [exec(time, 20), Record::Details(Box::new(Details { cwd, ..details(subject, "a", 1) }))]
    };
    let lives = lives(&[exec_in(100), exec_in(110)].concat());
    let cwd = |n: usize| life(&lives, 20).execs[n].program.get().cwd.clone().unwrap();
    assert!(Arc::ptr_eq(&cwd(0), &cwd(1)));
}
