//! Runs the tool `flood`, a load generator that reports how many events it has caused.

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};

use pmon_core::Tgid;
use pmon_core::wire::{Event, EventBody};
use pmon_testkit::programs;

/// What a flood has done.
#[derive(Debug)]
pub(crate) struct FloodReport {
    processes: Vec<u32>,
    pub(crate) emitted: u64,
}

impl FloodReport {
    /// Parses the flood's output. The report includes the workers' events, not those of `flood`
    /// itself.
    #[track_caller]
    pub(crate) fn parse(report: &str) -> Self {
        let report: serde_json::Value = serde_json::from_str(report).expect(report);
        let workers = report["workers"].as_array().expect("workers");
        let workers = workers.iter().map(|worker| worker["pid"].as_u64().expect("a pid") as u32);
        Self { processes: workers.collect(), emitted: report["emitted"].as_u64().expect("a count") }
    }

    /// Runs a flood.
    #[track_caller]
    pub(crate) fn of_run(args: &[&str]) -> Self {
        Self::of_process(start(args))
    }

    /// Waits for a flood. The report includes its own FORK, EXEC and EXIT.
    #[track_caller]
    pub(crate) fn of_process(flood: Child) -> Self {
        let id = flood.id();
        let output = flood.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut this = Self::parse(&String::from_utf8(output.stdout).unwrap());
        this.processes.push(id);
        this.emitted += 3;
        this
    }

    /// Returns the report of this flood and of another one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.processes.extend(other.processes);
        self.emitted += other.emitted;
        self
    }

    /// Selects the flood's events: those of its processes and their descendants, and the FORKs that
    /// started its processes.
    pub(crate) fn events_of<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> Vec<&'a Event> {
        let mut tree: HashSet<_> = self.processes.iter().copied().map(Tgid).collect();
        let mut events: Vec<_> = events.into_iter().collect();
        // The order of events of different CPUs is exact only to some microseconds.
        events.sort_by_key(|event| event.time);
        events.retain(|event| match event.body {
            EventBody::Fork { parent, child } => {
                let is_own = tree.contains(&parent.tgid) || tree.contains(&child.tgid);
                if is_own {
                    tree.insert(child.tgid);
                }
                is_own
            }
            // The kernel may assign the ID to another process.
            EventBody::Exit { task, .. } if task.is_leader() => tree.remove(&task.tgid),
            _ => event.task().is_some_and(|task| tree.contains(&task.tgid)),
        });
        events
    }
}

/// Starts a flood.
pub(crate) fn start(args: &[&str]) -> Child {
    let mut command = Command::new(programs::tool("flood"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}
