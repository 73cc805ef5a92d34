//! Comma-separated values (RFC 4180): a header line, then one line per record.

use jiff::tz::TimeZone;
use pmon_analysis::{TimelineItem, WaitStatus};
use pmon_core::capture::{Blind, Loss, MissReason};
use pmon_core::wire::{EventBody, EventKind};
use pmon_core::{MonoNs, Task};

use super::escape::{printable, shell_words};
use super::timestamps::TimestampWriter;
use super::{Render, RenderContext, figures, push_hex, push_number};

/// The columns, named like the JSON fields. New ones are added at the end.
const NAMES: [&str; 65] = [
    "kind",
    "time",
    "mono_ns",
    "cpu",
    "seq",
    "pid",
    "tid",
    "child_pid",
    "child_tid",
    "comm",
    "exe",
    "args",
    "ppid",
    "uid",
    "exit_code",
    "exit_signal",
    "status",
    "parent_pid",
    "parent_tid",
    "ruid",
    "euid",
    "rgid",
    "egid",
    "tracer_pid",
    "tracer_tid",
    "count",
    "first_seq",
    "last_seq",
    "cause",
    // Always empty: no record has this field any more.
    "text",
    "after_mono_ns",
    "before_mono_ns",
    "ack",
    "err",
    "what",
    "frame",
    "blind_ns",
    "filename",
    "cwd",
    "cgroup",
    "gid",
    "start_ticks",
    "parent_start_ticks",
    "args_len",
    "login_uid",
    "session",
    "group",
    "cgroup_id",
    "pid_ns",
    "ns_pid",
    "missed",
    "cpu_us",
    "user_us",
    "system_us",
    "max_rss_kib",
    "minor_faults",
    "major_faults",
    "read_bytes",
    "write_bytes",
    "other_threads",
    "usage_at_least",
    "process_ended",
    "process_exit_code",
    "process_status",
    "process_cpu_us",
];

/// The index of a column; an unknown name does not compile.
macro_rules! column {
    ($name:literal) => {
        const { index_of($name) }
    };
}

/// The columns of [`figures::EXEC`] and [`figures::EXIT`].
const EXEC: [usize; figures::EXEC.len()] = indices_of(figures::EXEC);
const EXIT: [usize; figures::EXIT.len()] = indices_of(figures::EXIT);

const fn indices_of<const N: usize>(names: [&str; N]) -> [usize; N] {
    let mut indices = [0; N];
    let mut at = 0;
    while at < N {
        indices[at] = index_of(names[at]);
        at += 1;
    }
    indices
}

const fn index_of(name: &str) -> usize {
    let mut index = 0;
    while !is_equal(NAMES[index].as_bytes(), name.as_bytes()) {
        index += 1;
    }
    index
}

const fn is_equal(mut a: &[u8], mut b: &[u8]) -> bool {
    while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.is_empty() && b.is_empty()
}

/// Writes events as CSV.
pub(crate) struct CsvRenderer {
    timestamps: TimestampWriter,
    row: CsvRow,
}

impl CsvRenderer {
    /// Creates a renderer with times in UTC.
    pub(crate) fn new() -> Self {
        Self {
            timestamps: TimestampWriter::new(TimeZone::UTC, "%Y-%m-%dT%H:%M:%S"),
            row: CsvRow([const { Vec::new() }; NAMES.len()]),
        }
    }

    fn time(&mut self, time: MonoNs, context: RenderContext<'_>) {
        self.row.number(column!("mono_ns"), time.0);
        if let Some(real_ns) = context.wall.at(time) {
            let cell = self.row.cell(column!("time"));
            self.timestamps.push(cell, real_ns, 9);
            cell.push(b'Z');
        }
    }
}

impl Render for CsvRenderer {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAMES.join(",").as_bytes());
        out.push(b'\n');
    }

    fn event(&mut self, item: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>) {
        let kind = item.event.map_or(EventKind::Unknown, |event| event.kind());
        self.row.text(column!("kind"), kind.name());
        if let Some(event) = &item.event {
            self.time(event.time, context);
            self.row.number(column!("cpu"), event.cpu.0);
            self.row.number(column!("seq"), event.seq.0);
            body(&mut self.row, &event.body, item, context);
        }
        if kind == EventKind::Unknown {
            push_hex(self.row.cell(column!("frame")), item.raw.as_deref().unwrap_or_default());
        }
        self.row.end(out);
    }

    fn loss(&mut self, loss: &Loss, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        self.row.text(column!("kind"), "loss");
        self.row.number(column!("cpu"), loss.cpu.0);
        self.row.number(column!("count"), loss.count());
        self.row.number(column!("first_seq"), loss.first.0);
        self.row.number(column!("last_seq"), loss.last.0);
        self.row.text(column!("cause"), loss.cause.name());
        self.row.number(column!("after_mono_ns"), loss.after.0);
        self.row.number(column!("before_mono_ns"), loss.before.0);
        self.row.end(out);
        true
    }

    fn blind(&mut self, blind: &Blind, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        self.row.text(column!("kind"), "blind");
        self.row.number(column!("blind_ns"), blind.length_ns());
        self.row.number(column!("after_mono_ns"), blind.from.0);
        self.row.number(column!("before_mono_ns"), blind.until.0);
        self.row.end(out);
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

fn body(row: &mut CsvRow, body: &EventBody, item: &TimelineItem, context: RenderContext<'_>) {
    match *body {
        EventBody::Ack { ack, err } => {
            row.number(column!("ack"), ack);
            row.number(column!("err"), err);
        }
        EventBody::Fork { parent, child } => {
            row.task(parent, column!("pid"), column!("tid"));
            row.task(child, column!("child_pid"), column!("child_tid"));
        }
        EventBody::Exec { task } => {
            row.task(task, column!("pid"), column!("tid"));
            exec(row, item);
        }
        EventBody::Uid { task, real, effective } => {
            row.task(task, column!("pid"), column!("tid"));
            row.number(column!("ruid"), real);
            row.number(column!("euid"), effective);
        }
        EventBody::Gid { task, real, effective } => {
            row.task(task, column!("pid"), column!("tid"));
            row.number(column!("rgid"), real);
            row.number(column!("egid"), effective);
        }
        EventBody::Sid { task } => row.task(task, column!("pid"), column!("tid")),
        EventBody::Ptrace { task, tracer } => {
            row.task(task, column!("pid"), column!("tid"));
            row.task(tracer, column!("tracer_pid"), column!("tracer_tid"));
        }
        EventBody::Comm { task, comm } => {
            row.task(task, column!("pid"), column!("tid"));
            row.text(column!("comm"), &printable(comm.as_bytes()));
        }
        EventBody::Coredump { task, parent } => {
            row.task(task, column!("pid"), column!("tid"));
            row.parent(parent);
        }
        EventBody::Exit { task, code, signal, parent } => {
            row.task(task, column!("pid"), column!("tid"));
            row.number(column!("exit_code"), code);
            row.number(column!("exit_signal"), signal as i32);
            row.text(column!("status"), &WaitStatus::from_raw(code).to_string());
            row.parent(parent);
            let usage = item.usage.as_deref();
            row.figures(&EXIT, &figures::of_exit(task, usage));
            row.optional_bool(column!("usage_at_least"), usage.map(|usage| usage.at_least));
            let Some(process) = figures::of_process(item, context.processes) else { return };
            row.optional_bool(column!("process_ended"), Some(process.has_ended));
            if let Some(status) = process.status {
                row.number(column!("process_exit_code"), status);
                row.text(column!("process_status"), &WaitStatus::from_raw(status).to_string());
            }
            if let Some(cpu_us) = process.cpu_us {
                row.number(column!("process_cpu_us"), cpu_us);
            }
        }
        EventBody::Unknown { what } => row.number(column!("what"), what),
        _ => {}
    }
}

fn exec(row: &mut CsvRow, item: &TimelineItem) {
    let Some(details) = &item.details else { return };
    if let Some(comm) = &details.comm {
        row.text(column!("comm"), &printable(comm));
    }
    let texts = [
        (column!("exe"), &details.exe),
        (column!("filename"), &details.filename),
        (column!("cwd"), &details.cwd),
        (column!("cgroup"), &details.cgroup),
    ];
    for (column, text) in texts {
        row.text(column, &text.as_deref().map(printable).unwrap_or_default());
    }
    row.text(column!("args"), &shell_words(details.argv()));
    row.figures(&EXEC, &figures::of_exec(Some(details)));
    row.text(column!("missed"), details.miss.map_or("", MissReason::name));
}

/// A row while it is built. Its buffers are reused.
struct CsvRow([Vec<u8>; NAMES.len()]);

impl CsvRow {
    fn cell(&mut self, column: usize) -> &mut Vec<u8> {
        &mut self.0[column]
    }

    fn text(&mut self, column: usize, text: &str) {
        self.cell(column).extend_from_slice(text.as_bytes());
    }

    fn optional_bool(&mut self, column: usize, value: Option<bool>) {
        self.text(column, value.map_or("", |value| if value { "true" } else { "false" }));
    }

    fn number(&mut self, column: usize, number: impl itoa::Integer) {
        push_number(self.cell(column), number);
    }

    fn figures(&mut self, columns: &[usize], values: &[Option<u64>]) {
        for (&column, value) in columns.iter().zip(values) {
            if let Some(value) = value {
                push_number(&mut self.0[column], *value);
            }
        }
    }

    fn task(&mut self, task: Task, pid: usize, tid: usize) {
        self.number(pid, task.tgid.0);
        self.number(tid, task.tid.0);
    }

    fn parent(&mut self, parent: Option<Task>) {
        if let Some(parent) = parent {
            self.task(parent, column!("parent_pid"), column!("parent_tid"));
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        for (n, cell) in self.0.iter_mut().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            push_cell(out, cell);
            cell.clear();
        }
        out.push(b'\n');
    }
}

fn push_cell(out: &mut Vec<u8>, cell: &[u8]) {
    if !cell.iter().any(|byte| b",\"\r\n".contains(byte)) {
        return out.extend_from_slice(cell);
    }
    out.push(b'"');
    for &byte in cell {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_is_found_by_its_name() {
        let columns = NAMES.map(index_of);
        assert!(columns.into_iter().eq(0..NAMES.len()), "{columns:?}");
        assert_eq!(NAMES[column!("process_cpu_us")], "process_cpu_us");
        assert_eq!(EXEC.map(|column| NAMES[column]), figures::EXEC);
        assert_eq!(EXIT.map(|column| NAMES[column]), figures::EXIT);
    }

    #[test]
    fn cells_are_quoted_where_needed() {
        let mut out = Vec::new();
        push_cell(&mut out, b"a,\"b\"");
        assert_eq!(out, b"\"a,\"\"b\"\"\"");
    }
}
