//! What `pmon synth` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use pmon_replay::synth;

use crate::exit;

const SYNTH_HELP: &str = "\
Examples:
  pmon synth -o test.pmon                            a million events, nothing lost
  pmon synth -o big.pmon --events 100M --profile build
  pmon synth -o lossy.pmon --loss 1% --seed 7        of each 100 events, one is missing, in bursts
  pmon synth -o - --events 10k | pmon print - --tree 1

The processes are made up and consistent: each has a parent that lives, each exec its details, each
exit what was used; each CPU numbers its events. What is lost has happened: so the fork of a process
that ends may be missing, as it would be on a real host. The capture says of itself that it is
synthetic, and by which options.

The same options and seed give the same file, byte for byte, on any machine, of the same version of
pmon. COUNT is a number, or with k, M or G for powers of 1000.

Profiles:
  build    make, shells and compilers: an exec for every third event
  storm    processes and threads that come and go as fast as they can, hardly an exec
  server   workers, threads, logins, jobs by the clock, crashes with core dumps
  mixed    a bit of each";

/// See [`super::Command::Synth`].
#[derive(Debug, Args)]
#[command(after_help = format!("{SYNTH_HELP}\n\n{}", exit::HELP))]
pub(crate) struct SynthArgs {
    /// The file to write, `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// So many events happen, with those that are lost, and without the recorder's own, two of each CPU
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = parse_count, default_value = "1M")]
    pub(crate) events: u64,
    /// So many events happen in a second of the capture's time
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value = "100k")]
    pub(crate) rate: u64,
    /// On so many CPUs
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) cpus: u32,
    /// So much of the events is lost, in bursts: up to 50%, with four decimals at the most
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "0%")]
    pub(crate) loss: u32,
    /// So many processes live at a time, at the most; a third of them all the time
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value = "400")]
    pub(crate) processes: u64,
    /// What the processes do
    #[arg(long, value_enum, default_value_t = Profile::Mixed)]
    pub(crate) profile: Profile,
    /// Another seed gives other processes
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// When the recording is said to have started, as in 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z")]
    pub(crate) start: Timestamp,
    /// Replace FILE if it exists, and FILE.partial
    #[arg(long)]
    pub(crate) force: bool,
    /// Print no progress, and no summary but with --json
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the summary as one JSON object, on standard error if the capture goes to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

impl SynthArgs {
    /// What is out of bounds here is so there, too.
    pub(crate) fn options(&self) -> synth::Options {
        let bounded = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        synth::Options {
            events: self.events,
            rate: bounded(self.rate),
            cpus: self.cpus,
            loss_ppm: self.loss,
            processes: bounded(self.processes),
            profile: match self.profile {
                Profile::Build => synth::Profile::Build,
                Profile::Storm => synth::Profile::Storm,
                Profile::Server => synth::Profile::Server,
                Profile::Mixed => synth::Profile::Mixed,
            },
            seed: self.seed,
            start_ns: i64::try_from(self.start.as_nanosecond()).unwrap_or(i64::MAX),
        }
    }
}

/// What the processes of a synthetic capture do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Software is built
    Build,
    /// Short-lived processes and threads
    Storm,
    /// Services, sessions, jobs
    Server,
    /// A bit of each
    Mixed,
}

/// A number of things: `400`, `100k`, `10M`, `2G`.
fn parse_count(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = ["", "k", "M", "G"].iter().position(|name| name.eq_ignore_ascii_case(unit));
    let count = power.zip(number.parse::<u64>().ok());
    let count = count.and_then(|(power, number)| number.checked_mul(1000_u64.pow(power as u32)));
    count.ok_or_else(|| "expected a number, as in 400, 100k, 10M or 2G".into())
}

/// `1%`, `0.25%`: in millionths.
fn parse_percent(text: &str) -> Result<u32, String> {
    let wrong = || "expected a percentage with four decimals at the most, as in 1% or 0.25%".to_owned();
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
