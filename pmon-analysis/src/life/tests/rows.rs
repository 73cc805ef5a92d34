//! Tests of properties of rows that the other tests do not compare.

use std::fmt::Write as _;

use pmon_core::capture::Junction;

use super::*;
use crate::process::ProcessModel;

#[test]
fn a_process_existed_at_least_until_its_last_event() {
    let lives = lives(&[
        fork(100, 10, 20),
        fork(110, 10, 21),
        fork(120, 10, 22),
        exit(150, 20, 20, 0),
        loss(160),
        fork(200, 10, 21),
        exec(300, 5),
    ]);
    let observed = |pid| -> Vec<_> {
        lives.iter().filter(|life| life.pid == pid).map(|life| life.observed_ns(MonoNs(1000))).collect()
    };
    assert_eq!(observed(20), [Some(50)]);
    // The exit of the first 21 is lost. The second one and 22 are running.
    assert_eq!(observed(21), [Some(0), Some(800)]);
    assert_eq!((observed(22), observed(5)), (vec![Some(880)], vec![None]));
    assert!(lives.iter().filter(|life| life.pid != 20).all(|life| life.duration_ns().is_none()));
}

#[test]
fn the_duration_of_an_older_process_is_rounded_to_a_clock_tick() {
    let ms = 1_000_000;
    let duration = |end_ns| {
        let rows = lives(&[scanned(10, "sh", 1, 600), snapshot(1), exit(end_ns, 10, 10, 0)]);
        life(&rows, 10).duration_ns()
    };
    // It starts one second after the start of the recording.
    assert_eq!(duration(1_234 * ms), Some(230 * ms));
    assert_eq!(duration(1_235 * ms), Some(240 * ms));
    assert_eq!(duration(900 * ms), Some(0));
}

#[test]
fn a_process_id_of_0_in_a_namespace_is_unknown() {
    let context = |pid| ProcessContext { pid, pid_namespace: 5, ..ProcessContext::default() };
    let of_exec = |pid, namespace_pid| {
        let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(110) };
        Record::Details(Box::new(Details {
            context: Some(context(namespace_pid)),
            ..details(subject, "a", 1)
        }))
    };
    let of_scan = |pid, namespace_pid| {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
        Record::Details(Box::new(Details {
            context: Some(context(namespace_pid)),
            ..details(subject, "a", 1)
        }))
    };
    let execs = [20, 21].map(|pid| exec(110, pid));
    let rows =
        lives(&[&execs[..], &[of_exec(20, 0), of_exec(21, 7), of_scan(30, 0), of_scan(31, 8)]].concat());
    assert_eq!([20, 21, 30, 31].map(|pid| life(&rows, pid).namespace_pid), [None, Some(7), None, Some(8)]);
}

#[test]
fn a_thread_of_the_kernel_is_described_and_has_neither_executable_nor_arguments() {
    let described = Program { cgroup: Some(b"0::/"[..].into()), ..Program::default() };
    let with_login = Program { login_uid: Some(0), ..Program::default() };
    assert!(described.is_kernel_thread() && with_login.is_kernel_thread());
    for program in [
        Program::default(),
        Program { exe: Some(b"/bin/sh"[..].into()), ..described.clone() },
        Program { args: Some(b"sh\0"[..].into()), ..described.clone() },
        Program { miss: Some(MissReason::Gone), ..described.clone() },
    ] {
        assert!(!program.is_kernel_thread(), "{program:?}");
    }
}

#[test]
fn an_exec_keeps_directory_cgroup_login_and_namespace() {
    let context = |login_uid, pid_namespace| ProcessContext {
        session: 1,
        group: 1,
        login_uid,
        cgroup: 0,
        pid_namespace,
        pid: 20,
    };
    let with = |time, cwd: Option<&str>, cgroup: Option<&str>, context| {
        let subject = DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(time) };
        Record::Details(Box::new(Details {
            cwd: cwd.map(Into::into),
            cgroup: cgroup.map(Into::into),
            exe: cwd.map(|_| b"/bin/a".to_vec()),
            context,
            ..details(subject, "a", 1)
        }))
    };
    let program = |records: &[Record<'static>]| {
        let rows = lives(&[&[fork(100, 10, 20)], records].concat());
        let program = life(&rows, 20).program.get();
        let text =
            |text: &Option<Arc<[u8]>>| text.as_deref().map(|text| String::from_utf8_lossy(text).into_owned());
        let texts = [text(&program.cwd), text(&program.cgroup), text(&program.exe)];
        (texts.map(Option::unwrap_or_default).join(" "), program.login_uid, program.pid_namespace)
    };
    let first = [exec(110, 20), with(110, Some("/a"), Some("0::/x"), Some(context(1000, 7)))];
    assert_eq!(program(&first), ("/a 0::/x /bin/a".into(), Some(1000), Some(7)));
    // The details of the second exec are missing.
    let missed = [exec(120, 20), with(120, None, None, None)];
    assert_eq!(program(&[&first[..], &missed].concat()), ("/a 0::/x ".into(), Some(1000), Some(7)));
    // Each property can change at an exec, and namespace 0 is unknown.
    let moved = [exec(120, 20), with(120, Some("/b"), Some("0::/y"), Some(context(0, 0)))];
    assert_eq!(program(&[&first[..], &moved].concat()), ("/b 0::/y /bin/a".into(), Some(0), Some(7)));
}

#[test]
fn the_names_of_a_container_belong_to_its_cgroup() {
    let with = |time, cgroup: Option<&str>, container: Option<&[u8]>| {
        let subject = DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(time) };
        let (cgroup, container) = (cgroup.map(Into::into), container.map(<[u8]>::to_vec));
        [exec(time, 20), Record::Details(Box::new(Details { cgroup, container, ..details(subject, "a", 1) }))]
    };
    let first = with(110, Some("0::/x"), Some(b"web\0\0\0\0"));
    // A child has the names of its parent, and the opening of a segment repeats them.
    let known = |records: &[Record<'static>]| {
        let records = [&[fork(100, 10, 20)], &first[..], records, &[fork(200, 20, 21)]].concat();
        let mut model = ProcessModel::new(ByteOrder::Little, 100, ClockAnchor::default());
        records.iter().for_each(|record| model.apply(record));
        let rows = lives(&records);
        let names = [20, 21].map(|pid| life(&rows, pid).program.get().container.clone().is_some());
        let opening = [20, 21]
            .map(|pid| model.processes().any(|of| of.subject.tgid() == Tgid(pid) && of.container.is_some()));
        assert_eq!(names, opening);
        assert_eq!(names[0], names[1]);
        names[0]
    };
    assert!(known(&[]));
    assert!(known(&with(120, Some("0::/x"), None)), "the names were read before");
    assert!(known(&with(120, None, None)), "the details are missing");
    assert!(!known(&with(120, Some("0::/y"), None)), "the process is in another cgroup");
}

#[test]
fn details_with_the_full_length_of_arguments_replace_it() {
    let row = |args: Option<&str>, args_len| {
        let subject = DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(110) };
        let details =
            Details { args: args.map(|args| args.as_bytes().to_vec()), args_len, ..details(subject, "a", 1) };
        let rows = lives(&[fork(100, 10, 20), exec(110, 20), Record::Details(Box::new(details))]);
        life(&rows, 20).program.get().args_len
    };
    assert_eq!(
        (row(Some("a\0"), Some(70)), row(Some("a\0"), None), row(None, Some(70))),
        (Some(70), None, None)
    );
}

#[test]
fn without_the_end_of_the_wait_a_row_has_what_is_known() {
    let mut tracker = LifeTracker::new(&header());
    assert!(!tracker.awaits_details());
    for record in [fork(100, 10, 20), exec(110, 20)] {
        tracker.apply(&record);
    }
    assert!(tracker.awaits_details());
    tracker.apply(&exit(120, 20, 20, 0));
    tracker.apply(&fork(130, 10, 21));
    assert!(tracker.pop().is_none());
    tracker.finish();
    assert!(!tracker.awaits_details());
    assert_eq!(tracker.pop().map(|life| (life.pid, life.execs.len())), Some((20, 1)));
}

#[test]
fn details_arrive_once() {
    let mut tracker = LifeTracker::new(&header());
    for record in [fork(100, 10, 20), exec(110, 20), exec_details(110, 20, "a"), exec_details(110, 20, "b")] {
        tracker.apply(&record);
    }
    assert!(!tracker.awaits_details());
    assert_eq!(command(&tracker.last_known(Tgid(20)).unwrap().program), "a");
}

#[test]
fn an_exec_of_another_process_leaves_the_program_before_it() {
    // The exit of the first 20 and the fork of the second are lost. Ticks 500 and 530.
    let subject = DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(400_000_000) };
    let other = Details { start_ticks: Some(530), ..details(subject, "other", 7) };
    let lives = lives(&[
        fork(100, 10, 20),
        exec(110, 20),
        exec_details(110, 20, "first"),
        loss(200),
        exec(400_000_000, 20),
        event(400_000_001, EventBody::Comm { task: task(20), comm: Comm(*b"renamed\0\0\0\0\0\0\0\0\0") }),
        Record::Details(Box::new(other)),
        exit(500_000_000, 20, 20, 0),
    ]);
    let rows: Vec<_> = lives.iter().filter(|life| life.pid == 20).collect();
    assert_eq!(rows.iter().map(|life| commands(life)).collect::<Vec<_>>(), [["first"], ["other"]]);
    assert_eq!((command(&rows[0].program), command(&rows[1].program)), ("first".into(), "other".into()));
    assert_eq!((rows[0].ppid, rows[1].ppid), (Some(1), Some(7)));
    assert_eq!((rows[0].comm(), rows[1].comm()), (Some(&b"first"[..]), Some(&b"renamed"[..])));
}

#[test]
fn a_number_is_written_in_decimal() {
    let mut text = String::new();
    write!(text, "{}", ProcessId(17)).unwrap();
    assert_eq!(text, "17");
}

#[test]
fn what_was_dropped_before_a_reboot_is_still_counted() {
    let mut tracker = LifeTracker::new(&header());
    (2..5_000).for_each(|pid| tracker.apply(&fork(1, 1, pid)));
    // Scans of many processes use up the credit.
    (0..400).for_each(|_| tracker.apply(&snapshot(0)));
    let dropped = tracker.incomplete();
    assert!(dropped > 0);
    let reboot = Junction { continues: false, is_followed: true, is_reboot: true, unobserved: None };
    tracker.begin_segment(Some(&header()), reboot);
    assert_eq!(tracker.incomplete(), dropped);
}
