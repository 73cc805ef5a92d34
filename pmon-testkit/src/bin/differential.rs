//! The differential table: the same scenarios on the kernel and on the fake kernel, and what was
//! seen on each.
//!
//! `cargo run --release -p pmon-testkit --bin differential [-- --all]`
//!
//! Prints how many lines of each scenario are the same, and every line that is not; with `--all`,
//! every line. The exit status is 0 if all are the same, 1 if not, and 2 if some could not be
//! compared. On a kernel that cannot be, the fake kernel's column stands alone.
//!
//! As root, on a machine where little else happens: a scenario that events of other processes
//! disturb is played again. While the last scenarios are played, other listeners hear nothing, for
//! some milliseconds each.
#![deny(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use pmon_testkit::differential::verbs;

use pmon_testkit::differential::{Kernel, Model, Row, compare_scenarios};

const DIFFERENT: u8 = 1;
const NOT_COMPARED: u8 = 2;

fn main() -> anyhow::Result<ExitCode> {
    let is_all = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--all") => true,
        Some(other) => anyhow::bail!("{other:?}: there is only --all"),
    };
    let mut kernel = match Kernel::new() {
        Ok(kernel) => Some(kernel),
        Err(why) => {
            writeln!(io::stderr(), "Not compared, this is the fake kernel alone: {why}.")?;
            None
        }
    };
    let mut model = kernel.as_ref().map_or_else(Model::new, Model::like);
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
        let unplayable = case.unplayable().filter(|_| kernel.is_some());
        let rows = verbs::compare(case, kernel.is_some() && unplayable.is_none()).context(case.name)?;
        lines += rows.len();
        different += print(&mut out, &name, &rows, is_all)?;
        missing += usize::from(unplayable.is_some());
        if let Some(why) = unplayable {
            writeln!(out, "| {name} | {why} | | | not compared |")?;
        }
        if let Some(why) = case.varies {
            writeln!(out, "| {name} | varies: {why} | | | |")?;
        }
    }
    if kernel.is_some() {
        let same = lines - different;
        writeln!(out, "\n{same} of {lines} lines are the same; {missing} scenarios were not compared")?;
    }
    Ok(match (kernel, different, missing) {
        (_, 1.., _) => DIFFERENT.into(),
        (None, ..) | (_, _, 1..) => NOT_COMPARED.into(),
        (Some(_), 0, 0) => ExitCode::SUCCESS,
    })
}

/// Prints a scenario; gives the number of lines that differ.
fn print(out: &mut impl Write, name: &str, rows: &[Row], is_all: bool) -> io::Result<usize> {
    let different = rows.iter().filter(|row| row.is_equal() == Some(false)).count();
    for row in rows {
        let (equal, is_shown) = match row.is_equal() {
            Some(true) => ("yes", is_all),
            Some(false) => ("**NO**", true),
            None => ("not compared", true),
        };
        if is_shown {
            let kernel = row.kernel.as_deref().unwrap_or("");
            writeln!(out, "| {name} | {} | {kernel} | {} | {equal} |", row.what, row.model)?;
        }
    }
    if !is_all && rows.iter().all(|row| row.kernel.is_some()) {
        let same = rows.len() - different;
        writeln!(out, "| {name} | | | | {same} of {} lines |", rows.len())?;
    }
    Ok(different)
}
