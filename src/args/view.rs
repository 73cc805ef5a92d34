//! The arguments that select and format events, shared by `watch`, `print` and `replay`.

use clap::{Args, ValueEnum};
use pmon_core::wire::EventKind;

use super::ProcessArgs;
use crate::output::TextStyle;

#[derive(Clone, Debug, Args)]
pub(crate) struct ViewArgs {
    /// The output format.
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Show the threads' forks and exits in text; the other formats always do.
    #[arg(long)]
    pub(crate) threads: bool,
    /// Show the events that the recorder itself caused: its fences and heartbeats.
    #[arg(long)]
    pub(crate) own: bool,
}

/// The arguments that format text, shared by `watch` and `print`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TextArgs {
    /// The time at the start of each line of text.
    #[arg(long, value_enum, default_value_t = ClockArg::Wall)]
    pub(crate) clock: ClockArg,
    /// Add the ancestors of the process to each line of text, the oldest first.
    #[arg(long)]
    pub(crate) ancestors: bool,
    /// Do not cut lines of text at the width of the terminal.
    #[arg(long)]
    pub(crate) wrap: bool,
    /// When text has colours: always, never, or auto, which is on a terminal unless NO_COLOR is
    /// set.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorArg::Auto, hide_possible_values = true)]
    pub(crate) color: ColorArg,
}

impl TextArgs {
    /// Returns how text is written to standard output.
    pub(crate) fn style(&self) -> TextStyle {
        let style = TextStyle::for_output(self.clock);
        TextStyle {
            colours: match self.color {
                ColorArg::Auto => style.colours,
                ColorArg::Always => true,
                ColorArg::Never => false,
            },
            width: style.width.filter(|_| !self.wrap),
            ancestors: self.ancestors,
            ..style
        }
    }
}

/// The arguments that select events, shared with `cut`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Select only events of these kinds: ack, fork, exec, uid, gid, sid, ptrace, comm, coredump,
    /// exit, unknown [default: all].
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = parse_kind, hide_possible_values = true)]
    pub(crate) kind: Vec<EventKind>,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

impl SelectionArgs {
    /// Returns whether all events are selected.
    pub(crate) fn is_all(&self) -> bool {
        self.kind.is_empty() && self.process.is_all()
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
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
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
