//! The rows of random machines, compared with those of a slow and obvious process table.
//!
//! ```sh
//! PMON_SEEDS=10000 cargo test --release -p pmon-analysis oracle
//! ```

mod naive;
mod workload;

use std::collections::BTreeSet;

use self::naive::{NaiveEnd, NaiveTable};
use self::workload::Workload;
use super::*;

/// Number of machines.
const SEEDS: u64 = 200;
/// Variable of the environment that sets another number of machines.
const VARIABLE: &str = "PMON_SEEDS";

fn seeds() -> std::ops::Range<u64> {
    0..std::env::var(VARIABLE).ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

/// What is compared of a process.
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    pid: u32,
    origin: String,
    start: Option<u64>,
    /// Duration to 10 ms, unless the start is exact.
    duration: Option<u64>,
    end: NaiveEnd,
    ppid: Option<(u32, bool)>,
    creator: Option<(u32, Option<u64>)>,
    comm: Option<String>,
    args: Option<String>,
    cwd: Option<String>,
    ids: [Option<(u32, u32)>; 2],
    session: [Option<u32>; 2],
    threads: u32,
    children: u32,
    execs: Vec<(u64, Option<String>)>,
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).replace('\0', " "))
}

fn of_life(life: &Life) -> Compared {
    let program = life.program.get();
    Compared {
        pid: life.pid,
        origin: format!("{:?}", life.origin),
        start: life.start.map(|start| start.0),
        duration: life.duration_ns(),
        end: match life.end {
            LifeEnd::Running => NaiveEnd::Running,
            LifeEnd::Ended { time, status } => NaiveEnd::Ended(time.0, status.map(WaitStatus::raw)),
            LifeEnd::Unobserved { .. } => NaiveEnd::Gone,
        },
        ppid: life.ppid.map(|ppid| (ppid, life.is_parent_assumed)),
        creator: life.parent.as_ref().map(|parent| (parent.pid, None)),
        comm: text(life.comm()),
        args: text(program.args.as_deref()),
        cwd: text(program.cwd.as_deref()),
        ids: [life.uid, life.gid],
        session: [life.session, life.group],
        threads: life.threads,
        children: life.children,
        execs: life
            .execs
            .iter()
            .map(|exec| (exec.time.0, text(exec.program.get().args.as_deref())))
            .collect(),
    }
}

fn of_naive(table: &NaiveTable, n: usize) -> Compared {
    let life = &table.lives[n];
    let origin = match (life.forked, life.first_ticks) {
        (Some(time), _) => ProcessStart::Forked(MonoNs(time)),
        (None, Some(ticks)) => ProcessStart::Ticks(ticks),
        (None, None) => ProcessStart::Seen(MonoNs(life.first)),
    };
    let start = life.forked.or(life.ticks.map(|ticks| (ticks * 10_000_000).saturating_sub(5_000_000_000)));
    let end = match life.end {
        NaiveEnd::Ended(time, _) => Some(time),
        NaiveEnd::Running | NaiveEnd::Gone => None,
    };
    Compared {
        pid: life.pid,
        origin: format!("{origin:?}"),
        start,
        duration: start.zip(end).map(|(start, end)| match life.forked {
            Some(_) => end - start,
            None => (end - start + 5_000_000) / 10_000_000 * 10_000_000,
        }),
        end: life.end,
        ppid: life.ppid.map(|ppid| (ppid, life.is_assumed)),
        creator: life.creator.map(|creator| (table.lives[creator].pid, None)),
        comm: text(table.comm(n)),
        args: text(table.program(n).args.as_deref()),
        cwd: text(table.program(n).cwd.as_deref()),
        ids: [life.uid, life.gid],
        session: [life.session, life.group],
        threads: life.started_threads,
        children: life.children,
        execs: life
            .execs
            .iter()
            .map(|&(time, program)| (time, text(table.programs[program].args.as_deref())))
            .collect(),
    }
}

#[test]
fn the_rows_are_those_of_a_slow_and_obvious_table() {
    for seed in seeds() {
        let records = Workload::records(seed, 150);
        let table = NaiveTable::of(&records);
        let mut rows: Vec<_> = lives(&records).iter().map(of_life).collect();
        let mut expected: Vec<_> = table.rows().into_iter().map(|n| (of_naive(&table, n), n)).collect();
        rows.sort_by_key(|row| (row.pid, row.origin.clone()));
        expected.sort_by_key(|(row, _)| (row.pid, row.origin.clone()));
        assert_eq!(rows.len(), expected.len(), "seed {seed}");
        for (row, (expected, n)) in rows.iter_mut().zip(&expected) {
            // A scan removes processes in any order. The parent can be gone before its child.
            if table.lives[*n].is_swept {
                row.ppid = expected.ppid;
            }
        }
        let expected: Vec<_> = expected.into_iter().map(|(row, _)| row).collect();
        let differs = rows.iter().zip(&expected).find(|(row, expected)| row != expected);
        if let Some(pid) = differs.map(|(row, _)| row.pid) {
            let of = |rows: &[Compared]| -> Vec<String> {
                rows.iter().filter(|row| row.pid == pid).map(|row| format!("{row:?}")).collect()
            };
            panic!("seed {seed}:\n{}\n\n{}", of(&rows).join("\n"), of(&expected).join("\n"));
        }
    }
}

/// Returns the number of each process that the events name, and of each row, as `pmon sql` shows
/// them in `events` and in `processes`.
#[test]
fn the_number_of_a_process_does_not_depend_on_when_it_is_needed() {
    for seed in seeds() {
        let records = Workload::records(seed, 150);
        let (mut tracker, mut named, mut rows) =
            (LifeTracker::new(&header()), BTreeSet::new(), BTreeSet::new());
        for record in &records {
            tracker.apply(record);
            if let Record::Event(RecordedDatagram::Event(event), _) = record
                && let Some(task) = event.task()
            {
                named.extend(tracker.process_id(task.tgid));
            }
            rows.extend(std::iter::from_fn(|| tracker.pop()).map(|life| life.id));
        }
        tracker.finish();
        rows.extend(std::iter::from_fn(|| tracker.pop()).map(|life| life.id));
        assert!(named.is_subset(&rows), "seed {seed}");
        let alone: BTreeSet<_> = lives(&records).iter().map(|life| life.id).collect();
        assert_eq!(rows, alone, "seed {seed}");
    }
}
