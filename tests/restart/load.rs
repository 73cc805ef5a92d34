//! Loads that report how many events they cause.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pmon_core::Tgid;
use pmon_core::wire::{Event, EventBody};
use pmon_testkit::programs;
use rustix::net::netlink::CONNECTOR;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::manager::sleep_until;

/// Forks of one burst, and the time between two bursts: 2,000 forks per second.
const BURST: u32 = 200;
const INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time by which the EXIT event of a process may follow the return of `wait(2)`.
const EXIT_DELAY: Duration = Duration::from_millis(50);

/// What a load has done.
#[derive(Debug, Default)]
pub(crate) struct LoadReport {
    workers: HashSet<Tgid>,
    /// Number of events of the workers and of their children.
    pub(crate) emitted: u64,
}

impl LoadReport {
    fn add_burst(&mut self, forks: u32) {
        let mut flood = Command::new(programs::tool("flood"));
        flood.args(["fork", "--count", &forks.to_string()]).stdin(Stdio::null());
        let output = flood.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let workers = report["workers"].as_array().unwrap();
        self.workers.extend(workers.iter().map(|worker| Tgid(worker["pid"].as_u64().unwrap() as u32)));
        self.emitted += report["emitted"].as_u64().unwrap();
    }

    /// Returns how many of the load's events are among these.
    pub(crate) fn recorded<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> u64 {
        let mut events: Vec<_> = events.into_iter().collect();
        // The order of events of different CPUs is exact only to some microseconds.
        events.sort_by_key(|event| event.time);
        let mut children = HashSet::new();
        let is_own = |event: &&&Event| match event.body {
            EventBody::Fork { parent, child } if self.workers.contains(&parent.tgid) => {
                children.insert(child.tgid)
            }
            EventBody::Fork { child, .. } => self.workers.contains(&child.tgid),
            // The fork of a child can be lost, and its exit recorded.
            EventBody::Exit { task, parent, .. } => {
                let is_child = parent.is_some_and(|parent| self.workers.contains(&parent.tgid));
                self.workers.contains(&task.tgid) || children.remove(&task.tgid) || is_child
            }
            _ => false,
        };
        events.iter().filter(is_own).count() as u64
    }
}

/// A load of 2,000 forks per second.
pub(crate) struct ForkLoad {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<LoadReport>,
}

impl ForkLoad {
    /// Starts the load.
    pub(crate) fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_over = is_over.clone();
            move || {
                let mut report = LoadReport::default();
                let mut next = Instant::now();
                while !is_over.load(Ordering::Relaxed) {
                    report.add_burst(BURST);
                    next += INTERVAL;
                    sleep_until(next);
                }
                report
            }
        });
        Self { is_over, thread }
    }

    /// Ends the load.
    pub(crate) fn finish(self) -> LoadReport {
        self.is_over.store(true, Ordering::Relaxed);
        let report = self.thread.join().unwrap();
        thread::sleep(EXIT_DELAY);
        report
    }

    /// Causes this many forks as fast as possible.
    pub(crate) fn burst(forks: u32) -> LoadReport {
        let mut report = LoadReport::default();
        report.add_burst(forks);
        thread::sleep(EXIT_DELAY);
        report
    }
}

/// Opens a socket that a recorder did not create.
pub(crate) fn connector_socket() -> OwnedFd {
    socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(CONNECTOR)).unwrap()
}
