//! The strings of a block. Each distinct string is stored once; columns refer to it by its number.

use std::hash::{BuildHasher as _, RandomState};

use super::column::{Column, ColumnReader, ColumnWriter};
use crate::capture::format::{Malformed, limit};

/// Code of no string.
const NONE: u64 = 0;
/// Code of the next string that was not used before.
const NEW: u64 = 1;
/// Code of string number 0; the number is added.
const OLD: u64 = 2;

/// Numbers distinct strings in the order of their first use.
///
/// The strings are stored end to end in one buffer, and the hash table holds only their numbers. A
/// string that occurs once therefore takes 16 bytes in addition to its content; a process can pass
/// a hundred thousand words to one `execve`.
#[derive(Default)]
pub(crate) struct Interner {
    /// Keyed hash function: recorded processes choose the strings, and must not be able to cause
    /// collisions.
    hasher: RandomState,
    /// Open-addressing hash table. An entry is a string's number plus 1, or 0 if it is empty; the
    /// length is a power of two.
    table: Vec<u32>,
    /// Length of the table before the last reset, which predicts the length needed next.
    last_table_len: usize,
    bytes: Vec<u8>,
    /// End offset of each string in `bytes`.
    ends: Vec<u32>,
    /// Hash of each string.
    hashes: Vec<u32>,
}

/// Minimum length of the table.
const MIN_TABLE_LEN: usize = 256;

impl Interner {
    /// Returns the number of a string, and whether the string is new.
    pub(crate) fn number(&mut self, string: &[u8]) -> (u32, bool) {
        if self.table.len() <= 2 * self.ends.len() {
            self.grow();
        }
        let hash = self.hasher.hash_one(string) as u32;
        let mut index = hash as usize & (self.table.len() - 1);
        while let Some(number) = self.table[index].checked_sub(1) {
            if self.hashes[number as usize] == hash && self.at(number) == string {
                return (number, false);
            }
            index = (index + 1) & (self.table.len() - 1);
        }
        let number = self.count();
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len() as u32);
        self.hashes.push(hash);
        self.table[index] = number + 1;
        (number, true)
    }

    /// Returns the number of distinct strings.
    pub(crate) fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Returns the code by which a column refers to a string, and the string's number.
    ///
    /// The code is 0 for no string, 1 for the next string that was not used before, and otherwise
    /// the number plus 2. Strings that occur once then become a run of ones, which compresses to
    /// nothing.
    pub(crate) fn code(&mut self, string: Option<&[u8]>) -> (u64, Option<u32>) {
        let Some(string) = string else { return (NONE, None) };
        match self.number(string) {
            (number, true) => (NEW, Some(number)),
            (number, false) => (OLD + u64::from(number), Some(number)),
        }
    }

    /// Writes the strings as columns and clears the table.
    pub(crate) fn flush(&mut self, lens: Column, bytes: Column, out: &mut ColumnWriter) {
        let mut start = 0;
        for &end in &self.ends {
            out.put(lens, u64::from(end - start));
            start = end;
        }
        out.take_bytes(bytes, &mut self.bytes);
        self.last_table_len = self.table.len();
        limit::clear(&mut self.bytes);
        for buffer in [&mut self.ends, &mut self.hashes, &mut self.table] {
            limit::clear(buffer);
        }
    }

    fn at(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[number] as usize]
    }

    #[cold]
    fn grow(&mut self) {
        let len = (4 * self.table.len()).max(self.last_table_len / 4).max(MIN_TABLE_LEN);
        self.table.clear();
        self.table.resize(len, 0);
        for (number, &hash) in self.hashes.iter().enumerate() {
            let mut index = hash as usize & (len - 1);
            while self.table[index] != 0 {
                index = (index + 1) & (len - 1);
            }
            self.table[index] = number as u32 + 1;
        }
    }
}

/// End offsets of byte strings that are stored end to end.
#[derive(Default)]
pub(crate) struct StringEnds(Vec<u32>);

impl StringEnds {
    /// Returns the allocated memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<u32>()
    }

    /// Loads the lengths from a column. They must add up to the length of the column of bytes.
    pub(crate) fn load(
        &mut self,
        columns: &ColumnReader,
        lens: Column,
        bytes: Column,
    ) -> Result<(), Malformed> {
        let mut values = columns.numbers(lens);
        self.0.clear();
        let mut end = 0;
        for _ in 0..values.len().min(limit::WORDS) {
            let len = values.take();
            if len > limit::STRING as u64 {
                return Err(Malformed("a datagram, string or note is longer than the format allows"));
            }
            end += len;
            self.0.push(u32::try_from(end).unwrap_or(u32::MAX));
        }
        if end == columns.bytes(bytes).len() as u64 {
            Ok(())
        } else {
            Err(Malformed("lengths do not add up to the bytes"))
        }
    }
}

/// The strings of a block, with the state that decodes references to them.
pub(crate) struct StringReader<'a> {
    bytes: &'a [u8],
    ends: &'a [u32],
    /// Number of the next string that was not used before.
    next: u32,
}

impl<'a> StringReader<'a> {
    pub(crate) fn new(bytes: &'a [u8], ends: &'a StringEnds) -> Self {
        Self { bytes, ends: &ends.0, next: 0 }
    }

    /// Returns the string number of a code, the reverse of [`Interner::code`]; `None` if no string
    /// has the number.
    pub(crate) fn number(&mut self, code: u64) -> Option<u32> {
        match code {
            NONE => None,
            NEW => Some(self.next_number()),
            code => u32::try_from(code - OLD).ok().filter(|&number| number < self.next),
        }
    }

    /// Returns the number of the next string that was not used before.
    pub(crate) fn next_number(&mut self) -> u32 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }

    /// Returns the number of strings used so far.
    pub(crate) fn count(&self) -> u32 {
        self.next
    }

    /// Returns the next string; empty if there is none.
    pub(crate) fn take_next(&mut self) -> &'a [u8] {
        let number = self.next_number();
        self.at(number)
    }

    /// Returns string `number`; empty if there is none.
    pub(crate) fn at(&self, number: u32) -> &'a [u8] {
        let number = number as usize;
        let Some(&end) = self.ends.get(number) else { return &[] };
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start as usize..end as usize).unwrap_or(&[])
    }
}
