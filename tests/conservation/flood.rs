//! The load generator that says how many events it has caused.

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};

use pmon_core::Tgid;
use pmon_core::wire::{Event, EventBody};

/// What it has done.
#[derive(Debug)]
pub(crate) struct Flood {
    processes: Vec<u32>,
    pub(crate) emitted: u64,
}

impl Flood {
    /// Reads its report: the workers' events.
    #[track_caller]
    pub(crate) fn read(report: &str) -> Self {
        let report: serde_json::Value = serde_json::from_str(report).expect(report);
        let workers = report["workers"].as_array().expect("workers");
        let workers = workers.iter().map(|worker| worker["pid"].as_u64().expect("a pid") as u32);
        Self { processes: workers.collect(), emitted: report["emitted"].as_u64().expect("a count") }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(args: &[&str]) -> Self {
        Self::ended(start(args))
    }

    /// Waits for its end: the workers' events, and its own FORK, EXEC and EXIT.
    #[track_caller]
    pub(crate) fn ended(flood: Child) -> Self {
        let id = flood.id();
        let output = flood.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut this = Self::read(&String::from_utf8(output.stdout).unwrap());
        this.processes.push(id);
        this.emitted += 3;
        this
    }

    /// This one and another.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.processes.extend(other.processes);
        self.emitted += other.emitted;
        self
    }

    /// Its events among others: what its processes and their descendants do, and the FORKs that started them.
    pub(crate) fn among<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> Vec<&'a Event> {
        let mut tree: HashSet<_> = self.processes.iter().copied().map(Tgid).collect();
        let mut events: Vec<_> = events.into_iter().collect();
        // Those of different CPUs come in order only up to some microseconds.
        events.sort_by_key(|event| event.time);
        events.retain(|event| match event.body {
            EventBody::Fork { parent, child } => {
                let is_its = tree.contains(&parent.tgid) || tree.contains(&child.tgid);
                if is_its {
                    tree.insert(child.tgid);
                }
                is_its
            }
            // Its number may become another process's.
            EventBody::Exit { task, .. } if task.is_leader() => tree.remove(&task.tgid),
            _ => event.task().is_some_and(|task| tree.contains(&task.tgid)),
        });
        events
    }
}

/// Starts it.
pub(crate) fn start(args: &[&str]) -> Child {
    let mut command = Command::new(pmon_testkit::programs::tool("flood"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}
