//! Code that the tests of pmon's crates share.
//!
//! * [`conformance`]: the contract of every source of process events, as checks.
//! * [`differential`]: the fake kernel compared with the running one, line by line.
//! * [`simulator`]: the recorder on the fake kernel, in virtual time.
//! * [`store_simulator`]: a store on a simulated filesystem, in virtual time.
//! * [`capture`]: the contents of a capture, and checks of its accounting.
//! * [`guard`]: requirements of live tests, skipped tests and retries.
//! * [`deadline`]: a bound on the run time of a test.
//! * [`live`], [`recorder`], [`programs`]: `pmon record` and other programs, run by live tests.
//! * [`forge`], [`peak`]: hostile captures, and the memory that a process needs for them.
//! * [`run`], [`samples`], [`workload`]: `pmon` on small captures, and events for benches.

pub mod conformance;
pub mod deadline;
pub mod guard;
pub mod programs;

#[cfg(feature = "full")]
pub mod capture;
#[cfg(feature = "full")]
pub mod differential;
#[cfg(feature = "full")]
pub mod forge;
#[cfg(feature = "full")]
pub mod live;
#[cfg(feature = "full")]
pub mod peak;
#[cfg(feature = "full")]
pub mod recorder;
#[cfg(feature = "full")]
pub mod run;
#[cfg(feature = "full")]
pub mod samples;
#[cfg(feature = "full")]
pub mod segments;
#[cfg(feature = "full")]
pub mod simulator;
#[cfg(feature = "full")]
pub mod store_simulator;
#[cfg(feature = "full")]
pub mod workload;

/// Everything that tests of the command line use.
#[cfg(feature = "full")]
pub mod support {
    pub use crate::run::*;
    pub use crate::samples::*;
}
