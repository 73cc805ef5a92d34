//! Offline analysis of captures: what the records show about processes, and how complete they are.
//! This crate never reads the live `/proc`.
//!
//! Every analysis takes the records one at a time, in capture order, with bounded memory for
//! captures of any length.
//!
//! * [`timeline`] joins the details of each exec to the exec event.
//! * [`process`] tracks the processes as of the current record.
//! * [`filter`] selects the events to show.
//! * [`stats`] counts events, and [`verify`] checks a capture for completeness.
//! * [`cgroup`] names the unit and the container of a process.
//! * [`life`] has a row for each process, and [`groups`] sums over them.
//! * [`tables`] defines the tables of events, losses, gaps and hosts.
//! * [`diff`] compares two captures.
//! * [`wall_clock`], [`wait_status`] and [`signal_code`] convert numbers for display.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod coverage;
pub mod diff;
pub mod filter;
pub mod groups;
pub mod life;
pub mod process;
pub mod signal_code;
pub mod stats;
pub mod tables;
pub mod timeline;
pub mod verify;
pub mod wait_status;
pub mod wall_clock;

pub use diff::Diff;
pub use filter::{Filter, TimeBound};
pub use process::{LiveProcess, Process, ProcessExit, ProcessTable, RunState, Thread};
pub use stats::Statistics;
pub use timeline::{DetailsJoiner, OwnedRecord, TimelineItem};
pub use verify::{Verdict, Verifier, VerifyReport};
pub use wait_status::WaitStatus;
pub use wall_clock::WallClock;
