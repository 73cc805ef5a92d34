//! Programs that processes share, and what details say of them.

use super::*;

fn found(pid: u32, change: impl FnOnce(&mut Details)) -> Record<'static> {
    let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
    let mut details = Details::missed(subject, MissReason::Busy);
    change(&mut details);
    Record::Details(Box::new(details))
}

fn executed(ms: u64, pid: u32, change: impl FnOnce(&mut Details)) -> Record<'static> {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(ms * 1_000_000) };
    let mut details = Details { miss: None, ..Details::missed(subject, MissReason::Gone) };
    change(&mut details);
    Record::Details(Box::new(details))
}

fn thread(ms: u64, tid: u32, pid: u32) -> Record<'static> {
    event(ms, EventBody::Fork { parent: Task::new(1, 1), child: Task::new(tid, pid) })
}

fn comm(ms: u64, task: Task, name: &str) -> Record<'static> {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name.as_bytes());
    event(ms, EventBody::Comm { task, comm })
}

fn args(model: &ProcessModel, pid: u32) -> Option<&[u8]> {
    model.get(Tgid(pid)).unwrap().args()
}

#[test]
fn a_scan_with_nothing_new_leaves_a_child_the_program_of_its_parent() {
    let context = |details: &mut Details| details.context = Some(ProcessContext::default());
    for scan in [found(20, |_| {}), found(20, context)] {
        let has_context = matches!(&scan, Record::Details(details) if details.context.is_some());
        let mut model = model_of(&[found(10, context), exec(1, 10), fork(2, 10, 20), scan]);
        model.apply(&exec_details(1, 10, b"late\0"));
        assert_eq!(args(&model, 20), Some(&b"late\0"[..]), "{has_context}");
    }
    // A child of which the scan knows more has a program of its own.
    for more in [|details: &mut Details| details.cwd = Some("/".into()), context] {
        let mut model = model_of(&[exec(1, 10), fork(2, 10, 20), found(20, more)]);
        model.apply(&exec_details(1, 10, b"late\0"));
        assert_eq!((args(&model, 10), args(&model, 20)), (Some(&b"late\0"[..]), None));
    }
}

#[test]
fn a_child_of_a_thread_without_a_name_gets_the_name_in_late_details() {
    let by_thread = event(4, EventBody::Fork { parent: Task::new(11, 10), child: Task::new(20, 20) });
    let first = [exec(1, 10), thread(2, 11, 10), comm(3, Task::new(10, 10), "first"), by_thread];
    let mut model = model_of(&first);
    model.apply(&exec_details(1, 10, b"late\0"));
    let name = |pid| model.get(Tgid(pid)).unwrap().comm();
    assert_eq!((name(10), name(20)), (Some(&b"first"[..]), Some(&b"worker"[..])));
}

#[test]
fn the_length_of_truncated_arguments_belongs_to_the_arguments() {
    let truncated =
        |details: &mut Details| (details.args, details.args_len) = (Some("a\0".into()), Some(9000));
    let mut model = model_of(&[exec(1, 10), executed(1, 10, truncated)]);
    let args_len = |model: &ProcessModel| model.get(Tgid(10)).unwrap().details().args_len;
    assert_eq!(args_len(&model), Some(9000));
    // A scan adds the directory and leaves the arguments.
    let scan = |details: &mut Details| {
        (details.args, details.args_len, details.cwd) = (Some("b\0".into()), Some(7), Some("/".into()));
    };
    model.apply(&found(10, scan));
    assert_eq!((args(&model, 10), args_len(&model)), (Some(&b"a\0"[..]), Some(9000)));
    model.apply(&exec(2, 10));
    model.apply(&executed(2, 10, |details| details.args = Some("c\0".into())));
    assert_eq!((args(&model, 10), args_len(&model)), (Some(&b"c\0"[..]), None));
}

#[test]
fn the_properties_of_a_process_are_those_of_its_details() {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let context = ProcessContext {
        session: 3,
        group: 4,
        login_uid: 1000,
        cgroup: 77,
        pid_namespace: 0xEFFF_FFFC,
        pid: 10,
    };
    let ids = Some(Credentials { uid: 5, euid: 6, gid: 7, egid: 8 });
    let all = |details: &mut Details| {
        (details.start_ticks, details.ids, details.context, details.threads) =
            (Some(390), ids, Some(context), Some(1));
        (details.exe, details.cwd, details.args) = (text("/bin/web"), text("/srv"), text("web\0"));
        (details.filename, details.cgroup, details.container) =
            (text("./web-server-of-a-long-name"), text("0::/a"), text("pod"));
    };
    let model = model_of(&[found(10, all), fork(1000, 10, 20)]);
    let (parent, child) = (model.get(Tgid(10)).unwrap(), model.get(Tgid(20)).unwrap());
    let name = parent.comm();
    assert_eq!(name, Some(&b"web-server-of-a"[..]));
    assert_eq!((parent.pid(), parent.uid(), parent.gid()), (Tgid(10), Some((5, 6)), Some((7, 8))));
    assert_eq!((parent.container(), child.container()), (Some(&b"pod"[..]), Some(&b"pod"[..])));
    assert_eq!(
        (parent.context(), child.context()),
        (Some(context), Some(ProcessContext { pid: 20, ..context }))
    );
    assert_eq!((parent.threads(), child.threads()), (Some(1), Some(1)));
    // The machine had run for 3 s before the recording.
    let time = MonoNs(1_500_000_000);
    assert_eq!((parent.age_at(time), child.age_at(time)), (Some(600_000_000), Some(500_000_000)));
    assert_eq!(model.get(Tgid(10)).unwrap().details().container, text("pod"));
    // Later details replace the context.
    let other = ProcessContext { login_uid: 2000, pid_namespace: 8, pid: 2, ..context };
    let mut model = model_of(&[found(10, all), exec(5, 10), executed(5, 10, |of| of.context = Some(other))]);
    assert_eq!(model.get(Tgid(10)).unwrap().context(), Some(other));
    model.apply(&thread(6, 11, 10));
    assert_eq!(model.get(Tgid(10)).unwrap().threads(), Some(2));
    // A scan replaces nothing.
    model.apply(&found(10, |of| of.context = Some(context)));
    assert_eq!(model.get(Tgid(10)).unwrap().context(), Some(other));
}

#[test]
fn a_path_without_a_base_name_names_no_process() {
    for (path, name) in [("/bin/", None), ("", None), ("sh", Some(&b"sh"[..])), ("/a/b", Some(b"b"))] {
        let model = model_of(&[found(10, |details| details.filename = Some(path.into()))]);
        assert_eq!(model.get(Tgid(10)).unwrap().comm(), name, "{path}");
    }
}

#[test]
fn start_times_that_differ_by_a_tick_are_of_the_same_process() {
    let start = |ticks| move |details: &mut Details| details.start_ticks = Some(ticks);
    let is_same = |records: &[Record<'static>]| {
        let model = model_of(records);
        model.get(Tgid(10)).is_some_and(|process| process.uid().is_some())
    };
    let user = event(2, EventBody::Uid { task: Task::new(10, 10), real: 1, effective: 1 });
    // The fork is at tick 310, and later than the start that the kernel records.
    let forked = |ticks| is_same(&[fork(100, 1, 10), user.clone(), found(10, start(ticks))]);
    assert_eq!([50, 309, 310, 311, 312].map(forked), [true, true, true, true, false]);
    let known = |ticks| is_same(&[found(10, start(200)), user.clone(), found(10, start(ticks))]);
    assert_eq!([198, 199, 200, 201, 202].map(known), [false, true, true, true, false]);
}

#[test]
fn without_texts_a_model_has_names_and_contexts() {
    let mut model = model();
    model.omit_texts();
    let context = Some(ProcessContext { session: 3, ..ProcessContext::default() });
    let all = move |details: &mut Details| {
        (details.context, details.comm, details.args) = (context, Some("sh".into()), Some("sh\0".into()));
    };
    model.apply(&found(10, all));
    let process = model.get(Tgid(10)).unwrap();
    assert_eq!((process.args(), process.comm()), (None, Some(&b"sh"[..])));
    assert_eq!(process.context().map(|context| context.session), Some(3));
}

#[test]
fn facts_are_those_of_the_process_in_the_slot() {
    let mut model = model_of(&[fork(1, 1, 10), fork(2, 10, 20), found(30, |of| of.start_ticks = Some(400))]);
    let slot = |model: &ProcessModel, pid| model.slot(Tgid(pid)).unwrap();
    let (orphan, scanned) = (slot(&model, 20), slot(&model, 30));
    assert_eq!((model.ppid(orphan), model.ppid(scanned)), (Some(10), None));
    assert_eq!((model.start_ticks(orphan), model.start_ticks(scanned)), (None, Some(400)));
    assert_eq!((model.is_parent_assumed(orphan), model.uid(orphan)), (false, None));
    model.apply(&exit(3, 10));
    model.apply(&event(4, EventBody::Uid { task: Task::new(20, 20), real: 5, effective: 6 }));
    assert_eq!((model.is_parent_assumed(orphan), model.uid(orphan)), (true, Some((5, 6))));
    assert_eq!(model.ppid(orphan), Some(1));
    // Init has no heir.
    model.apply(&exit(5, 1));
    model.apply(&event(6, EventBody::Sid { task: Task::new(20, 20) }));
    assert_eq!((model.is_parent_assumed(orphan), model.ppid(orphan)), (false, None));
    // Now is tick 300.
    assert_eq!([298, 299, 301, 302].map(|ticks| model.starts_at(ticks)), [false, true, true, false]);
    // The scanned process starts at tick 400.
    assert!(model.get(Tgid(30)).is_none());
    model.advance_to(MonoNs(1_000_000_000));
    assert!(model.get(Tgid(30)).is_some());
    model.advance_to(MonoNs(5));
    assert_eq!(model.now(), MonoNs(1_000_000_000));
    assert_eq!(model.take_found(), None, "no caller takes them");
}
