//! Copies the range of each source to the excerpt.
//!
//! A block within the range is copied as it is, or with other notes. A block that holds records
//! from outside of the range, or an opening, is decoded and encoded again.

mod blocks;
mod notes;
mod records;

use pmon_core::MonoNs;
use pmon_core::capture::{
    BlockDecoder, ClockAnchor, EncodedItem, End, Junction, Record, Splicer, Unobserved, UnobservedReason,
    UnreachedCpu,
};
use pmon_core::wire::ByteOrder;

use super::accounts::Accounts;
use super::output::Output;
use super::range::Range;
use super::selected::SelectedEvents;
use super::start::Input;
use super::{CutError, CutSource};

/// The state of a source at its end.
#[derive(Debug, Default)]
pub(super) struct SourceEnd {
    /// The end record, if the source ended cleanly.
    pub(super) end: Option<End>,
    /// CPUs that the last fence did not reach, if there was one.
    unreached: Option<Vec<UnreachedCpu>>,
    /// Whether the source was read to its end.
    pub(super) is_complete: bool,
    /// Time of the last event.
    pub(super) last_time: Option<MonoNs>,
}

impl SourceEnd {
    /// Returns the time of the end, or that of the last event if the source has no end.
    pub(super) fn time(&self) -> Option<MonoNs> {
        self.end.map(|end| end.time).max(self.last_time)
    }
}

/// Copies the range of the sources.
pub(super) struct Copier<'a> {
    pub(super) range: Range,
    pub(super) output: Output<'a>,
    pub(super) accounts: Accounts,
    /// Selects events; `None` to copy all.
    pub(super) selected: Option<SelectedEvents>,
    /// The spans of the range without events.
    pub(super) unobserved: Vec<Unobserved>,
    pub(super) damaged: u64,
    /// Whether the excerpt has a scope.
    pub(super) is_partial: bool,
    /// Number of execs before the range whose details follow within it.
    pub(super) late: u64,
    /// Number of execs of the excerpt whose details have not been copied yet.
    awaited: u64,
    /// Whether an event of the range has been read.
    pub(super) has_begun: bool,
    /// Whether the first scan of `/proc` is part of the process table.
    pub(super) skips_scan: bool,
    /// Number of the first record after the last event from before the range.
    pub(super) edge: u64,
    /// Start of the excerpt, where its positions hold.
    pub(super) began_at: MonoNs,
    /// Whether an event after the range has been read.
    is_past: bool,
    /// Start of a damaged part, until the time of the next event is known.
    damaged_since: Option<MonoNs>,
    decoder: BlockDecoder,
    order: ByteOrder,
    end: SourceEnd,
    splicer: Splicer,
    is_opening: bool,
}

impl<'a> Copier<'a> {
    pub(super) fn new(range: Range, output: Output<'a>) -> Self {
        Self {
            range,
            output,
            accounts: Accounts::default(),
            selected: None,
            unobserved: Vec::new(),
            damaged: 0,
            is_partial: false,
            late: 0,
            awaited: 0,
            has_begun: !range.has_start(),
            skips_scan: false,
            edge: 0,
            began_at: MonoNs(0),
            is_past: false,
            damaged_since: None,
            decoder: BlockDecoder::default(),
            order: ByteOrder::NATIVE,
            end: SourceEnd::default(),
            splicer: Splicer::default(),
            is_opening: false,
        }
    }

    /// Copies the range of a source. Returns the state at its end.
    pub(super) fn copy(
        &mut self,
        source: &dyn CutSource,
        index: usize,
        mut reader: Input,
        continues: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<SourceEnd, CutError> {
        self.order = reader.byte_order();
        self.end = SourceEnd::default();
        self.splicer = Splicer::new(Junction { continues, is_followed: true, ..Junction::default() });
        self.is_opening = continues;
        let start = reader.offset();
        loop {
            let item = reader.next_encoded();
            let item = item.map_err(|error| CutError::Read { name: source.name(index), source: error })?;
            match item {
                Some(EncodedItem::Block(block)) => {
                    if !self.block(&block)? {
                        break;
                    }
                }
                Some(EncodedItem::Damage(_)) => self.note_damage(),
                None => {
                    self.end.is_complete = true;
                    break;
                }
            }
            progress(reader.offset() - start);
        }
        if !reader.ended_cleanly() {
            self.end.end = None;
        }
        self.accounts.end_capture();
        Ok(std::mem::take(&mut self.end))
    }

    /// Handles a damaged part: the time until the next event is unobserved.
    fn note_damage(&mut self) {
        if self.is_past {
            return;
        }
        let since = self.end.last_time.unwrap_or(self.range.from);
        self.damaged_since.get_or_insert(since);
    }

    /// Records the damaged part before an event at `time`.
    fn end_damage(&mut self, time: MonoNs) -> Result<(), CutError> {
        let Some(from) = self.damaged_since.take() else { return Ok(()) };
        if !self.range.overlaps(from, time) {
            return Ok(());
        }
        self.damaged += 1;
        self.release_selected()?;
        self.reset_numbers()?;
        self.add_unobserved(Unobserved { from, until: time, reason: UnobservedReason::Missing })
    }

    /// Handles damage at the end of the sources.
    pub(super) fn finish_damage(&mut self, time: MonoNs) -> Result<(), CutError> {
        self.end_damage(time)
    }

    /// Records a span without events, as far as it is within the range.
    pub(super) fn add_unobserved(&mut self, span: Unobserved) -> Result<(), CutError> {
        let (from, until) = (span.from.max(self.range.from), span.until.min(self.range.until));
        let span = Unobserved { from, until: until.max(from), ..span };
        self.unobserved.push(span);
        self.output.record(&Record::Unobserved(span))
    }

    /// Records a reading of the clocks, if it is within the range.
    pub(super) fn record_clock(&mut self, clock: ClockAnchor) -> Result<(), CutError> {
        if self.range.contains(Some(clock.mono)) { self.output.record(&Record::Clock(clock)) } else { Ok(()) }
    }

    /// Returns whether a span of a source comes before the positions of the excerpt. The numbers
    /// after any other span do not continue those before it.
    fn is_before_start(&self, span: &Unobserved) -> bool {
        self.accounts.events == 0 && span.until <= self.began_at
    }

    /// Returns whether an event after the range has been read.
    pub(super) fn is_past(&self) -> bool {
        self.is_past
    }

    /// Records the numbers so far, which the next ones do not continue.
    pub(super) fn reset_numbers(&mut self) -> Result<(), CutError> {
        self.record_excluded()?;
        self.accounts.reset_numbers();
        Ok(())
    }

    /// Records how many events of each CPU are out of scope.
    pub(super) fn record_excluded(&mut self) -> Result<(), CutError> {
        if !self.is_partial {
            return Ok(());
        }
        for excluded in self.accounts.excluded() {
            self.output.record(&Record::Excluded(excluded))?;
        }
        Ok(())
    }
}
