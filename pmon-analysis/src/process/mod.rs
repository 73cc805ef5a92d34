//! The processes of a capture, as of the current record.
//!
//! [`ProcessTable`] holds the name, parent, start and end of each [`Process`]. A
//! [detailed](ProcessTable::detailed) table also holds everything that the capture shows about the
//! running processes: see [`LiveProcess`].

mod limits;
mod live;
mod table;
mod thread_group;

pub use limits::{MAX_BYTES, MAX_DEAD, MAX_NAME, MAX_PROCESSES, MAX_THREADS};
pub use live::{LiveProcess, RunState, Thread};
pub use table::{Process, ProcessTable};
pub use thread_group::{ExitState, ProcessExit};
