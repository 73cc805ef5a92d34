//! What the tests of pmon's crates share.

pub mod conformance;
pub mod skipped;

#[cfg(feature = "full")]
pub mod capture;
#[cfg(feature = "full")]
pub mod differential;
#[cfg(feature = "full")]
pub mod forge;
#[cfg(feature = "full")]
pub mod guard;
#[cfg(feature = "full")]
pub mod live;
#[cfg(feature = "full")]
pub mod peak;
#[cfg(feature = "full")]
pub mod programs;
#[cfg(feature = "full")]
pub mod recorder;
#[cfg(feature = "full")]
pub mod simulator;
#[cfg(feature = "full")]
pub mod support;
#[cfg(feature = "full")]
pub mod workload;
