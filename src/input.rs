//! Reads a recording from a file, several files, a store, or standard input.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pmon_analysis::verify::{Finding, SegmentFacts};
use pmon_core::MonoNs;
use pmon_core::capture::{
    Block, Damage, Header, Junction, Part, Reader, Record, RecordPool, RecordingReader, SeekRecording,
    Splicer,
};
use pmon_core::wire::ByteOrder;
use pmon_replay::Replay;
use pmon_store::{CaptureBytes, Filesystem, SegmentEntry, SegmentList, SegmentReader, SkippedSegment};

use crate::exit::{self, Failure, OrFail};
use crate::output::printable;
use crate::report::verdict::{Completeness, CompletenessChecker};
use crate::terminal;

/// A recording that is read once, from the start to the end.
pub(crate) struct CaptureInput {
    name: String,
    pub(crate) reader: CaptureRecording,
    file_bytes: Option<u64>,
    /// The recorder that is still writing the last capture.
    pub(crate) is_recorded_by: Option<u32>,
    splicer: Splicer,
    /// Captures that could not be read since the last check.
    unreadable: Vec<SkippedSegment>,
    /// Messages for standard error that were not shown yet.
    notices: Vec<String>,
    damaged: u64,
}

/// A replay of a [`CaptureInput`].
pub(crate) type CaptureReplay = Replay<CaptureRecording>;

/// The reader of a [`CaptureInput`].
pub(crate) enum CaptureRecording {
    /// One capture.
    One(Box<Reader<CaptureBytes>>),
    /// The captures of a store, or several files.
    Several(Box<SegmentReader>),
}

impl CaptureRecording {
    fn reader(&self) -> &dyn RecordingReader {
        match self {
            Self::One(reader) => &**reader,
            Self::Several(reader) => &**reader,
        }
    }

    /// Returns the reader of several captures.
    pub(crate) fn segments(&self) -> Option<&SegmentReader> {
        match self {
            Self::One(_) => None,
            Self::Several(reader) => Some(reader),
        }
    }
}

impl RecordingReader for CaptureRecording {
    fn header(&self) -> Option<&Header> {
        self.reader().header()
    }

    fn byte_order(&self) -> ByteOrder {
        self.reader().byte_order()
    }

    fn junction(&self) -> Junction {
        self.reader().junction()
    }

    fn next_part(&mut self) -> io::Result<Option<Part<'_>>> {
        match self {
            Self::One(reader) => reader.next_part(),
            Self::Several(reader) => reader.next_part(),
        }
    }

    fn rest_of_block(&self, taken: u64) -> Option<Block<'_>> {
        self.reader().rest_of_block(taken)
    }

    fn offset(&self) -> u64 {
        self.reader().offset()
    }

    fn intact_bytes(&self) -> u64 {
        self.reader().intact_bytes()
    }

    fn unknown_blocks(&self) -> u64 {
        self.reader().unknown_blocks()
    }

    fn ended_cleanly(&self) -> bool {
        self.reader().ended_cleanly()
    }

    fn memory(&self) -> usize {
        self.reader().memory()
    }
}

impl SeekRecording for CaptureRecording {
    fn seek(&mut self, time: MonoNs) -> io::Result<bool> {
        match self {
            Self::One(reader) => reader.seek(time),
            Self::Several(reader) => reader.seek(time),
        }
    }
}

/// An item of a capture.
pub(crate) enum InputItem<'a> {
    /// A record of a block.
    Record(Record<'a>),
    /// Another capture of the recording begins.
    Segment(Option<&'a Header>, Junction),
    /// The end of a block, or of a part of it. From a pipe, the next block may arrive much later.
    BlockEnd,
    /// A damaged part of the capture of this name.
    Damage(&'a str, Damage),
}

/// The result of reading a capture.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadOutcome {
    /// Whether the recorder ended cleanly.
    pub(crate) clean_end: bool,
    /// Size of the capture in bytes; of its intact part if the recorder did not end cleanly.
    pub(crate) bytes: u64,
    /// Number of blocks of an unknown kind.
    pub(crate) unknown_blocks: u64,
    /// Number of damaged parts.
    pub(crate) damaged: u64,
}

impl ReadOutcome {
    /// Returns the exit code of the verb.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.damaged > 0 { exit::DAMAGED } else { exit::DONE }
    }
}

/// What [`CaptureInput::examine`] passes on.
pub(crate) enum Examined<'a> {
    /// A record of the continuous recording.
    Record(&'a Record<'a>),
    /// The next capture begins.
    Segment(Option<&'a Header>, Junction),
}

/// Whether the path is `-`, which means standard input or output.
pub(crate) fn is_stdio(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Formats a path, with characters escaped that could control the terminal.
pub(crate) fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_encoded_bytes())
}

impl CaptureInput {
    /// Begins to read. `file_bytes` is the length of the files, if it is known.
    pub(crate) fn new(name: String, reader: CaptureRecording, file_bytes: Option<u64>) -> Self {
        let splicer = Splicer::new(reader.junction());
        Self {
            name,
            reader,
            file_bytes,
            is_recorded_by: None,
            splicer,
            unreadable: Vec::new(),
            notices: Vec::new(),
            damaged: 0,
        }
    }

    /// Returns the name of the capture for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the header, if it is intact.
    pub(crate) fn header(&self) -> Option<&Header> {
        self.reader.header()
    }

    /// Returns the byte order of the datagrams.
    pub(crate) fn order(&self) -> ByteOrder {
        self.reader.byte_order()
    }

    /// Returns the length of a regular file.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        self.file_bytes
    }

    /// Reads to the end and checks the completeness, with a progress bar. Reports damage on
    /// standard error. Passes each record of the continuous recording to `visit`, and the start of
    /// each capture after the first.
    pub(crate) fn examine(
        mut self,
        mut visit: impl FnMut(Examined<'_>),
    ) -> Result<(Completeness, ReadOutcome), Failure> {
        let mut checker = CompletenessChecker::of_first(self.facts());
        checker.set_store(self.reader.segments().is_some());
        checker.set_recorder(self.is_recorded_by);
        for (name, same_as) in self.reader.segments().iter().flat_map(|reader| reader.list().duplicates()) {
            let (name, same_as) = (name.clone(), same_as.clone());
            checker.add_finding(Finding::Duplicate { name, same_as });
        }
        let bar = terminal::reading_bar(self.file_bytes.unwrap_or(0));
        let mut splicer = self.splicer;
        let mut has_more = true;
        while has_more {
            let mut boundary = None;
            has_more = self.read_all(None, |item| {
                match item {
                    InputItem::Record(record) => {
                        checker.count(&record);
                        if splicer.keeps(&record) {
                            visit(Examined::Record(&record));
                        }
                    }
                    InputItem::BlockEnd => {}
                    InputItem::Segment(_, junction) => boundary = Some(junction),
                    InputItem::Damage(name, damage) => {
                        bar.suspend(|| report_damage(name, &damage));
                        checker.damage(&damage);
                    }
                }
                Ok(())
            })?;
            self.show_notices();
            for SkippedSegment { name, why, .. } in self.unreadable.drain(..) {
                checker.add_finding(Finding::Unreadable { name, why });
            }
            if let (Some(junction), Some(reader)) = (boundary, self.reader.segments()) {
                splicer = Splicer::new(junction);
                checker.begin(reader.previous_ended_cleanly(), self.facts());
                visit(Examined::Segment(self.header(), junction));
            }
            bar.set_position(self.offset());
        }
        bar.finish_and_clear();
        let outcome = self.outcome();
        Ok((checker.finish(outcome.clean_end), outcome))
    }

    /// Returns what the completeness of the recording depends on in the current capture.
    fn facts(&self) -> SegmentFacts<'_> {
        let entry = self.reader.segments().map(SegmentReader::entry);
        SegmentFacts {
            name: entry.map_or(&self.name, |entry| &entry.name),
            header: self.header(),
            order: self.order(),
            is_misnamed: entry.is_some_and(SegmentEntry::is_misnamed),
        }
    }

    /// Reads the next block, damaged part or boundary, and passes its items to `visit`: the records
    /// are those of one continuous recording. Returns `false` at the end.
    pub(crate) fn read_some(
        &mut self,
        visit: impl FnMut(InputItem<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let has_more = self.read_from(None, visit);
        self.show_notices();
        has_more
    }

    /// As [`CaptureInput::read_some`], with the memory of `pool`, and without showing the
    /// [notices](CaptureInput::take_notices).
    pub(crate) fn read_from(
        &mut self,
        pool: Option<&RecordPool>,
        mut visit: impl FnMut(InputItem<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut splicer = self.splicer;
        let has_more = self.read_all(pool, |item| {
            match &item {
                InputItem::Record(record) if !splicer.keeps(record) => return Ok(()),
                InputItem::Segment(_, junction) => splicer = Splicer::new(*junction),
                _ => {}
            }
            visit(item)
        });
        self.splicer = splicer;
        has_more
    }

    /// As [`CaptureInput::read_some`], but passes all records of each capture.
    fn read_all(
        &mut self,
        pool: Option<&RecordPool>,
        mut visit: impl FnMut(InputItem<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let part = self.reader.next_part();
        match part.or_fail(exit::ENVIRONMENT, format_args!("cannot read {}", self.name))? {
            Some(Part::Block(block)) => {
                let mut records = pool.map_or_else(|| block.records(), |pool| block.records_from(pool));
                records.try_for_each(|record| visit(InputItem::Record(record)))?;
                visit(InputItem::BlockEnd)?;
            }
            Some(Part::Damage(damage)) => {
                self.damaged += 1;
                let current = self.reader.segments().map(|segments| shown(&segments.entry().path()));
                visit(InputItem::Damage(current.as_deref().unwrap_or(&self.name), damage))?;
            }
            Some(Part::Segment) => {
                self.report_skipped();
                visit(InputItem::Segment(self.reader.header(), self.reader.junction()))?;
            }
            None => {
                self.report_skipped();
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes captures that could not be read, and counts those that were not pruned as damage.
    fn report_skipped(&mut self) {
        let CaptureRecording::Several(reader) = &mut self.reader else { return };
        for skipped in reader.take_skipped() {
            let SkippedSegment { name, why, is_removed } = &skipped;
            let name = printable(name.as_bytes());
            if *is_removed {
                self.notices.push(format!("pmon: {}: {name} was removed while reading", self.name));
            } else {
                self.damaged += 1;
                self.notices.push(format!("pmon: {}: cannot read {name}: {why}; skipped", self.name));
                self.unreadable.push(skipped);
            }
        }
    }

    /// Takes the messages for standard error about captures that could not be read.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn show_notices(&mut self) {
        self.take_notices().iter().for_each(terminal::eprintln);
    }

    /// Returns the number of bytes read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Reads on from now on when the recorder has written more: see [`SegmentReader::follow`].
    pub(crate) fn follow(&mut self, store: Option<(Arc<dyn Filesystem>, &SegmentList)>) {
        if let CaptureRecording::Several(reader) = &mut self.reader {
            reader.follow(store, Instant::now());
            self.splicer = Splicer::new(reader.junction());
        }
    }

    /// Looks for what the recorder has written since the end was reached.
    pub(crate) fn refresh(&mut self) -> Result<(), Failure> {
        let CaptureRecording::Several(reader) = &mut self.reader else { return Ok(()) };
        reader.refresh(Instant::now()).or_fail(exit::ENVIRONMENT, format_args!("cannot read {}", self.name))
    }

    /// Announces that the recorder of the current capture has ended.
    pub(crate) fn end_current(&mut self) {
        if let CaptureRecording::Several(reader) = &mut self.reader {
            reader.end_current();
        }
    }

    /// Returns whether nothing more is written to the current capture.
    pub(crate) fn has_ended(&self) -> bool {
        self.reader.segments().is_some_and(SegmentReader::has_ended)
    }

    /// Returns the result of reading so far.
    pub(crate) fn outcome(&self) -> ReadOutcome {
        let unclean = self.reader.segments().map_or(0, SegmentReader::unclean);
        let clean_end = self.reader.ended_cleanly();
        let bytes = match (clean_end && unclean == 0, self.file_bytes) {
            (true, Some(bytes)) => bytes,
            (true, None) => self.reader.offset(),
            (false, _) => self.reader.intact_bytes(),
        };
        ReadOutcome { clean_end, bytes, unknown_blocks: self.reader.unknown_blocks(), damaged: self.damaged }
    }
}

/// Reports a damaged part on standard error.
pub(crate) fn report_damage(name: &str, damage: &Damage) {
    terminal::eprintln(format_args!("pmon: {name}: {damage}"));
}
