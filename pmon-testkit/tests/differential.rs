//! The fake kernel behaves as the running kernel does: every line of the differential table is
//! equal.
//!
//! This is a program of its own, because at times other listeners on the machine receive no events.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pmon_testkit::differential::{ModelKernel, RunningKernel, TableRow, compare_scenarios, verbs};
use pmon_testkit::guard::{skip, skip_part};

/// Number of disturbed scenarios after which the machine is too busy for the rest.
const MAX_DISTURBED: usize = 3;

/// Held by the running test: the other one would disturb it.
static RUNNING: Mutex<()> = Mutex::new(());

/// Returns the running kernel, or skips the test if it cannot be compared.
fn kernel() -> Option<(RunningKernel, MutexGuard<'static, ()>)> {
    let guard = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    match RunningKernel::new() {
        Ok(kernel) => Some((kernel, guard)),
        Err(why) => {
            skip(&why.to_string());
            None
        }
    }
}

/// Describes the rows whose values differ.
fn differing(name: &str, rows: &[TableRow]) -> Vec<String> {
    let differs = |row: &&TableRow| row.is_equal() == Some(false);
    let text = |row: &TableRow| {
        let kernel = row.kernel.as_deref().unwrap_or_default();
        format!("{name}, {}\n  kernel: {kernel}\n  model:  {}", row.label, row.model)
    };
    rows.iter().filter(differs).map(text).collect()
}

#[test]
fn sockets_requests_and_numbers_equal_those_of_the_kernel() {
    let Some((mut kernel, _guard)) = kernel() else { return };
    let mut model = ModelKernel::like(&kernel);
    let (mut different, mut disturbed) = (Vec::new(), 0);
    for (name, rows) in compare_scenarios(Some(&mut kernel), &mut model) {
        match rows {
            Ok(rows) => different.extend(differing(name, &rows)),
            Err(why) => {
                skip_part(&format!("{name}: {why}"));
                disturbed += 1;
                if disturbed == MAX_DISTURBED {
                    break;
                }
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn verbs_emit_the_events_of_the_system_calls() {
    let Some((_kernel, _guard)) = kernel() else { return };
    let mut different = Vec::new();
    for case in verbs::CASES {
        match case.unsupported() {
            None => match verbs::compare(case, true) {
                Ok(rows) => different.extend(differing(case.name, &rows)),
                Err(why) if why.kind() == ErrorKind::TimedOut => skip_part("this machine is too busy"),
                Err(why) => panic!("{}: {why}", case.name),
            },
            Some(why) => skip_part(&format!("{}: {why}", case.name)),
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
