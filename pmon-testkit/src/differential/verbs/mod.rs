//! Compares the events of the fake kernel's verbs with those of the system calls that they replace.
//!
//! A case is a list of steps, each by one task of a small tree. Real tasks and verbs perform it.
//! The events of each step are compared: kinds, order and all fields, with names for IDs.

mod cases;
mod model;
mod names;
mod running;
#[allow(unsafe_code, reason = "tasks that make only system calls have no safe wrapper")]
mod sys;

use std::io;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::differential::table::TableRow;
use crate::differential::table::compare::pair;
use crate::differential::table::run::Observation;

pub use cases::CASES;

/// An action of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskAction {
    /// Starts the next task: a process.
    Fork,
    /// Starts a process, and waits until it executes another program or exits.
    Vfork,
    /// Starts the next task: a thread.
    Thread,
    /// Executes a program that exits at once.
    Exec,
    /// Exits, without the other threads of the process.
    Exit(u8),
    /// Exits with all threads of the process.
    ExitGroup(u8),
    /// Sends a fatal signal to its process. The flag says whether a core file is written.
    Die(u8, bool),
    Rename(&'static str),
    /// Calls `setresuid(2)` with a real and an effective ID.
    Uid(u32, u32),
    /// Calls `setresgid(2)` with a real and an effective ID.
    Gid(u32, u32),
    Session,
    /// Attaches to a task by ptrace, and waits until it has stopped.
    Attach(usize),
    Detach(usize),
}

/// The number of a task, in the order of their starts, and its action. The test starts task 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskStep(pub(crate) usize, pub TaskAction);

/// A list of steps.
#[derive(Clone, Copy, Debug)]
pub struct VerbCase {
    /// The name of the case.
    pub name: &'static str,
    pub(crate) steps: &'static [TaskStep],
    /// Why the kernel's events vary. Consecutive exits may then have any order, and the case is
    /// repeated if the kernel's events differ from the model's.
    pub varies: Option<&'static str>,
}

impl TaskStep {
    fn name(&self) -> String {
        format!("{} {}", names::letter(self.0), format!("{:?}", self.1).to_lowercase())
    }
}

impl VerbCase {
    /// Returns why the case cannot run on this machine; `None` if it can.
    pub fn unsupported(&self) -> Option<&'static str> {
        let has = |is_it: fn(&TaskAction) -> bool| self.steps.iter().any(|step| is_it(&step.1));
        if has(|action| matches!(action, TaskAction::Exec)) && !Path::new("/bin/true").exists() {
            return Some("there is no /bin/true");
        }
        if has(|action| matches!(action, TaskAction::Die(_, true))) {
            let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
            if pattern.trim().is_empty() || pattern.contains(['|', '/']) {
                return Some("core files are not written to the current folder: see core_pattern");
            }
            if getrlimit(Resource::Core).maximum == Some(0) {
                return Some("core files are forbidden by ulimit -Hc");
            }
        }
        None
    }
}

/// Maximum number of attempts of a case that varies.
const MAX_VARYING_ATTEMPTS: usize = 10;
/// Maximum number of attempts of a case that does not vary; a busy machine may disturb it.
const MAX_ATTEMPTS: usize = 3;

/// Performs a case by verbs and, with `with_kernel`, by system calls.
///
/// # Errors
/// If the tasks cannot be started; `TimedOut` if they do not finish in time.
pub fn compare(case: &VerbCase, with_kernel: bool) -> io::Result<Vec<TableRow>> {
    let model = model::perform(case);
    if !with_kernel {
        let row = |line: Observation| TableRow { label: line.label, kernel: None, model: line.value };
        return Ok(lines(case, model).into_iter().map(row).collect());
    }
    let expected: Vec<_> = model.iter().map(Vec::len).collect();
    let tries = if case.varies.is_some() { MAX_VARYING_ATTEMPTS } else { MAX_ATTEMPTS };
    let mut result = Ok(Vec::new());
    for _ in 0..tries {
        let received = running::perform(case, &expected);
        result = received.map(|received| pair(lines(case, received), lines(case, model.clone())));
        if result.as_ref().is_ok_and(|rows| rows.iter().all(|row| row.is_equal() == Some(true))) {
            break;
        }
    }
    result
}

/// Returns the observations of a case: the events of the first task's start, and of each step.
fn lines(case: &VerbCase, received: Vec<Vec<String>>) -> Vec<Observation> {
    let label = std::iter::once("the start".to_owned()).chain(case.steps.iter().map(TaskStep::name));
    label
        .zip(received)
        .map(|(label, mut events)| {
            if case.varies.is_some() {
                let is_exit = |event: &String| event.starts_with("exit ");
                events.chunk_by_mut(|a, b| is_exit(a) && is_exit(b)).for_each(<[_]>::sort);
            }
            let value = if events.is_empty() { "nothing".into() } else { events.join(", ") };
            Observation { label, value }
        })
        .collect()
}
