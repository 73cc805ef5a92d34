//! Requests without effect: a selection that no event matches, and a fault after the last event.

use std::fs::File;
use std::io;

use pmon_analysis::TimeBound;
use pmon_core::capture::{Item, Reader};
use pmon_fake::{Fault, Trigger};

use super::Playback;
use crate::args::{ClockArg, FormatArg, ViewArgs};
use crate::input::{is_stdio, skip_hole};
use crate::terminal;
use crate::view::{Range, View};

impl Playback<'_> {
    /// Reports requests without effect, after a complete replay with `happened` events.
    pub(super) fn report_no_effect(&self, happened: u64) {
        if let Some(no_effect) = self.no_effect(happened) {
            terminal::eprintln(format_args!("pmon: {no_effect}"));
        }
    }

    /// Describes the requests without effect; `None` if there are none.
    pub(super) fn no_effect(&self, happened: u64) -> Option<String> {
        let selects = self.from.is_some() || self.until.is_some() || self.filter.is_some();
        if happened == 0 && selects {
            let why = self.unmatched().unwrap_or_else(|| "no event matches the selection".into());
            return Some(format!("{}: {why}", self.name));
        }
        // If a fault ends the replay, later faults are not reached.
        if self.script.rules().iter().any(|rule| rule.fault == Fault::End) {
            return None;
        }
        let first = self.script.rules().iter().filter_map(|rule| match rule.trigger {
            Trigger::At(at) => Some(at),
            Trigger::Every { from, .. } => Some(from),
            _ => None,
        });
        let late = first.filter(|&first| first >= happened).min()?;
        let events = terminal::counted(happened, "event");
        Some(format!("the fault before event {late} never happens: there are only {events}, numbered from 0"))
    }

    /// Explains why no event happened, by reading the capture again; `None` if that is impossible.
    fn unmatched(&self) -> Option<String> {
        if is_stdio(&self.args.file) {
            return None;
        }
        let mut reader = Reader::open_sparse(File::open(&self.args.file).ok()?, skip_hole).ok()?;
        let range = Range { since: self.from.map(TimeBound::Mono), until: self.until.map(TimeBound::Mono) };
        let (header, order) = (reader.header().cloned(), reader.byte_order());
        // The JSON format shows all events, also those of threads.
        let args = ViewArgs { format: FormatArg::Json, ..self.args.view.clone() };
        let mut view = View::new(&args, ClockArg::Wall, range, header.as_ref(), order, false, io::sink());
        while let Some(item) = reader.next_item().ok()? {
            if let Item::Block(block) = item {
                block.records().try_for_each(|record| view.record(record)).ok()?;
            }
        }
        view.release().ok()?;
        view.unmatched()
    }
}
