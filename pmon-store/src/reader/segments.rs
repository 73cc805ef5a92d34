//! Reads captures one after the other.

use std::io::{self, ErrorKind};

use pmon_core::MonoNs;
use pmon_core::capture::{
    Block, Damage, Header, Item, Junction, OpenError, Part, Reader, RecordingReader, SeekRecording,
    Unobserved, UnobservedReason,
};
use pmon_core::wire::ByteOrder;

use super::bytes::CaptureBytes;
use super::entry::SegmentEntry;
use super::follow::Following;
use super::list::SegmentList;
use crate::segment::SegmentSummary;

/// A capture that could not be read, and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedSegment {
    /// Name of the capture.
    pub name: String,
    /// The reason, for people.
    pub why: String,
    /// Whether the capture was removed after it had been listed, as retention does.
    pub is_removed: bool,
}

/// Reads the captures of a [`SegmentList`] as one recording.
pub struct SegmentReader {
    pub(super) list: SegmentList,
    /// Index of the current capture in `list`.
    pub(super) at: usize,
    pub(super) current: Reader<CaptureBytes>,
    pub(super) junction: Junction,
    /// What the next capture needs to know of the current one.
    pub(super) last: CurrentSegment,
    pub(super) skipped: Vec<SkippedSegment>,
    /// Totals of the captures before the current one.
    offset: u64,
    intact_bytes: u64,
    unknown_blocks: u64,
    unclean: u64,
    previous_is_clean: bool,
    /// How the recording is followed while it is written, if it is.
    pub(super) following: Option<Box<Following>>,
}

/// What the next capture needs to know of the one that is read.
#[derive(Clone, Debug, Default)]
pub(super) struct CurrentSegment {
    pub(super) summary: Option<SegmentSummary>,
    pub(super) time: MonoNs,
    is_clean: bool,
}

enum Kind {
    Block,
    Damage(Damage),
    End,
}

impl SegmentReader {
    /// Opens the first capture of the list. The list should be in order, or restricted to a range.
    ///
    /// # Errors
    /// The error of the last capture if none can be opened.
    pub fn open(list: SegmentList) -> Result<Self, OpenError> {
        let mut skipped = Vec::new();
        let mut at = 0;
        let current = loop {
            let Some(entry) = list.entries.get(at) else { return Err(OpenError::NotACapture) };
            match open(entry) {
                Ok(reader) => break reader,
                Err(error) if at + 1 == list.entries.len() => return Err(error),
                Err(error) => skipped.push(left_out(entry, &error)),
            }
            at += 1;
        };
        let mut this = Self {
            list,
            at,
            current,
            junction: Junction::default(),
            last: CurrentSegment::default(),
            skipped,
            offset: 0,
            intact_bytes: 0,
            unknown_blocks: 0,
            unclean: 0,
            previous_is_clean: true,
            following: None,
        };
        this.begin();
        Ok(this)
    }

    /// Returns the current capture.
    pub fn entry(&self) -> &SegmentEntry {
        &self.list.entries[self.at]
    }

    /// Returns the captures.
    pub fn list(&self) -> &SegmentList {
        &self.list
    }

    /// Returns the captures that were left out since the last call.
    pub fn take_skipped(&mut self) -> Vec<SkippedSegment> {
        std::mem::take(&mut self.skipped)
    }

    /// Returns the number of captures before the current one that did not end cleanly.
    pub fn unclean(&self) -> u64 {
        self.unclean
    }

    /// Returns whether the recorder ended the capture before the current one cleanly.
    pub fn previous_ended_cleanly(&self) -> bool {
        self.previous_is_clean
    }

    /// Notes how the current capture is connected with its neighbours.
    fn begin(&mut self) {
        let summary = self.current.header().map(SegmentSummary::of);
        let next = self.list.entries.get_mut(self.at + 1).and_then(|next| next.summary());
        let is_followed = match (&summary, next) {
            (Some(summary), Some(next)) => next.continues(summary),
            _ => false,
        };
        self.junction = Junction { is_followed, ..junction(&self.last, summary.as_ref()) };
        let time = summary.as_ref().map_or(MonoNs(0), |summary| summary.start.mono);
        self.last = CurrentSegment { summary, time, is_clean: false };
    }

    /// Opens the next capture. Returns `false` at the end.
    pub(super) fn advance(&mut self) -> bool {
        while let Some(entry) = self.list.entries.get(self.at + 1) {
            self.at += 1;
            match open(entry) {
                Ok(reader) => {
                    self.begin_with(reader);
                    return true;
                }
                // The recorder has only just created its file.
                Err(OpenError::Empty) if entry.is_partial => {}
                Err(error) => self.skipped.push(left_out(entry, &error)),
            }
        }
        false
    }

    /// Begins to read the capture `self.at`.
    pub(super) fn begin_with(&mut self, reader: Reader<CaptureBytes>) {
        self.last.is_clean = self.current.ended_cleanly();
        self.previous_is_clean = self.last.is_clean;
        self.unclean += u64::from(!self.last.is_clean);
        let before = std::mem::replace(&mut self.current, reader);
        self.offset += before.offset();
        self.intact_bytes += before.intact_bytes();
        self.unknown_blocks += before.unknown_blocks();
        self.begin();
    }
}

pub(super) fn open(entry: &SegmentEntry) -> Result<Reader<CaptureBytes>, OpenError> {
    entry.open()?.into_reader()
}

pub(super) fn left_out(entry: &SegmentEntry, error: &OpenError) -> SkippedSegment {
    let (why, is_removed) = match error {
        OpenError::Io(error) => (error.to_string(), error.kind() == ErrorKind::NotFound),
        error => (error.to_string(), false),
    };
    SkippedSegment { name: entry.name.clone(), why, is_removed }
}

/// Returns how a capture is connected with the one before it.
fn junction(last: &CurrentSegment, next: Option<&SegmentSummary>) -> Junction {
    let (Some(before), Some(next)) = (&last.summary, next) else { return Junction::default() };
    let (continues, is_reboot) = (next.continues(before), !next.is_same_boot(before));
    let has_gap = !continues && !is_reboot && next.start.mono > last.time;
    let reason = match next.previous {
        Some(previous) if previous != before.uuid => UnobservedReason::Missing,
        _ if last.is_clean => UnobservedReason::Stopped,
        _ => UnobservedReason::Killed,
    };
    let unobserved = Unobserved { from: last.time, until: next.start.mono, reason };
    Junction { continues, is_followed: false, is_reboot, unobserved: has_gap.then_some(unobserved) }
}

impl RecordingReader for SegmentReader {
    fn header(&self) -> Option<&Header> {
        self.current.header()
    }

    fn byte_order(&self) -> ByteOrder {
        self.current.byte_order()
    }

    fn junction(&self) -> Junction {
        self.junction
    }

    fn next_part(&mut self) -> io::Result<Option<Part<'_>>> {
        if self.following.is_some() {
            return self.next_followed();
        }
        let kind = match self.current.next_item()? {
            Some(Item::Block(block)) => {
                if let Some((_, last)) = block.times() {
                    self.last.time = self.last.time.max(last);
                }
                Kind::Block
            }
            Some(Item::Damage(damage)) => Kind::Damage(damage),
            None => Kind::End,
        };
        Ok(match kind {
            Kind::Block => self.current.rest_of_block(0).map(Part::Block),
            Kind::Damage(damage) => Some(Part::Damage(damage)),
            Kind::End => self.advance().then_some(Part::Segment),
        })
    }

    fn rest_of_block(&self, taken: u64) -> Option<Block<'_>> {
        self.current.rest_of_block(taken)
    }

    fn offset(&self) -> u64 {
        self.offset + self.current.offset()
    }

    fn intact_bytes(&self) -> u64 {
        self.intact_bytes + self.current.intact_bytes()
    }

    fn unknown_blocks(&self) -> u64 {
        self.unknown_blocks + self.current.unknown_blocks()
    }

    fn ended_cleanly(&self) -> bool {
        self.current.ended_cleanly()
    }

    fn memory(&self) -> usize {
        self.current.memory()
    }
}

impl SeekRecording for SegmentReader {
    /// Moves within the current capture only: the list of captures was restricted before.
    fn seek(&mut self, time: MonoNs) -> io::Result<bool> {
        self.current.seek(time)
    }
}
