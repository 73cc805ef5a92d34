use std::collections::HashSet;

use pmon_core::accounting::LossCause;
use pmon_core::capture::{ClockAnchor, Header, Loss, Meta, Record, RecordedDatagram, UnobservedReason};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody, EventKind};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};

use super::*;
use crate::coverage::{Gap, GapReason};
use crate::life::{ColumnValue, LIFE_COLUMNS, Life, LifeColumn, LifeTracker, ProcessId};
use crate::wall_clock::WallClock;

/// Returns the columns that are not null, as `name=value`.
fn values<'a>(columns: impl Iterator<Item = (&'static str, ColumnValue<'a>)>) -> Vec<String> {
    let text = |value| match value {
        ColumnValue::Null => None,
        ColumnValue::Integer(number) => Some(number.to_string()),
        ColumnValue::Boolean(value) => Some(value.to_string()),
        ColumnValue::Timestamp(time) => Some(format!("@{time}")),
        ColumnValue::Text(text) => Some(String::from_utf8_lossy(&text).into_owned()),
        ColumnValue::TextList(_) => Some("list".to_owned()),
    };
    columns.filter_map(|(name, value)| Some(format!("{name}={}", text(value)?))).collect()
}

fn wall() -> WallClock {
    let mut wall = WallClock::new();
    wall.observe(ClockAnchor { mono: MonoNs(0), boot_ns: 0, real_ns: 1_000_000 });
    wall
}

#[test]
fn each_table_of_events_has_all_its_columns_once() {
    for table in EVENT_TABLES {
        let columns = table.columns();
        let names: HashSet<_> = columns.iter().map(|column| column.name()).collect();
        assert_eq!(names.len(), columns.len(), "{}", table.name);
        // SQLite states for at most 63 columns whether a query uses them.
        assert!(columns.len() <= 63 && LIFE_COLUMNS.len() <= 63, "{}", table.name);
        assert!(columns.iter().all(|column| column.doc().ends_with('.')), "{}", table.name);
        for name in ["timestamp", "process_id", "comm", "args"] {
            assert!(names.contains(name), "{} lacks {name}", table.name);
        }
    }
}

#[test]
fn each_name_of_a_column_exists() {
    let counts: Vec<_> = EVENT_TABLES.iter().map(|table| (table.name, table.columns().len())).collect();
    let expected = [("execs", 39), ("exits", 62), ("forks", 42), ("ids", 39), ("comms", 40), ("events", 31)];
    assert_eq!(counts, expected);
    assert!(LifeColumn::named("nothing").is_none());
}

#[test]
fn each_kind_is_in_the_table_of_all_events() {
    let tables = |kind| -> Vec<_> {
        EVENT_TABLES.iter().filter(|table| table.has(kind)).map(|table| table.name).collect()
    };
    assert_eq!(tables(EventKind::Exec), ["execs", "events"]);
    assert_eq!(tables(EventKind::Sid), ["ids", "events"]);
    assert_eq!(tables(EventKind::Unknown), ["events"]);
}

/// Returns the values that an event has in the table of all events, without those of its process.
fn event_values(body: EventBody, life: Option<&Life>) -> Vec<String> {
    let event = Event { time: MonoNs(70), seq: Seq(8), cpu: Cpu(9), body };
    let (wall, child) = (wall(), Some(ProcessId(77)));
    let row = EventRow { event: &event, life, child, real_ns: Some(1_000_070), wall: &wall, host: "web-1" };
    let columns = EVENT_TABLES.last().unwrap().columns().into_iter();
    let own = columns.filter(|column| matches!(column, EventTableColumn::Event(_)));
    values(own.map(|column| (column.name(), column.get(&row))))
}

#[test]
fn each_kind_of_event_has_the_columns_of_its_task_and_of_its_kind() {
    let common = |kind: &str, rest: &[&str]| {
        let mut all =
            vec!["timestamp=@1000070", "timestamp_ns=1000070", "mono_ns=70", "host=web-1", "cpu=9", "seq=8"];
        let kind = format!("kind={kind}");
        all.push(&kind);
        all.extend(rest);
        // The caller states the child only of a fork.
        all.iter()
            .map(|&value| value.to_owned())
            .filter(|value| !value.starts_with("child_process"))
            .collect::<Vec<_>>()
    };
    let of = |body| {
        let mut values = event_values(body, None);
        values.retain(|value| value != "child_process_id=77");
        values
    };
    let (task, other) = (Task::new(21, 20), Task::new(31, 30));
    let mut comm = Comm::default();
    comm.0[..3].copy_from_slice(b"new");
    let fork = EventBody::Fork { parent: task, child: other };
    assert_eq!(of(fork), common("fork", &["pid=20", "tid=21", "child_pid=30", "child_tid=31"]));
    assert!(event_values(fork, None).contains(&"child_process_id=77".to_owned()));
    let exec = of(EventBody::Exec { task });
    assert_eq!(exec, common("exec", &["pid=20", "tid=21"]));
    let exit = of(EventBody::Exit { task, code: 256, signal: 17, parent: Some(other) });
    assert_eq!(exit, common("exit", &["pid=20", "tid=21", "thread_wait_status=256"]));
    assert_eq!(of(EventBody::Comm { task, comm }), common("comm", &["pid=20", "tid=21", "thread_comm=new"]));
    let ptrace = of(EventBody::Ptrace { task, tracer: other });
    assert_eq!(ptrace, common("ptrace", &["pid=20", "tid=21", "tracer_pid=30", "tracer_tid=31"]));
    let detach = of(EventBody::Ptrace { task, tracer: Task::new(0, 0) });
    assert_eq!(detach, common("ptrace", &["pid=20", "tid=21", "tracer_pid=0", "tracer_tid=0"]));
    assert_eq!(of(EventBody::Unknown { what: 1 << 20 }), common("unknown", &[]));
}

#[test]
fn an_exit_states_whether_it_ends_its_process() {
    let header = Header { uuid: [1; 16], byte_order: ByteOrder::Little, meta: Meta::default() };
    let mut tracker = LifeTracker::new(&header);
    let mut ended = |tid, body| {
        let event = Event { time: MonoNs(70), seq: Seq(8), cpu: Cpu(9), body };
        tracker.apply(&Record::Event(RecordedDatagram::Event(event), None));
        let life = tracker.last_known(Tgid(20));
        let exit = EventBody::Exit { task: Task::new(tid, 20), code: 0, signal: 17, parent: None };
        let values = event_values(exit, life.as_ref());
        values.into_iter().find(|value| value.starts_with("process_ended"))
    };
    let exit = |tid| EventBody::Exit { task: Task::new(tid, 20), code: 0, signal: 17, parent: None };
    let fork = |tid, tgid| EventBody::Fork { parent: Task::new(1, 1), child: Task::new(tid, tgid) };
    ended(20, fork(20, 20));
    ended(20, fork(21, 20));
    assert_eq!(ended(20, exit(20)).as_deref(), Some("process_ended=false"));
    assert_eq!(ended(21, exit(21)).as_deref(), Some("process_ended=true"));
}

#[test]
fn a_loss_has_its_times_numbers_and_cause() {
    let (after, before) = (MonoNs(10), MonoNs(20));
    let loss = Loss { cpu: Cpu(3), first: Seq(4), last: Seq(8), after, before, cause: LossCause::Ring };
    let wall = wall();
    let row = LossRow { loss: &loss, wall: &wall, host: "web-1" };
    let expected = [
        "start_time=@1000010",
        "start_time_ns=1000010",
        "end_time=@1000020",
        "end_time_ns=1000020",
        "host=web-1",
        "cpu=3",
        "events=5",
        "first_seq=4",
        "last_seq=8",
        "cause=ring",
        "after_mono_ns=10",
        "before_mono_ns=20",
    ];
    assert_eq!(values(LOSS_COLUMNS.iter().map(|column| (column.name, column.get(&row)))), expected);
}

#[test]
fn a_gap_has_its_times_and_reason() {
    let lost = GapReason::Lost { cpu: Cpu(3), events: 5, cause: LossCause::Ring };
    let stopped = GapReason::Unobserved(UnobservedReason::Stopped);
    for (reason, expected) in [
        (lost, &["reason=lost", "cause=ring", "cpu=3", "events=5"][..]),
        (stopped, &["reason=unobserved", "cause=stopped"]),
        (GapReason::Blind, &["reason=blind"]),
        (GapReason::Damaged, &["reason=damaged"]),
        (GapReason::BeforeStart, &["reason=before_start"]),
        (GapReason::AfterEnd, &["reason=after_end"]),
    ] {
        let gap = Gap { reason, real_ns: (Some(10), Some(20)) };
        let row = GapRow { gap: &gap, host: "web-1" };
        let values = values(GAP_COLUMNS.iter().map(|column| (column.name, column.get(&row))));
        assert_eq!(
            values[..5],
            ["start_time=@10", "start_time_ns=10", "end_time=@20", "end_time_ns=20", "host=web-1"]
        );
        assert_eq!(values[5..], *expected);
    }
}

#[test]
fn a_host_has_what_its_first_header_states() {
    let mut meta = Meta {
        host: "web-1".into(),
        machine_id: "m".into(),
        boot_id: "b".into(),
        kernel: "6.18".into(),
        machine: "x86_64".into(),
        cpus_online: 2,
        tool: "pmon 1".into(),
        start: ClockAnchor { mono: MonoNs(1), boot_ns: 2, real_ns: 30 },
        ..Meta::default()
    };
    meta.transport.name = "ring".into();
    let of = |meta: &Meta, end_ns| {
        let row = HostRow { meta, end_ns, events: 7 };
        values(HOST_COLUMNS.iter().map(|column| (column.name, column.get(&row))))
    };
    let expected = [
        "host=web-1",
        "machine_id=m",
        "boot_id=b",
        "kernel=6.18",
        "machine=x86_64",
        "cpus=2",
        "transport=ring",
        "tool=pmon 1",
        "start_time=@30",
        "start_time_ns=30",
        "end_time=@90",
        "end_time_ns=90",
        "events=7",
    ];
    assert_eq!(of(&meta, Some(90)), expected);
    assert_eq!(of(&Meta::default(), None), ["start_time=@0", "start_time_ns=0", "events=7"]);
}
