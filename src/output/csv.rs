//! Comma-separated values (RFC 4180), one line a record, a header line first.

use jiff::tz::TimeZone;
use pmon_analysis::{TimelineItem, WaitStatus};
use pmon_core::capture::{Blind, Loss, MissReason};
use pmon_core::wire::{EventBody, EventKind};
use pmon_core::{MonoNs, Task};

use super::escape::{printable, shell_words};
use super::timestamps::TimestampWriter;
use super::{Render, RenderContext, figures, push_hex, push_number};

/// The columns; the names are those of the JSON fields. New ones are added behind the last.
#[derive(Clone, Copy)]
#[repr(usize)]
enum CsvColumn {
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
    // Column 29, `text`, is always empty: no record has such a field any more.
    AfterMonoNs = 30,
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
const EXEC: [CsvColumn; figures::EXEC.len()] = [
    CsvColumn::Ppid,
    CsvColumn::Uid,
    CsvColumn::Euid,
    CsvColumn::Gid,
    CsvColumn::Egid,
    CsvColumn::StartTicks,
    CsvColumn::ParentStartTicks,
    CsvColumn::ArgsLen,
    CsvColumn::LoginUid,
    CsvColumn::Session,
    CsvColumn::Group,
    CsvColumn::CgroupId,
    CsvColumn::PidNs,
    CsvColumn::NsPid,
];
/// The columns of [`figures::EXIT`].
const EXIT: [CsvColumn; figures::EXIT.len()] = [
    CsvColumn::StartTicks,
    CsvColumn::CpuUs,
    CsvColumn::UserUs,
    CsvColumn::SystemUs,
    CsvColumn::MaxRssKib,
    CsvColumn::MinorFaults,
    CsvColumn::MajorFaults,
    CsvColumn::ReadBytes,
    CsvColumn::WriteBytes,
    CsvColumn::OtherThreads,
];

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
        self.row.number(CsvColumn::MonoNs, time.0);
        if let Some(real_ns) = context.wall.at(time) {
            let cell = self.row.cell(CsvColumn::Time);
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

    fn event(&mut self, occurrence: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>) {
        let kind = occurrence.event.map_or(EventKind::Unknown, |event| event.kind());
        self.row.text(CsvColumn::Kind, kind.name());
        if let Some(event) = &occurrence.event {
            self.time(event.time, context);
            self.row.number(CsvColumn::Cpu, event.cpu.0);
            self.row.number(CsvColumn::Seq, event.seq.0);
            body(&mut self.row, &event.body, occurrence, context);
        }
        if kind == EventKind::Unknown {
            push_hex(self.row.cell(CsvColumn::Frame), occurrence.raw.as_deref().unwrap_or_default());
        }
        self.row.end(out);
    }

    fn loss(&mut self, loss: &Loss, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        self.row.text(CsvColumn::Kind, "loss");
        self.row.number(CsvColumn::Cpu, loss.cpu.0);
        self.row.number(CsvColumn::Count, loss.count());
        self.row.number(CsvColumn::FirstSeq, loss.first.0);
        self.row.number(CsvColumn::LastSeq, loss.last.0);
        self.row.text(CsvColumn::Cause, loss.cause.name());
        self.row.number(CsvColumn::AfterMonoNs, loss.after.0);
        self.row.number(CsvColumn::BeforeMonoNs, loss.before.0);
        self.row.end(out);
        true
    }

    fn blind(&mut self, blind: &Blind, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        self.row.text(CsvColumn::Kind, "blind");
        self.row.number(CsvColumn::BlindNs, blind.length_ns());
        self.row.number(CsvColumn::AfterMonoNs, blind.from.0);
        self.row.number(CsvColumn::BeforeMonoNs, blind.until.0);
        self.row.end(out);
        true
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

fn body(row: &mut CsvRow, body: &EventBody, occurrence: &TimelineItem, context: RenderContext<'_>) {
    match *body {
        EventBody::Ack { ack, err } => {
            row.number(CsvColumn::Ack, ack);
            row.number(CsvColumn::Err, err);
        }
        EventBody::Fork { parent, child } => {
            row.task(parent, CsvColumn::Pid, CsvColumn::Tid);
            row.task(child, CsvColumn::ChildPid, CsvColumn::ChildTid);
        }
        EventBody::Exec { task } => {
            row.task(task, CsvColumn::Pid, CsvColumn::Tid);
            exec(row, occurrence);
        }
        EventBody::Uid { task, real, effective } => {
            row.task(task, CsvColumn::Pid, CsvColumn::Tid);
            row.number(CsvColumn::Ruid, real);
            row.number(CsvColumn::Euid, effective);
        }
        EventBody::Gid { task, real, effective } => {
            row.task(task, CsvColumn::Pid, CsvColumn::Tid);
            row.number(CsvColumn::Rgid, real);
            row.number(CsvColumn::Egid, effective);
        }
        EventBody::Sid { task } => row.task(task, CsvColumn::Pid, CsvColumn::Tid),
        EventBody::Ptrace { task, tracer } => {
            row.task(task, CsvColumn::Pid, CsvColumn::Tid);
            row.task(tracer, CsvColumn::TracerPid, CsvColumn::TracerTid);
        }
        EventBody::Comm { task, comm } => {
            row.task(task, CsvColumn::Pid, CsvColumn::Tid);
            row.text(CsvColumn::Comm, &printable(comm.as_bytes()));
        }
        EventBody::Coredump { task, parent } => {
            row.task(task, CsvColumn::Pid, CsvColumn::Tid);
            row.parent(parent);
        }
        EventBody::Exit { task, code, signal, parent } => {
            row.task(task, CsvColumn::Pid, CsvColumn::Tid);
            row.number(CsvColumn::ExitCode, code);
            row.number(CsvColumn::ExitSignal, signal as i32);
            row.text(CsvColumn::Status, &WaitStatus::from_raw(code).to_string());
            row.parent(parent);
            let usage = occurrence.usage.as_deref();
            row.figures(&EXIT, &figures::of_exit(task, usage));
            row.optional_bool(CsvColumn::UsageAtLeast, usage.map(|usage| usage.at_least));
            let Some(process) = figures::of_process(occurrence, context.processes) else { return };
            row.optional_bool(CsvColumn::ProcessEnded, Some(process.has_ended));
            if let Some(status) = process.status {
                row.number(CsvColumn::ProcessExitCode, status);
                row.text(CsvColumn::ProcessStatus, &WaitStatus::from_raw(status).to_string());
            }
            if let Some(cpu_us) = process.cpu_us {
                row.number(CsvColumn::ProcessCpuUs, cpu_us);
            }
        }
        EventBody::Unknown { what } => row.number(CsvColumn::What, what),
        _ => {}
    }
}

fn exec(row: &mut CsvRow, occurrence: &TimelineItem) {
    let Some(details) = &occurrence.details else { return };
    if let Some(comm) = &details.comm {
        row.text(CsvColumn::Comm, &printable(comm));
    }
    let texts = [
        (CsvColumn::Exe, &details.exe),
        (CsvColumn::Filename, &details.filename),
        (CsvColumn::Cwd, &details.cwd),
        (CsvColumn::Cgroup, &details.cgroup),
    ];
    for (column, text) in texts {
        row.text(column, &text.as_deref().map(printable).unwrap_or_default());
    }
    row.text(CsvColumn::Args, &shell_words(details.argv()));
    row.figures(&EXEC, &figures::of_exec(Some(details)));
    row.text(CsvColumn::Missed, details.miss.map_or("", MissReason::name));
}

/// A line under construction. Its cells are used again.
struct CsvRow([Vec<u8>; NAMES.len()]);

impl CsvRow {
    fn cell(&mut self, column: CsvColumn) -> &mut Vec<u8> {
        &mut self.0[column as usize]
    }

    fn text(&mut self, column: CsvColumn, text: &str) {
        self.cell(column).extend_from_slice(text.as_bytes());
    }

    fn optional_bool(&mut self, column: CsvColumn, value: Option<bool>) {
        self.text(column, value.map_or("", |value| if value { "true" } else { "false" }));
    }

    fn number(&mut self, column: CsvColumn, number: impl itoa::Integer) {
        push_number(self.cell(column), number);
    }

    fn figures(&mut self, columns: &[CsvColumn], values: &[Option<u64>]) {
        for (&column, value) in columns.iter().zip(values) {
            if let Some(value) = value {
                self.number(column, *value);
            }
        }
    }

    fn task(&mut self, task: Task, pid: CsvColumn, tid: CsvColumn) {
        self.number(pid, task.tgid.0);
        self.number(tid, task.tid.0);
    }

    fn parent(&mut self, parent: Option<Task>) {
        if let Some(parent) = parent {
            self.task(parent, CsvColumn::ParentPid, CsvColumn::ParentTid);
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
        assert_eq!(NAMES[CsvColumn::ExitCode as usize], "exit_code");
        assert_eq!(NAMES[CsvColumn::Count as usize], "count");
        assert_eq!(NAMES[CsvColumn::Frame as usize], "frame");
        assert_eq!(NAMES[CsvColumn::BlindNs as usize], "blind_ns");
        assert_eq!(NAMES[CsvColumn::UsageAtLeast as usize], "usage_at_least");
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
