//! The processes of a capture, as of the current record.
//!
//! [`ProcessTable`] holds the name, parent, start and end of each [`Process`]. A
//! [detailed](ProcessTable::detailed) table also holds everything that the capture shows about the
//! running processes: see [`LiveProcess`]. [`ProcessModel`] holds nearly the same in less time and
//! memory, for the recorder and for [`life`](crate::life).

mod clock;
mod id_hash;
mod limits;
mod live;
mod model;
mod recent_exits;
mod table;
mod thread_group;

pub(crate) use id_hash::IdHash;
pub use limits::{MAX_BYTES, MAX_DEAD, MAX_NAME, MAX_PROCESSES, MAX_THREADS};
pub use live::{LiveProcess, RunState, Thread};
pub(crate) use model::{Name, ProcessFacts, Slot};
pub use model::{ProcessModel, ProcessRef};
pub use table::{Process, ProcessTable};
pub use thread_group::{ExitState, ProcessExit};
