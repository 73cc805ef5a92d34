//! JSON, one object per line. `docs/json.md` documents the fields; they are only ever added.

use jiff::tz::TimeZone;
use pmon_analysis::{TimelineItem, WaitStatus};
use pmon_core::capture::{Blind, Details, Loss};
use pmon_core::wire::{Event, EventBody, EventKind};
use pmon_core::{MonoNs, Task};

use super::escape::push_json;
use super::figures;
use super::timestamps::TimestampWriter;
use super::{Render, RenderContext, push_hex, push_number};

/// Writes events as JSON, one object per line.
pub(crate) struct JsonRenderer {
    timestamps: TimestampWriter,
}

impl JsonRenderer {
    /// Creates a renderer with times in UTC.
    pub(crate) fn new() -> Self {
        Self { timestamps: TimestampWriter::new(TimeZone::UTC, "%Y-%m-%dT%H:%M:%S") }
    }

    fn time(&mut self, line: &mut JsonObject<'_>, time: MonoNs, context: RenderContext<'_>) {
        line.number("mono_ns", time.0);
        line.key("time");
        match context.wall.at(time) {
            Some(real_ns) => {
                line.out.push(b'"');
                self.timestamps.push(line.out, real_ns, 9);
                line.out.extend_from_slice(b"Z\"");
            }
            None => line.null(),
        }
    }
}

impl Render for JsonRenderer {
    fn event(&mut self, item: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>) {
        let mut line = JsonObject::begin(out);
        match &item.event {
            Some(event) => {
                line.text("kind", event.kind().name());
                line.number("cpu", event.cpu.0);
                line.number("seq", event.seq.0);
                self.time(&mut line, event.time, context);
                body(&mut line, event, item, context);
            }
            None => {
                line.text("kind", EventKind::Unknown.name());
                ["cpu", "seq", "mono_ns", "time", "pid", "tid", "what"]
                    .iter()
                    .for_each(|key| line.absent(key));
                line.hex("frame", item.raw.as_deref().unwrap_or_default());
            }
        }
        line.end();
    }

    fn loss(&mut self, loss: &Loss, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        let mut line = JsonObject::begin(out);
        line.text("kind", "loss");
        line.number("cpu", loss.cpu.0);
        line.number("count", loss.count());
        line.number("first_seq", loss.first.0);
        line.number("last_seq", loss.last.0);
        line.text("cause", loss.cause.name());
        line.number("after_mono_ns", loss.after.0);
        line.number("before_mono_ns", loss.before.0);
        line.end();
        true
    }

    fn blind(&mut self, blind: &Blind, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        let mut line = JsonObject::begin(out);
        line.text("kind", "blind");
        line.number("blind_ns", blind.length_ns());
        line.number("after_mono_ns", blind.from.0);
        line.number("before_mono_ns", blind.until.0);
        line.end();
        true
    }

    fn needs_details(&self) -> bool {
        true
    }

    fn needs_processes(&self) -> bool {
        false
    }

    fn shows_process_ends(&self) -> bool {
        true
    }
}

fn body(line: &mut JsonObject<'_>, event: &Event, item: &TimelineItem, context: RenderContext<'_>) {
    match event.body {
        EventBody::Ack { ack, err } => {
            line.no_task();
            line.number("ack", ack);
            line.number("err", err);
        }
        EventBody::Fork { parent, child } => {
            line.task(parent);
            line.number("child_pid", child.tgid.0);
            line.number("child_tid", child.tid.0);
        }
        EventBody::Exec { task } => {
            line.task(task);
            details(line, item.details.as_deref());
        }
        EventBody::Uid { task, real, effective } => {
            line.task(task);
            line.number("ruid", real);
            line.number("euid", effective);
        }
        EventBody::Gid { task, real, effective } => {
            line.task(task);
            line.number("rgid", real);
            line.number("egid", effective);
        }
        EventBody::Sid { task } => line.task(task),
        EventBody::Ptrace { task, tracer } => {
            line.task(task);
            line.number("tracer_pid", tracer.tgid.0);
            line.number("tracer_tid", tracer.tid.0);
        }
        EventBody::Comm { task, comm } => {
            line.task(task);
            line.bytes("comm", comm.as_bytes());
        }
        EventBody::Coredump { task, parent } => {
            line.task(task);
            line.parent(parent);
        }
        EventBody::Exit { task, code, signal, parent } => {
            line.task(task);
            line.number("exit_code", code);
            line.number("exit_signal", signal as i32);
            line.display("status", WaitStatus::from_raw(code));
            line.parent(parent);
            let usage = item.usage.as_deref();
            line.figures(&figures::EXIT, &figures::of_exit(task, usage));
            line.key("usage_at_least");
            line.optional_bool(usage.map(|usage| usage.at_least));
            let process = figures::of_process(item, context.processes);
            let process = process.as_ref();
            line.key("process_ended");
            line.optional_bool(process.map(|process| process.has_ended));
            let status = process.and_then(|process| process.status);
            line.optional_number("process_exit_code", status);
            match status {
                Some(status) => line.display("process_status", WaitStatus::from_raw(status)),
                None => line.absent("process_status"),
            }
            line.optional_number("process_cpu_us", process.and_then(|process| process.cpu_us));
        }
        EventBody::Unknown { what } => {
            line.no_task();
            line.number("what", what);
            line.hex("frame", item.raw.as_deref().unwrap_or_default());
        }
        _ => line.no_task(),
    }
}

/// Appends the details of an exec; missing ones are null.
fn details(line: &mut JsonObject<'_>, details: Option<&Details>) {
    line.optional_bytes("comm", details.and_then(|details| details.comm.as_deref()));
    line.optional_bytes("exe", details.and_then(|details| details.exe.as_deref()));
    line.optional_bytes("filename", details.and_then(|details| details.filename.as_deref()));
    line.optional_bytes("cwd", details.and_then(|details| details.cwd.as_deref()));
    line.optional_bytes("cgroup", details.and_then(|details| details.cgroup.as_deref()));
    line.key("args");
    match details.filter(|details| details.args.is_some()) {
        Some(details) => {
            line.out.push(b'[');
            for (n, arg) in details.argv().enumerate() {
                if n > 0 {
                    line.out.push(b',');
                }
                push_string(line.out, arg);
            }
            line.out.push(b']');
        }
        None => line.null(),
    }
    line.figures(&figures::EXEC, &figures::of_exec(details));
    line.key("missed");
    match details.and_then(|details| details.miss) {
        Some(miss) => push_string(line.out, miss.name().as_bytes()),
        None => line.null(),
    }
}

/// A line while it is built.
struct JsonObject<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> JsonObject<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn null(&mut self) {
        self.out.extend_from_slice(b"null");
    }

    fn absent(&mut self, key: &str) {
        self.key(key);
        self.null();
    }

    fn optional_bool(&mut self, value: Option<bool>) {
        match value {
            Some(true) => self.out.extend_from_slice(b"true"),
            Some(false) => self.out.extend_from_slice(b"false"),
            None => self.null(),
        }
    }

    fn number(&mut self, key: &str, value: impl itoa::Integer) {
        self.key(key);
        push_number(self.out, value);
    }

    /// Appends several numbers.
    fn figures(&mut self, keys: &[&str], values: &[Option<u64>]) {
        keys.iter().zip(values).for_each(|(key, &value)| self.optional_number(key, value));
    }

    fn optional_number(&mut self, key: &str, value: Option<impl itoa::Integer>) {
        match value {
            Some(value) => self.number(key, value),
            None => self.absent(key),
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.bytes(key, value.as_bytes());
    }

    fn bytes(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        push_string(self.out, value);
    }

    fn optional_bytes(&mut self, key: &str, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bytes(key, value),
            None => self.absent(key),
        }
    }

    /// Appends a string that needs no escapes.
    fn display(&mut self, key: &str, value: impl std::fmt::Display) {
        use std::io::Write as _;
        self.key(key);
        let _ = write!(self.out, "\"{value}\"");
    }

    fn hex(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        push_hex(self.out, bytes);
        self.out.push(b'"');
    }

    fn task(&mut self, task: Task) {
        self.number("pid", task.tgid.0);
        self.number("tid", task.tid.0);
    }

    fn no_task(&mut self) {
        self.absent("pid");
        self.absent("tid");
    }

    fn parent(&mut self, parent: Option<Task>) {
        self.optional_number("parent_pid", parent.map(|parent| parent.tgid.0));
        self.optional_number("parent_tid", parent.map(|parent| parent.tid.0));
    }
}

/// Appends a string. Bytes that are not UTF-8 become U+FFFD, and characters that could control the
/// terminal are escaped.
fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if bytes.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.extend_from_slice(bytes);
    } else {
        push_json(out, &String::from_utf8_lossy(bytes));
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parser_returns_the_original_strings() {
        for text in ["plain", "a\"b\\c", "\u{1b}[2J\n\t\u{7f}\u{9b}\u{202e}", "größe 𝄞", ""] {
            let mut out = Vec::new();
            push_string(&mut out, text.as_bytes());
            assert!(!out.iter().any(|byte| byte.is_ascii_control()));
            assert_eq!(serde_json::from_slice::<String>(&out).ok().as_deref(), Some(text));
        }
        let mut out = Vec::new();
        push_string(&mut out, b"a\xffb");
        assert_eq!(serde_json::from_slice::<String>(&out).ok().as_deref(), Some("a\u{fffd}b"));
    }
}
