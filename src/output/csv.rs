//! Comma-separated values (RFC 4180), one line a record, a header line first.

use jiff::tz::TimeZone;
use pmon_analysis::{Occurrence, Status};
use pmon_core::capture::{Blind, Loss, Mark, Miss};
use pmon_core::wire::{Body, Kind};
use pmon_core::{MonoNs, Task};

use super::escape::{printable, shell_words};
use super::timestamps::Stamp;
use super::{Render, Scene, figures, push_hex, push_number};

/// The columns; the names are those of the JSON fields. New ones are added behind the last.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Column {
    Kind,
    Time,
    MonoNs,
    Cpu,
    Seq,
    Pid,
    Tid,
    ChildPid,
    ChildTid,
    Comm,
    Exe,
    Args,
    Ppid,
    Uid,
    ExitCode,
    ExitSignal,
    Status,
    ParentPid,
    ParentTid,
    Ruid,
    Euid,
    Rgid,
    Egid,
    TracerPid,
    TracerTid,
    Count,
    FirstSeq,
    LastSeq,
    Cause,
    Text,
    AfterMonoNs,
    BeforeMonoNs,
    Ack,
    Err,
    What,
    Frame,
    BlindNs,
    Filename,
    Cwd,
    Cgroup,
    Gid,
    StartTicks,
    ParentStartTicks,
    ArgsLen,
    LoginUid,
    Session,
    Group,
    CgroupId,
    PidNs,
    NsPid,
    Missed,
    CpuUs,
    UserUs,
    SystemUs,
    MaxRssKib,
    MinorFaults,
    MajorFaults,
    ReadBytes,
    WriteBytes,
    OtherThreads,
    UsageAtLeast,
    ProcessEnded,
    ProcessExitCode,
    ProcessStatus,
    ProcessCpuUs,
}

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

/// The columns of [`figures::EXEC`].
const EXEC: [Column; figures::EXEC.len()] = [
    Column::Ppid,
    Column::Uid,
    Column::Euid,
    Column::Gid,
    Column::Egid,
    Column::StartTicks,
    Column::ParentStartTicks,
    Column::ArgsLen,
    Column::LoginUid,
    Column::Session,
    Column::Group,
    Column::CgroupId,
    Column::PidNs,
    Column::NsPid,
];
/// The columns of [`figures::EXIT`].
const EXIT: [Column; figures::EXIT.len()] = [
    Column::StartTicks,
    Column::CpuUs,
    Column::UserUs,
    Column::SystemUs,
    Column::MaxRssKib,
    Column::MinorFaults,
    Column::MajorFaults,
    Column::ReadBytes,
    Column::WriteBytes,
    Column::OtherThreads,
];

/// Writes events as CSV.
pub(crate) struct Csv {
    stamp: Stamp,
    row: Row,
}

impl Csv {
    /// Creates a renderer with times in UTC.
    pub(crate) fn new() -> Self {
        Self {
            stamp: Stamp::new(TimeZone::UTC, "%Y-%m-%dT%H:%M:%S"),
            row: Row([const { Vec::new() }; NAMES.len()]),
        }
    }

    fn time(&mut self, time: MonoNs, scene: Scene<'_>) {
        self.row.number(Column::MonoNs, time.0);
        if let Some(real_ns) = scene.wall.at(time) {
            let cell = self.row.cell(Column::Time);
            self.stamp.push(cell, real_ns, 9);
            cell.push(b'Z');
        }
    }
}

impl Render for Csv {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAMES.join(",").as_bytes());
        out.push(b'\n');
    }

    fn event(&mut self, occurrence: &Occurrence, scene: Scene<'_>, out: &mut Vec<u8>) {
        let kind = occurrence.event.map_or(Kind::Unknown, |event| event.kind());
        self.row.text(Column::Kind, kind.name());
        if let Some(event) = &occurrence.event {
            self.time(event.time, scene);
            self.row.number(Column::Cpu, event.cpu.0);
            self.row.number(Column::Seq, event.seq.0);
            body(&mut self.row, &event.body, occurrence, scene);
        }
        if kind == Kind::Unknown {
            push_hex(self.row.cell(Column::Frame), occurrence.raw.as_deref().unwrap_or_default());
        }
        self.row.end(out);
    }

    fn loss(&mut self, loss: &Loss, _: Scene<'_>, out: &mut Vec<u8>) -> bool {
        self.row.text(Column::Kind, "loss");
        self.row.number(Column::Cpu, loss.cpu.0);
        self.row.number(Column::Count, loss.count());
        self.row.number(Column::FirstSeq, loss.first.0);
        self.row.number(Column::LastSeq, loss.last.0);
        self.row.text(Column::Cause, loss.cause.name());
        self.row.number(Column::AfterMonoNs, loss.after.0);
        self.row.number(Column::BeforeMonoNs, loss.before.0);
        self.row.end(out);
        true
    }

    fn blind(&mut self, blind: &Blind, _: Scene<'_>, out: &mut Vec<u8>) -> bool {
        self.row.text(Column::Kind, "blind");
        self.row.number(Column::BlindNs, blind.length_ns());
        self.row.number(Column::AfterMonoNs, blind.from.0);
        self.row.number(Column::BeforeMonoNs, blind.until.0);
        self.row.end(out);
        true
    }

    fn mark(&mut self, mark: &Mark, scene: Scene<'_>, out: &mut Vec<u8>) {
        self.row.text(Column::Kind, "mark");
        self.time(mark.time, scene);
        self.row.text(Column::Text, &printable(mark.text.as_bytes()));
        self.row.end(out);
    }

    fn needs_details(&self) -> bool {
        true
    }

    fn needs_processes(&self) -> bool {
        false
    }

    fn tells_ends(&self) -> bool {
        true
    }
}

fn body(row: &mut Row, body: &Body, occurrence: &Occurrence, scene: Scene<'_>) {
    match *body {
        Body::Ack { ack, err } => {
            row.number(Column::Ack, ack);
            row.number(Column::Err, err);
        }
        Body::Fork { parent, child } => {
            row.task(parent, Column::Pid, Column::Tid);
            row.task(child, Column::ChildPid, Column::ChildTid);
        }
        Body::Exec { task } => {
            row.task(task, Column::Pid, Column::Tid);
            exec(row, occurrence);
        }
        Body::Uid { task, real, effective } => {
            row.task(task, Column::Pid, Column::Tid);
            row.number(Column::Ruid, real);
            row.number(Column::Euid, effective);
        }
        Body::Gid { task, real, effective } => {
            row.task(task, Column::Pid, Column::Tid);
            row.number(Column::Rgid, real);
            row.number(Column::Egid, effective);
        }
        Body::Sid { task } => row.task(task, Column::Pid, Column::Tid),
        Body::Ptrace { task, tracer } => {
            row.task(task, Column::Pid, Column::Tid);
            row.task(tracer, Column::TracerPid, Column::TracerTid);
        }
        Body::Comm { task, comm } => {
            row.task(task, Column::Pid, Column::Tid);
            row.text(Column::Comm, &printable(comm.as_bytes()));
        }
        Body::Coredump { task, parent } => {
            row.task(task, Column::Pid, Column::Tid);
            row.parent(parent);
        }
        Body::Exit { task, code, signal, parent } => {
            row.task(task, Column::Pid, Column::Tid);
            row.number(Column::ExitCode, code);
            row.number(Column::ExitSignal, signal as i32);
            row.text(Column::Status, &Status::from_raw(code).to_string());
            row.parent(parent);
            let usage = occurrence.usage.as_deref();
            row.figures(&EXIT, &figures::of_exit(task, usage));
            row.optional_bool(Column::UsageAtLeast, usage.map(|usage| usage.at_least));
            let Some(process) = figures::of_process(occurrence, scene.processes) else { return };
            row.optional_bool(Column::ProcessEnded, Some(process.has_ended));
            if let Some(status) = process.status {
                row.number(Column::ProcessExitCode, status);
                row.text(Column::ProcessStatus, &Status::from_raw(status).to_string());
            }
            if let Some(cpu_us) = process.cpu_us {
                row.number(Column::ProcessCpuUs, cpu_us);
            }
        }
        Body::Unknown { what } => row.number(Column::What, what),
        _ => {}
    }
}

fn exec(row: &mut Row, occurrence: &Occurrence) {
    let Some(details) = &occurrence.details else { return };
    if let Some(comm) = &details.comm {
        row.text(Column::Comm, &printable(comm));
    }
    let texts = [
        (Column::Exe, &details.exe),
        (Column::Filename, &details.filename),
        (Column::Cwd, &details.cwd),
        (Column::Cgroup, &details.cgroup),
    ];
    for (column, text) in texts {
        row.text(column, &text.as_deref().map(printable).unwrap_or_default());
    }
    row.text(Column::Args, &shell_words(details.argv()));
    row.figures(&EXEC, &figures::of_exec(Some(details)));
    row.text(Column::Missed, details.miss.map_or("", Miss::name));
}

/// A line under construction. Its cells are used again.
struct Row([Vec<u8>; NAMES.len()]);

impl Row {
    fn cell(&mut self, column: Column) -> &mut Vec<u8> {
        &mut self.0[column as usize]
    }

    fn text(&mut self, column: Column, text: &str) {
        self.cell(column).extend_from_slice(text.as_bytes());
    }

    fn optional_bool(&mut self, column: Column, value: Option<bool>) {
        self.text(column, value.map_or("", |value| if value { "true" } else { "false" }));
    }

    fn number(&mut self, column: Column, number: impl itoa::Integer) {
        push_number(self.cell(column), number);
    }

    fn figures(&mut self, columns: &[Column], values: &[Option<u64>]) {
        for (&column, value) in columns.iter().zip(values) {
            if let Some(value) = value {
                self.number(column, *value);
            }
        }
    }

    fn task(&mut self, task: Task, pid: Column, tid: Column) {
        self.number(pid, task.tgid.0);
        self.number(tid, task.tid.0);
    }

    fn parent(&mut self, parent: Option<Task>) {
        if let Some(parent) = parent {
            self.task(parent, Column::ParentPid, Column::ParentTid);
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
    fn each_column_has_its_name() {
        assert_eq!(NAMES[Column::ExitCode as usize], "exit_code");
        assert_eq!(NAMES[Column::Count as usize], "count");
        assert_eq!(NAMES[Column::Frame as usize], "frame");
        assert_eq!(NAMES[Column::BlindNs as usize], "blind_ns");
        assert_eq!(NAMES[Column::UsageAtLeast as usize], "usage_at_least");
        assert_eq!(EXEC.map(|column| NAMES[column as usize]), figures::EXEC);
        assert_eq!(EXIT.map(|column| NAMES[column as usize]), figures::EXIT);
    }

    #[test]
    fn cells_are_quoted_where_needed() {
        let mut out = Vec::new();
        push_cell(&mut out, b"a,\"b\"");
        assert_eq!(out, b"\"a,\"\"b\"\"\"");
    }
}
