//! Captures of processes that never were: consistent, of any size, and the same for the same options and seed on any machine.

mod actors;
mod bursts;
mod facts;
mod host;
mod programs;
mod records;
mod steps;

use std::fmt;

use oorandom::Rand64;
use pmon_core::capture::{ClockAnchor, Header, Meta, Record, TransportInfo};
use pmon_core::wire::ByteOrder;
use thiserror::Error;

use host::World;
pub use programs::WorkloadProfile;

/// Clock ticks per second: the unit of start times.
const TICKS: u64 = 100;
/// Half a million of a million: no more than half of all events can be lost.
const MOST_LOST: u32 = bursts::MILLION / 2;
/// Ten years, in seconds: no recording is longer.
const LONGEST: u64 = 10 * 366 * 86_400;
/// 2026-01-01T00:00Z.
const START: i64 = 1_767_225_600_000_000_000;
/// 2200-01-01T00:00Z.
const LATEST: i64 = 7_258_118_400_000_000_000;

/// What is wanted of a synthetic capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthOptions {
    /// How many events happen, besides the recorder's own: those that are recorded and those that are lost.
    pub events: u64,
    /// How many happen in a second, 1 to 10 million.
    pub rate: u32,
    /// On so many CPUs, 1 to 4096.
    pub cpus: u32,
    /// How many of a million events are lost, half of them at the most.
    pub loss_ppm: u32,
    /// So many processes live at a time, at the most; 20 to 100,000.
    pub processes: u32,
    /// What they do.
    pub profile: WorkloadProfile,
    /// Where the random numbers begin.
    pub seed: u64,
    /// The wall-clock time of the recording's start, in ns since 1970-01-01T00:00Z; up to 2200.
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
            start_ns: START,
        }
    }
}

/// As the command takes them, but for the start.
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

/// Why options make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SynthOptionsError {
    /// The rate is out of bounds.
    #[error("a rate is from 1 to 10,000,000 events a second")]
    Rate,
    /// So many CPUs are not to be had.
    #[error("there are from 1 to 4096 CPUs")]
    Cpus,
    /// Too much is to be lost.
    #[error("at most 50% can be lost")]
    Loss,
    /// So many processes are not to be had.
    #[error("there are from 20 to 100,000 processes at a time")]
    ProcessTable,
    /// At that rate, it takes too long.
    #[error("that is a recording of more than ten years: have less events, or a higher rate")]
    Duration,
    /// The start is out of bounds.
    #[error("a recording starts between 1970 and 2200")]
    Start,
}

/// A host that never was, just before its events are recorded.
///
/// ```
/// use pmon_core::capture::Record;
/// use pmon_replay::synth::{SynthOptions, Synth};
///
/// let synth = Synth::new(SynthOptions { events: 1000, seed: 7, ..SynthOptions::default() })?;
/// assert_eq!(synth.header().meta.host, "synthetic");
/// let mut execs = 0;
/// synth.generate(|record| {
///     if let Record::End(end) = record {
///         assert!(end.events >= 1000 && end.lost.total() == 0);
///     }
///     execs += u32::from(matches!(record, Record::Details(_)));
///     Ok::<_, std::convert::Infallible>(())
/// })?;
/// assert!(execs > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Synth {
    options: SynthOptions,
    world: World,
}

impl Synth {
    /// Has the host boot.
    ///
    /// # Errors
    /// When the options make no sense.
    pub fn new(options: SynthOptions) -> Result<Self, SynthOptionsError> {
        check(&options)?;
        Ok(Self { options, world: World::boot(options) })
    }

    /// The header of the capture, which says what it is.
    pub fn header(&self) -> Header {
        let why = format!("pmon synth {}", self.options);
        let meta = Meta {
            tool: concat!("pmon ", env!("CARGO_PKG_VERSION"), ", synth").into(),
            host: "synthetic".into(),
            kernel: "synthetic".into(),
            machine: "synthetic".into(),
            boot_id: String::new(),
            cpus_online: self.options.cpus,
            ticks_per_second: TICKS as u32,
            recorder_pid: self.world.recorder().0,
            transport: TransportInfo { name: "synthetic".into(), why },
            start: self.start(),
            ..Meta::default()
        };
        Header { uuid: uuid(&self.options), byte_order: ByteOrder::Little, meta }
    }

    /// Gives the capture's records to `visit`, in order, the end included. It takes the same memory for captures of any length.
    ///
    /// # Errors
    /// The first one of `visit`.
    pub fn generate<E>(self, visit: impl FnMut(&Record<'static>) -> Result<(), E>) -> Result<(), E> {
        let start = self.start();
        self.world.record(start, visit)
    }

    fn start(&self) -> ClockAnchor {
        let mono = self.world.now;
        ClockAnchor { mono, boot_ns: mono.0, real_ns: self.options.start_ns }
    }
}

fn check(options: &SynthOptions) -> Result<(), SynthOptionsError> {
    let SynthOptions { events, rate, cpus, loss_ppm, processes, start_ns, .. } = *options;
    let bounds = [
        ((1..=10_000_000).contains(&rate), SynthOptionsError::Rate),
        ((1..=4096).contains(&cpus), SynthOptionsError::Cpus),
        (loss_ppm <= MOST_LOST, SynthOptionsError::Loss),
        ((20..=100_000).contains(&processes), SynthOptionsError::ProcessTable),
        (events / u64::from(rate.max(1)) <= LONGEST, SynthOptionsError::Duration),
        ((0..=LATEST).contains(&start_ns), SynthOptionsError::Start),
    ];
    bounds.into_iter().try_for_each(|(holds, error)| if holds { Ok(()) } else { Err(error) })
}

/// One for each set of options: version 8 of RFC 9562, of no meaning but its own.
fn uuid(options: &SynthOptions) -> [u8; 16] {
    let text = format!("{options} --start {}", options.start_ns);
    // FNV-1a of 128 bits, and some random numbers from there.
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

#[cfg(test)]
mod tests;
