//! The options of a synthetic capture.

use std::fmt;

use oorandom::Rand64;
use thiserror::Error;

use super::bursts;
use super::programs::WorkloadProfile;

/// Maximum number of lost events per million: half of all events.
const MAX_LOSS_PPM: u32 = bursts::MILLION / 2;
/// Maximum duration of a recording in seconds: ten years.
const MAX_DURATION_SECS: u64 = 10 * 366 * 86_400;
/// Default start time in nanoseconds since 1970: 2026-01-01T00:00Z.
const DEFAULT_START_NS: i64 = 1_767_225_600_000_000_000;
/// Maximum start time in nanoseconds since 1970: 2200-01-01T00:00Z.
const MAX_START_NS: i64 = 7_258_118_400_000_000_000;

/// Options of a synthetic capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthOptions {
    /// Number of events, recorded and lost, without self-generated events of the recorder.
    pub events: u64,
    /// Number of events per second, 1 to 10 million.
    pub rate: u32,
    /// Number of CPUs, 1 to 4096.
    pub cpus: u32,
    /// Number of lost events per million, at most 500,000.
    pub loss_ppm: u32,
    /// Maximum number of processes at a time, 20 to 100,000.
    pub processes: u32,
    /// Kind of workload.
    pub profile: WorkloadProfile,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Wall-clock time at the start of the recording, in ns since 1970-01-01T00:00Z, up to the year
    /// 2200.
    pub start_ns: i64,
}

impl Default for SynthOptions {
    fn default() -> Self {
        Self {
            events: 1_000_000,
            rate: 100_000,
            cpus: 4,
            loss_ppm: 0,
            processes: 400,
            profile: WorkloadProfile::Mixed,
            seed: 1,
            start_ns: DEFAULT_START_NS,
        }
    }
}

/// Writes the options as arguments of `pmon synth`, without the start time.
impl fmt::Display for SynthOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, rate, cpus, loss_ppm, processes, profile, seed, start_ns: _ } = *self;
        let (percent, rest) = (loss_ppm / 10_000, loss_ppm % 10_000);
        let digits = format!("{percent}.{rest:04}");
        let loss = digits.trim_end_matches('0').trim_end_matches('.');
        let profile = profile.name();
        write!(
            f,
            "--events {events} --rate {rate} --cpus {cpus} --loss {loss}% --processes {processes} --profile {profile} --seed {seed}"
        )
    }
}

/// An option that is out of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SynthOptionsError {
    /// The rate is out of its limits.
    #[error("the rate must be 1 to 10,000,000 events per second")]
    Rate,
    /// The number of CPUs is out of its limits.
    #[error("the number of CPUs must be 1 to 4096")]
    Cpus,
    /// The loss is too high.
    #[error("the loss must be at most 50%")]
    Loss,
    /// The number of processes is out of its limits.
    #[error("the number of processes must be 20 to 100,000")]
    Processes,
    /// The recording would be too long.
    #[error("the recording would be longer than ten years; use fewer events or a higher rate")]
    Duration,
    /// The start time is out of its limits.
    #[error("the start time must be between the years 1970 and 2200")]
    Start,
}

impl SynthOptions {
    /// Checks that all options are within their limits.
    pub(super) fn check(&self) -> Result<(), SynthOptionsError> {
        let Self { events, rate, cpus, loss_ppm, processes, start_ns, .. } = *self;
        let limits = [
            ((1..=10_000_000).contains(&rate), SynthOptionsError::Rate),
            ((1..=4096).contains(&cpus), SynthOptionsError::Cpus),
            (loss_ppm <= MAX_LOSS_PPM, SynthOptionsError::Loss),
            ((20..=100_000).contains(&processes), SynthOptionsError::Processes),
            (events / u64::from(rate.max(1)) <= MAX_DURATION_SECS, SynthOptionsError::Duration),
            ((0..=MAX_START_NS).contains(&start_ns), SynthOptionsError::Start),
        ];
        limits.into_iter().try_for_each(|(holds, error)| if holds { Ok(()) } else { Err(error) })
    }

    /// Returns the UUID of the capture, which is a function of the options (RFC 9562, version 8).
    pub(super) fn uuid(&self) -> [u8; 16] {
        let text = format!("{self} --start {}", self.start_ns);
        // The 128-bit FNV-1a hash seeds the random numbers of the UUID.
        let hash = text.bytes().fold(0x6c62272e07bb014262b821756295c58d, |hash: u128, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000000001000000000000000000013b)
        });
        let mut random = Rand64::new(hash);
        let number = u128::from(random.rand_u64()) << 64 | u128::from(random.rand_u64());
        let mut uuid = number.to_be_bytes();
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}
