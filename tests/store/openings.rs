//! The process table at the start of a segment, compared with `/proc` at that time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pmon_core::capture::{Details, DetailsSubject, Record};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::guard::Need;
use pmon_testkit::live::{OutputLines, live_test_with, wait_until};
use pmon_testkit::recorder::{transport_options, with_transport};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::clips::StoreRecorder;

/// Number of rotations while processes start and end.
const ROTATIONS: usize = 4;
/// Ticks by which the time of a fork event, from which a start time may be derived, can be late.
const START_TOLERANCE: u64 = 2;

/// What a segment's opening and `/proc` state of a process.
#[derive(Debug, PartialEq, Eq)]
struct Properties {
    comm: String,
    ppid: u32,
    session_and_group: [u32; 2],
    ids: [u32; 4],
    cgroup: String,
    args: Vec<u8>,
    exe: String,
}

/// Processes of `long_lived.py`, by their roles. They are killed on drop.
struct LongLived {
    script: Child,
    pids: BTreeMap<String, u32>,
}

impl LongLived {
    fn start() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/long_lived.py");
        let mut command = Command::new("python3");
        command.arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut this = Self { script: command.spawn().expect("python3"), pids: BTreeMap::new() };
        let lines = OutputLines::new(this.script.stdout.take().expect("a pipe"));
        while !this.pids.contains_key("ready") {
            let line = lines.next().expect("all roles");
            let (role, pid) = line.split_once(' ').expect("a role and a process id");
            this.pids.insert(role.into(), pid.parse().expect("a number"));
        }
        this
    }
}

impl Drop for LongLived {
    fn drop(&mut self) {
        let pids = self.pids.values().filter_map(|&pid| Pid::from_raw(pid.cast_signed()));
        for pid in pids {
            // A process of a script that has failed may have ended.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.script.wait();
    }
}

/// Reads a process from `/proc`, and its start time.
fn sampled(pid: u32) -> (Properties, u64) {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).expect("a running process");
    let text = |name: &str| String::from_utf8(read(name)).expect("UTF-8");
    let stat = text("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let number = |field: usize| fields[field - 3].parse::<u64>().expect("a number");
    let status = text("status");
    let ids = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("ids");
        let mut ids = line.split_whitespace().map(|id| id.parse().expect("an id"));
        [ids.next().expect("the real id"), ids.next().expect("the effective id")]
    };
    let ([uid, euid], [gid, egid]) = (ids("Uid:"), ids("Gid:"));
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    let cgroup = text("cgroup");
    let properties = Properties {
        comm: text("comm").trim_end().into(),
        ppid: number(4) as u32,
        session_and_group: [number(6) as u32, number(5) as u32],
        ids: [uid, euid, gid, egid],
        cgroup: cgroup.lines().find(|line| line.starts_with("0::")).unwrap_or_default().into(),
        args: read("cmdline"),
        exe: exe.map(|exe| exe.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    (properties, number(22))
}

/// Returns what details state.
fn stated(details: &Details) -> Properties {
    let text = |text: &Option<Vec<u8>>| String::from_utf8(text.clone().unwrap_or_default()).expect("UTF-8");
    let (ids, context) = (details.ids.expect("ids"), details.context.expect("a context"));
    Properties {
        comm: text(&details.comm),
        ppid: details.ppid.expect("a parent"),
        session_and_group: [context.session, context.group],
        ids: [ids.uid, ids.euid, ids.gid, ids.egid],
        cgroup: text(&details.cgroup),
        args: details.args.clone().unwrap_or_default(),
        exe: text(&details.exe),
    }
}

/// What the start of a segment states.
struct Opening {
    processes: BTreeMap<u32, Details>,
    /// The details come from the ring, at the exec. Without it they are read later, and can be
    /// missed.
    is_ring: bool,
}

/// Returns the start of a segment; no processes before they are written.
fn opening(current: &Path) -> Opening {
    let (mut processes, mut is_over) = (BTreeMap::new(), false);
    let inspect = |record: &Record<'_>| match record {
        Record::Snapshot(_) => is_over = true,
        Record::Details(details) if !is_over => {
            if let DetailsSubject::Snapshot { tgid } = details.subject {
                processes.insert(tgid.0, (**details).clone());
            }
        }
        _ => {}
    };
    let segment = File::open(current).expect("a segment");
    let contents = CaptureContents::try_from_bytes(segment, inspect).expect("a capture");
    if !is_over {
        processes.clear();
    }
    let transport = contents.header.map(|header| header.meta.transport.name).unwrap_or_default();
    Opening { processes, is_ring: transport.starts_with("ring") }
}

/// Returns the path of the segment that is being written.
fn current(recorder: &StoreRecorder, store: &Path) -> PathBuf {
    let (_, status) = recorder.request(&["control", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    store.join(status["current"].as_str().expect("a segment"))
}

/// Compares openings with `/proc`. The processes start before the recorder, or after it.
fn compare(starts_before: bool) {
    let python = Need::Command("processes of python3", &["python3", "-c", "pass"]);
    let Some((directory, _guard)) = live_test_with(&[Need::Recording(transport_options()), python]) else {
        return;
    };
    let mut zombie = Command::new("true").spawn().expect("true");
    waitid(WaitId::Pid(Pid::from_child(&zombie)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .expect("a child");
    let early = starts_before.then(LongLived::start);
    let store = directory.path().join("store");
    let recorder = StoreRecorder::start(store.clone(), transport_options());
    let processes = early.unwrap_or_else(LongLived::start);
    let mut compared = 0;
    for _ in 0..ROTATIONS {
        let before = current(&recorder, &store);
        assert!(recorder.request(&["control", "rotate"]).0);
        wait_until(|| current(&recorder, &store) != before);
        let opening = wait_for_opening(&current(&recorder, &store));
        for (role, &pid) in &processes.pids {
            let (expected, start) = sampled(pid);
            let details = opening.processes.get(&pid).unwrap_or_else(|| panic!("{role} is missing"));
            if !starts_before && details.ids.is_none() && !opening.is_ring {
                continue;
            }
            compared += 1;
            let mut found = stated(details);
            if role == "leader_ends" {
                // The first thread no longer has the memory that names them in `/proc`.
                (found.args, found.exe) = (Vec::new(), String::new());
            }
            assert_eq!(found, expected, "{role}, before the recorder: {starts_before}");
            let start_ticks = details.start_ticks.expect("a start time");
            assert!(
                (start..=start + START_TOLERANCE).contains(&start_ticks),
                "{role}: {start_ticks}, {start}"
            );
        }
        assert!(!opening.processes.contains_key(&zombie.id()), "a zombie is no running process");
    }
    assert!(compared >= ROTATIONS, "only {compared} processes were compared");
    zombie.wait().expect("a child");
    recorder.end();
}

/// Waits until the opening of a segment has been written.
fn wait_for_opening(segment: &Path) -> Opening {
    let mut found = None;
    wait_until(|| {
        found = Some(opening(segment)).filter(|opening| !opening.processes.is_empty());
        found.is_some()
    });
    found.expect("an opening")
}

#[test]
fn openings_have_processes_that_changed_before_the_recording_as_proc_does() {
    compare(true);
}

#[test]
fn openings_have_processes_that_changed_while_recorded_as_proc_does() {
    compare(false);
}

#[test]
fn openings_with_recvmmsg_have_processes_as_proc_does() {
    with_transport(&["--transport", "recvmmsg"], || compare(true));
    with_transport(&["--transport", "recvmmsg"], || compare(false));
}
