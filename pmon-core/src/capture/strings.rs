//! The strings of a block, each stored once and named by its place.

use std::collections::HashMap;

use super::block::Malformed;
use super::column::{Column, ColumnReader, ColumnWriter};
use super::limit;

const NONE: u64 = 0;
const NEW: u64 = 1;
const OLD: u64 = 2;

/// Gives each distinct string a number, in the order of first use.
#[derive(Default)]
pub(super) struct Interner {
    numbers: HashMap<Box<[u8]>, u32>,
    bytes: Vec<u8>,
    lens: Vec<u32>,
}

impl Interner {
    /// The number of a string, and whether it is new.
    pub(super) fn number(&mut self, string: &[u8]) -> (u32, bool) {
        if let Some(&number) = self.numbers.get(string) {
            return (number, false);
        }
        let number = self.count();
        self.numbers.insert(string.into(), number);
        self.lens.push(string.len() as u32);
        self.bytes.extend_from_slice(string);
        (number, true)
    }

    /// How many strings have a number.
    pub(super) fn count(&self) -> u32 {
        self.lens.len() as u32
    }

    /// The code by which a column names a string, and its number: 0 for none, 1 for the next that was not named
    /// before, else its number plus 2. Strings that come once then make a run of ones, which costs nothing.
    pub(super) fn code(&mut self, string: Option<&[u8]>) -> (u64, Option<u32>) {
        let Some(string) = string else { return (NONE, None) };
        match self.number(string) {
            (number, true) => (NEW, Some(number)),
            (number, false) => (OLD + u64::from(number), Some(number)),
        }
    }

    /// Writes the strings as columns, and forgets them.
    pub(super) fn flush(&mut self, lens: Column, bytes: Column, out: &mut ColumnWriter) {
        self.lens.drain(..).for_each(|len| out.put(lens, len.into()));
        out.put_bytes(bytes, &self.bytes);
        self.bytes.clear();
        self.numbers.clear();
    }
}

/// Byte strings laid end to end: where each ends.
#[derive(Default)]
pub(super) struct Ends(Vec<u32>);

impl Ends {
    /// Takes the lengths from a column; they must add up to the bytes that there are.
    pub(super) fn load(
        &mut self,
        columns: &ColumnReader,
        lens: Column,
        count: Option<usize>,
        bytes: Column,
    ) -> Result<(), Malformed> {
        let mut values = columns.numbers(lens);
        let count = count.unwrap_or(values.len());
        self.0.clear();
        let mut end = 0;
        for _ in 0..count.min(limit::WORDS) {
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

/// The strings of a block that is being read.
pub(super) struct Strings<'a> {
    bytes: &'a [u8],
    ends: &'a [u32],
    /// The number of the next that was not named before.
    next: u32,
}

impl<'a> Strings<'a> {
    pub(super) fn new(bytes: &'a [u8], ends: &'a Ends) -> Self {
        Self { bytes, ends: &ends.0, next: 0 }
    }

    /// The number of the string of a code: see [`Interner::code`]. None if no string has that number.
    pub(super) fn number(&mut self, code: u64) -> Option<u32> {
        match code {
            NONE => None,
            NEW => Some(self.next_number()),
            code => u32::try_from(code - OLD).ok().filter(|&number| number < self.next),
        }
    }

    /// The number of the next string that was not named before.
    pub(super) fn next_number(&mut self) -> u32 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }

    /// How many strings have been named.
    pub(super) fn count(&self) -> u32 {
        self.next
    }

    /// The next string; empty if there is none.
    pub(super) fn take_next(&mut self) -> &'a [u8] {
        let number = self.next_number();
        self.at(number)
    }

    /// String `number`; empty if there is none.
    pub(super) fn at(&self, number: u32) -> &'a [u8] {
        let number = number as usize;
        let Some(&end) = self.ends.get(number) else { return &[] };
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start as usize..end as usize).unwrap_or(&[])
    }
}
