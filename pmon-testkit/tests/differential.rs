//! The fake kernel does what the kernel does: each line of the table that `pmon-testkit/src/differential` prints. A program of its own: while it
//! runs, other listeners on the host hear nothing, now and then.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pmon_testkit::differential::{Kernel, Model, Row, compare_scenarios, verbs};
use pmon_testkit::guard::{skip, skip_part};

/// How long a host may be too busy for it. Undisturbed, it takes less than a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Held by the test that plays: the other one would disturb it.
static STAGE: Mutex<()> = Mutex::new(());

/// The kernel, if it can be compared; else it is said why not.
fn kernel() -> Option<(Kernel, MutexGuard<'static, ()>)> {
    let guard = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    match Kernel::new() {
        Ok(kernel) => Some((kernel, guard)),
        Err(why) => {
            skip(&why.to_string());
            None
        }
    }
}

fn differing(name: &str, rows: &[Row]) -> Vec<String> {
    let is_different = |row: &&Row| row.is_equal() == Some(false);
    let text = |row: &Row| {
        let kernel = row.kernel.as_deref().unwrap_or_default();
        format!("{name}, {}\n  kernel: {kernel}\n  model:  {}", row.what, row.model)
    };
    rows.iter().filter(is_different).map(text).collect()
}

#[test]
fn sockets_requests_and_numbers_are_as_the_kernel_has_them() {
    let Some((mut kernel, _guard)) = kernel() else { return };
    let mut model = Model::like(&kernel);
    let (mut different, began) = (Vec::new(), Instant::now());
    for (name, rows) in compare_scenarios(Some(&mut kernel), &mut model) {
        match rows {
            Ok(rows) => different.extend(differing(name, &rows)),
            Err(why) => skip_part(&format!("{}: {why}", name)),
        }
        if began.elapsed() > PATIENCE {
            skip_part("this host is too busy");
            break;
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn verbs_emit_what_the_system_calls_emit() {
    let Some((_kernel, _guard)) = kernel() else { return };
    let mut different = Vec::new();
    for case in verbs::CASES {
        match case.unplayable() {
            None => match verbs::compare(case, true) {
                Ok(rows) => different.extend(differing(case.name, &rows)),
                Err(why) if why.kind() == ErrorKind::TimedOut => skip_part("this host is too busy"),
                Err(why) => panic!("{}: {why}", case.name),
            },
            Some(why) => skip_part(&format!("{}: {why}", case.name)),
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
