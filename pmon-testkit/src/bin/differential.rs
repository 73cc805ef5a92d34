//! Prints the differential table: the same scenarios on the running kernel and on the fake kernel.
//!
//! ```text
//! cargo run --release -p pmon-testkit --bin differential [-- --all]
//! ```
//!
//! Prints the number of equal lines of each scenario, and every line that differs; with `--all`,
//! every line. The exit status is 0 if all lines are equal, 1 if not, and 2 if some could not be
//! compared. If the running kernel cannot be compared, only the fake kernel's column is printed.
//!
//! Run it as root, on a machine where few other processes run: a scenario that foreign events
//! disturb is repeated. During the last scenarios, other listeners receive no events for some
//! milliseconds.
#![deny(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use pmon_testkit::differential::verbs;

use pmon_testkit::differential::{ModelKernel, RunningKernel, TableRow, compare_scenarios};

const DIFFERENT: u8 = 1;
const NOT_COMPARED: u8 = 2;

fn main() -> anyhow::Result<ExitCode> {
    let is_all = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--all") => true,
        Some(other) => anyhow::bail!("{other:?}: the only option is --all"),
    };
    let mut kernel = match RunningKernel::new() {
        Ok(kernel) => Some(kernel),
        Err(why) => {
            writeln!(io::stderr(), "The running kernel is not compared: {why}.")?;
            None
        }
    };
    let mut model = kernel.as_ref().map_or_else(ModelKernel::default, ModelKernel::like);
    let mut out = io::stdout().lock();
    let (mut lines, mut different, mut missing) = (0, 0, 0);
    writeln!(out, "| scenario | | kernel | model | equal |\n| --- | --- | --- | --- | --- |")?;
    for (name, rows) in compare_scenarios(kernel.as_mut(), &mut model) {
        match rows {
            Ok(rows) => {
                lines += rows.len();
                different += print(&mut out, name, &rows, is_all)?;
            }
            Err(why) => {
                missing += 1;
                writeln!(out, "| {} | | {why} | | not compared |", name)?;
            }
        }
    }
    for case in verbs::CASES {
        let name = format!("verbs: {}", case.name);
        let unsupported = case.unsupported().filter(|_| kernel.is_some());
        let rows = verbs::compare(case, kernel.is_some() && unsupported.is_none()).context(case.name)?;
        lines += rows.len();
        different += print(&mut out, &name, &rows, is_all)?;
        missing += usize::from(unsupported.is_some());
        if let Some(why) = unsupported {
            writeln!(out, "| {name} | {why} | | | not compared |")?;
        }
        if let Some(why) = case.varies {
            writeln!(out, "| {name} | varies: {why} | | | |")?;
        }
    }
    if kernel.is_some() {
        let same = lines - different;
        writeln!(out, "\n{same} of {lines} lines are equal; {missing} scenarios were not compared")?;
    }
    Ok(match (kernel, different, missing) {
        (_, 1.., _) => DIFFERENT.into(),
        (None, ..) | (_, _, 1..) => NOT_COMPARED.into(),
        (Some(_), 0, 0) => ExitCode::SUCCESS,
    })
}

/// Prints the rows of a scenario. Returns the number of lines that differ.
fn print(out: &mut impl Write, name: &str, rows: &[TableRow], is_all: bool) -> io::Result<usize> {
    let different = rows.iter().filter(|row| row.is_equal() == Some(false)).count();
    for row in rows {
        let (equal, is_shown) = match row.is_equal() {
            Some(true) => ("yes", is_all),
            Some(false) => ("**NO**", true),
            None => ("not compared", true),
        };
        if is_shown {
            let kernel = row.kernel.as_deref().unwrap_or("");
            writeln!(out, "| {name} | {} | {kernel} | {} | {equal} |", row.label, row.model)?;
        }
    }
    if !is_all && rows.iter().all(|row| row.kernel.is_some()) {
        let same = rows.len() - different;
        writeln!(out, "| {name} | | | | {same} of {} lines |", rows.len())?;
    }
    Ok(different)
}
