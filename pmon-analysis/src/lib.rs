//! What a capture says about processes, worked out offline: this crate never looks at the live `/proc`.
//!
//! Records go in, in the order of the capture, one at a time; memory stays bounded however long the capture is.
//!
//! * [`join`] gives each exec the details that stand further behind;
//! * [`process`] knows the processes as of the record at hand;
//! * [`filter`] says which events somebody wants to see;
//! * [`tally`] counts, and [`verify`] says how complete it all is;
//! * [`diff`] says whether two captures hold the same;
//! * [`wall`] and [`status`] turn numbers into what people read.
#![forbid(unsafe_code)]

pub mod diff;
pub mod filter;
pub mod join;
mod pid_set;
pub mod process;
pub mod status;
pub mod tally;
mod tree;
pub mod verify;
pub mod wall;

pub use diff::Diff;
pub use filter::{Bound, Filter};
pub use join::{Entry, Joiner, Occurrence, size_of_details, size_of_entry};
pub use process::{Life, Process, ProcessExit, Processes, State, Thread};
pub use status::Status;
pub use tally::Tally;
pub use verify::{Report, Verdict, Verifier};
pub use wall::WallClock;
