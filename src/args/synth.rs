//! The arguments of `pmon synth`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use pmon_replay::synth;

use super::help::of_other;

const EXAMPLES: &str = "\
Examples:
  pmon synth -o test.pmon                            a million events
  pmon synth -o big.pmon --events 100M --profile build
  pmon synth -o lossy.pmon --loss 1% --seed 7        1% of the events are lost
  pmon synth -o - --events 10k | pmon print - --tree 1
  pmon synth -o - -n 10M -q | pmon info -            measure reading";

const DETAILS: &str = include_str!("help/synth.txt");

#[derive(Debug, Args)]
#[command(after_help = of_other(&[EXAMPLES, DETAILS], &[]))]
pub(crate) struct SynthArgs {
    /// Write the capture to this file; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Number of events, including lost ones; the recorder's own events, two per CPU, come on top.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = parse_count, default_value = "1M")]
    pub(crate) events: u64,
    /// Events per second of the capture's time.
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value = "100k")]
    pub(crate) rate: u64,
    /// Number of CPUs.
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) cpus: u32,
    /// Share of the events that is lost, in bursts: at most 50%, with at most four decimals.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "0%")]
    pub(crate) loss: u32,
    /// Maximum number of processes at a time; a third of them runs all the time.
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value = "400")]
    pub(crate) processes: u64,
    /// What the processes do.
    #[arg(long, value_enum, default_value_t = ProfileArg::Mixed)]
    pub(crate) profile: ProfileArg,
    /// Seed of the random numbers; another seed gives other processes.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// Start of the recording, for example 2026-01-02T03:04:05Z.
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z")]
    pub(crate) start: Timestamp,
    /// Replace FILE and FILE.partial if they exist.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print no progress bar and no summary (--json still prints its summary).
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the summary as one JSON object: on standard output, or on standard error if the
    /// capture goes to standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

impl SynthArgs {
    /// Returns the options of the generator, which checks their ranges.
    pub(crate) fn options(&self) -> synth::SynthOptions {
        let bounded = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        synth::SynthOptions {
            events: self.events,
            rate: bounded(self.rate),
            cpus: self.cpus,
            loss_ppm: self.loss,
            processes: bounded(self.processes),
            profile: match self.profile {
                ProfileArg::Build => synth::WorkloadProfile::Build,
                ProfileArg::Storm => synth::WorkloadProfile::Storm,
                ProfileArg::Server => synth::WorkloadProfile::Server,
                ProfileArg::Mixed => synth::WorkloadProfile::Mixed,
            },
            seed: self.seed,
            start_ns: i64::try_from(self.start.as_nanosecond()).unwrap_or(i64::MAX),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileArg {
    /// A software build.
    Build,
    /// Short-lived processes and threads.
    Storm,
    /// Services, sessions and periodic jobs.
    Server,
    /// Some of each.
    Mixed,
}

/// Parses a count: `400`, `100k`, `10M`, `2G`.
fn parse_count(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = ["", "k", "M", "G"].iter().position(|name| name.eq_ignore_ascii_case(unit));
    let count = power.zip(number.parse::<u64>().ok());
    let count = count.and_then(|(power, number)| number.checked_mul(1000_u64.pow(power as u32)));
    count.ok_or_else(|| "expected a number, for example 400, 100k, 10M or 2G".into())
}

/// Parses a percentage such as `1%` or `0.25%`, and returns it in millionths.
fn parse_percent(text: &str) -> Result<u32, String> {
    let wrong = || "expected a percentage with at most four decimals, for example 1% or 0.25%".to_owned();
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 4 {
        return Err(wrong());
    }
    let parts = whole.parse::<u32>().ok().zip(format!("{part:0<4}").parse::<u32>().ok());
    parts.and_then(|(whole, part)| whole.checked_mul(10_000)?.checked_add(part)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_powers_of_1000() {
        let counts = ["0", "400", "100k", "10M", "2g"].map(parse_count);
        assert_eq!(counts, [Ok(0), Ok(400), Ok(100_000), Ok(10_000_000), Ok(2_000_000_000)]);
        for bad in ["", "k", "1.5M", "1T", "-1", "1KiB", "99999999999999999999", "99999999999G"] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percentages_are_exact() {
        let shares = ["0%", "1%", "0.25%", "12.3456%", "50.0%"].map(parse_percent);
        assert_eq!(shares, [Ok(0), Ok(10_000), Ok(2_500), Ok(123_456), Ok(500_000)]);
        for bad in ["", "%", "1", "1.%", ".5%", "-1%", "+1%", "0.00001%", "1e2%", "99999999999%"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
