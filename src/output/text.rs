//! Aligned lines of text for people.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use pmon_analysis::{ProcessExit, TimelineItem, WaitStatus};
use pmon_core::accounting::LossCause;
use pmon_core::capture::{Blind, Details, Loss, Unobserved, Usage};
use pmon_core::wire::{Event, EventBody, EventKind};
use pmon_core::{MonoNs, Task, Tgid};

use super::escape::printable;
use super::timestamps::{TimestampWriter, push_fraction};
use super::{Render, RenderContext, push_number, shell_word, shell_words};
use crate::args::ClockArg;
use crate::report::verdict::unobserved_reason;
use crate::terminal::size;
use crate::time_spec::brief;

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// Writes a line per event: time, kind, process, name, and a description.
pub(crate) struct TextRenderer {
    clock: ClockArg,
    timestamps: TimestampWriter,
    colours: bool,
    /// Whether lines use the details and the process table, not only the event.
    details: bool,
    /// Whether lines are short: times in ms, and execs without the parent and the user.
    is_brief: bool,
    /// The time of the previous line.
    before: Option<MonoNs>,
    line: String,
}

impl TextRenderer {
    /// Creates a renderer with wall-clock times in `zone`.
    pub(crate) fn new(clock: ClockArg, zone: TimeZone, colours: bool) -> Self {
        let timestamps = TimestampWriter::new(zone, "%Y-%m-%d %H:%M:%S");
        Self { clock, timestamps, colours, details: true, is_brief: false, before: None, line: String::new() }
    }

    /// Creates a renderer that shows only the contents of the event.
    pub(crate) fn without_details(zone: TimeZone) -> Self {
        Self { details: false, ..Self::new(ClockArg::Wall, zone, false) }
    }

    /// Creates a renderer of short lines with times since the start.
    pub(crate) fn brief(zone: TimeZone) -> Self {
        Self { is_brief: true, ..Self::new(ClockArg::Relative, zone, false) }
    }

    /// Appends the time of a line.
    pub(crate) fn time(&mut self, time: MonoNs, context: RenderContext<'_>, out: &mut Vec<u8>) {
        let before = self.before.replace(time);
        let digits = if self.is_brief { 3 } else { 9 };
        match self.clock {
            ClockArg::Wall => match context.wall.at(time) {
                Some(real_ns) => self.timestamps.push(out, real_ns, 6),
                None => push_seconds(out, time.0.into(), 9, false),
            },
            ClockArg::Mono => push_seconds(out, time.0.into(), 9, false),
            ClockArg::Relative => {
                push_seconds(out, i128::from(time.0) - i128::from(context.start.0), digits, true)
            }
            ClockArg::Delta => {
                let before = before.unwrap_or(time);
                push_seconds(out, i128::from(time.0) - i128::from(before.0), 9, true);
            }
        }
    }

    fn paint(&self, out: &mut Vec<u8>, colour: &str) {
        if self.colours {
            out.extend_from_slice(colour.as_bytes());
        }
    }

    /// Appends a line that is not an event.
    fn note(&mut self, out: &mut Vec<u8>, colour: &str) {
        self.paint(out, colour);
        out.extend_from_slice(b"-- ");
        out.extend_from_slice(self.line.as_bytes());
        out.extend_from_slice(b" --");
        self.paint(out, PLAIN);
        out.push(b'\n');
    }
}

impl Render for TextRenderer {
    fn event(&mut self, item: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>) {
        let bytes = item.raw.as_ref().map_or(0, |raw| raw.len());
        let Some(event) = &item.event else {
            self.line.clear();
            let _ = write!(self.line, "a datagram of {bytes} bytes without a readable event");
            return self.note(out, YELLOW);
        };
        self.time(event.time, context, out);
        out.extend_from_slice(b"  ");
        self.paint(out, colour(event, context));
        let kind = event.kind().name();
        out.extend_from_slice(kind.as_bytes());
        self.paint(out, PLAIN);
        self.line.clear();
        let (task, name) = match event.task() {
            Some(task) => (task_number(task), name(task.tgid, context)),
            None => ("-".into(), "-".into()),
        };
        let _ = write!(self.line, "{:1$}  {task:>7}  {name:<15}  ", "", 8usize.saturating_sub(kind.len()));
        match event.body {
            EventBody::Exec { .. } if !self.details => self.line.push_str("runs another program"),
            _ => describe(&mut self.line, event, item, context, self.is_brief),
        }
        out.extend_from_slice(self.line.trim_end().as_bytes());
        out.push(b'\n');
    }

    fn loss(&mut self, loss: &Loss, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        let cause = match loss.cause {
            LossCause::Socket => "socket overrun",
            LossCause::Backpressure => "the recorder's output did not keep up",
            LossCause::KernelMemory => "the kernel had no memory",
            LossCause::Ring => "ring full",
            _ => "cause unknown",
        };
        let (count, cpu, first, last) = (loss.count(), loss.cpu, loss.first, loss.last);
        let events = if count == 1 { "event" } else { "events" };
        self.line.clear();
        let _ = write!(self.line, "{count} {events} lost on cpu {cpu} (seq {first}..{last}): {cause}");
        self.note(out, RED);
        true
    }

    fn blind(&mut self, blind: &Blind, context: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        self.time(blind.from, context, out);
        out.extend_from_slice(b"  ");
        self.line.clear();
        let _ = write!(self.line, "blind for {}: the kernel emitted no events", brief(blind.length_ns()));
        self.note(out, RED);
        true
    }

    fn unobserved(&mut self, span: &Unobserved, context: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        self.time(span.from, context, out);
        out.extend_from_slice(b"  ");
        self.line.clear();
        let (length, reason) = (brief(span.length_ns()), unobserved_reason(span.reason));
        let _ = write!(self.line, "unobserved for {length}: {reason}");
        self.note(out, RED);
        true
    }

    fn needs_details(&self) -> bool {
        self.details
    }

    fn needs_processes(&self) -> bool {
        self.details
    }
}

fn colour(event: &Event, context: RenderContext<'_>) -> &'static str {
    match event.body {
        EventBody::Exec { .. } => GREEN,
        EventBody::Exit { code, .. } if !WaitStatus::from_raw(status(code, context)).is_success() => RED,
        EventBody::Coredump { .. } => RED,
        _ => match event.kind() {
            EventKind::Fork | EventKind::Exit => CYAN,
            _ => YELLOW,
        },
    }
}

/// Returns `pid`, or `pid/tid` for a thread other than the first.
fn task_number(task: Task) -> String {
    if task.is_leader() { task.tgid.to_string() } else { format!("{}/{}", task.tgid, task.tid) }
}

fn name(pid: Tgid, context: RenderContext<'_>) -> String {
    context.processes.name(pid).map_or_else(|| "?".into(), printable)
}

fn describe(
    line: &mut String,
    event: &Event,
    item: &TimelineItem,
    context: RenderContext<'_>,
    is_brief: bool,
) {
    let _ = match event.body {
        EventBody::Ack { err: 0, .. } => line.write_str("a listener subscribed"),
        EventBody::Ack { err, .. } => write!(line, "a listener was refused: errno {err}"),
        EventBody::Fork { parent, child } if child.is_leader() => {
            write!(line, "child of {} {}", parent.tgid, name(parent.tgid, context))
        }
        EventBody::Fork { .. } => line.write_str("new thread"),
        EventBody::Exec { .. } => {
            if let Some(details) = item.details.as_ref().filter(|_| !is_brief) {
                line.push_str(&origin(details, context));
            }
            line.write_str(&command_line(item.details.as_deref()))
        }
        EventBody::Uid { real, effective, .. } => write!(line, "uid {real}, effective {effective}"),
        EventBody::Gid { real, effective, .. } => write!(line, "gid {real}, effective {effective}"),
        EventBody::Sid { .. } => line.write_str("leads a new session"),
        EventBody::Ptrace { tracer, .. } if tracer.tgid == Tgid(0) => line.write_str("no longer traced"),
        EventBody::Ptrace { tracer, .. } => {
            write!(line, "traced by {} {}", tracer.tgid, name(tracer.tgid, context))
        }
        EventBody::Comm { task, comm } if task.is_leader() => {
            write!(line, "is now {}", printable(comm.as_bytes()))
        }
        EventBody::Comm { comm, .. } => write!(line, "thread is now {}", printable(comm.as_bytes())),
        EventBody::Coredump { .. } => line.write_str("dumps core"),
        EventBody::Exit { task, code, .. } => {
            let exit = context.processes.last_exit();
            let thread = match (exit, task.is_leader()) {
                (Some(ProcessExit::Ended { .. }), _) | (None, true) => "",
                (_, true) => "first thread: ",
                (_, false) => "thread: ",
            };
            let is_process = thread.is_empty();
            let used = item.usage.as_deref().map(|usage| used(usage, task, is_process)).unwrap_or_default();
            let ran = if is_process { ran(event, task, context) } else { String::new() };
            write!(line, "{thread}{}{ran}{used}", WaitStatus::from_raw(status(code, context)))
        }
        EventBody::Unknown { what } => {
            let bytes = item.raw.as_ref().map_or(0, |raw| raw.len());
            write!(line, "kind {what:#x}, {bytes} bytes")
        }
        _ => Ok(()),
    };
}

/// Returns the raw wait status of the process if the exit ends it, otherwise of the thread.
fn status(code: u32, context: RenderContext<'_>) -> u32 {
    match context.processes.last_exit() {
        Some(ProcessExit::Ended { status }) => status,
        _ => code,
    }
}

/// Describes how long a process ran, if its start is known.
fn ran(event: &Event, task: Task, context: RenderContext<'_>) -> String {
    let start = context.processes.process(task.tgid).and_then(|process| process.start);
    start.map_or_else(String::new, |start| format!(", ran {}", brief(event.time.0.saturating_sub(start.0))))
}

/// Describes the resources that a thread used until its exit, or its process, if the thread is the
/// first or last one.
fn used(usage: &Usage, task: Task, is_process: bool) -> String {
    let is_last = is_process && !task.is_leader();
    let cpu_us = if is_last { usage.process_cpu_us } else { usage.cpu_us };
    let mut text = String::new();
    // For the last thread, older captures have only the thread's own usage.
    if !is_last || cpu_us > 0 {
        let least = if usage.at_least { "at least " } else { "" };
        let _ = write!(text, ", cpu {least}{}", brief(cpu_us.saturating_mul(1000)));
    }
    if (is_process || task.is_leader()) && usage.max_rss_kib > 0 {
        let _ = write!(text, ", rss {}", size(usage.max_rss_kib.saturating_mul(1024)));
    }
    text
}

/// Describes the parent and the user of a program.
fn origin(details: &Details, context: RenderContext<'_>) -> String {
    let mut text = String::new();
    if let Some(ppid) = details.ppid {
        let _ = write!(text, "← {ppid} {}  ", name(Tgid(ppid), context));
    }
    let user = |uid: u32| if uid == 0 { "root".to_owned() } else { format!("uid {uid}") };
    if let Some(ids) = details.ids {
        text.push_str(&user(ids.uid));
        if ids.euid != ids.uid {
            let _ = write!(text, " as {}", user(ids.euid));
        }
        text.push_str("  ");
    }
    text
}

/// Returns the arguments, with the path of the executable in place of its name.
fn command_line(details: Option<&Details>) -> String {
    let Some(details) = details else { return "? (no details recorded)".into() };
    let why =
        || details.miss.map_or_else(|| "not recorded".into(), |miss| format!("missed: {}", miss.name()));
    match (&details.args, &details.exe) {
        (Some(args), exe) if !args.is_empty() => {
            let file_name = |path: &[u8]| path.rsplit(|&byte| byte == b'/').next().map(<[u8]>::to_vec);
            let mut argv: Vec<&[u8]> = details.argv().collect();
            let mut text = String::new();
            if let Some(exe) = exe {
                if file_name(exe) == file_name(argv[0]) {
                    argv[0] = exe;
                } else {
                    text = format!("[{}] ", printable(exe));
                }
            }
            text.push_str(&shell_words(argv.into_iter()));
            if let Some(len) = details.args_len {
                let _ = write!(text, " ... ({} in all)", size(len));
            }
            text
        }
        (_, Some(exe)) => shell_word(exe),
        _ => format!("? (details {})", why()),
    }
}

/// Appends a time in seconds, with a sign if it is negative or `signed`.
fn push_seconds(out: &mut Vec<u8>, ns: i128, digits: usize, signed: bool) {
    if ns < 0 {
        out.push(b'-');
    } else if signed {
        out.push(b'+');
    }
    let ns = ns.unsigned_abs();
    push_number(out, (ns / 1_000_000_000) as u64);
    out.push(b'.');
    push_fraction(out, (ns % 1_000_000_000) as u32, digits);
}
