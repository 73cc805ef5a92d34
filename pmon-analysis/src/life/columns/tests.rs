use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use pmon_core::capture::{ClockAnchor, FatalSignal, MissReason};
use pmon_core::wire::Comm;

use super::*;
use crate::life::{Ancestor, LifeSignal, ProcessId, ProcessProgram, ProcessStart};
use crate::process::Name;

const CONTAINER: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
const POD: &str = "0c2b1d3e-4f5a-6b7c-8d9e-0f1a2b3c4d5e";

fn bytes(text: impl AsRef<[u8]>) -> Option<Arc<[u8]>> {
    Some(text.as_ref().into())
}

fn life(end: LifeEnd) -> Life {
    let parent = Ancestor {
        id: ProcessId(70),
        pid: 7,
        start: None,
        name: Name::default(),
        program: ProcessProgram::default(),
        uid: None,
        parent: None,
        depth: 0,
        found: OnceLock::new(),
    };
    let program = Program {
        comm: None,
        exe: bytes("/bin/ls"),
        filename: bytes("ls"),
        cwd: bytes("/"),
        cgroup: bytes(format!("0::/kubepods/burstable/pod{POD}/{CONTAINER}")),
        container: bytes("web\0web-0\0shop\0nginx\0"),
        args: bytes("ls\0\0-l\0"),
        args_len: Some(50),
        login_uid: Some(1000),
        pid_namespace: Some(4_026_531_836),
        miss: Some(MissReason::TooLong),
    };
    Life {
        id: ProcessId(80),
        pid: 8,
        origin: ProcessStart::Forked(MonoNs(100)),
        start: Some(MonoNs(100)),
        end,
        parent: Some(Arc::new(parent)),
        ppid: Some(1),
        is_parent_assumed: true,
        parent_id: Some(ProcessId(1)),
        name: Name::default(),
        program: ProcessProgram::known(program),
        execs: Vec::new(),
        omitted_execs: 0,
        uid: Some((11, 12)),
        gid: Some((13, 14)),
        session: Some(15),
        group: Some(16),
        namespace_pid: Some(17),
        threads: 2,
        children: 0,
        usage: Some(Box::new(LifeUsage {
            cpu_ns: 21,
            user_ns: 22,
            system_ns: 23,
            max_rss_bytes: Some(24),
            minor_faults: 25,
            major_faults: 26,
            read_bytes: 27,
            write_bytes: u64::MAX,
            at_least: false,
        })),
        signal: None,
    }
}

fn wall() -> WallClock {
    let mut wall = WallClock::new();
    wall.observe(ClockAnchor { mono: MonoNs(0), boot_ns: 0, real_ns: 1_000_000 });
    wall
}

/// Returns the columns that are not null, as `name=value`.
fn row(life: &Life, host: &str) -> Vec<String> {
    let wall = wall();
    let row = LifeRow::new(life, &wall, host);
    let text = |value: &ColumnValue<'_>| match value {
        ColumnValue::Null => None,
        ColumnValue::Integer(number) => Some(number.to_string()),
        ColumnValue::Boolean(value) => Some(value.to_string()),
        ColumnValue::Timestamp(time) => Some(format!("@{time}")),
        ColumnValue::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ColumnValue::TextList(_) => Some(format!("{:?}", value.list().map(<[u8]>::len).collect::<Vec<_>>())),
    };
    let values = LIFE_COLUMNS.iter().map(|column| (column.name, column.get(&row)));
    values.filter_map(|(name, value)| Some(format!("{name}={}", text(&value)?))).collect()
}

#[test]
fn each_column_has_its_value() {
    let killed = WaitStatus::Killed { signal: 11, core: true };
    let mut life = life(LifeEnd::Ended { time: MonoNs(350), status: Some(killed) });
    life.name = Name::new(b"ls");
    let expected = [
        "process_id=80",
        "parent_process_id=1",
        "creator_process_id=70",
        "host=web-1",
        "pid=8",
        "ppid=1",
        "ppid_assumed=true",
        "comm=ls",
        "exe=/bin/ls",
        "filename=ls",
        "cwd=/",
        "args=[2, 0, 2]",
        "args_truncated=true",
        "uid=11",
        "euid=12",
        "gid=13",
        "egid=14",
        "login_uid=1000",
        "session=15",
        "process_group=16",
        &format!("cgroup=0::/kubepods/burstable/pod{POD}/{CONTAINER}"),
        &format!("container_id={CONTAINER}"),
        &format!("pod_uid={POD}"),
        "container=web",
        "pod=web-0",
        "namespace=shop",
        "image=nginx",
        "pid_ns=4026531836",
        "ns_pid=17",
        "start_time=@1000100",
        "start_time_ns=1000100",
        "end_time=@1000350",
        "end_time_ns=1000350",
        "ended=true",
        "duration_ns=250",
        "term_signal=11",
        "core_dumped=true",
        "oom_killed=false",
        "wait_status=139",
        "cpu_ns=21",
        "user_ns=22",
        "system_ns=23",
        "max_rss_bytes=24",
        "minor_faults=25",
        "major_faults=26",
        "read_bytes=27",
        "write_bytes=9223372036854775807",
        "threads=3",
        "missed=too_long",
    ];
    assert_eq!(row(&life, "web-1"), expected);
}

#[test]
fn the_origin_of_a_signal_is_a_process_the_kernel_or_unknown() {
    let killed = Some(WaitStatus::Killed { signal: 9, core: false });
    let life = life(LifeEnd::Ended { time: MonoNs(350), status: killed });
    let of = |oom_victim, origin| {
        let signal = FatalSignal { oom_victim, origin };
        let signal = Some(Box::new(LifeSignal { signal, sender_id: Some(ProcessId(81)) }));
        let row = row(&Life { signal, ..life.clone() }, "");
        let begin = row.iter().position(|value| value.starts_with("core_dumped")).unwrap() + 1;
        let end = row.iter().position(|value| value.starts_with("wait_status")).unwrap();
        row[begin..end].to_vec()
    };
    let sender =
        SignalSender { pid: 6, start_ticks: 9, uid: 12, comm: Comm(*b"oomd\0\0\0\0\0\0\0\0\0\0\0\0") };
    let process = SignalOrigin::Process { code: -6, sender };
    let sent = [
        "oom_killed=false",
        "signal_origin=process",
        "signal_code=-6",
        "signal_sender_process_id=81",
        "signal_sender_pid=6",
        "signal_sender_comm=oomd",
        "signal_sender_uid=12",
    ];
    assert_eq!(of(Some(false), process), sent);
    assert_eq!(of(Some(true), process), sent);
    assert_eq!(of(None, process), sent[1..]);
    let kernel = SignalOrigin::Kernel { code: 128 };
    assert_eq!(of(Some(true), kernel), ["oom_killed=true", "signal_origin=kernel", "signal_code=128"]);
    assert_eq!(of(None, SignalOrigin::Unknown), [""; 0]);
}

#[test]
fn an_exit_has_a_code_and_no_signal() {
    let row = row(&life(LifeEnd::Ended { time: MonoNs(350), status: Some(WaitStatus::Exited(3)) }), "");
    for expected in ["exit_code=3", "core_dumped=false", "oom_killed=false", "wait_status=768"] {
        assert!(row.iter().any(|value| value == expected), "{row:?}");
    }
    assert!(!row.iter().any(|value| value.starts_with("term_signal") || value.starts_with("host")));
}

#[test]
fn what_is_unknown_is_null() {
    let unknown = Life {
        parent: None,
        start: None,
        ppid: None,
        parent_id: None,
        program: ProcessProgram::default(),
        uid: None,
        gid: None,
        session: None,
        group: None,
        namespace_pid: None,
        threads: 0,
        usage: None,
        ..life(LifeEnd::Running)
    };
    assert_eq!(row(&unknown, ""), ["process_id=80", "pid=8", "ended=false", "threads=1"]);
    let gone = Life { end: LifeEnd::Unobserved { after: MonoNs(1), before: MonoNs(2) }, ..unknown.clone() };
    assert_eq!(row(&gone, ""), ["process_id=80", "pid=8", "ended=true", "threads=1"]);
    let first_thread = Life { end: LifeEnd::Ended { time: MonoNs(5), status: None }, ..unknown };
    let row = row(&first_thread, "");
    assert!(!row.iter().any(|value| value.starts_with("core") || value.starts_with("wait")), "{row:?}");
}

#[test]
fn values_that_say_nothing_are_null() {
    let mut life = life(LifeEnd::Running);
    life.program = ProcessProgram::known(Program {
        login_uid: Some(u32::MAX),
        cgroup: bytes("0::/system.slice/nginx.service"),
        args: bytes("ls\0"),
        args_len: None,
        ..Program::default()
    });
    let row = row(&life, "");
    assert!(!row.iter().any(|value| value.starts_with("login_uid")));
    assert!(!row.iter().any(|value| value.starts_with("container_id") || value.starts_with("pod_uid")));
    assert!(row.contains(&"unit=nginx.service".into()) && row.contains(&"args_truncated=false".into()));
}

#[test]
fn values_have_the_types_of_their_columns_and_names_are_unique() {
    let life = life(LifeEnd::Ended { time: MonoNs(350), status: Some(WaitStatus::Exited(3)) });
    let wall = wall();
    let row = LifeRow::new(&life, &wall, "h");
    for column in LIFE_COLUMNS {
        let kind = match column.get(&row) {
            ColumnValue::Null => continue,
            ColumnValue::Integer(_) => ColumnType::Integer,
            ColumnValue::Boolean(_) => ColumnType::Boolean,
            ColumnValue::Timestamp(_) => ColumnType::Timestamp,
            ColumnValue::Text(_) => ColumnType::Text,
            ColumnValue::TextList(_) => ColumnType::TextList,
        };
        assert_eq!(kind, column.kind, "{}", column.name);
        assert!(column.doc.ends_with('.'), "{}", column.name);
        assert_eq!(LifeColumn::named(column.name).map(|found| found.name), Some(column.name));
    }
    let names: HashSet<_> = LIFE_COLUMNS.iter().map(|column| column.name).collect();
    assert_eq!(names.len(), LIFE_COLUMNS.len());
    assert!(LifeColumn::named("nothing").is_none());
}
