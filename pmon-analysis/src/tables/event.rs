//! The tables of events. A row is an event, and the process as it was right after it.

use pmon_core::wire::{Event, EventBody, EventKind};

use super::column_type;
use crate::life::{ColumnType, ColumnValue, Life, LifeColumn, LifeEnd, LifeRow, ProcessId, columns};
use crate::wall_clock::WallClock;

/// An event, with what its columns need in addition.
#[derive(Debug)]
pub struct EventRow<'a> {
    /// The event.
    pub event: &'a Event,
    /// The process of the event, as it was right after the event; `None` if it is unknown.
    pub life: Option<&'a Life>,
    /// Identity of the process that a fork started.
    pub child: Option<ProcessId>,
    /// Wall-clock time of the event in ns since 1970.
    pub real_ns: Option<i64>,
    /// The clock of the boot.
    pub wall: &'a WallClock,
    /// Name of the machine.
    pub host: &'a str,
}

column_type! {
    /// A column that an event has besides those of its process.
    EventColumn, EventRow
}

/// A table of the events of some kinds.
#[derive(Clone, Copy, Debug)]
pub struct EventTable {
    /// Name of the table.
    pub name: &'static str,
    /// Meaning of a row.
    pub doc: &'static str,
    /// The kinds of events; empty for all.
    kinds: &'static [EventKind],
    /// Names of columns of [`EVENT_COLUMNS`] after the first ones, which all tables have.
    own: &'static [&'static str],
    /// Names of columns of the process.
    process: &'static [&'static [&'static str]],
}

/// A column of an [`EventTable`].
#[derive(Clone, Copy, Debug)]
pub enum EventTableColumn {
    /// A column of the event.
    Event(&'static EventColumn),
    /// A column of its process.
    Process(&'static LifeColumn),
}

impl EventTable {
    /// Returns whether the table has a row for an event of this kind.
    pub fn has(&self, kind: EventKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Returns the columns, in their order.
    pub fn columns(&self) -> Vec<EventTableColumn> {
        let event = |name: &&str| EVENT_COLUMNS.iter().find(|column| column.name == *name);
        let own = COMMON.iter().chain(self.own).filter_map(event).map(EventTableColumn::Event);
        let process = self.process.iter().flat_map(|names| names.iter());
        let process = process.filter_map(|name| LifeColumn::named(name)).map(EventTableColumn::Process);
        own.chain(process).collect()
    }
}

impl EventTableColumn {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event(column) => column.name,
            Self::Process(column) => column.name,
        }
    }

    /// Returns the type of the values.
    pub fn kind(self) -> ColumnType {
        match self {
            Self::Event(column) => column.kind,
            Self::Process(column) => column.kind,
        }
    }

    /// Returns the meaning.
    pub fn doc(self) -> &'static str {
        match self {
            Self::Event(column) => column.doc,
            Self::Process(column) => column.doc,
        }
    }

    /// Returns the value in a row.
    pub fn get<'a>(self, row: &EventRow<'a>) -> ColumnValue<'a> {
        match self {
            Self::Event(column) => column.get(row),
            Self::Process(column) => {
                row.life.map_or(ColumnValue::Null, |life| column.get(&LifeRow::new(life, row.wall, row.host)))
            }
        }
    }
}

/// The columns that every table of events begins with.
const COMMON: &[&str] = &["timestamp", "timestamp_ns", "mono_ns", "host", "cpu", "seq", "kind", "pid", "tid"];

/// The columns of the process that every table of events has.
const PROCESS: &[&str] = &["process_id", "parent_process_id", "creator_process_id", "ppid", "comm", "exe"];

/// Further columns of the process.
const PROGRAM: &[&str] = &[
    "filename",
    "cwd",
    "args",
    "args_truncated",
    "uid",
    "euid",
    "gid",
    "egid",
    "login_uid",
    "session",
    "process_group",
    "cgroup",
    "unit",
    "container_id",
    "pod_uid",
    "container",
    "pod",
    "namespace",
    "image",
    "pid_ns",
    "ns_pid",
    "start_time",
    "start_time_ns",
    "missed",
];

/// The columns of the process that describe its end.
const END: &[&str] = &[
    "duration_ns",
    "exit_code",
    "term_signal",
    "core_dumped",
    "oom_killed",
    "signal_origin",
    "signal_code",
    "signal_sender_process_id",
    "signal_sender_pid",
    "signal_sender_comm",
    "signal_sender_uid",
    "wait_status",
    "cpu_ns",
    "user_ns",
    "system_ns",
    "max_rss_bytes",
    "minor_faults",
    "major_faults",
    "read_bytes",
    "write_bytes",
    "threads",
];

/// The tables of events. The properties of the process are those right after the event.
pub const EVENT_TABLES: &[EventTable] = &[
    EventTable {
        name: "execs",
        doc: "A process has executed a program.",
        kinds: &[EventKind::Exec],
        own: &[],
        process: &[PROCESS, PROGRAM],
    },
    EventTable {
        name: "exits",
        doc: "A process or a thread has exited. The columns from `duration_ns` on are null if the process goes on.",
        kinds: &[EventKind::Exit],
        own: &["process_ended", "thread_wait_status"],
        process: &[PROCESS, PROGRAM, END],
    },
    EventTable {
        name: "forks",
        doc: "A process has started another process, or a thread. The columns describe the parent, except for `child_...`.",
        kinds: &[EventKind::Fork],
        own: &["child_process_id", "child_pid", "child_tid"],
        process: &[PROCESS, PROGRAM],
    },
    EventTable {
        name: "ids",
        doc: "A process has changed its user, its group or its session; `kind` is `uid`, `gid` or `sid`.",
        kinds: &[EventKind::Uid, EventKind::Gid, EventKind::Sid],
        own: &[],
        process: &[PROCESS, PROGRAM],
    },
    EventTable {
        name: "comms",
        doc: "A thread has changed its name.",
        kinds: &[EventKind::Comm],
        own: &["thread_comm"],
        process: &[PROCESS, PROGRAM],
    },
    EventTable {
        name: "events",
        doc: "Any event.",
        kinds: &[],
        own: &[
            "child_process_id",
            "child_pid",
            "child_tid",
            "process_ended",
            "thread_wait_status",
            "thread_comm",
            "tracer_pid",
            "tracer_tid",
        ],
        process: &[PROCESS, &["args", "uid", "euid", "gid", "egid", "session", "exit_code", "term_signal"]],
    },
];

/// The columns of events. A null is unknown, unless the column says otherwise.
const EVENT_COLUMNS: &[EventColumn] = columns! { EventColumn;
    timestamp: Timestamp,
        "Time of the event.",
        |row| row.real_ns;
    timestamp_ns: Integer,
        "`timestamp` in ns since 1970.",
        |row| row.real_ns;
    mono_ns: Integer,
        "Time of the event by the kernel's monotonic clock in ns.",
        |row| Some(row.event.time.0);
    host: Text,
        "Name of the machine.",
        |row| Some(row.host.as_bytes()).filter(|host| !host.is_empty());
    cpu: Integer,
        "CPU that emitted the event.",
        |row| Some(row.event.cpu.0);
    seq: Integer,
        "Sequence number among the events of that CPU; wraps at 2^32.",
        |row| Some(row.event.seq.0);
    kind: Text,
        "Kind of the event: `fork`, `exec`, `uid`, `gid`, `sid`, `ptrace`, `comm`, `coredump`, `exit`, `ack`, `unknown`.",
        |row| Some(row.event.kind().name().as_bytes());
    pid: Integer,
        "Process ID; of a fork, that of the parent.",
        |row| task(row.event).map(|task| task.tgid.0);
    tid: Integer,
        "Thread ID; equal to `pid` for the first thread.",
        |row| task(row.event).map(|task| task.tid.0);
    child_process_id: Integer,
        "`process_id` of the started process, or of the process of the started thread; null also without a fork.",
        |row| row.child.map(|child| child.0);
    child_pid: Integer,
        "Process ID of the started process or thread; null without a fork.",
        |row| child(row.event).map(|child| child.tgid.0);
    child_tid: Integer,
        "Thread ID of the started process or thread; null without a fork.",
        |row| child(row.event).map(|child| child.tid.0);
    process_ended: Boolean,
        "Whether this exit ends the process; null without an exit.",
        |row| match row.event.body {
            EventBody::Exit { .. } => row.life.map(|life| matches!(life.end, LifeEnd::Ended { .. })),
            _ => None,
        };
    thread_wait_status: Integer,
        "Wait status of the thread that exited; null without an exit.",
        |row| match row.event.body {
            EventBody::Exit { code, .. } => Some(code),
            _ => None,
        };
    thread_comm: Text,
        "New name of the thread; null without a change of the name.",
        |row| match &row.event.body {
            EventBody::Comm { comm, .. } => Some(comm.as_bytes()),
            _ => None,
        };
    tracer_pid: Integer,
        "Process ID of the tracer, 0 after a detach; null without a `ptrace` event.",
        |row| tracer(row.event).map(|tracer| tracer.tgid.0);
    tracer_tid: Integer,
        "Thread ID of the tracer, 0 after a detach; null without a `ptrace` event.",
        |row| tracer(row.event).map(|tracer| tracer.tid.0);
};

fn task(event: &Event) -> Option<pmon_core::Task> {
    match event.body {
        EventBody::Fork { parent, .. } => Some(parent),
        _ => event.task(),
    }
}

fn child(event: &Event) -> Option<pmon_core::Task> {
    match event.body {
        EventBody::Fork { child, .. } => Some(child),
        _ => None,
    }
}

fn tracer(event: &Event) -> Option<pmon_core::Task> {
    match event.body {
        EventBody::Ptrace { tracer, .. } => Some(tracer),
        _ => None,
    }
}
