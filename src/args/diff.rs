//! `pmon diff` on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::exit;

const DIFF_HELP: &str = "\
Examples:
  pmon diff night.pmon again.pmon                  the same, in the same order?
  pmon replay night.pmon --record again.pmon && pmon diff night.pmon again.pmon
  pmon diff --by-cpu one.pmon two.pmon             two recorders of the same host
  pmon diff --renumbered night.pmon again.pmon     after a replay that left events out
  ssh host cat night.pmon | pmon diff - night.pmon

Compared are the events, each datagram byte for byte; the losses, by CPU, numbers and times; and the
times in which nothing was heard: in the order of the capture, up to the first difference. Losses
that follow one another on a CPU are one; if only their causes differ, that is told, and is no
difference.
Not compared is what a recorder says of them: details of processes, what they used, scans of /proc,
clocks, fences (but their events), marks, totals, the header.

Between CPUs the order of events is that of their arrival, and chance. --by-cpu takes each CPU for
itself, and times in which nothing was heard for themselves. What one capture is ahead of the other
is then held in memory, up to 524,288 records; if that is not enough, the comparison is given up,
which is said, and ends as a difference does. The difference that is told is the one found first.

With --renumbered, events are compared by time, CPU, kind and content, losses by CPU and count.

Both captures are read to their ends, so that they are counted. Of a damaged one the intact part is
compared; exit code 4 then says so, whether they differ or not.";

/// See [`Command::Diff`](super::Command::Diff).
#[derive(Debug, Args)]
#[command(after_help = format!("{DIFF_HELP}\n\n{}", exit::HELP))]
pub(crate) struct DiffArgs {
    /// A capture, `-` for standard input
    pub(crate) a: PathBuf,
    /// Another one; one of the two may be standard input
    pub(crate) b: PathBuf,
    /// Compare each CPU's events and losses in their own order, whatever comes between
    #[arg(long)]
    pub(crate) by_cpu: bool,
    /// The numbers of events may differ
    #[arg(long)]
    pub(crate) renumbered: bool,
    /// For programs: one JSON object; its fields are in docs/json.md
    #[arg(long)]
    pub(crate) json: bool,
}
