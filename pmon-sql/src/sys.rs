//! The virtual tables of SQLite, which it calls through pointers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};
use std::fmt::Write as _;
use std::marker::PhantomData;
use std::ops::BitOr as _;
use std::sync::{Arc, Mutex, PoisonError};

use pmon_analysis::life::ColumnType;
use rusqlite::types::ValueRef;
use rusqlite::vtab::{
    Context, DistinctMode, Filters, IndexConstraintOp, IndexInfo, Module, VTab, VTabConfig, VTabConnection,
    VTabCursor, sqlite3_vtab, sqlite3_vtab_cursor,
};
use rusqlite::{Connection, Error, Result};

use crate::plan::Plan;
use crate::row_index::{Lookup, Matches, NONE, RowIndex};
use crate::table::{Bound, BoundOp, Scan, ScanError, ScanRequest, Table, column_bit};
use crate::value::to_sql;

/// Estimated cost of reading a whole table.
const SCAN_COST: f64 = 1e7;
/// Estimated number of rows of a table.
const SCAN_ROWS: i64 = 1_000_000;
/// Estimated cost of a lookup in an index.
const LOOKUP_COST: f64 = 10.0;

/// A table, and what the running statement has built of it.
pub(crate) struct TableEntry {
    table: Box<dyn Table>,
    max_index_bytes: usize,
    lookups: Mutex<HashMap<Plan, PlanState>>,
}

/// How often a plan with lookups was used, and its index.
#[derive(Default)]
struct PlanState {
    uses: u32,
    index: Option<Arc<RowIndex>>,
}

impl TableEntry {
    /// Creates an entry. Each of its indexes may use `max_index_bytes`.
    pub(crate) fn new(table: Box<dyn Table>, max_index_bytes: usize) -> Arc<Self> {
        Arc::new(Self { table, max_index_bytes, lookups: Mutex::default() })
    }

    /// Adds the table to a database.
    pub(crate) fn register(self: &Arc<Self>, connection: &Connection) -> Result<()> {
        const MODULE: &Module<'_, VirtualTable> = &Module::eponymous_only_module();
        connection.create_module(self.table.name(), MODULE, Some(Arc::clone(self)))
    }

    /// Frees the indexes: the statement has ended.
    pub(crate) fn clear(&self) {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns the index for a plan with lookups. The first lookup of a plan has none: a query that
    /// looks up only one value reads the table faster without.
    fn index(&self, plan: &Plan, key: usize) -> Result<Option<Arc<RowIndex>>> {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let state = lookups.entry(plan.clone()).or_default();
        state.uses = state.uses.saturating_add(1);
        if state.index.is_none() && state.uses > 1 {
            let request = ScanRequest { used: plan.used | column_bit(key), bounds: Vec::new() };
            let mut scan = self.table.scan(&request).map_err(failed)?;
            let columns = self.table.columns();
            let limit = (self.max_index_bytes, "the join");
            let index = RowIndex::build(&mut *scan, columns, plan.used, &[key], limit);
            state.index = Some(Arc::new(index.map_err(failed)?));
        }
        Ok(state.index.clone())
    }

    fn declaration(&self) -> String {
        let mut sql = "CREATE TABLE x(".to_owned();
        for (at, column) in self.table.columns().iter().enumerate() {
            let kind = match column.kind {
                ColumnType::Integer | ColumnType::Boolean => "INTEGER",
                ColumnType::Timestamp | ColumnType::Text | ColumnType::TextList => "TEXT",
            };
            let hidden = if column.is_hidden { " HIDDEN" } else { "" };
            let _ = write!(sql, "{}\"{}\" {kind}{hidden}", if at > 0 { ", " } else { "" }, column.name);
        }
        sql + ")"
    }
}

fn failed(error: ScanError) -> Error {
    Error::ModuleError(error.to_string())
}

/// A table that SQLite has opened.
#[repr(C)]
struct VirtualTable {
    /// SQLite's part, which must be the first field.
    base: sqlite3_vtab,
    entry: Arc<TableEntry>,
}

// SAFETY: the type is `repr(C)`, and its first field is a `sqlite3_vtab`.
unsafe impl<'vtab> VTab<'vtab> for VirtualTable {
    type Aux = Arc<TableEntry>;
    type Cursor = Cursor<'vtab>;

    fn connect(
        db: &mut VTabConnection,
        aux: Option<&Self::Aux>,
        _module_name: &[u8],
        _database_name: &[u8],
        _table_name: &[u8],
        _args: &[&[u8]],
    ) -> Result<(Cow<'static, CStr>, Self)> {
        let entry = aux.ok_or_else(|| Error::ModuleError("the table has no rows".into()))?;
        db.config(VTabConfig::Innocuous)?;
        let declaration = CString::new(entry.declaration())?;
        Ok((declaration.into(), Self { base: sqlite3_vtab::default(), entry: Arc::clone(entry) }))
    }

    fn best_index(&self, info: &mut IndexInfo) -> Result<bool> {
        let columns = self.entry.table.columns();
        let mut plan = Plan { used: info.col_used(), ..Plan::default() };
        let mut key: Option<(usize, usize, bool)> = None;
        let mut bounds = Vec::new();
        for (at, constraint) in info.constraints().enumerate() {
            let Ok(column) = usize::try_from(constraint.column()) else { continue };
            let Some(kind) = columns.get(column).map(|column| column.kind) else { continue };
            let is_integer = matches!(kind, ColumnType::Integer | ColumnType::Boolean);
            if !constraint.is_usable() || !is_integer && kind != ColumnType::Text {
                continue;
            }
            use IndexConstraintOp::{
                SQLITE_INDEX_CONSTRAINT_EQ as EQ, SQLITE_INDEX_CONSTRAINT_GE as GE,
                SQLITE_INDEX_CONSTRAINT_GT as GT, SQLITE_INDEX_CONSTRAINT_LE as LE,
                SQLITE_INDEX_CONSTRAINT_LT as LT,
            };
            match constraint.operator() {
                EQ if info.is_in_constraint(at)? => {}
                EQ if info.rhs_value(at)?.is_some() => {
                    bounds.extend(is_integer.then_some((at, column, BoundOp::Equal)));
                }
                // An integer column has more different values than most texts.
                EQ if info.collation(at)? == "BINARY"
                    && key.is_none_or(|(_, _, is_best)| is_integer && !is_best) =>
                {
                    key = Some((at, column, is_integer));
                }
                GT | GE => bounds.extend(is_integer.then_some((at, column, BoundOp::AtLeast))),
                LT | LE => bounds.extend(is_integer.then_some((at, column, BoundOp::AtMost))),
                _ => {}
            }
        }
        let mut arguments = 0;
        if let Some((at, column, is_integer)) = key {
            plan.key = Some(column);
            arguments += 1;
            info.constraint_usage(at).set_argv_index(arguments);
            info.set_estimated_cost(LOOKUP_COST);
            info.set_estimated_rows(if is_integer { 1 } else { 100 });
        } else {
            plan.groups = self.groups(info);
            info.set_order_by_consumed(!plan.groups.is_empty());
            // Each condition leaves fewer rows, but all of them are read.
            let selectivity = 10_i64.pow(bounds.len().min(3) as u32);
            info.set_estimated_cost(SCAN_COST);
            info.set_estimated_rows(SCAN_ROWS / selectivity);
        }
        for (at, column, op) in bounds {
            arguments += 1;
            info.constraint_usage(at).set_argv_index(arguments);
            plan.bounds.push((column, op));
        }
        info.set_idx_str(&plan.to_string());
        Ok(true)
    }

    fn open(&'vtab mut self) -> Result<Self::Cursor> {
        Ok(Cursor {
            base: sqlite3_vtab_cursor::default(),
            entry: Arc::clone(&self.entry),
            rows: Rows::None,
            phantom: PhantomData,
        })
    }
}

impl VirtualTable {
    /// Returns the columns by which a query groups the rows; none if it does not, or if SQLite must
    /// sort the rows. Grouping them here is faster, and takes less memory.
    fn groups(&self, info: &IndexInfo) -> Vec<usize> {
        if info.distinct() != DistinctMode::Grouped {
            return Vec::new();
        }
        let columns = self.entry.table.columns();
        let is_scalar =
            |at: &usize| columns.get(*at).is_some_and(|column| column.kind != ColumnType::TextList);
        let groups = info.order_bys().map(|order| usize::try_from(order.column()).ok().filter(is_scalar));
        groups.collect::<Option<_>>().unwrap_or_default()
    }
}

/// A reader of a table.
#[repr(C)]
struct Cursor<'vtab> {
    /// SQLite's part, which must be the first field.
    base: sqlite3_vtab_cursor,
    entry: Arc<TableEntry>,
    rows: Rows,
    phantom: PhantomData<&'vtab VirtualTable>,
}

/// Where the rows of a [`Cursor`] come from.
enum Rows {
    /// There is no further row.
    None,
    /// A scan, and the number of its current row.
    Scan(Box<dyn Scan>, i64),
    /// An index.
    Index(Arc<RowIndex>, Matches),
    /// All rows, group by group: the first rows of the groups after the current one, in reverse
    /// order, and the current row.
    Groups(Box<RowIndex>, Vec<u32>, u32),
}

// SAFETY: the type is `repr(C)`, and its first field is a `sqlite3_vtab_cursor`.
unsafe impl VTabCursor for Cursor<'_> {
    fn filter(&mut self, _idx_num: c_int, idx_str: Option<&str>, args: &Filters<'_>) -> Result<()> {
        self.rows = Rows::None;
        let plan: Plan = idx_str
            .and_then(|plan| plan.parse().ok())
            .ok_or_else(|| Error::ModuleError("SQLite passed an unknown plan".into()))?;
        let mut values = args.iter();
        let key = plan.key.and_then(|key| Some((key, values.next()?)));
        if let Some((key, value)) = key
            && let Some(index) = self.entry.index(&plan, key)?
        {
            let kind = self.entry.table.columns().get(key).map(|column| column.kind);
            let matches = index.find(lookup(value, kind == Some(ColumnType::Text)));
            self.rows = Rows::Index(index, matches);
            return Ok(());
        }
        let key = key.map(|(key, value)| ((key, BoundOp::Equal), value));
        let bounds = plan.bounds.iter().copied().zip(values).chain(key);
        let bounds = bounds.filter_map(|((column, op), value)| {
            let is_text =
                self.entry.table.columns().get(column).is_none_or(|column| column.kind == ColumnType::Text);
            let value = bound(value, op).filter(|_| !is_text)?;
            Some(Bound { column, op, value })
        });
        let used = plan.groups.iter().map(|&column| column_bit(column)).fold(plan.used, u64::bitor);
        let request = ScanRequest { used, bounds: bounds.collect() };
        let mut scan = self.entry.table.scan(&request).map_err(failed)?;
        if plan.groups.is_empty() {
            self.rows = Rows::Scan(scan, 0);
        } else {
            let limit = (self.entry.max_index_bytes, "GROUP BY");
            let columns = self.entry.table.columns();
            let rows = RowIndex::build(&mut *scan, columns, plan.used, &plan.groups, limit);
            let rows = rows.map_err(failed)?;
            let mut groups = rows.groups();
            groups.reverse();
            self.rows = Rows::Groups(Box::new(rows), groups, NONE);
        }
        self.next()
    }

    fn next(&mut self) -> Result<()> {
        let has_more = match &mut self.rows {
            Rows::None => false,
            Rows::Scan(scan, row) => {
                *row += 1;
                scan.advance().map_err(failed)?
            }
            Rows::Index(index, matches) => {
                matches.advance(index);
                true
            }
            Rows::Groups(rows, groups, row) => {
                *row = if *row == NONE { NONE } else { rows.next_in_group(*row) };
                if *row == NONE {
                    *row = groups.pop().unwrap_or(NONE);
                }
                *row != NONE
            }
        };
        if !has_more {
            self.rows = Rows::None;
        }
        Ok(())
    }

    fn eof(&self) -> bool {
        match &self.rows {
            Rows::None => true,
            Rows::Scan(..) | Rows::Groups(..) => false,
            Rows::Index(_, matches) => matches.is_over(),
        }
    }

    fn column(&self, ctx: &mut Context, i: c_int) -> Result<()> {
        let column = usize::try_from(i).unwrap_or(usize::MAX);
        match &self.rows {
            Rows::None => Ok(()),
            Rows::Scan(scan, _) => ctx.set_result(to_sql(&scan.value(column))),
            Rows::Index(index, matches) => ctx.set_result(to_sql(&index.value(matches.row(), column))),
            Rows::Groups(rows, _, row) => ctx.set_result(to_sql(&rows.value(*row, column))),
        }
    }

    fn rowid(&self) -> Result<i64> {
        Ok(match &self.rows {
            Rows::None => 0,
            Rows::Scan(_, row) => *row,
            Rows::Index(_, matches) => i64::from(matches.row()) + 1,
            Rows::Groups(_, _, row) => i64::from(*row) + 1,
        })
    }
}

/// Returns what to look up for a value that SQLite compares with a column.
fn lookup(value: ValueRef<'_>, is_text: bool) -> Lookup<'_> {
    match value {
        ValueRef::Null => Lookup::Null,
        ValueRef::Integer(number) if !is_text => Lookup::Integer(number),
        ValueRef::Text(text) if is_text => Lookup::Text(text),
        _ => Lookup::Other,
    }
}

/// Returns the integer that bounds a column if SQLite compares the column with `value`; `None` if
/// any integer may fulfil the comparison.
fn bound(value: ValueRef<'_>, op: BoundOp) -> Option<i64> {
    match (value, op) {
        (ValueRef::Integer(number), _) => Some(number),
        // Integers of this size are not exact as floating point, so the bound is rounded outwards.
        (ValueRef::Real(number), BoundOp::AtLeast) if number.abs() < 9e15 => Some(number.floor() as i64),
        (ValueRef::Real(number), BoundOp::AtMost) if number.abs() < 9e15 => Some(number.ceil() as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: ValueRef<'_> = ValueRef::Integer(7);
    const TEXT: ValueRef<'_> = ValueRef::Text(b"7");

    #[test]
    fn only_values_of_the_type_of_a_column_are_looked_up() {
        let of = |value, is_text| format!("{:?}", lookup(value, is_text));
        assert_eq!((of(NUMBER, false), of(TEXT, true)), ("Integer(7)".into(), "Text([55])".into()));
        for (value, is_text) in [(NUMBER, true), (TEXT, false), (ValueRef::Real(7.0), false)] {
            assert_eq!(of(value, is_text), "Other", "{value:?}");
        }
        assert_eq!((of(ValueRef::Null, false), of(ValueRef::Null, true)), ("Null".into(), "Null".into()));
    }

    #[test]
    fn a_bound_is_rounded_outwards() {
        use BoundOp::{AtLeast, AtMost, Equal};
        let of = |value, op| bound(ValueRef::Real(value), op);
        for op in [Equal, AtLeast, AtMost] {
            assert_eq!(bound(NUMBER, op), Some(7));
            assert_eq!((bound(TEXT, op), bound(ValueRef::Null, op)), (None, None));
            // Not every integer of this size is exact, so any may fulfil the comparison.
            for large in [9e15, -9e15, 1e300, f64::INFINITY] {
                assert_eq!(of(large, op), None, "{large}");
            }
        }
        assert_eq!((of(2.5, AtLeast), of(2.5, AtMost), of(2.5, Equal)), (Some(2), Some(3), None));
        assert_eq!((of(-2.5, AtLeast), of(-2.5, AtMost)), (Some(-3), Some(-2)));
        assert_eq!(of(8_999_999_999_999_999.0, AtMost), Some(8_999_999_999_999_999));
    }
}
