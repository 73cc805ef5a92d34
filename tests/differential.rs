//! The fake kernel does what the kernel does: each line of the table that `examples/differential` prints. A program of its own: while it
//! runs, other listeners on the host hear nothing, now and then.

// The table is the example's, which prints what is compared here.
#[allow(dead_code, reason = "a part of it is for the example only")]
#[path = "../examples/differential/table/mod.rs"]
mod table;
#[allow(dead_code, reason = "a part of it is for the example only")]
#[path = "../examples/differential/verbs/mod.rs"]
mod verbs;

mod common;

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{skip, skip_part};
use table::{Host, Kernel, Model, Row, SCENARIOS, compare};

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
    for scenario in SCENARIOS.iter().copied().flatten() {
        match compare(Some(&mut kernel as &mut dyn Host), &mut model, scenario) {
            Ok(rows) => different.extend(differing(scenario.name, &rows)),
            Err(why) => skip_part(&format!("{}: {why}", scenario.name)),
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
