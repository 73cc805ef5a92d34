//! What the verbs of the fake kernel emit, compared with what the system calls emit that they stand for.
//!
//! A case is a list of steps, each by one task of a small tree. It is played by real tasks and by verbs; the events of each step are the
//! lines that are compared: kinds, order and all fields, with names for ids.

mod cases;
mod model;
mod names;
mod real;
#[allow(unsafe_code, reason = "tasks that are made of system calls only have no safe wrapper")]
mod sys;

use std::io;
use std::path::Path;

use crate::differential::table::Row;
use crate::differential::table::compare::pair;
use crate::differential::table::scene::Line;

pub use cases::CASES;

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Makes the next task: a process.
    Fork,
    /// The same, and waits until it runs another program or ends.
    Vfork,
    /// Makes the next task: a thread.
    Thread,
    /// Runs a program that ends at once.
    Exec,
    /// Ends, alone.
    Exit(u8),
    /// Ends the process.
    ExitGroup(u8),
    /// Sends a signal to its process that ends it. Whether a core file is written.
    Die(u8, bool),
    Rename(&'static str),
    /// `setresuid(2)` of the real and the effective id.
    Uid(u32, u32),
    /// `setresgid(2)`.
    Gid(u32, u32),
    Session,
    /// Attaches to that task, and waits until it has stopped.
    Attach(usize),
    Detach(usize),
}

/// A task, by the order in which they are made, and what it does. The first, 0, is made by us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step(pub(crate) usize, pub Deed);

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub(crate) steps: &'static [Step],
    /// Why the kernel does not always do the same: exits in a row may then come in any order, and the case is played again if the kernel
    /// has done otherwise than the model.
    pub varies: Option<&'static str>,
}

impl Step {
    fn name(&self) -> String {
        format!("{} {}", names::letter(self.0), format!("{:?}", self.1).to_lowercase())
    }
}

impl Case {
    /// Why this host does not let it be played.
    pub fn unplayable(&self) -> Option<&'static str> {
        let has = |is_it: fn(&Deed) -> bool| self.steps.iter().any(|step| is_it(&step.1));
        if has(|deed| matches!(deed, Deed::Exec)) && !Path::new("/bin/true").exists() {
            return Some("there is no /bin/true");
        }
        if has(|deed| matches!(deed, Deed::Die(_, true))) {
            let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
            if pattern.trim().is_empty() || pattern.contains(['|', '/']) {
                return Some("core files are not written to the current folder: see core_pattern");
            }
        }
        None
    }
}

/// How often a case that varies is played, and one that does not: a host that is busy may disturb it.
const TRIES: usize = 10;
const FEW_TRIES: usize = 3;

/// Plays a case by verbs, and, with `is_real`, by system calls.
///
/// # Errors
/// What keeps the tasks from being made; `TimedOut` if they are not done in time.
pub fn compare(case: &Case, is_real: bool) -> io::Result<Vec<Row>> {
    let model = model::play(case);
    if !is_real {
        let row = |line: Line| Row { what: line.what, kernel: None, model: line.seen };
        return Ok(lines(case, model).into_iter().map(row).collect());
    }
    let expected: Vec<_> = model.iter().map(Vec::len).collect();
    let tries = if case.varies.is_some() { TRIES } else { FEW_TRIES };
    let mut played = Ok(Vec::new());
    for _ in 0..tries {
        let heard = real::play(case, &expected);
        played = heard.map(|heard| pair(lines(case, heard), lines(case, model.clone())));
        if played.as_ref().is_ok_and(|rows| rows.iter().all(|row| row.is_equal() == Some(true))) {
            break;
        }
    }
    played
}

/// The events of the first task's start, and of each step.
fn lines(case: &Case, heard: Vec<Vec<String>>) -> Vec<Line> {
    let what = std::iter::once("the start".to_owned()).chain(case.steps.iter().map(Step::name));
    what.zip(heard)
        .map(|(what, mut events)| {
            if case.varies.is_some() {
                let is_exit = |event: &String| event.starts_with("exit ");
                events.chunk_by_mut(|a, b| is_exit(a) && is_exit(b)).for_each(<[_]>::sort);
            }
            let seen = if events.is_empty() { "nothing".into() } else { events.join(", ") };
            Line { what, seen }
        })
        .collect()
}
