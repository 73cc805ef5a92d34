//! The rows of random machines, compared with what happened.

use super::machine::{Machine, TrueLife};
use super::*;

/// Number of machines.
const SEEDS: u64 = 200;

/// Returns a row in the form of the truth.
fn known(life: &Life) -> TrueLife {
    let end = match life.end {
        LifeEnd::Ended { time, status } => Some((time.0, status.map_or(u32::MAX, raw))),
        LifeEnd::Running => None,
        LifeEnd::Unobserved { before, .. } => Some((before.0, u32::MAX)),
    };
    TrueLife {
        pid: life.pid,
        start: life.start.map_or(u64::MAX, |start| start.0),
        parent: life.parent.as_ref().map_or((u32::MAX, 0), |parent| {
            // The first process is older than the recording.
            (parent.pid, parent.start.filter(|_| parent.pid != 1).map_or(0, |start| start.0))
        }),
        execs: life.execs.iter().map(|exec| (exec.time.0, command(&exec.program))).collect(),
        comm: life.comm().map_or_else(String::new, |comm| String::from_utf8_lossy(comm).into_owned()),
        threads: life.threads,
        end,
    }
}

fn raw(status: WaitStatus) -> u32 {
    match status {
        WaitStatus::Exited(code) => u32::from(code) << 8,
        WaitStatus::Killed { signal, core } => u32::from(signal) | u32::from(core) << 7,
    }
}

#[test]
fn without_losses_the_rows_are_exactly_what_happened() {
    for seed in 0..SEEDS {
        let machine = Machine::run(seed, 300, 0);
        let rows = lives(&machine.records);
        let rows: Vec<_> = rows.iter().filter(|life| life.pid != 1).map(known).collect();
        let truth = [machine.ended.clone(), machine.running()].concat();
        assert_eq!(rows.len(), truth.len(), "seed {seed}");
        for (row, life) in rows.iter().zip(&truth) {
            assert_eq!(row, life, "seed {seed}");
        }
    }
}

#[test]
fn with_losses_each_recorded_fork_has_one_row_and_no_statement_is_false() {
    for seed in 0..SEEDS {
        let machine = Machine::run(seed, 300, 5);
        let rows = lives(&machine.records);
        let truth = [machine.ended.clone(), machine.running()].concat();
        let mut starts = Vec::new();
        for life in &rows {
            let ProcessStart::Forked(start) = life.origin else { continue };
            starts.push(start.0);
            let truth = truth.iter().find(|truth| truth.start == start.0).unwrap();
            let row = known(life);
            assert_eq!((row.pid, row.parent.0), (truth.pid, truth.parent.0), "seed {seed}");
        }
        starts.sort_unstable();
        assert_eq!(starts, machine.recorded_starts, "seed {seed}");
    }
}
