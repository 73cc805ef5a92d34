//! Records the details of processes once it is certain which program they belong to.

use pmon_core::capture::{Details, DetailsSubject, MissReason, Record};

use super::Assembler;
use super::texts::{fit, is_too_long};
use crate::details::exec::{Exec, ExecDetails};
use crate::details::settle::DetailsSettler;
use crate::sink::{Sink, SinkError};

impl<S: Sink> Assembler<S> {
    /// Adds details that were read after an exec.
    pub(crate) fn add_details(&mut self, details: ExecDetails) -> Result<(), SinkError> {
        if let Some(settler) = &mut self.settler {
            settler.add_details(details);
        }
        self.record_settled()
    }

    /// Adds an exec event and its `details`, if they came with it. If not, they will be read unless
    /// `busy`.
    pub(super) fn add_exec(
        &mut self,
        exec: Exec,
        busy: bool,
        details: Option<Box<Details>>,
    ) -> Result<(), SinkError> {
        let Some(settler) = &mut self.settler else { return Ok(()) };
        settler.add_exec(exec, !busy && details.is_none());
        if let Some(mut details) = details {
            if self.args_max == 0 {
                (details.args, details.args_len) = (None, None);
            }
            return self.record_details(details);
        }
        if !busy {
            return Ok(());
        }
        let subject = DetailsSubject::Exec { tgid: exec.tgid, time: exec.time };
        self.record_details(Box::new(Details::missed(subject, MissReason::Busy)))
    }

    /// Redacts, truncates and records details, in this order, so no part of a secret stays at the
    /// cut. Afterwards, every text fits into a capture.
    pub(super) fn record_details(&mut self, mut details: Box<Details>) -> Result<(), SinkError> {
        if let Some(redact) = &self.redact {
            redact.details(&mut details, self.args_read);
        }
        if is_too_long(&details) || self.redact.is_some() {
            fit(&mut details, self.args_max);
        }
        self.counters.details_missed += u64::from(details.miss.is_some());
        self.sink.record(&Record::Details(details))
    }

    /// Records the details that have become certain.
    pub(super) fn record_settled(&mut self) -> Result<(), SinkError> {
        while let Some(details) = self.settler.as_mut().and_then(DetailsSettler::next_certain) {
            self.record_details(details)?;
        }
        Ok(())
    }

    /// Records all execs whose details are still uncertain as missed.
    pub(super) fn record_unsettled(&mut self) -> Result<(), SinkError> {
        let Some(mut settler) = self.settler.take() else { return Ok(()) };
        settler.give_up().try_for_each(|details| self.record_details(details))
    }

    /// Marks details as uncertain because events were lost, and an exec may be among them.
    pub(super) fn doubt_details(&mut self) {
        if let Some(settler) = &mut self.settler {
            settler.invalidate();
        }
    }
}
