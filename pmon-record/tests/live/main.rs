//! Recordings of the running kernel.
//!
//! Each test is reported as skipped if the kernel does not permit process events here.
#![allow(clippy::print_stderr, reason = "some tests print what they measured")]

mod segments;
mod sinks;

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pmon_core::capture::{DetailsSubject, Item, MissReason, Reader};
use pmon_core::wire::EventBody;
use pmon_core::{Task, Tgid};
use pmon_record::{RecordOptions, Recording, SubscribeError, Subscription};
use pmon_store::{CaptureFile, CaptureTarget};
use pmon_testkit::deadline::Deadline;
use pmon_testkit::guard::skip;
use sinks::{CollectingSink, GatedSink, Recorded};

/// Lets one test of this program run at a time. A storm of one test would fill the small socket
/// buffer that an ordinary user's recorder has in another.
fn one_at_a_time() -> (Deadline, MutexGuard<'static, ()>) {
    static RUNNING: Mutex<()> = Mutex::new(());
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    (Deadline::start(), running)
}

/// Subscribes, or skips the test if this environment does not permit it.
fn subscribe(options: &RecordOptions) -> Option<Subscription> {
    match Subscription::open(options) {
        Ok(subscription) => Some(subscription),
        Err(
            error @ (SubscribeError::NoConnector { .. }
            | SubscribeError::Permission { .. }
            | SubscribeError::NetNamespace { .. }
            | SubscribeError::Namespace { .. }
            | SubscribeError::NoAck { .. }),
        ) => {
            skip(&error.to_string());
            None
        }
        Err(error) if error.to_string().contains("CAP_BPF") => {
            skip("CAP_BPF and CAP_PERFMON are missing");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Records while `workload` runs.
fn record<T>(options: &RecordOptions, workload: impl FnOnce() -> T) -> Option<(T, Recorded)> {
    let _guard = one_at_a_time();
    let subscription = subscribe(options)?;
    let recording = Recording::start(subscription, CollectingSink::default(), options).unwrap();
    let result = workload();
    recording.stopper().stop();
    let (sink, end) = recording.join().unwrap();
    Some((result, sink.finished(end)))
}

/// Starts a thread that renames itself this often. Returns its id.
fn rename_thread(times: u64) -> u32 {
    let storm = std::thread::spawn(move || {
        for i in 0..times {
            let name = if i % 2 == 0 { c"storm-even" } else { c"storm-odd" };
            rustix::thread::set_name(name).unwrap();
        }
        rustix::thread::gettid().as_raw_nonzero().get() as u32
    });
    storm.join().unwrap()
}

/// Returns the number of recorded renames of a thread.
fn renames_of(recorded: &Recorded, tid: u32) -> u64 {
    let is_rename = |body| matches!(body, EventBody::Comm { task, .. } if task.tid.0 == tid);
    recorded.events.iter().filter(|event| is_rename(event.body)).count() as u64
}

#[test]
fn a_command_is_recorded_from_fork_to_exit() {
    let Some((child, recorded)) = record(&RecordOptions::default(), || {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "/bin/sleep 0.1; exit 3"]).arg0("a shell").stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        Tgid(child.id())
    }) else {
        return;
    };
    let me = Tgid(std::process::id());
    let mut bodies = recorded.events.iter().map(|event| event.body);
    let fork = bodies.find(|body| matches!(body, EventBody::Fork { child: task, .. } if task.tgid == child));
    let Some(EventBody::Fork { parent, child: task }) = fork else {
        panic!("the fork of {child} is not recorded")
    };
    assert_eq!((parent.tgid, task), (me, Task::new(child.0, child.0)));
    let grandchild = bodies.find_map(|body| match body {
        EventBody::Fork { parent, child: grandchild } if parent.tgid == child => Some(grandchild.tgid),
        _ => None,
    });
    let grandchild = grandchild.expect("the fork of the shell's child is recorded");
    let exits = |tgid: Tgid| {
        recorded.events.iter().find_map(|event| match event.body {
            EventBody::Exit { task, code, signal, parent } if task.tgid == tgid => {
                Some((std::process::ExitStatus::from_raw(code as i32).code(), signal, parent.unwrap().tgid))
            }
            _ => None,
        })
    };
    assert_eq!(exits(grandchild), Some((Some(0), 17, child)));
    assert_eq!(exits(child), Some((Some(3), 17, me)));

    let details = recorded.of_exec(child);
    assert_eq!(details.len(), 1, "an exec has one details record");
    let argv: Vec<_> = details[0].argv().collect();
    assert_eq!(argv, [&b"a shell"[..], b"-c", b"/bin/sleep 0.1; exit 3"]);
    assert_eq!((details[0].miss, details[0].ppid), (None, Some(me.0)));
    let sleep = recorded.of_exec(grandchild);
    assert_eq!(sleep[0].argv().collect::<Vec<_>>(), [&b"/bin/sleep"[..], b"0.1"]);
    assert_eq!((sleep[0].ppid, sleep[0].comm.as_deref()), (Some(child.0), Some(&b"sleep"[..])));
}

#[test]
fn a_recording_has_the_acknowledgement_the_clocks_and_a_snapshot() {
    let Some(((), recorded)) = record(&RecordOptions::default(), || {}) else { return };
    assert!(recorded.events.iter().any(|event| matches!(event.body, EventBody::Ack { err: 0, .. })));
    assert!(!recorded.clocks.is_empty());
    let [snapshot] = recorded.snapshots[..] else { panic!("there is not exactly one snapshot") };
    let found =
        recorded.details.iter().filter(|details| matches!(details.subject, DetailsSubject::Snapshot { .. }));
    assert_eq!(found.count(), snapshot.processes as usize);
    let me = DetailsSubject::Snapshot { tgid: Tgid(std::process::id()) };
    assert!(recorded.details.iter().any(|details| details.subject == me && details.miss.is_none()));
    assert_eq!(recorded.end.events, recorded.datagrams);
}

#[test]
fn each_exec_has_its_details_or_a_miss_exactly_once() {
    const RUNS: usize = 200;
    let loops = format!("i=0; while [ $i -lt {RUNS} ]; do /bin/true; i=$((i+1)); done");
    let Some(((), recorded)) = record(&RecordOptions { snapshot: false, ..RecordOptions::default() }, || {
        assert!(Command::new("/bin/sh").args(["-c", &loops]).status().unwrap().success());
    }) else {
        return;
    };
    let execs: Vec<_> = recorded
        .events
        .iter()
        .filter_map(|event| match event.body {
            EventBody::Exec { task } => Some(DetailsSubject::Exec { tgid: task.tgid, time: event.time }),
            _ => None,
        })
        .collect();
    assert!(execs.len() > RUNS);
    let subjects: Vec<_> = recorded.details.iter().map(|details| details.subject).collect();
    assert_eq!(subjects.len(), execs.len());
    assert_eq!(subjects.iter().collect::<HashSet<_>>(), execs.iter().collect());
    for details in &recorded.details {
        assert!(details.args.is_some() || details.miss.is_some());
    }
    assert_eq!(recorded.end.lost.total(), 0);
}

#[test]
fn a_program_that_is_replaced_at_once_never_has_the_next_programs_details() {
    let script = "i=0; while [ $i -lt 50 ]; do (exec /usr/bin/env -i /bin/true last); i=$((i+1)); done";
    let Some(((), recorded)) = record(&RecordOptions { snapshot: false, ..RecordOptions::default() }, || {
        assert!(Command::new("/bin/sh").args(["-c", script]).status().unwrap().success());
    }) else {
        return;
    };
    let mut seen = HashSet::new();
    let mut firsts = 0;
    for event in &recorded.events {
        let EventBody::Exec { task } = event.body else { continue };
        let is_first = seen.insert(task.tgid);
        let subject = DetailsSubject::Exec { tgid: task.tgid, time: event.time };
        let details = recorded.details.iter().find(|details| details.subject == subject).unwrap();
        let Some(last) = details.argv().last().map(<[u8]>::to_vec) else { continue };
        let is_env = details.argv().next() == Some(b"/usr/bin/env");
        if last == b"last" {
            assert_eq!(is_env, is_first, "{details:?}");
            // A process that ended while it was read can have arguments without an executable.
            if let Some(exe) = &details.exe {
                assert_eq!(exe.ends_with(b"env"), is_first, "{details:?}");
            }
            firsts += usize::from(is_first);
        }
    }
    eprintln!("details of {firsts} of 50 replaced programs");
    let superseded = recorded.details.iter().filter(|details| details.miss == Some(MissReason::Superseded));
    eprintln!("superseded: {}", superseded.count());
}

#[test]
fn each_event_of_a_storm_is_recorded_or_counted_as_lost() {
    const RENAMES: u64 = 100_000;
    let options =
        RecordOptions { socket_buffer: 1 << 20, snapshot: false, details: false, ..RecordOptions::default() };
    let Some((tid, recorded)) = record(&options, || rename_thread(RENAMES)) else {
        return;
    };
    let renames = renames_of(&recorded, tid);
    eprintln!("{renames} recorded, {} lost in {} gaps", recorded.end.lost.total(), recorded.losses.len());
    assert!(renames <= RENAMES);
    // Each missing rename is among the lost events, which may include other processes' events.
    assert!(renames + recorded.end.lost.total() >= RENAMES);
    assert_eq!(recorded.losses.iter().map(|loss| loss.count()).sum::<u64>(), recorded.end.lost.total());
}

#[test]
fn losses_by_a_stalled_output_are_counted_also_at_the_end() {
    const RENAMES: u64 = 20_000;
    let options = RecordOptions {
        socket_buffer: 256 << 10,
        buffer: 128 << 10,
        snapshot: false,
        details: false,
        ..RecordOptions::default()
    };
    let _guard = one_at_a_time();
    let Some(subscription) = subscribe(&options) else { return };
    let sink = GatedSink::default();
    let gate = sink.is_open.clone();
    let recording = Recording::start(subscription, sink, &options).unwrap();
    let tid = rename_thread(RENAMES);
    // The sink has accepted no record yet, so the queue and the socket are full, and the last
    // events are lost already.
    recording.stopper().stop();
    std::thread::sleep(Duration::from_millis(100));
    gate.store(true, Ordering::Release);
    let (sink, end) = recording.join().unwrap();
    let recorded = sink.memory.finished(end);
    let renames = renames_of(&recorded, tid);
    assert!(renames < RENAMES, "no event was lost");
    assert!(
        renames + recorded.end.lost.total() >= RENAMES,
        "{renames} and {} of {RENAMES}",
        recorded.end.lost.total()
    );
}

#[test]
fn a_recording_ends_during_a_storm() {
    let options = RecordOptions { snapshot: false, details: false, ..RecordOptions::default() };
    let _guard = one_at_a_time();
    let Some(subscription) = subscribe(&options) else { return };
    let recording = Recording::start(subscription, CollectingSink::default(), &options).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let storm = std::thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Ordering::Relaxed) {
                rustix::thread::set_name(c"storm").unwrap();
            }
        }
    });
    std::thread::sleep(Duration::from_millis(50));
    recording.stopper().stop();
    let (sink, end) = recording.join().unwrap();
    over.store(true, Ordering::Relaxed);
    storm.join().unwrap();
    assert!(sink.finished(end).datagrams > 1000);
}

#[test]
fn a_file_has_the_same_totals_as_its_recording() {
    let options = RecordOptions::default();
    let _guard = one_at_a_time();
    let Some(subscription) = subscribe(&options) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live.pmon");
    let header = subscription.header(&["true".into()]);
    let file = CaptureFile::create(&CaptureTarget::File(path.clone()), &header, false).unwrap();
    let recording = Recording::start(subscription, file, &options).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
    recording.stopper().stop();
    let (file, end) = recording.join().unwrap();
    assert_eq!(file.path(), Some(&*path));
    assert_eq!(file.bytes(), fs::metadata(&path).unwrap().len());

    let mut reader = Reader::open(fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(reader.header(), Some(&header));
    let mut events = 0;
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Block(block) => events += sinks::events(block),
            Item::Damage(damage) => panic!("{damage:?}"),
        }
    }
    assert!(reader.ended_cleanly());
    assert_eq!(events, end.events);
}

#[test]
fn an_unprivileged_user_can_record_if_the_kernel_permits_it() {
    // Runs one of the tests above as another user. If the kernel refuses, that test is skipped.
    let options = RecordOptions::default();
    let _guard = one_at_a_time();
    if !rustix::process::geteuid().is_root() || subscribe(&options).is_none() {
        skip("the user is not root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("live");
    // Copied by another process. A child that another test starts at the same time would inherit a
    // descriptor of the copy that is open for writing.
    let copied =
        Command::new("cp").arg("-p").arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap();
    assert!(copied.success());
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut child = Command::new(&copy);
    child.args(["--exact", "--nocapture", "a_command_is_recorded_from_fork_to_exit"]).uid(65534).gid(65534);
    let output = child.current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    eprintln!("{text}");
}
