//! Generates synthetic captures.
//!
//! They are consistent, can have any size, and are equal for equal options on every machine. A
//! simulated machine runs services and jobs on the fake kernel, and a simulated recorder records
//! them.

mod actors;
mod bursts;
mod details;
mod machine;
mod options;
mod programs;
mod recorder;
mod simulation;
mod steps;

use pmon_core::capture::{ClockAnchor, Header, Meta, Record, TransportInfo};
use pmon_core::wire::ByteOrder;

use details::TICKS_PER_SECOND;
use machine::SynthMachine;
pub use options::{SynthOptions, SynthOptionsError};
pub use programs::WorkloadProfile;
use simulation::SynthSimulation;

/// A simulated machine at the start of the recording.
///
/// ```
/// use pmon_core::capture::Record;
/// use pmon_replay::synth::{Synth, SynthOptions};
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
    machine: SynthMachine,
}

impl Synth {
    /// Boots a simulated machine.
    ///
    /// # Errors
    /// Fails if an option is out of its limits.
    pub fn new(options: SynthOptions) -> Result<Self, SynthOptionsError> {
        options.check()?;
        Ok(Self { options, machine: SynthMachine::boot(options) })
    }

    /// Returns the header of the capture.
    pub fn header(&self) -> Header {
        let why = format!("pmon synth {}", self.options);
        let meta = Meta {
            tool: concat!("pmon ", env!("CARGO_PKG_VERSION"), ", synth").into(),
            host: "synthetic".into(),
            kernel: "synthetic".into(),
            machine: "synthetic".into(),
            boot_id: String::new(),
            cpus_online: self.options.cpus,
            ticks_per_second: TICKS_PER_SECOND as u32,
            recorder_pid: self.machine.recorder().0,
            transport: TransportInfo { name: "synthetic".into(), why },
            start: self.start(),
            ..Meta::default()
        };
        Header { uuid: self.options.uuid(), byte_order: ByteOrder::Little, meta }
    }

    /// Calls `visit` with each record of the capture in order, including the end record. The memory
    /// does not depend on the length of the capture.
    ///
    /// # Errors
    /// Returns the first error of `visit`, and stops.
    pub fn generate<E>(self, visit: impl FnMut(&Record<'static>) -> Result<(), E>) -> Result<(), E> {
        let start = self.start();
        SynthSimulation::begin(self.machine, start, visit)?.run()
    }

    fn start(&self) -> ClockAnchor {
        let mono = self.machine.now;
        ClockAnchor { mono, boot_ns: mono.0, real_ns: self.options.start_ns }
    }
}

#[cfg(test)]
mod tests;
