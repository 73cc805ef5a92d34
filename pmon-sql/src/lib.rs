//! SQL over tables whose rows are computed while a query reads them.
//!
//! A [`Table`] has columns and can be scanned; a [`Database`] runs SQL on tables with an embedded
//! SQLite. Each scan computes its rows one by one, so a table of any length needs no memory. Only
//! two kinds of queries keep the used columns of all rows in memory, in an index that is built
//! once: a join that looks up rows of a table again and again, and `GROUP BY` on columns of one
//! table.
//!
//! The SQL can come from an untrusted user: it cannot change anything, open files, or use more
//! memory than [`MAX_MEMORY`], and an [`Interruption`] ends it.

mod database;
mod functions;
mod interruption;
mod plan;
mod row_index;
#[allow(unsafe_code, reason = "SQLite calls the virtual tables through pointers")]
mod sys;
mod table;
mod value;

pub use database::{Database, MAX_MEMORY, QueryError, RowSink};
pub use functions::FUNCTIONS;
pub use interruption::{Interruption, StopReason};
pub use rusqlite::types::ValueRef;
pub use table::{Bound, BoundOp, Scan, ScanError, ScanRequest, Table, TableColumn};
pub use value::iso;
