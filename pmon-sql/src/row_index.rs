//! The rows of a table in memory, found by the value of one column.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use pmon_analysis::life::{ColumnType, ColumnValue};

use crate::table::{Scan, ScanError, TableColumn, column_bit};

/// The end of a chain of rows.
pub(crate) const NONE: u32 = u32::MAX;
/// Minimum length of the hash table.
const MIN_TABLE_LEN: usize = 256;

/// Memory of a text without its bytes: two pointers to it with its length, its number, and the
/// counters of the pointers.
const TEXT_BYTES: usize = size_of::<[usize; 7]>();

/// The value that a query looks rows up by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup<'a> {
    /// An integer.
    Integer(i64),
    /// A text.
    Text(&'a [u8]),
    /// A value of another type. SQLite may convert the value before it compares, so all rows
    /// match.
    Other,
    /// Null, which no row matches.
    Null,
}

/// The used columns of all rows of a table, in the order of the table.
///
/// Rows with the same values in the key columns are chained. Equal texts are stored once, because
/// most texts of processes are those of other processes, too.
#[derive(Debug)]
pub(crate) struct RowIndex {
    kinds: Vec<ColumnType>,
    /// The stored columns in the order of the cells: first the key columns.
    stored: Vec<usize>,
    keys: usize,
    /// The values of all rows, row by row.
    cells: Vec<u8>,
    /// Start of each row in `cells`.
    rows: Vec<u32>,
    /// The next row with the same key.
    next: Vec<u32>,
    hasher: RandomState,
    /// Open-addressing hash table of the keys: the first and the last row of each. The length is a
    /// power of two, and at most two thirds of it are used.
    chains: Vec<(u32, u32)>,
    chain_count: usize,
    texts: HashMap<Arc<[u8]>, u32>,
    by_number: Vec<Arc<[u8]>>,
    text_bytes: usize,
}

impl RowIndex {
    /// Reads a table up to its end: the columns of the mask `used`, and the key columns. Fails if
    /// the index would need more than `max_bytes`, which `purpose` needs.
    pub(crate) fn build(
        scan: &mut dyn Scan,
        columns: &[TableColumn],
        used: u64,
        keys: &[usize],
        (max_bytes, purpose): (usize, &str),
    ) -> Result<Self, ScanError> {
        let others =
            (0..columns.len()).filter(|&column| used & column_bit(column) != 0 && !keys.contains(&column));
        let mut index = Self {
            kinds: columns.iter().map(|column| column.kind).collect(),
            stored: keys.iter().copied().chain(others).collect(),
            keys: keys.len(),
            cells: Vec::new(),
            rows: Vec::new(),
            next: Vec::new(),
            hasher: RandomState::new(),
            chains: vec![(NONE, NONE); MIN_TABLE_LEN],
            chain_count: 0,
            texts: HashMap::new(),
            by_number: Vec::new(),
            text_bytes: 0,
        };
        let max_bytes = max_bytes.min(u32::MAX as usize);
        while scan.advance()? {
            index.push(scan);
            if index.bytes() > max_bytes {
                let (mib, rows) = (max_bytes >> 20, index.rows.len());
                return Err(format!(
                    "{purpose} needs more than {mib} MiB for {rows} rows of a table; select fewer columns, or a shorter time"
                )
                .into());
            }
        }
        Ok(index)
    }

    /// Returns the used memory in bytes, about.
    fn bytes(&self) -> usize {
        fn of<T>(list: &Vec<T>) -> usize {
            list.capacity() * size_of::<T>()
        }
        let texts = self.by_number.capacity() * TEXT_BYTES;
        let parts =
            [of(&self.cells), of(&self.rows), of(&self.next), of(&self.chains), texts, self.text_bytes];
        parts.into_iter().sum()
    }

    fn push(&mut self, scan: &dyn Scan) {
        let row = self.rows.len() as u32;
        self.rows.push(self.cells.len() as u32);
        self.next.push(NONE);
        for at in 0..self.stored.len() {
            let number = match &scan.value(self.stored[at]) {
                ColumnValue::Null => None,
                ColumnValue::Integer(number) | ColumnValue::Timestamp(number) => Some(zigzag(*number)),
                ColumnValue::Boolean(value) => Some(zigzag((*value).into())),
                ColumnValue::Text(text) => Some(self.text(text).into()),
                ColumnValue::TextList(list) => Some(self.text(list).into()),
            };
            push_cell(&mut self.cells, number);
        }
        self.chain(row);
    }

    /// Adds the last row to the chain of its key.
    fn chain(&mut self, row: u32) {
        if 3 * self.chain_count >= 2 * self.chains.len() {
            self.grow();
        }
        let at = self.slot(self.key_of(row));
        match &mut self.chains[at] {
            (NONE, _) => {
                self.chains[at] = (row, row);
                self.chain_count += 1;
            }
            (_, last) => {
                self.next[*last as usize] = row;
                *last = row;
            }
        }
    }

    /// Returns the place of a key in the hash table: that of its chain, or else an empty one.
    fn slot(&self, key: &[u8]) -> usize {
        let mask = self.chains.len() - 1;
        let mut at = self.hasher.hash_one(key) as usize & mask;
        while self.chains[at].0 != NONE && self.key_of(self.chains[at].0) != key {
            at = (at + 1) & mask;
        }
        at
    }

    #[cold]
    fn grow(&mut self) {
        let longer = vec![(NONE, NONE); 2 * self.chains.len()];
        for chain in std::mem::replace(&mut self.chains, longer) {
            if chain.0 != NONE {
                let at = self.slot(self.key_of(chain.0));
                self.chains[at] = chain;
            }
        }
    }

    /// Returns the cells of a row from the one with this number on.
    fn cells_from(&self, row: u32, number: usize) -> &[u8] {
        let mut cells = &self.cells[self.rows[row as usize] as usize..];
        for _ in 0..number {
            cells = &cells[1 + usize::from(cells[0])..];
        }
        cells
    }

    /// Returns the cells of a row's key.
    fn key_of(&self, row: u32) -> &[u8] {
        let cells = self.cells_from(row, 0);
        &cells[..cells.len() - self.cells_from(row, self.keys).len()]
    }

    fn text(&mut self, text: &[u8]) -> u32 {
        if let Some(&number) = self.texts.get(text) {
            return number;
        }
        let number = self.by_number.len() as u32;
        let text: Arc<[u8]> = text.into();
        self.text_bytes += text.len();
        self.texts.insert(Arc::clone(&text), number);
        self.by_number.push(text);
        number
    }

    /// Returns the rows with a value in the only key column.
    pub(crate) fn find(&self, key: Lookup<'_>) -> Matches {
        let number = match key {
            Lookup::Integer(number) => Some(zigzag(number)),
            Lookup::Text(text) => self.texts.get(text).map(|&number| number.into()),
            Lookup::Other => {
                return Matches { row: if self.rows.is_empty() { NONE } else { 0 }, is_all: true };
            }
            Lookup::Null => None,
        };
        let mut cell = Vec::new();
        push_cell(&mut cell, number);
        let row = number.map_or(NONE, |_| self.chains[self.slot(&cell)].0);
        Matches { row, is_all: false }
    }

    /// Returns the first row of each key, in the order that SQLite gives the keys.
    pub(crate) fn groups(&self) -> Vec<u32> {
        let mut groups: Vec<_> =
            self.chains.iter().map(|&(first, _)| first).filter(|&first| first != NONE).collect();
        let compare = |a: u32, b: u32| {
            let cells = (0..self.keys).map(|key| order(&self.cell(a, key)).cmp(&order(&self.cell(b, key))));
            cells.fold(Ordering::Equal, Ordering::then)
        };
        groups.sort_unstable_by(|&a, &b| compare(a, b));
        groups
    }

    /// Returns the next row with the same key, or [`NONE`].
    pub(crate) fn next_in_group(&self, row: u32) -> u32 {
        self.next[row as usize]
    }

    /// Returns the value of a column in a row; null if the column is not stored.
    pub(crate) fn value(&self, row: u32, column: usize) -> ColumnValue<'_> {
        let number = self.stored.iter().position(|&stored| stored == column);
        match number.filter(|_| row != NONE) {
            Some(number) => self.cell(row, number),
            None => ColumnValue::Null,
        }
    }

    /// Returns the value of a row's cell.
    fn cell(&self, row: u32, number: usize) -> ColumnValue<'_> {
        let cells = self.cells_from(row, number);
        let len = usize::from(cells[0]);
        if len == 0 {
            return ColumnValue::Null;
        }
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&cells[1..=len]);
        let number_of = u64::from_le_bytes(bytes);
        let integer = (number_of >> 1) as i64 ^ -((number_of & 1) as i64);
        match self.kinds[self.stored[number]] {
            ColumnType::Integer => ColumnValue::Integer(integer),
            ColumnType::Boolean => ColumnValue::Boolean(integer != 0),
            ColumnType::Timestamp => ColumnValue::Timestamp(integer),
            ColumnType::Text => ColumnValue::Text(Cow::Borrowed(&self.by_number[number_of as usize])),
            ColumnType::TextList => ColumnValue::TextList(&self.by_number[number_of as usize]),
        }
    }
}

/// Encodes small integers of either sign as small numbers.
fn zigzag(number: i64) -> u64 {
    (number as u64) << 1 ^ (number >> 63) as u64
}

/// Appends a number as its length in bytes and its bytes. The length 0 is null.
fn push_cell(cells: &mut Vec<u8>, number: Option<u64>) {
    let Some(number) = number else { return cells.push(0) };
    let len = (8 - number.leading_zeros() as usize / 8).max(1);
    cells.push(len as u8);
    cells.extend_from_slice(&number.to_le_bytes()[..len]);
}

/// Returns what decides the order of values of one column: null, integers, texts.
fn order<'a>(value: &'a ColumnValue<'_>) -> (bool, i64, &'a [u8]) {
    match value {
        ColumnValue::Null => (false, 0, b""),
        ColumnValue::Integer(number) | ColumnValue::Timestamp(number) => (true, *number, b""),
        ColumnValue::Boolean(value) => (true, (*value).into(), b""),
        ColumnValue::Text(text) => (true, 0, text),
        ColumnValue::TextList(list) => (true, 0, list),
    }
}

/// Rows of a [`RowIndex`], one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matches {
    row: u32,
    is_all: bool,
}

impl Matches {
    /// Returns whether there is no further row.
    pub(crate) fn is_over(&self) -> bool {
        self.row == NONE
    }

    /// Returns the number of the current row in the table.
    pub(crate) fn row(&self) -> u32 {
        self.row
    }

    /// Advances to the next row.
    pub(crate) fn advance(&mut self, index: &RowIndex) {
        let following = if self.row as usize + 1 < index.rows.len() { self.row + 1 } else { NONE };
        self.row = if self.is_all { following } else { index.next_in_group(self.row) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [TableColumn; 5] = [
        TableColumn { name: "id", kind: ColumnType::Integer, doc: "", is_hidden: false },
        TableColumn { name: "name", kind: ColumnType::Text, doc: "", is_hidden: false },
        TableColumn { name: "flag", kind: ColumnType::Boolean, doc: "", is_hidden: false },
        TableColumn { name: "time", kind: ColumnType::Timestamp, doc: "", is_hidden: false },
        TableColumn { name: "list", kind: ColumnType::TextList, doc: "", is_hidden: false },
    ];

    struct Rows(Vec<[ColumnValue<'static>; 5]>, usize);

    impl Scan for Rows {
        fn advance(&mut self) -> Result<bool, ScanError> {
            self.1 += 1;
            Ok(self.1 <= self.0.len())
        }

        fn value(&self, column: usize) -> ColumnValue<'_> {
            self.0[self.1 - 1][column].clone()
        }
    }

    fn rows() -> Vec<[ColumnValue<'static>; 5]> {
        let text = |text: &'static str| ColumnValue::Text(text.as_bytes().into());
        vec![
            [
                ColumnValue::Integer(i64::MIN),
                text("a"),
                ColumnValue::Boolean(true),
                ColumnValue::Timestamp(-1),
                ColumnValue::TextList(b"x\0"),
            ],
            [
                ColumnValue::Integer(0),
                text(""),
                ColumnValue::Boolean(false),
                ColumnValue::Timestamp(i64::MAX),
                ColumnValue::TextList(b""),
            ],
            [
                ColumnValue::Integer(i64::MIN),
                ColumnValue::Null,
                ColumnValue::Null,
                ColumnValue::Null,
                ColumnValue::Null,
            ],
            [
                ColumnValue::Null,
                text("a"),
                ColumnValue::Boolean(true),
                ColumnValue::Timestamp(7),
                ColumnValue::TextList(b"x\0y\0"),
            ],
        ]
    }

    const LIMIT: (usize, &str) = (1 << 20, "the join");

    fn found(index: &RowIndex, key: Lookup<'_>) -> Vec<u32> {
        let mut matches = index.find(key);
        let mut found = Vec::new();
        while !matches.is_over() {
            found.push(matches.row());
            matches.advance(index);
        }
        found
    }

    #[test]
    fn rows_are_found_by_their_key() {
        let by_id = RowIndex::build(&mut Rows(rows(), 0), &COLUMNS, 0, &[0], LIMIT).expect("fits");
        assert_eq!(found(&by_id, Lookup::Integer(i64::MIN)), [0, 2]);
        assert_eq!(found(&by_id, Lookup::Integer(0)), [1]);
        assert_eq!(found(&by_id, Lookup::Integer(1)), [0_u32; 0]);
        assert_eq!(found(&by_id, Lookup::Null), [0_u32; 0]);
        assert_eq!(found(&by_id, Lookup::Other), [0, 1, 2, 3]);
        let by_name = RowIndex::build(&mut Rows(rows(), 0), &COLUMNS, 0, &[1], LIMIT).expect("fits");
        assert_eq!(found(&by_name, Lookup::Text(b"a")), [0, 3]);
        assert_eq!(found(&by_name, Lookup::Text(b"")), [1]);
        assert_eq!(found(&by_name, Lookup::Text(b"b")), [0_u32; 0]);
        let empty = RowIndex::build(&mut Rows(Vec::new(), 0), &COLUMNS, 0, &[1], LIMIT).expect("fits");
        assert_eq!(found(&empty, Lookup::Other), [0_u32; 0]);
    }

    #[test]
    fn values_are_those_of_the_table() {
        for used in [0b11111, 0b10101, 0b00010] {
            let index = RowIndex::build(&mut Rows(rows(), 0), &COLUMNS, used, &[0], LIMIT).expect("fits");
            let mut matches = index.find(Lookup::Other);
            for row in rows() {
                for (column, value) in row.iter().enumerate() {
                    let is_used = (used | 1) >> column & 1 == 1;
                    let expected = if is_used { value } else { &ColumnValue::Null };
                    assert_eq!(index.value(matches.row(), column), *expected, "{column}");
                }
                matches.advance(&index);
            }
            assert!(matches.is_over());
        }
    }

    #[test]
    fn groups_are_in_the_order_of_their_keys() {
        let groups = |keys: &[usize]| {
            let index = RowIndex::build(&mut Rows(rows(), 0), &COLUMNS, 0, keys, LIMIT).expect("fits");
            let next = |row: &u32| Some(index.next_in_group(*row)).filter(|&row| row != NONE);
            let rows = |row| std::iter::successors(Some(row), next).collect::<Vec<_>>();
            index.groups().into_iter().map(rows).collect::<Vec<_>>()
        };
        assert_eq!(groups(&[0]), [vec![3], vec![0, 2], vec![1]]);
        assert_eq!(groups(&[1]), [vec![2], vec![1], vec![0, 3]]);
        assert_eq!(groups(&[2, 1]), [vec![2], vec![1], vec![0, 3]]);
        assert_eq!(groups(&[1, 0]), [vec![2], vec![1], vec![3], vec![0]]);
    }

    #[test]
    fn many_keys_are_found() {
        let rows: Vec<_> = (0..5000_i64)
            .map(|n| {
                std::array::from_fn(
                    |at| if at == 0 { ColumnValue::Integer(n % 1000) } else { ColumnValue::Null },
                )
            })
            .collect();
        let index = RowIndex::build(&mut Rows(rows, 0), &COLUMNS, 0, &[0], LIMIT).expect("fits");
        for key in 0..1000 {
            let expected: Vec<_> = (0..5).map(|n| n * 1000 + key).collect();
            assert_eq!(found(&index, Lookup::Integer(key.into())), expected);
        }
        assert_eq!(index.groups(), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn an_index_that_is_too_large_is_an_error() {
        let error = RowIndex::build(&mut Rows(rows(), 0), &COLUMNS, 0b11111, &[0], (50, "the join"))
            .expect_err("too large");
        assert!(error.to_string().contains("the join needs more than"), "{error}");
    }

    /// Returns rows with different numbers, and texts of `len` bytes, different ones if `len` is at
    /// least 8.
    fn many_rows(count: i64, len: usize) -> Rows {
        let row = |n: i64| {
            let text = match len {
                0 => ColumnValue::Null,
                _ => ColumnValue::Text(format!("{n:0len$}").into_bytes().into()),
            };
            [ColumnValue::Integer(n << 40), text, ColumnValue::Null, ColumnValue::Null, ColumnValue::Null]
        };
        Rows((0..count).map(row).collect(), 0)
    }

    #[test]
    fn the_memory_of_rows_and_texts_is_counted() {
        let build = |len| {
            RowIndex::build(&mut many_rows(10_000, len), &COLUMNS, 0b11, &[0], (1 << 24, "")).expect("fits")
        };
        let bytes = |len| build(len).bytes();
        let used = 3 * build(0).chain_count;
        assert!((build(0).chains.len()..=2 * build(0).chains.len()).contains(&used), "{used} thirds");
        // A number takes 7 bytes here, and its length and a null one each. A row takes two words of
        // 4 bytes besides, and at least two words of the table. Lists grow by doubling.
        let rows = bytes(0);
        let least = 10_000 * (9 + 2 * 4 + 2 * 4);
        assert!((least..3 * least).contains(&rows), "{rows}");
        let texts = bytes(50) - rows;
        let least = 10_000 * (2 * size_of::<Arc<[u8]>>() + 3 * size_of::<usize>() + 50);
        assert!((least..2 * least).contains(&texts), "{texts}");
    }

    #[test]
    fn the_limit_is_the_memory_in_use() {
        let build =
            |max| RowIndex::build(&mut many_rows(10_000, 50), &COLUMNS, 0b11, &[0], (max, "the join"));
        let needed = build(1 << 24).expect("fits").bytes();
        assert!(build(needed).is_ok());
        let error = build(needed - 1).expect_err("too large").to_string();
        let start = format!("the join needs more than {} MiB for ", needed / (1 << 20));
        assert!(needed > 1 << 20 && error.starts_with(&start), "{error}");
    }
}
