//! Recordings of a part of the events: excluded events are counted, and are no losses.

use std::collections::HashSet;
use std::thread;

use pmon_core::accounting::LossCause;
use pmon_core::wire::{Event, EventBody, EventKind};

use crate::flood::FloodReport;
use crate::observer::{EventNumber, Observer};
use crate::{EXIT_DELAY, numbers};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::live::live_test;
use pmon_testkit::recorder::{RecorderProcess, record_program, with_transport};

/// Records a flood with these options, in the presence of an observer. Returns the capture, and all
/// events that the kernel emitted from the first event of each CPU in it to the last.
fn record_observed(options: &[&str], flood: &[&str]) -> Option<(CaptureContents, Vec<Event>)> {
    let (dir, _guard) = live_test()?;
    let observer = Observer::new()?;
    let recorder = RecorderProcess::start(&dir, options);
    FloodReport::of_run(flood);
    thread::sleep(EXIT_DELAY);
    let capture = recorder.finish();
    capture.check();
    assert!(capture.is_partial && capture.report.excluded > 0);
    let mut span = std::collections::HashMap::new();
    for event in capture.events() {
        span.entry(event.cpu).or_insert((event.time, event.time)).1 = event.time;
    }
    let emitted = observer.received().into_values();
    let within =
        |event: &Event| span.get(&event.cpu).is_some_and(|(from, to)| (from..=to).contains(&&event.time));
    Some((capture, emitted.filter(within).collect()))
}

fn number(event: &Event) -> EventNumber {
    (event.cpu, event.seq)
}

#[test]
fn selected_events_are_recorded_and_the_others_counted_exactly() {
    with_transport(&["--transport", "ring+details"], || {
        let flood = ["fork", "--count", "3000", "--processes", "2"];
        let Some((capture, emitted)) = record_observed(&["--only", "exit"], &flood) else { return };
        assert_eq!(capture.totals().lost.total(), 0);
        let is_selected = |event: &&Event| event.kind() == EventKind::Exit;
        let selected: HashSet<_> = emitted.iter().filter(is_selected).map(number).collect();
        let recorded: HashSet<_> = capture.events().filter(is_selected).map(number).collect();
        assert_eq!(selected, recorded);
        // The recorder keeps its own heartbeats and acknowledgements as well.
        assert!(capture.events().filter(|event| !is_selected(event)).count() < 100);
        assert_eq!(capture.report.excluded, (emitted.len() - capture.events().count()) as u64);
    });
}

#[test]
fn losses_of_selected_events_by_a_full_ring_are_counted_exactly() {
    with_transport(&["--transport", "ring"], || {
        let flood = ["rename", "--count", "50000", "--processes", "2", "--pin"];
        let options = ["--only", "comm,exec", "--ring", "4K", "--buffer", "64K"];
        let Some((capture, emitted)) = record_observed(&options, &flood) else { return };
        let end = capture.totals();
        let (ring, backpressure) = (end.lost.of(LossCause::Ring), end.lost.of(LossCause::Backpressure));
        assert!(ring > 0 && ring + backpressure == end.lost.total(), "{:?}", end.lost);
        let recorded = capture.events().count() as u64;
        assert_eq!(recorded + end.lost.total() + capture.report.excluded, emitted.len() as u64);
        // If a gap includes excluded events, it is unknown which of its numbers are lost. But each
        // lost number was emitted.
        let emitted: HashSet<_> = emitted.iter().map(number).collect();
        assert!(capture.losses().flat_map(numbers).all(|number| emitted.contains(&number)));
        let dropped: u64 = capture.ring.iter().flat_map(|ring| &ring.cpus).map(|cpu| cpu.dropped).sum();
        assert_eq!(dropped, ring);
    });
}

#[test]
fn a_tree_includes_the_descendants_of_its_root_and_no_other_process() {
    with_transport(&["--transport", "ring"], || {
        let Some((dir, _guard)) = live_test() else { return };
        let mut shell = std::process::Command::new("sh");
        let shell =
            shell.args(["-c", "read line; (true; sh -c '(true)')"]).stdin(std::process::Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let root = shell.id();
        let recorder = RecorderProcess::start(&dir, &["--tree", &root.to_string()]);
        let others = FloodReport::of_run(&["fork", "--count", "200"]);
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());
        thread::sleep(EXIT_DELAY);
        let capture = recorder.finish();
        capture.check();
        assert!(others.events_of(capture.events()).is_empty() && capture.report.excluded >= others.emitted);
        let mut tree = HashSet::from([root]);
        let (mut execs, mut exits) = (0, 0);
        for event in capture.events() {
            match event.body {
                EventBody::Fork { parent, child } => {
                    assert!(tree.contains(&parent.tgid.0), "{event:?}");
                    tree.insert(child.tgid.0);
                }
                EventBody::Exec { task } => execs += u64::from(tree.contains(&task.tgid.0)),
                EventBody::Exit { task, .. } => exits += u64::from(tree.contains(&task.tgid.0)),
                _ => {}
            }
        }
        assert!(execs >= 1 && exits as usize == tree.len(), "{execs} execs, {exits} exits of {tree:?}");
    });
}

/// Returns `root` and all processes that descend from it, according to their forks.
fn descendants<'a>(root: u32, events: impl IntoIterator<Item = &'a Event>) -> HashSet<u32> {
    let mut events: Vec<_> = events.into_iter().collect();
    events.sort_by_key(|event| event.time);
    let mut tree = HashSet::from([root]);
    for event in events {
        if let EventBody::Fork { parent, child } = event.body
            && child.is_leader()
            && tree.contains(&parent.tgid.0)
        {
            tree.insert(child.tgid.0);
        }
    }
    tree
}

/// Returns the process that an event concerns; for a fork, the child.
fn subject(event: &Event) -> Option<u32> {
    match event.body {
        EventBody::Fork { child, .. } => Some(child.tgid.0),
        _ => event.task().map(|task| task.tgid.0),
    }
}

/// A shell and its descendants, all killed on drop.
struct ForkingShell(std::process::Child);

impl ForkingShell {
    /// Starts a shell that forks as `script` specifies.
    fn start(script: &str) -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut shell = std::process::Command::new("sh");
        Self(shell.args(["-c", script]).process_group(0).spawn().unwrap())
    }
}

impl Drop for ForkingShell {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn no_process_of_a_tree_that_forks_while_the_recording_begins_is_missed() {
    with_transport(&["--transport", "ring"], || {
        let Some((dir, _guard)) = live_test() else { return };
        // Consecutive children, nested children, and orphans.
        for script in [
            "while :; do (:); done",
            "while :; do (: ; (:; (:))); done",
            "while :; do ( (:) & ); sleep 0.001; done",
            "f() { (f) & wait; }; while :; do (:); sleep 0.015; done",
        ] {
            let Some(observer) = Observer::new() else { return };
            // The kernel emits events only while a process listens, and the observer needs the
            // root's own fork.
            let listener =
                RecorderProcess::start_into(&dir.path().join("listener.pmon"), &dir, &["--only", "sid"]);
            listener.wait_until_recording();
            let shell = ForkingShell::start(script);
            let root = shell.0.id();
            thread::sleep(std::time::Duration::from_millis(20));
            let recorder = RecorderProcess::start(&dir, &["--tree", &root.to_string()]);
            thread::sleep(std::time::Duration::from_millis(200));
            let capture = recorder.finish();
            drop(shell);
            drop(listener);
            capture.check();
            assert_eq!(capture.totals().lost.total(), 0);
            let observed = observer.received();
            let tree = descendants(root, observed.values());
            let header = capture.header.as_ref().unwrap();
            let recorder = header.meta.recorder().unwrap().0;
            let begin = header.meta.start.mono;
            let end = capture.end.unwrap().time;
            let recorded: HashSet<_> =
                capture.events().filter(|event| subject(event) != Some(recorder)).map(number).collect();
            let last = capture.fences.last().unwrap().time.min(end);
            let is_selected = |event: &&Event| {
                (begin..last).contains(&event.time) && subject(event).is_some_and(|pid| tree.contains(&pid))
            };
            let expected: HashSet<_> = observed.values().filter(is_selected).map(number).collect();
            let missed: Vec<_> = expected.difference(&recorded).map(|number| observed[number]).collect();
            assert!(
                missed.is_empty(),
                "{script}: {} of {}: {:?}",
                missed.len(),
                expected.len(),
                &missed[..1]
            );
            assert!(expected.len() > 20, "{script}: {}", expected.len());
            // No event of another process is recorded.
            let others = recorded.iter().filter_map(|number| observed.get(number));
            let others: Vec<_> =
                others.filter(|event| subject(event).is_some_and(|pid| !tree.contains(&pid))).collect();
            assert!(others.iter().all(|event| event.kind() == EventKind::Ack), "{script}: {others:?}");
        }
    });
}

#[test]
fn the_tree_of_a_command_is_complete_from_its_first_fork() {
    with_transport(&["--transport", "ring"], || {
        let Some((dir, _guard)) = live_test() else { return };
        let (capture, pids) =
            record_program(&dir, &["--tree"], &["sh", "-c", "echo $$; sh -c 'echo $$; (:); exec true'; (:)"]);
        capture.check();
        let pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
        let [root, child] = pids[..] else { panic!("{pids:?}") };
        let recorder = capture.header.as_ref().unwrap().meta.recorder().unwrap().0;
        let forks = |parent: u32| {
            let of = |event: &&Event| matches!(event.body, EventBody::Fork { parent: of, child } if of.tgid.0 == parent && child.is_leader());
            capture.events().filter(of).count()
        };
        assert_eq!([forks(recorder), forks(root), forks(child)], [1, 2, 1]);
        let exits = capture.events().filter(|event| event.kind() == EventKind::Exit).count();
        assert_eq!(exits, 4);
    });
}

/// Kernel settings that were changed; they are restored on drop, in reverse order.
struct ChangedSettings(Vec<(&'static str, String)>);

impl ChangedSettings {
    /// Changes a setting; returns `false` if that is not permitted.
    fn set(&mut self, path: &'static str, value: &str) -> bool {
        let Ok(before) = std::fs::read_to_string(path) else { return false };
        if std::fs::write(path, value).is_err() {
            return false;
        }
        self.0.push((path, before));
        true
    }
}

impl Drop for ChangedSettings {
    fn drop(&mut self) {
        while let Some((path, before)) = self.0.pop() {
            let _ = std::fs::write(path, before);
        }
    }
}

#[test]
fn a_process_id_above_the_limit_at_the_start_is_in_the_tree() {
    with_transport(&["--transport", "ring"], || {
        let Some((dir, _guard)) = live_test() else { return };
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "read line; (:)"]).stdin(std::process::Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let root = shell.id();
        let recorder = RecorderProcess::start(&dir, &["--tree", &root.to_string()]);
        let mut settings = ChangedSettings(Vec::new());
        let high = 3_000_000;
        if !settings.set("/proc/sys/kernel/pid_max", "4194304")
            || !settings.set("/proc/sys/kernel/ns_last_pid", &high.to_string())
        {
            shell.kill().unwrap();
            shell.wait().unwrap();
            return pmon_testkit::guard::skip("the next process id cannot be chosen");
        }
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());
        drop(settings);
        thread::sleep(EXIT_DELAY);
        let capture = recorder.finish();
        capture.check();
        let of = |event: &&Event| subject(event).is_some_and(|pid| pid > high);
        let kinds: Vec<_> = capture.events().filter(of).map(Event::kind).collect();
        assert_eq!(kinds, [EventKind::Fork, EventKind::Exit]);
    });
}
