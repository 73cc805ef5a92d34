//! The tables that a recording consists of, besides that of the processes: names, types, meanings
//! and values of their columns, for all outputs. [`life`](crate::life) has the processes.

mod event;
mod gap;
mod host;
mod loss;

pub use event::{EVENT_TABLES, EventColumn, EventRow, EventTable, EventTableColumn};
pub use gap::{GAP_COLUMNS, GapColumn, GapRow};
pub use host::{HOST_COLUMNS, HostColumn, HostRow};
pub use loss::{LOSS_COLUMNS, LossColumn, LossRow};

/// Defines a column type whose getter takes a row.
macro_rules! column_type {
    ($(#[$doc:meta])* $column:ident, $row:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $column {
            /// Name in SQL and exports.
            pub name: &'static str,
            /// Type of the values.
            pub kind: $crate::life::ColumnType,
            /// Meaning, with the unit.
            pub doc: &'static str,
            get: for<'a> fn(&$row<'a>) -> $crate::life::ColumnValue<'a>,
        }

        impl $column {
            /// Returns the value of the column in a row.
            pub fn get<'a>(&self, row: &$row<'a>) -> $crate::life::ColumnValue<'a> {
                (self.get)(row)
            }
        }
    };
}
use column_type;

#[cfg(test)]
mod tests;
