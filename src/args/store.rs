//! The arguments of `pmon record` that belong to a store.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::size::parse_bytes;
use crate::time_spec::parse_std_duration;

/// Minimum of `--rotate-size` in bytes. A segment begins with the table of all processes.
const MIN_ROTATE_SIZE: u64 = 128 << 10;
/// Minimum of `--rotate-every`.
const MIN_ROTATE_EVERY: Duration = Duration::from_secs(1);
/// Minimum of `--max-use` and `--flight-memory` in bytes: a few of the smallest segments.
const MIN_USE: u64 = 1 << 20;
/// Minimum of `--flight` and `--max-age`.
const MIN_AGE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(next_help_heading = "Store options")]
pub(crate) struct StoreArgs {
    /// Record to this directory, in segments that are rotated and pruned; it is created with mode
    /// 0700 if it does not exist.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "force"])]
    pub(crate) store: Option<PathBuf>,
    /// Size at which a segment ends, at least 128K.
    #[arg(long, value_name = "SIZE", value_parser = parse_rotate_size, default_value = "64M")]
    pub(crate) rotate_size: u64,
    /// Age at which a segment ends, at least 1s.
    #[arg(long, value_name = "DURATION", value_parser = parse_rotate_every, default_value = "10m")]
    pub(crate) rotate_every: Duration,
    /// Maximum size of the store, everything included; the oldest segments are removed [default: no
    /// limit].
    #[arg(long, value_name = "SIZE", value_parser = parse_max_use)]
    pub(crate) max_use: Option<u64>,
    /// Age at which a segment is removed [default: no limit].
    #[arg(long, value_name = "DURATION", value_parser = parse_max_age)]
    pub(crate) max_age: Option<Duration>,
    /// Space of the filesystem that is left free; the oldest segments are removed [default: none].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) keep_free: Option<u64>,
    /// Keep this much of the past in memory, and write only clips: by `pmon snapshot`, SIGUSR2 or a
    /// trigger.
    #[arg(long, value_name = "DURATION", value_parser = parse_max_age, conflicts_with_all = ["rotate_size", "rotate_every", "max_use", "max_age", "keep_free"])]
    pub(crate) flight: Option<Duration>,
    /// Maximum memory of --flight, at least 1M.
    #[arg(long, value_name = "SIZE", value_parser = parse_max_use, default_value = "64M")]
    pub(crate) flight_memory: u64,
    /// Read options and triggers from this TOML file; options on the command line take precedence
    /// [default with --store: /etc/pmon/pmon.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn parse_rotate_size(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        MIN_ROTATE_SIZE.. => parse_bytes(text),
        _ => Err("must be at least 128K".into()),
    }
}

fn parse_rotate_every(text: &str) -> Result<Duration, String> {
    parse_std_duration(text)
        .and_then(|age| if age < MIN_ROTATE_EVERY { Err("must be at least 1s".into()) } else { Ok(age) })
}

pub(super) fn parse_max_use(text: &str) -> Result<u64, String> {
    parse_bytes(text)
        .and_then(|size| if size < MIN_USE { Err("must be at least 1M".into()) } else { Ok(size) })
}

pub(super) fn parse_max_age(text: &str) -> Result<Duration, String> {
    parse_std_duration(text)
        .and_then(|age| if age < MIN_AGE { Err("must be at least 1s".into()) } else { Ok(age) })
}
