//! Arguments to columns and back, word by word.
//!
//! Most of a command line equals the one of the program's previous run. All words of a block form
//! one stream in which an end marker follows each command line. A pointer into the stream predicts
//! the next word. It starts at the previous command line of the same executable and advances with
//! each word. If a word is neither predicted, nor new, nor among the newest strings, the pointer
//! jumps to the position after the word's last occurrence. A new or recent word only replaces the
//! predicted one.

use super::column::{Column, ColumnValues, ColumnWriter};
use super::strings::{Interner, StringReader};
use crate::capture::format::limit;

/// Code of the predicted word.
const EXPECTED: u64 = 0;
/// Code of the next string that was not used before.
const NEW: u64 = 1;
/// Code of the end of a command line.
const END: u64 = 2;
/// Code of the newest string; the number of newer strings is added.
const NEAR: u64 = 3;
/// Code of string number 0; the number is added.
const FAR: u64 = 32;

/// End of a command line in the stream. No string has this number.
const STOP: u32 = u32::MAX;
/// Position of a word or executable that has not occurred.
const NEVER_SEEN: u32 = u32::MAX;

/// The words of a block so far, and the predicted next one.
#[derive(Default)]
pub(crate) struct WordStream {
    /// String numbers of the words, and [`STOP`] after each command line.
    stream: Vec<u32>,
    /// Last position of each string in the stream.
    last_seen: Vec<u32>,
    /// Start of the last command line of each executable, by the executable's number plus 1.
    runs: Vec<u32>,
    /// Position of the predicted word.
    at: u32,
    /// The command line that was decoded last.
    line: Vec<u8>,
}

impl WordStream {
    pub(crate) fn reset(&mut self) {
        for positions in [&mut self.stream, &mut self.last_seen, &mut self.runs] {
            limit::clear(positions);
        }
    }

    fn begin(&mut self, exe: Option<u32>) {
        let run = entry(&mut self.runs, exe.map_or(0, |exe| exe as usize + 1));
        self.at = *run;
        *run = self.stream.len() as u32;
    }

    fn expected(&self) -> u32 {
        self.stream.get(self.at as usize).copied().unwrap_or(STOP)
    }

    fn learn(&mut self, word: u32, code: u64) {
        let position = self.stream.len() as u32;
        self.stream.push(word);
        self.at = self.at.saturating_add(1);
        if word != STOP {
            let seen = entry(&mut self.last_seen, word as usize);
            if code >= FAR && *seen != NEVER_SEEN {
                self.at = *seen + 1;
            }
            *seen = position;
        }
    }

    pub(crate) fn encode(
        &mut self,
        args: &[u8],
        exe: Option<u32>,
        out: &mut ColumnWriter,
        strings: &mut Interner,
    ) {
        self.begin(exe);
        for word in args.split(|&byte| byte == 0) {
            let newest = strings.count();
            let (word, is_new) = strings.number(word);
            let code = if is_new {
                NEW
            } else if word == self.expected() {
                EXPECTED
            } else {
                let newer = u64::from(newest - 1 - word);
                if newer < FAR - NEAR { NEAR + newer } else { FAR + u64::from(word) }
            };
            out.put(Column::Word, code);
            self.learn(word, code);
        }
        out.put(Column::Word, if self.expected() == STOP { EXPECTED } else { END });
        self.learn(STOP, END);
    }

    /// Reads the next command line: see [`WordStream::line`].
    pub(crate) fn decode(
        &mut self,
        exe: Option<u32>,
        from: &mut ColumnValues<'_>,
        strings: &mut StringReader<'_>,
    ) {
        self.line.clear();
        self.begin(exe);
        loop {
            let code = from.take(Column::Word);
            let word = match code {
                EXPECTED => self.expected(),
                NEW => strings.next_number(),
                END => STOP,
                NEAR..FAR => strings.count().saturating_sub((code - NEAR) as u32 + 1),
                code => u32::try_from(code - FAR).unwrap_or(STOP),
            };
            // A writer never exceeds these limits, and never refers to a string that does not
            // exist.
            let valid = self.stream.len() < limit::WORDS && self.line.len() <= limit::STRING;
            if word == STOP || word >= strings.count() || !valid {
                self.learn(STOP, END);
                self.line.pop();
                return;
            }
            self.line.extend_from_slice(strings.at(word));
            self.line.push(0);
            self.learn(word, code);
        }
    }

    /// Returns the command line that was read last.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }
}

fn entry(positions: &mut Vec<u32>, at: usize) -> &mut u32 {
    if at >= positions.len() {
        positions.resize(at + 1, NEVER_SEEN);
    }
    &mut positions[at]
}
