//! What a table must provide.

use std::error::Error;

use pmon_analysis::life::{ColumnType, ColumnValue};

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Name of the column.
    pub name: &'static str,
    /// Type of the values.
    pub kind: ColumnType,
    /// Meaning, with the unit.
    pub doc: &'static str,
    /// Whether `SELECT *` leaves the column out.
    pub is_hidden: bool,
}

/// Why a scan failed.
pub type ScanError = Box<dyn Error + Send + Sync>;

/// A table whose rows are computed by a scan.
pub trait Table: Send + Sync {
    /// Returns the name of the table.
    fn name(&self) -> &'static str;

    /// Returns the columns.
    fn columns(&self) -> &[TableColumn];

    /// Begins to compute the rows.
    ///
    /// # Errors
    /// The error ends the query, and its text becomes part of the query's error.
    fn scan(&self, request: &ScanRequest) -> Result<Box<dyn Scan>, ScanError>;
}

/// The rows of a table, one after the other.
pub trait Scan {
    /// Advances to the next row. The first call advances to the first one. Returns `false` at the
    /// end.
    ///
    /// # Errors
    /// The error ends the query.
    fn advance(&mut self) -> Result<bool, ScanError>;

    /// Returns the value of a column in the current row.
    fn value(&self, column: usize) -> ColumnValue<'_>;
}

/// What a query needs of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanRequest {
    /// The columns that the query reads, as a mask: bit `n` is column `n`, and bit 63 stands for
    /// column 63 and all later ones.
    pub used: u64,
    /// Conditions that all wanted rows fulfil. A scan may return other rows as well, which the
    /// query then ignores.
    pub bounds: Vec<Bound>,
}

impl ScanRequest {
    /// Returns whether the query reads a column.
    pub fn uses(&self, column: usize) -> bool {
        self.used & column_bit(column) != 0
    }
}

/// Returns the bit of a column in [`ScanRequest::used`].
pub(crate) fn column_bit(column: usize) -> u64 {
    1 << column.min(63)
}

/// A condition on an integer column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Index of the column.
    pub column: usize,
    /// Comparison of the column with the value.
    pub op: BoundOp,
    /// The value.
    pub value: i64,
}

/// A comparison with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BoundOp {
    /// Equal to the value.
    Equal,
    /// The value or larger.
    AtLeast,
    /// The value or smaller.
    AtMost,
}

impl Bound {
    /// Returns whether a value of the column fulfils the condition.
    pub fn matches(&self, value: i64) -> bool {
        match self.op {
            BoundOp::Equal => value == self.value,
            BoundOp::AtLeast => value >= self.value,
            BoundOp::AtMost => value <= self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_columns_that_it_uses() {
        let request = ScanRequest { used: 0b101 | 1 << 63, bounds: Vec::new() };
        let used: Vec<_> = (0..70).filter(|&column| request.uses(column)).collect();
        assert_eq!(used, [0, 2, 63, 64, 65, 66, 67, 68, 69]);
    }

    #[test]
    fn a_bound_includes_its_value() {
        let matches = |op| [6, 7, 8].map(|value| Bound { column: 0, op, value: 7 }.matches(value));
        assert_eq!(matches(BoundOp::Equal), [false, true, false]);
        assert_eq!(matches(BoundOp::AtLeast), [false, true, true]);
        assert_eq!(matches(BoundOp::AtMost), [true, true, false]);
    }
}
