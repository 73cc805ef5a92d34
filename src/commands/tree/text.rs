//! Trees as text.

use std::fmt::Write as _;

use pmon_analysis::life::{Branch, FoldedLives, ForestNode, LifeEnd};
use pmon_core::MonoNs;

use super::Trees;
use crate::output::{ended, printable};
use crate::query::{clock_time, command_line};
use crate::terminal::{self, DIM, PLAIN, RED, grouped};
use crate::time_spec::brief;

/// Number of columns of a terminal below which a line has no start and no CPU time.
const MIN_WIDTH: usize = 60;

/// Returns the trees, one line a branch. On a terminal, lines are cut to its width.
pub(super) fn lines(trees: Trees, depth: usize) -> String {
    let Trees { branches, clocks, .. } = trees;
    let start = |(boot, start): (usize, Option<MonoNs>)| {
        let real_ns = clocks.get(boot)?.at(start?)?;
        Some(clock_time(real_ns, true))
    };
    let mut rows = Vec::new();
    push(&mut rows, branches, ("", depth), true, &start);
    if rows.is_empty() {
        return String::new();
    }
    let (width, has_colours) = (terminal::output_width(), terminal::colours());
    let is_narrow = width.is_some_and(|width| width < MIN_WIDTH);
    let days: Vec<_> = rows.iter().filter_map(|row| row.start.as_deref()?.split_once(' ')).collect();
    // The date is the same for all processes of a short recording.
    let is_one_day = days.iter().all(|day| day.0 == days[0].0);
    let mut text = String::new();
    let header = Row {
        pid: "PID".into(),
        start: Some("STARTED".into()),
        duration: "DURATION".into(),
        cpu: "CPU".into(),
        tree: String::new(),
        command: "COMMAND".into(),
        colour: None,
    };
    for row in std::iter::once(&header).chain(&rows) {
        let start = row.start.as_deref().unwrap_or("-");
        let start = if is_one_day { start.split_once(' ').map_or(start, |(_, time)| time) } else { start };
        let start_width = if is_one_day { 8 } else { 19 };
        let Row { pid, duration, cpu, tree, command, .. } = row;
        let columns = match is_narrow {
            true => format!("{pid:>8} {duration:>9}"),
            false => format!("{pid:>8} {start:<start_width$} {duration:>9} {cpu:>9}"),
        };
        let line = format!("{columns}  {tree}{command}");
        let line = terminal::cut(line.trim_end(), width);
        let _ = match row.colour.filter(|_| has_colours) {
            Some(colour) => writeln!(text, "{colour}{line}{PLAIN}"),
            None => writeln!(text, "{line}"),
        };
    }
    text
}

/// A line of the output.
struct Row {
    pid: String,
    start: Option<String>,
    duration: String,
    cpu: String,
    /// Lines that connect the command with that of the parent.
    tree: String,
    command: String,
    colour: Option<&'static str>,
}

type StartText<'a> = &'a dyn Fn((usize, Option<MonoNs>)) -> Option<String>;

/// Appends branches. `indent` is the prefix of their lines, and the number of levels to show.
fn push(
    rows: &mut Vec<Row>,
    branches: Vec<Branch>,
    (indent, depth): (&str, usize),
    is_root: bool,
    start: StartText<'_>,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let count = branches.len();
    for (number, branch) in branches.into_iter().enumerate() {
        let (tree, below) = match (is_root, number + 1 == count) {
            (true, _) => (String::new(), String::new()),
            (false, true) => (format!("{indent}└─ "), format!("{indent}   ")),
            (false, false) => (format!("{indent}├─ "), format!("{indent}│  ")),
        };
        let children = match branch {
            Branch::Node(node) => {
                rows.push(node_row(&node, tree, start));
                node.into_children()
            }
            Branch::Folded(folded) => {
                rows.push(folded_row(&folded, tree, start));
                folded.into_children()
            }
        };
        push(rows, children, (&below, depth), false, start);
    }
}

fn node_row(node: &ForestNode, tree: String, start: StartText<'_>) -> Row {
    let command = node.program().map(|program| command_line(program, node.name())).unwrap_or_default();
    let (mut duration, mut cpu, mut status) = ("-".to_owned(), "-".to_owned(), String::new());
    let mut colour = None;
    if let Some(row) = &node.row {
        let suffix = if row.life.end == LifeEnd::Running { "+" } else { "" };
        duration = row.lasted_ns.map_or(duration, |lasted| brief(lasted) + suffix);
        cpu = row.life.usage.as_ref().map_or(cpu, |usage| brief(usage.cpu_ns));
        if let Some(end) = row.life.status().filter(|status| !status.is_success()) {
            (status, colour) = (format!("[{}] ", ended(end, &row.life)), Some(RED));
        }
        if let LifeEnd::Unobserved { .. } = row.life.end {
            status = "[end not recorded] ".into();
        }
    }
    let pid = node.pid().to_string();
    Row { pid, start: start(node.start()), duration, cpu, tree, command: status + &command, colour }
}

fn folded_row(folded: &FoldedLives, tree: String, start: StartText<'_>) -> Row {
    let name = folded.name.as_deref().map_or_else(|| "?".into(), printable);
    let mut command = format!("× {} {name}", grouped(folded.count));
    let mut notes = Vec::new();
    if folded.failed > 0 {
        notes.push(format!("{} failed", grouped(folded.failed)));
    }
    if folded.running > 0 {
        notes.push(format!("{} running", grouped(folded.running)));
    }
    if let Some(row) = &folded.longest {
        let lasted = row.lasted_ns.map(brief).unwrap_or_default();
        let command = command_line(row.life.program.get(), row.life.comm());
        notes.push(format!("longest {lasted}: {} {command}", row.life.pid));
    }
    let _ = write!(command, "  ({})", notes.join(", "));
    Row {
        pid: String::new(),
        start: start(folded.first),
        duration: format!("Σ {}", brief(folded.lasted_ns)),
        cpu: folded.cpu_ns.map_or_else(|| "-".into(), |cpu_ns| format!("Σ {}", brief(cpu_ns))),
        tree,
        command,
        colour: Some(if folded.failed > 0 { RED } else { DIM }),
    }
}
