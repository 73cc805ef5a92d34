//! The arguments of `pmon diff`.

use std::path::PathBuf;

use clap::Args;

use crate::exit;

const EXAMPLES: &str = "\
Examples:
  pmon diff night.pmon again.pmon                  same events, in the same order?
  pmon diff --by-cpu one.pmon two.pmon             two recorders of one host
  pmon diff --renumbered night.pmon again.pmon     after a filtered replay
  pmon diff --json night.pmon again.pmon | jq .difference
  ssh host cat night.pmon | pmon diff - night.pmon";

const DETAILS: &str = "\
pmon compares events (each datagram byte for byte), losses (CPU, numbers, times)
and blind times, in the order of the captures, and reports the first difference.
Consecutive losses of a CPU count as one. If only their causes differ, pmon
prints a note, and the captures count as equal.

pmon does not compare what a recorder adds: process details, resource usage,
scans of /proc, clocks, fence records, totals and the header.

The order of events of different CPUs is that of their arrival, which varies.
--by-cpu compares each CPU separately, and blind times separately. Records that
one capture has ahead of the other are held in memory, at most 524,288; beyond
that pmon gives up, and the exit code is 8. The reported difference is the one
that was found first.

--renumbered compares events by time, CPU, kind and content, and losses by CPU
and count.

Both captures are read to the end, so the totals are complete. Of a damaged
capture, the intact part is compared; the exit code is then 4 in any case.";

#[derive(Debug, Args)]
#[command(
    after_help = format!("{EXAMPLES}\n\n{}", exit::HELP),
    after_long_help = format!("{EXAMPLES}\n\n{DETAILS}\n\n{}", exit::HELP),
)]
pub(crate) struct DiffArgs {
    /// The first capture; `-` is standard input.
    pub(crate) a: PathBuf,
    /// The second capture; `-` is standard input.
    pub(crate) b: PathBuf,
    /// Compare the events and losses of each CPU separately.
    #[arg(long)]
    pub(crate) by_cpu: bool,
    /// Ignore the sequence numbers of events.
    #[arg(long)]
    pub(crate) renumbered: bool,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
