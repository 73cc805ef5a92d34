//! Tests that the end of a killed process names the sender of the signal that killed it.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{io, thread};

use pmon_core::capture::{FatalSignal, SignalOrigin, SignalSender};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::cgroups::TestCgroup;
use crate::{RING, execs};
use pmon_testkit::guard::{self, skip};
use pmon_testkit::live::{live_test, wait_until};
use pmon_testkit::recorder::{RecorderProcess, with_transport};

/// Who must be named as the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// No signal kills the process.
    Exited,
    /// The kernel, for a cause that is negative, 0 or positive.
    Kernel(i32),
    OomKiller,
    /// The process with this ID.
    Process(u32),
}

/// A process, and how it must be recorded.
struct Victim {
    what: &'static str,
    child: Child,
    expected: Expected,
}

fn spawn(program: &str, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.current_dir("/tmp").spawn().unwrap()
}

/// Waits for a line of output of a process.
fn line_of(child: &mut Child) {
    let mut byte = [0];
    let output: &mut ChildStdout = child.stdout.as_mut().unwrap();
    while io::Read::read(output, &mut byte).unwrap() == 1 && byte != *b"\n" {}
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).unwrap()
}

fn kill(child: &Child, signal: Signal) {
    kill_process(pid(child), signal).unwrap();
}

/// Kills a process by `kill` of a shell. Returns the process ID of the shell.
fn kill_by_shell(child: &Child) -> u32 {
    let mut shell = Command::new("sh").args(["-c", &format!("kill -KILL {}", child.id())]).spawn().unwrap();
    assert!(shell.wait().unwrap().success());
    shell.id()
}

/// Waits until a process is stopped.
fn wait_until_stopped(child: &Child) {
    wait_until(|| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    });
}

/// Starts processes that end in different ways, and kills those that do not end by themselves.
fn victims() -> Vec<Victim> {
    let me = Expected::Process(std::process::id());
    let mut victims = Vec::new();
    let mut add = |what, child, expected| victims.push(Victim { what, child, expected });

    let killed = spawn("sleep", &["60"]);
    kill(&killed, Signal::TERM);
    add("kill(2)", killed, me);

    let by_descriptor = spawn("sleep", &["60"]);
    let descriptor = pidfd_open(pid(&by_descriptor), PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&descriptor, Signal::KILL).unwrap();
    add("pidfd_send_signal(2)", by_descriptor, me);

    let by_shell = spawn("sleep", &["60"]);
    let shell = kill_by_shell(&by_shell);
    add("a shell that has ended", by_shell, Expected::Process(shell));

    let itself = spawn("sh", &["-c", "kill -ABRT $$; sleep 60"]);
    let own = Expected::Process(itself.id());
    add("the process itself", itself, own);

    // The first signal is handled, so the second one kills.
    let mut handles = spawn("sh", &["-c", "trap 'echo got' TERM; echo; while :; do sleep 0.01; done"]);
    line_of(&mut handles);
    kill(&handles, Signal::TERM);
    line_of(&mut handles);
    let shell = kill_by_shell(&handles);
    add("a handled signal before", handles, Expected::Process(shell));

    let mut exits = spawn("sh", &["-c", "trap 'exit 0' TERM; echo; while :; do sleep 0.01; done"]);
    line_of(&mut exits);
    kill(&exits, Signal::TERM);
    add("a handled signal", exits, Expected::Exited);

    // A stopped process does not act on the first signal.
    let stopped = spawn("sh", &["-c", "trap 'exit 1' TERM; kill -STOP $$; sleep 60"]);
    wait_until_stopped(&stopped);
    kill(&stopped, Signal::TERM);
    let shell = kill_by_shell(&stopped);
    add("a pending signal before", stopped, Expected::Process(shell));

    let mut pipe = spawn("yes", &[]);
    drop(pipe.stdout.take());
    add("a closed pipe", pipe, Expected::Kernel(0));

    add("a fault", spawn(&execs(), &["end", "fault", "--together"]), Expected::Kernel(1));
    victims
}

/// Returns the start of this process in clock ticks since boot, and its name.
fn myself() -> (u64, Vec<u8>) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let start = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let mut name = fs::read("/proc/self/comm").unwrap();
    name.pop();
    (start, name)
}

fn check(what: &str, signal: &FatalSignal, expected: Expected) {
    let is_oom_kill = Some(expected == Expected::OomKiller);
    match (expected, signal.origin) {
        (Expected::Exited, _) => return assert_eq!(*signal, FatalSignal::default(), "{what}"),
        (Expected::Kernel(cause), SignalOrigin::Kernel { code }) => {
            assert_eq!(code.signum(), cause, "{what}: {code}");
        }
        (Expected::OomKiller, SignalOrigin::Kernel { .. }) => {}
        (Expected::Process(pid), SignalOrigin::Process { sender, .. }) => {
            assert_eq!(sender.pid, pid, "{what}: {sender:?}");
            check_sender(what, &sender);
        }
        (expected, origin) => panic!("{what}: {origin:?} instead of {expected:?}"),
    }
    assert_eq!(signal.is_oom_kill(), is_oom_kill, "{what}");
}

fn check_sender(what: &str, sender: &SignalSender) {
    assert_eq!(sender.uid, rustix::process::getuid().as_raw(), "{what}");
    let (start, name) = myself();
    if sender.pid == std::process::id() {
        assert_eq!((sender.start_ticks, sender.comm.as_bytes()), (start, &name[..]), "{what}");
    } else {
        assert!(sender.start_ticks >= start, "{what}: {sender:?}");
        assert_eq!(sender.comm.as_bytes(), b"sh", "{what}");
    }
}

/// Records the ends of these processes, and compares their signals. Repeats the recording if events
/// were lost or came without details.
fn check_all(start: impl Fn() -> Vec<Victim>) {
    let attempt = || {
        with_transport(RING, || {
            let Some((dir, _guard)) = live_test() else { return Ok(()) };
            let recorder = RecorderProcess::start(&dir, &["--ring", "64M"]);
            let mut victims = start();
            for Victim { what, child, expected } in &mut victims {
                let status = child.wait().unwrap();
                assert_eq!(status.signal().is_none(), *expected == Expected::Exited, "{what}: {status}");
            }
            let capture = recorder.finish();
            capture.check();
            for Victim { what, child, expected } in victims {
                let of = |task: &pmon_core::Task| task.tgid.0 == child.id();
                let mut ends = capture.usages.iter().filter(|(task, usage)| {
                    of(task) && matches!(usage.process, pmon_core::capture::ProcessState::Ended { .. })
                });
                let Some((_, usage)) = ends.next_back() else { return Err(format!("no end of {what}")) };
                check(what, &usage.fatal_signal, expected);
            }
            Ok(())
        })
    };
    guard::retry(attempt).unwrap_or_else(|why: String| panic!("{why}"));
}

#[test]
fn a_killed_process_names_the_sender_of_the_signal_that_killed_it() {
    check_all(victims);
}

/// Starts a process in a cgroup.
fn spawn_in(cgroup: &Path, script: &str) -> Child {
    let enter = format!("echo $$ > '{}/cgroup.procs' && echo && {script}", cgroup.display());
    let mut child = spawn("sh", &["-c", &enter]);
    line_of(&mut child);
    child
}

#[test]
fn a_process_killed_with_its_cgroup_names_the_writer() {
    let Some(cgroup) = TestCgroup::new("killed") else { return };
    let kill = cgroup.path().join("cgroup.kill");
    if !kill.exists() {
        return skip("the kernel cannot kill a cgroup");
    }
    check_all(|| {
        let child = spawn_in(cgroup.path(), "exec sleep 60");
        fs::write(&kill, "1").unwrap();
        let expected = Expected::Process(std::process::id());
        vec![Victim { what: "cgroup.kill", child, expected }]
    });
}

/// A cgroup with a limit on memory, removed on drop.
struct LimitedCgroup(PathBuf);

impl LimitedCgroup {
    /// Creates a cgroup of version 2 or 1. Skips the test if that is not possible.
    fn new(unified: Option<&TestCgroup>) -> Option<Self> {
        let name = format!("pmon-test-oom-{}", std::process::id());
        let (this, file) = match unified.filter(|cgroup| cgroup.path().join("memory.max").exists()) {
            Some(cgroup) => (Self(cgroup.path().join(name)), "memory.max"),
            None => (Self(Path::new("/sys/fs/cgroup/memory").join(name)), "memory.limit_in_bytes"),
        };
        if let Some(cgroup) = unified {
            // A cgroup of version 2 limits memory only if its parent enables that.
            let _ = fs::write(cgroup.path().join("cgroup.subtree_control"), "+memory");
        }
        let limited = fs::create_dir(&this.0).and_then(|()| fs::write(this.0.join(file), "20000000"));
        if let Err(error) = limited {
            skip(&format!("there is no cgroup with a limit on memory: {error}"));
            return None;
        }
        let _ = fs::write(this.0.join("memory.swap.max"), "0");
        Some(this)
    }
}

impl Drop for LimitedCgroup {
    fn drop(&mut self) {
        // The kernel removes a killed process from its cgroup a little after its end.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn a_process_without_memory_is_killed_by_the_oom_killer() {
    let unified = TestCgroup::new("oom");
    let Some(cgroup) = LimitedCgroup::new(unified.as_ref()) else { return };
    check_all(|| {
        // tail(1) keeps the last line, which does not end.
        let child = spawn_in(&cgroup.0, "exec tail /dev/zero");
        vec![Victim { what: "the OOM killer", child, expected: Expected::OomKiller }]
    });
}
