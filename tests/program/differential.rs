//! The scenarios of the differential table in a program under replay: the program's sockets behave
//! as the model's, so that the model, which equals the real kernel, is what a program sees.

use std::cell::RefCell;
use std::convert::Infallible;
use std::env;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pmon_fake::Kernel;
use pmon_interpose::{
    InterposeError, LaunchOptions, NextEvent, ProcEntry, ProcessView, ReplayWorld, RunOptions, SocketRequest,
    Supervisor, TaskInfo,
};
use pmon_testkit::differential::{ModelKernel, RunningKernel, ScenarioWorld, compare_scenarios};
use tempfile::NamedTempFile;

use crate::harness::{IS_NATIVE, skip};

/// Name of the test that runs in the program under replay.
const IN_PROGRAM: &str = "differential::scenarios_in_the_program";
/// Scenarios in which native sockets differ from the model, and the number of lines that differ.
/// A datagram of the program itself travels in a frame that is longer, or is cut before it is sent,
/// so that another number of bytes is charged. The model applies a filter's cut to other sockets
/// before the kernel finds one of the buffers full.
const NATIVE_DIFFERENCES: [(&str, usize); 4] = [
    ("charge by length", 10),
    ("a filter that truncates", 5),
    ("a filter and messages to its port", 11),
    ("filters of several sockets, and full buffers", 4),
];
/// Time after which the program is killed.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A world without events of its own. The program requests events by process ids.
#[derive(Default)]
struct World(RefCell<ScenarioWorld>);

impl ReplayWorld for World {
    type Error = Infallible;

    fn kernel(&mut self) -> &mut Kernel {
        self.0.get_mut().kernel()
    }

    fn next_event(&mut self) -> Result<NextEvent, Infallible> {
        Ok(NextEvent::In(TIMEOUT))
    }

    fn step(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn position(&self) -> u64 {
        0
    }

    fn mark_received(&mut self, _position: u64) {}

    fn processes(&mut self) -> &dyn ProcessView {
        self
    }
}

impl ProcessView for World {
    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }

    fn task(&self, id: u32) -> Option<TaskInfo> {
        let group = self.0.borrow_mut().request(id)?;
        Some(TaskInfo { group, ..TaskInfo::default() })
    }

    fn entries(&self, _id: u32) -> Vec<(String, ProcEntry)> {
        Vec::new()
    }

    fn uptime(&self) -> Option<Duration> {
        None
    }

    fn boot_time(&self) -> Option<u64> {
        None
    }
}

#[test]
#[ignore = "is run under replay by another test"]
fn scenarios_in_the_program() {
    let mut kernel = RunningKernel::under_replay().unwrap();
    let mut model = ModelKernel::like(&kernel);
    let (mut equal, mut different) = (0, Vec::new());
    for (name, rows) in compare_scenarios(Some(&mut kernel), &mut model) {
        let rows = rows.unwrap();
        let unequal: Vec<_> = rows.iter().filter(|row| row.is_equal() != Some(true)).collect();
        equal += rows.len() - unequal.len();
        let expected = NATIVE_DIFFERENCES.iter().find(|(scenario, _)| *scenario == name);
        if unequal.len() != expected.filter(|_| IS_NATIVE).map_or(0, |&(_, lines)| lines) {
            different.extend(unequal.iter().map(|row| format!("{name}: {row:#?}")));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(equal > 1_000, "{equal} lines");
}

#[test]
fn a_program_under_replay_sees_the_model_in_all_scenarios() {
    let mut world = World::default();
    let out = NamedTempFile::new().unwrap();
    let mut options = LaunchOptions::new(env::current_exe().unwrap());
    options.args = [IN_PROGRAM, "--exact", "--ignored", "--nocapture"].map(Into::into).to_vec();
    options.stdout = Some(OwnedFd::from(File::create(out.path()).unwrap()));
    options.sockets = if IS_NATIVE { SocketRequest::Native } else { SocketRequest::Seccomp };
    let mut program = match Supervisor::start(&options, world.processes()) {
        Err(why @ InterposeError::Forbidden { .. }) => return skip(&why.to_string()),
        started => started.unwrap(),
    };
    let began = Instant::now();
    let is_late = |_: &Supervisor| if began.elapsed() < TIMEOUT { Ok(()) } else { Err("the program hangs") };
    let report = program.run(&mut world, &RunOptions::default(), is_late, |never| match never {});
    let printed = std::fs::read_to_string(out.path()).unwrap();
    assert_eq!(report.unwrap().exit_code(), 0, "{printed}");
    assert!(printed.contains("1 passed"), "{printed}");
}
