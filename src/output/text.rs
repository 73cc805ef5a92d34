//! Aligned lines of text for people.
//!
//! A line begins with the time, the kind and the process. What matters most comes next, because the
//! width of a terminal cuts the end: the command line of an exec, the status of an exit.

mod description;

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use pmon_analysis::{ProcessExit, TimelineItem, WaitStatus};
use pmon_core::MonoNs;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{Blind, Loss, Unobserved};
use pmon_core::wire::{Event, EventBody, EventKind};

use self::description::{
    describe, push_ancestors, push_command_line, push_origin, push_spaces, push_task, push_task_name,
};
use super::timestamps::{TimestampWriter, push_fraction};
use super::{Render, RenderContext, push_number};
use crate::args::ClockArg;
use crate::report::verdict::unobserved_reason;
use crate::terminal::{self, cut};
use crate::time_spec::brief;
use crate::users::UserNames;

const RED: &str = "\x1b[31m";
const BOLD_RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[33m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// How lines of text are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextStyle {
    /// The time at the start of each line.
    pub(crate) clock: ClockArg,
    pub(crate) colours: bool,
    /// Number of characters after which lines are cut.
    pub(crate) width: Option<usize>,
    /// Whether lines end with the ancestors of the process.
    pub(crate) ancestors: bool,
}

impl TextStyle {
    /// Returns the style of lines on standard output: with colours and cut, if it is a terminal.
    pub(crate) fn for_output(clock: ClockArg) -> Self {
        Self { clock, colours: terminal::colours(), width: terminal::output_width(), ancestors: false }
    }

    /// Returns the style of whole lines without colours.
    pub(crate) fn plain(clock: ClockArg) -> Self {
        Self { clock, colours: false, width: None, ancestors: false }
    }
}

/// Writes a line per event: time, kind, process, and the command line of an exec, or else the name
/// and a description. With wall-clock times, each day begins with a line that has its date.
pub(crate) struct TextRenderer {
    style: TextStyle,
    /// The users of the recorded machine.
    users: UserNames,
    timestamps: TimestampWriter,
    /// Whether lines use the details and the processes, not only the event, and leave out the date.
    details: bool,
    /// Whether lines are short: times in ms, and execs without the parent and the user.
    is_brief: bool,
    /// The time of the previous line.
    before: Option<MonoNs>,
    line: String,
}

impl TextRenderer {
    /// Creates a renderer with wall-clock times in `zone`.
    pub(crate) fn new(style: TextStyle, zone: TimeZone) -> Self {
        Self {
            style,
            users: UserNames::default(),
            timestamps: TimestampWriter::new(zone, "%H:%M:%S"),
            details: true,
            is_brief: false,
            before: None,
            line: String::new(),
        }
    }

    /// Shows these names of users.
    pub(crate) fn with_users(self, users: UserNames) -> Self {
        Self { users, ..self }
    }

    /// Creates a renderer that shows only the contents of the event, and dates in each line.
    pub(crate) fn without_details(zone: TimeZone) -> Self {
        let timestamps = TimestampWriter::new(zone.clone(), "%Y-%m-%d %H:%M:%S");
        Self { details: false, timestamps, ..Self::new(TextStyle::plain(ClockArg::Wall), zone) }
    }

    /// Creates a renderer of short lines with times since the start.
    pub(crate) fn brief(zone: TimeZone) -> Self {
        Self { is_brief: true, ..Self::new(TextStyle::plain(ClockArg::Relative), zone) }
    }

    /// Appends the time of a line.
    pub(crate) fn time(&mut self, time: MonoNs, context: RenderContext<'_>, out: &mut Vec<u8>) {
        let before = self.before.replace(time);
        let digits = if self.is_brief { 3 } else { 9 };
        match self.style.clock {
            ClockArg::Wall => match context.wall.at(time) {
                Some(real_ns) => {
                    if let Some(date) = self.timestamps.new_date(real_ns).filter(|_| self.details) {
                        self.line.clear();
                        self.line.push_str(&date);
                        self.note(out, PLAIN);
                    }
                    self.timestamps.push(out, real_ns, 6);
                }
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
        if self.style.colours {
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
        let width = self.style.width.map(|width| {
            let begin = out.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
            (width + begin).saturating_sub(out.len() + 2)
        });
        out.extend_from_slice(b"  ");
        self.paint(out, colour(event, context));
        let kind = event.kind().name();
        out.extend_from_slice(kind.as_bytes());
        self.paint(out, PLAIN);
        let (line, task) = (&mut self.line, event.task());
        line.clear();
        push_spaces(line, 1 + 8_usize.saturating_sub(kind.len()));
        push_task(line, task);
        let details = match event.body {
            EventBody::Exec { .. } if self.details => item.details.as_deref(),
            _ => None,
        };
        let mut failure = 0..0;
        if !details.is_some_and(|details| push_command_line(line, details)) {
            push_task_name(line, task, context);
            match event.body {
                EventBody::Exec { .. } if !self.details => line.push_str("runs another program"),
                _ => failure = describe(line, event, item, context, self.is_brief),
            }
        }
        if let (EventBody::Exec { .. }, Some(details), false) = (event.body, &item.details, self.is_brief) {
            push_origin(line, details, context, &self.users);
        }
        if self.style.ancestors {
            push_ancestors(line, context);
        }
        let line = cut(self.line.trim_end(), width.map(|width| width.saturating_sub(kind.len())));
        let [begin, end] = [failure.start, failure.end].map(|index| index.min(line.len()));
        out.extend_from_slice(&line.as_bytes()[..begin]);
        if begin < end {
            self.paint(out, BOLD_RED);
            out.extend_from_slice(&line.as_bytes()[begin..end]);
            self.paint(out, PLAIN);
        }
        out.extend_from_slice(&line.as_bytes()[end..]);
        out.push(b'\n');
    }

    fn loss(&mut self, loss: &Loss, _: RenderContext<'_>, out: &mut Vec<u8>) {
        let cause = match loss.cause {
            LossCause::Socket => "socket overrun",
            LossCause::Backpressure => "output stalled",
            LossCause::KernelMemory => "no kernel memory",
            LossCause::Ring => "ring full",
            _ => "cause unknown",
        };
        let (count, cpu, first, last) = (loss.count(), loss.cpu, loss.first, loss.last);
        let events = if count == 1 { "event" } else { "events" };
        self.line.clear();
        let _ = write!(self.line, "{count} {events} lost on cpu {cpu} (seq {first}..{last}): {cause}");
        self.note(out, RED);
    }

    fn blind(&mut self, blind: &Blind, context: RenderContext<'_>, out: &mut Vec<u8>) {
        self.time(blind.from, context, out);
        out.extend_from_slice(b"  ");
        self.line.clear();
        let _ = write!(self.line, "blind for {}: the kernel emitted no events", brief(blind.length_ns()));
        self.note(out, RED);
    }

    fn unobserved(&mut self, span: &Unobserved, context: RenderContext<'_>, out: &mut Vec<u8>) {
        self.time(span.from, context, out);
        out.extend_from_slice(b"  ");
        self.line.clear();
        let (length, reason) = (brief(span.length_ns()), unobserved_reason(span.reason));
        let _ = write!(self.line, "unobserved for {length}: {reason}");
        self.note(out, RED);
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
        EventBody::Exit { code, .. } if !exit_status(code, context).is_success() => RED,
        EventBody::Coredump { .. } => RED,
        _ => match event.kind() {
            EventKind::Fork | EventKind::Exit => CYAN,
            _ => YELLOW,
        },
    }
}

/// Returns the wait status of the process if the exit ends it, otherwise of the thread.
fn exit_status(code: u32, context: RenderContext<'_>) -> WaitStatus {
    WaitStatus::from_raw(match context.exit() {
        Some(ProcessExit::Ended { status }) => status,
        _ => code,
    })
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
