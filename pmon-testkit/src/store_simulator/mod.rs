//! Runs the writer of a store on a simulated filesystem, in virtual time, and crashes it at every
//! operation.
//!
//! A seed draws a machine, the options of the store, and what happens: work, losses, rotations,
//! kills, power losses, restarts with and without the socket, steps of the clock, other writers
//! that fill the disk, operations that fail, slow syncs, and segments that another program deletes.
//! In half of the seeds, a trigger requests clips.
//!
//! After the run and after each crash, the next recorder opens the store, and every segment is
//! read. Then:
//!
//! * each event that the store has promised to keep is there once, and nothing that was not
//!   emitted: a kill costs at most the last 100 ms, a power loss the last second and the syncs that
//!   were running;
//! * the numbers of each CPU continue from segment to segment, and each missing one is in a loss,
//!   or in a span that a segment does not claim to have observed;
//! * the verdict of `pmon verify` on the store counts the events and the losses exactly, states
//!   each time in which events are absent, and reports no damage of an intact store;
//! * a file with a final name is durable;
//! * each segment verifies alone, and opens with the processes that were running;
//! * the limits were kept after every operation, and the oldest segments were removed first;
//! * each clip is intact, covers the time that was requested, has each event of it or states that
//!   it was lost or not observed, and has the verdict that its request was answered with.
//!
//! Checks that are weaker than the promises:
//!
//! * After the filesystem has failed, the order of removals, unfinished names, gaps in the chain of
//!   predecessors, and recorded losses of promised events are not checked.
//! * After a power loss, a segment may name a predecessor that is not there.

mod clips;
mod crash;
mod generated;
mod machine;
mod mistake;
mod mistaken;
mod openings;
mod oracle;
mod recorder;
mod removed;
mod retention;
mod run;
mod scenario;
mod segments;
mod truth;
mod verdict;
mod world;

use pmon_record::SinkError;
use pmon_store::OpenStoreError;

pub use generated::{GeneratedLoad, GeneratedRecording, check_killed};
pub use mistake::Mistake;
pub use oracle::StoreContents;
pub use scenario::{StoreSimulation, StoreSimulationTotals};

/// Why a simulation fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreSimulationError {
    /// The store refused to open.
    #[error("the store does not open: {0}")]
    Open(#[from] OpenStoreError),
    /// The store ended the recording.
    #[error("the recording ends: {0}")]
    Sink(#[from] SinkError),
    /// The store contradicts what happened.
    #[error("{0}")]
    Wrong(String),
    /// An action of the simulation failed.
    #[error("{action}: {source}")]
    Action {
        /// The number of the action, and the action.
        action: String,
        /// What failed.
        #[source]
        source: Box<StoreSimulationError>,
    },
}

impl From<String> for StoreSimulationError {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}
