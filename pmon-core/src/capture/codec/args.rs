//! Arguments to columns and back, word by word: most of a command line is that of the program's last run.
//!
//! All words of the block are one stream, each command line closed by an end. A pointer into it says which word is
//! expected. It starts at the last run of the same executable, moves on with each word, and jumps to where a word
//! was last seen if that word is neither expected nor recent: a word that is new or recent stands for another one.

use super::column::{Column, ColumnWriter, Values};
use super::strings::{Interner, Strings};
use crate::capture::format::limit;

const EXPECTED: u64 = 0;
const NEW: u64 = 1;
const END: u64 = 2;
/// From here on: one of the newest strings, by how many are newer,
const NEAR: u64 = 3;
/// and from here on: any string, by its number.
const FAR: u64 = 32;

/// In the stream, the end of a command line. No string has this number.
const STOP: u32 = u32::MAX;
const NOWHERE: u32 = u32::MAX;

/// The words so far, and which is expected next.
#[derive(Default)]
pub(crate) struct Words {
    stream: Vec<u32>,
    /// Where each string was last seen in the stream.
    seen: Vec<u32>,
    /// Where the last command line of each executable begins.
    runs: Vec<u32>,
    /// Where the expected word is.
    at: u32,
    /// The command line that is being read.
    line: Vec<u8>,
}

impl Words {
    pub(crate) fn reset(&mut self) {
        for places in [&mut self.stream, &mut self.seen, &mut self.runs] {
            places.clear();
            limit::trim(places);
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
        let place = self.stream.len() as u32;
        self.stream.push(word);
        self.at = self.at.saturating_add(1);
        if word != STOP {
            let seen = entry(&mut self.seen, word as usize);
            if code >= FAR && *seen != NOWHERE {
                self.at = *seen + 1;
            }
            *seen = place;
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

    pub(crate) fn decode(
        &mut self,
        exe: Option<u32>,
        codes: &mut Values<'_>,
        strings: &mut Strings<'_>,
    ) -> Vec<u8> {
        self.line.clear();
        self.begin(exe);
        loop {
            let code = codes.take();
            let word = match code {
                EXPECTED => self.expected(),
                NEW => strings.next_number(),
                END => STOP,
                NEAR..FAR => strings.count().saturating_sub((code - NEAR) as u32 + 1),
                code => u32::try_from(code - FAR).unwrap_or(STOP),
            };
            // No writer makes so many words, or so long a command line, or names strings that are not there.
            let valid = self.stream.len() < limit::WORDS && self.line.len() <= limit::STRING;
            if word == STOP || word >= strings.count() || !valid {
                self.learn(STOP, END);
                self.line.pop();
                return self.line.clone();
            }
            self.line.extend_from_slice(strings.at(word));
            self.line.push(0);
            self.learn(word, code);
        }
    }
}

fn entry(places: &mut Vec<u32>, at: usize) -> &mut u32 {
    if at >= places.len() {
        places.resize(at + 1, NOWHERE);
    }
    &mut places[at]
}
