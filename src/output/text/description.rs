//! Describes what an event did to its process.
//!
//! The texts of frequent events are appended piece by piece: the formatting macros would take most
//! of the time of `print`.

use std::fmt::Write as _;
use std::ops::Range;

use pmon_analysis::life::LifeRef;
use pmon_analysis::{ProcessExit, TimelineItem, WaitStatus};
use pmon_core::capture::{Details, Usage, argv};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{Task, Tgid};

use super::exit_status;
use crate::output::escape::{push_printable, push_shell_words};
use crate::output::{RenderContext, signal_origin};
use crate::terminal::{push_number, push_size, text_width};
use crate::time_spec::push_brief;
use crate::users::UserNames;

/// Width of the column with the process ID.
const PID_WIDTH: usize = 7;
/// Minimum width of a name.
const NAME_WIDTH: usize = 8;

/// Appends spaces, at most 16.
pub(super) fn push_spaces(line: &mut String, count: usize) {
    const SPACES: &str = "                ";
    line.push_str(&SPACES[..count.min(SPACES.len())]);
}

/// Appends a task: its process ID, and the thread ID of a thread other than the first.
pub(super) fn push_task(line: &mut String, task: Option<Task>) {
    let mut number = itoa::Buffer::new();
    let pid = task.map_or("-", |task| number.format(task.tgid.0));
    let thread = task.filter(|task| !task.is_leader());
    let thread_width = thread.map_or(0, |task| 2 + task.tid.0.checked_ilog10().unwrap_or(0) as usize);
    push_spaces(line, PID_WIDTH.saturating_sub(pid.len() + thread_width));
    line.push_str(pid);
    if let Some(task) = thread {
        line.push('/');
        push_number(line, task.tid.0);
    }
    line.push_str("  ");
}

/// Appends the name of the process of a task.
pub(super) fn push_task_name(line: &mut String, task: Option<Task>, context: RenderContext<'_>) {
    let start = line.len();
    match task {
        Some(task) => push_name(line, task.tgid, context),
        None => line.push('-'),
    }
    push_spaces(line, 2 + NAME_WIDTH.saturating_sub(text_width(&line[start..])));
}

/// Appends what happened to the process. Returns which part of the line is a failure.
pub(super) fn describe(
    line: &mut String,
    event: &Event,
    item: &TimelineItem,
    context: RenderContext<'_>,
    is_brief: bool,
) -> Range<usize> {
    let _ = match event.body {
        EventBody::Ack { err: 0, .. } => line.write_str("a listener subscribed"),
        EventBody::Ack { err, .. } => write!(line, "a listener was refused: errno {err}"),
        EventBody::Fork { parent, child } if child.is_leader() => {
            line.push_str("child of ");
            push_process(line, parent.tgid, context);
            Ok(())
        }
        EventBody::Fork { .. } => line.write_str("new thread"),
        EventBody::Exec { .. } => line.write_str(&unknown_command(item.details.as_deref())),
        EventBody::Uid { real, effective, .. } => write!(line, "uid {real}, effective {effective}"),
        EventBody::Gid { real, effective, .. } => write!(line, "gid {real}, effective {effective}"),
        EventBody::Sid { .. } => line.write_str("leads a new session"),
        EventBody::Ptrace { tracer, .. } if tracer.tgid == Tgid(0) => line.write_str("no longer traced"),
        EventBody::Ptrace { tracer, .. } => {
            line.push_str("traced by ");
            push_process(line, tracer.tgid, context);
            Ok(())
        }
        EventBody::Comm { task, comm } => {
            line.push_str(if task.is_leader() { "is now " } else { "thread is now " });
            push_printable(line, comm.as_bytes());
            Ok(())
        }
        EventBody::Coredump { .. } => line.write_str("dumps core"),
        EventBody::Exit { task, code, .. } => {
            return push_exit(line, event, (task, code), item.usage.as_deref(), context, is_brief);
        }
        EventBody::Unknown { what } => {
            let bytes = item.raw.as_ref().map_or(0, |raw| raw.len());
            write!(line, "kind {what:#x}, {bytes} bytes")
        }
        _ => Ok(()),
    };
    0..0
}

/// Appends how a task ended. Returns which part of the line is a failure.
fn push_exit(
    line: &mut String,
    event: &Event,
    (task, code): (Task, u32),
    usage: Option<&Usage>,
    context: RenderContext<'_>,
    is_brief: bool,
) -> Range<usize> {
    let thread = match (context.exit(), task.is_leader()) {
        (Some(ProcessExit::Ended { .. }), _) | (None, true) => "",
        (_, true) => "first thread: ",
        (_, false) => "thread: ",
    };
    let is_process = thread.is_empty();
    let life = context.life.filter(|_| is_process);
    line.push_str(thread);
    let begin = line.len();
    let status = exit_status(code, context);
    match status {
        WaitStatus::Exited(code) => {
            line.push_str("exit ");
            push_number(line, code);
        }
        // The duration and the parent fit 80 columns, too.
        WaitStatus::Killed { .. } => line.push_str(&status.to_string().replace("(core dumped)", "(core)")),
    }
    if let Some(usage) = usage.filter(|_| is_process) {
        line.push_str(&signal_origin(status, task.tgid.0, &usage.fatal_signal));
    }
    let failure = if status.is_success() { 0..0 } else { begin..line.len() };
    if let Some(start) = life.and_then(|life| life.start) {
        line.push_str(", ran ");
        push_brief(line, event.time.0.saturating_sub(start.0));
    }
    let life = life.filter(|_| !is_brief);
    if let Some(ppid) = life.and_then(|life| life.ppid) {
        push_parent(line, ppid, context);
    }
    if let Some(usage) = usage {
        push_usage(line, usage, task, is_process);
    }
    if let Some(life) = life {
        push_program(line, life);
    }
    failure
}

fn push_process(line: &mut String, pid: Tgid, context: RenderContext<'_>) {
    push_number(line, pid.0);
    line.push(' ');
    push_name(line, pid, context);
}

/// Appends the name of the process that had this ID last.
fn push_name(line: &mut String, pid: Tgid, context: RenderContext<'_>) {
    let process = context.processes.and_then(|processes| processes.last_process(pid));
    push_comm(line, process.and_then(|process| process.comm()));
}

fn push_comm(line: &mut String, comm: Option<&[u8]>) {
    match comm {
        Some(comm) => push_printable(line, comm),
        None => line.push('?'),
    }
}

/// Appends the parent of a process.
fn push_parent(line: &mut String, ppid: u32, context: RenderContext<'_>) {
    line.push_str("  ← ");
    push_process(line, Tgid(ppid), context);
}

/// Appends the program of a process that has ended.
fn push_program(line: &mut String, life: LifeRef<'_>) {
    let program = life.program;
    if let Some(args) = program.args.as_deref().filter(|args| !args.is_empty()) {
        line.push_str("  ");
        push_arguments(line, args, program.exe.as_deref(), program.args_len);
    }
}

/// Appends the ancestors of a process, the oldest first.
pub(super) fn push_ancestors(line: &mut String, context: RenderContext<'_>) {
    let ancestors: Vec<_> = context.life.iter().flat_map(|life| life.ancestors()).collect();
    for (n, ancestor) in ancestors.iter().rev().enumerate() {
        line.push_str(if n == 0 { "  [" } else { " " });
        push_comm(line, ancestor.comm());
        let _ = write!(line, "({})", ancestor.pid);
    }
    if !ancestors.is_empty() {
        line.push(']');
    }
}

/// Appends the resources that a thread used until its exit, or its process, if the thread is the
/// first or last one.
fn push_usage(line: &mut String, usage: &Usage, task: Task, is_process: bool) {
    let is_last = is_process && !task.is_leader();
    let cpu_us = if is_last { usage.process_cpu_us } else { usage.cpu_us };
    // For the last thread, older captures have only the thread's own usage.
    let has_cpu = !is_last || cpu_us > 0;
    if has_cpu {
        line.push_str(if usage.at_least { "  cpu at least " } else { "  cpu " });
        push_brief(line, cpu_us.saturating_mul(1000));
    }
    if (is_process || task.is_leader()) && usage.max_rss_kib > 0 {
        line.push_str(if has_cpu { ", rss " } else { "  rss " });
        push_size(line, usage.max_rss_kib.saturating_mul(1024));
    }
}

/// Appends the parent and the user of a program.
pub(super) fn push_origin(
    line: &mut String,
    details: &Details,
    context: RenderContext<'_>,
    users: &UserNames,
) {
    if let Some(ppid) = details.ppid {
        push_parent(line, ppid, context);
    }
    if let Some(ids) = details.ids {
        line.push_str("  ");
        push_user(line, ids.uid, users);
        if ids.euid != ids.uid {
            line.push_str(" as ");
            push_user(line, ids.euid, users);
        }
    }
}

fn push_user(line: &mut String, uid: u32, users: &UserNames) {
    match (uid, users.name(uid)) {
        (_, Some(name)) => line.push_str(name),
        (0, None) => line.push_str("root"),
        (_, None) => {
            line.push_str("uid ");
            push_number(line, uid);
        }
    }
}

/// Appends the arguments, with the path of the executable in place of its name. Returns `false` if
/// neither is known.
pub(super) fn push_command_line(line: &mut String, details: &Details) -> bool {
    match (&details.args, &details.exe) {
        (Some(args), exe) if !args.is_empty() => {
            push_arguments(line, args, exe.as_deref(), details.args_len);
        }
        (_, Some(exe)) => push_shell_words(line, std::iter::once(&exe[..])),
        (_, None) => return false,
    }
    true
}

/// States why the command line of an exec is unknown.
fn unknown_command(details: Option<&Details>) -> String {
    let Some(details) = details else { return "? (no details recorded)".into() };
    let why = details.miss.map_or_else(|| "not recorded".into(), |miss| format!("missed: {}", miss.name()));
    format!("? (details {why})")
}

/// Appends arguments, with the path of the executable in place of its name. `full_len` is their
/// length, if `args` holds only the first ones.
fn push_arguments(line: &mut String, args: &[u8], exe: Option<&[u8]>, full_len: Option<u64>) {
    let mut argv = argv(args);
    let mut first = argv.next().unwrap_or_default();
    if let Some(exe) = exe {
        if file_name(exe) == file_name(first) {
            first = exe;
        } else {
            line.push('[');
            push_printable(line, exe);
            line.push_str("] ");
        }
    }
    push_shell_words(line, std::iter::once(first).chain(argv));
    if let Some(len) = full_len.filter(|&len| len > args.len() as u64) {
        line.push_str(" ... (");
        push_size(line, len);
        line.push_str(" in all)");
    }
}

/// Returns the part of a path after its last slash.
fn file_name(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    &path[slash.map_or(0, |slash| slash + 1)..]
}
