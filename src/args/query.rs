//! The recording that a verb reads, and the time that a question is about.

use std::path::PathBuf;

use clap::Args;

use crate::time_spec::Moment;

/// The recording that a question is about.
#[derive(Clone, Debug, Args)]
pub(crate) struct QuerySourceArgs {
    /// The capture, or the directory of a store; `-` is standard input.
    #[arg(value_name = "FILE|DIR")]
    pub(crate) file: PathBuf,
    /// Read only the segments of this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

/// The captures that a verb about events reads.
#[derive(Clone, Debug, Args)]
pub(crate) struct FilesArgs {
    /// The capture, several of one host, or the directory of a store; `-` is standard input.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Read only the segments of this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

/// The time that a question is about.
#[derive(Clone, Debug, Args)]
pub(crate) struct QueryTimeArgs {
    /// Consider only processes that ran at this time or later, for example 02:00, +10s after the
    /// start or -30s before the end [default: the start].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) since: Option<Moment>,
    /// Consider only processes that ran at this time or earlier [default: the end].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) until: Option<Moment>,
}

/// The range of time, or the moment, that a question is about.
#[derive(Clone, Debug, Args)]
pub(crate) struct RangeOrMomentArgs {
    #[command(flatten)]
    pub(crate) range: QueryTimeArgs,
    /// Consider only processes that were running at this moment.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true, conflicts_with_all = ["since", "until"])]
    pub(crate) at: Option<Moment>,
}
