//! The arguments that select and format events, shared by `watch`, `print` and `replay`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use pmon_core::wire::EventKind;

#[derive(Clone, Debug, Args)]
pub(crate) struct ViewArgs {
    /// The output format.
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Show forks and exits of threads in text; the other formats always do.
    #[arg(long)]
    pub(crate) threads: bool,
    /// Show the events that the recorder itself caused: its fences and heartbeats.
    #[arg(long)]
    pub(crate) own: bool,
}

/// The arguments that select events, shared with `cut`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Select only events of these kinds: ack, fork, exec, uid, gid, sid, ptrace, comm, coredump,
    /// exit, unknown [default: all].
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = parse_kind, hide_possible_values = true)]
    pub(crate) kind: Vec<EventKind>,
    /// Select only events of these processes or threads; a fork belongs to parent and child.
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Select only events of this process and its descendants.
    #[arg(long, value_name = "PID")]
    pub(crate) tree: Option<u32>,
    /// Select only events of processes with exactly this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) comm: Option<OsString>,
}

impl SelectionArgs {
    /// Returns whether all events are selected.
    pub(crate) fn is_all(&self) -> bool {
        self.kind.is_empty() && self.pid.is_empty() && self.tree.is_none() && self.comm.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// Aligned lines for people.
    Text,
    /// The lines of the common C example (`fork: parent tid=1 ...`), without losses.
    Classic,
    /// One JSON object per line.
    Json,
    /// Comma-separated values with a header line.
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClockArg {
    /// Local time.
    Wall,
    /// Seconds of the kernel's monotonic clock.
    Mono,
    /// Seconds since the start.
    Relative,
    /// Seconds since the line before.
    Delta,
}

/// Parses the name of an event kind.
pub(super) fn parse_kind(name: &str) -> Result<EventKind, String> {
    EventKind::from_name(name).ok_or_else(|| {
        let names: Vec<_> = EventKind::ALL.into_iter().map(EventKind::name).collect();
        format!("no such kind; use {}", names.join(", "))
    })
}
