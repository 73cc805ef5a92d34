//! The differential table: the same scenarios on the kernel and on a model of it, with the same numbers.
//!
//! `cargo run --release --example differential`
//!
//! As root, on a machine where little else happens: a scenario that events of other processes disturb is played again.
//! While the last scenarios are played, other listeners hear nothing, for some milliseconds each.
#![deny(unsafe_code)]

use std::io::{self, Write as _};

use anyhow::Context as _;

use table::{Host, Kernel, SCENARIOS, play};

mod table;

fn main() -> anyhow::Result<()> {
    let mut kernel = Kernel::new()?;
    let mut out = io::stdout().lock();
    writeln!(out, "| scenario | | kernel |\n| --- | --- | --- |")?;
    for scenario in SCENARIOS.iter().copied().flatten() {
        let seen = play(&mut kernel as &mut dyn Host, scenario).context(scenario.name)?;
        for line in seen {
            writeln!(out, "| {} | {} | {} |", scenario.name, line.what, line.seen)?;
        }
    }
    Ok(())
}
