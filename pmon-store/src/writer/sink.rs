//! Receives the records of a recording.

use std::time::{Duration, Instant};

use pmon_core::capture::{DetailsSubject, End, Record, SegmentReason};
use pmon_record::{Division, Sink, SinkError};

use super::StoreWriter;
use super::finish::{FinishingSegment, SegmentEnd};

/// Time between two ticks, so that requests from other threads are served soon.
const TICK: Duration = Duration::from_millis(250);
/// Time between two ticks while the free space of the filesystem is watched.
const FREE_SPACE_TICK: Duration = Duration::from_millis(40);

impl Sink for StoreWriter {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.apply(record);
        self.tally.apply(record, self.template.byte_order);
        if !matches!(record, Record::Event(..)) {
            self.note(record);
        }
        self.write(record)
    }

    fn received_at(&mut self, time: Instant) {
        self.ask_observer();
        if let Some(segment) = &mut self.current {
            segment.file.received_at(time);
        }
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        self.now = self.now.max(now);
        self.options = self.shared.lock().options;
        let current_bytes = [&self.current, &self.ending].into_iter().flatten();
        let current_bytes = current_bytes.map(|segment| segment.file.bytes()).sum();
        self.filesystem.set_options(&self.options, current_bytes);
        self.filesystem.enforce(self.clock_now());
        self.room = self.filesystem.room();
        if let Some(error) = self.filesystem.take_error() {
            self.last_error.set(error);
        }
        self.poll_finishing();
        self.check_directory(now);
        if self.current.is_none() && self.retry_at.is_none_or(|at| at <= now) {
            self.resume();
        }
        let mut due = now + if self.options.limits.keep_free.is_some() { FREE_SPACE_TICK } else { TICK };
        if let Some(segment) = &mut self.current {
            let ticked = segment.file.tick(now);
            due = ticked.as_ref().ok().copied().flatten().map_or(due, |at| at.min(due));
            self.check(ticked.map(drop))?;
        }
        if let Some(segment) = &mut self.ending {
            match segment.file.tick(now) {
                Ok(at) => due = at.map_or(due, |at| at.min(due)),
                Err(SinkError::Encode(error)) => return Err(SinkError::Encode(error)),
                Err(error) => self.abandon_ending(&error),
            }
        }
        self.last_error.tick(now, self.current.is_some());
        self.update_status();
        Ok(Some(due))
    }

    fn has_segments(&self) -> bool {
        true
    }

    fn segment_due(&mut self) -> Option<SegmentReason> {
        if self.ending.is_some() {
            return None;
        }
        let segment = self.current.as_ref()?;
        let age = self.now.saturating_duration_since(segment.since);
        if self.shared.lock().rotation {
            Some(SegmentReason::Request)
        } else if segment.file.bytes()
            >= self.options.within(self.room).size_due(segment.file.size_limit(), segment.opening_bytes)
        {
            Some(SegmentReason::Size)
        } else {
            (age >= self.options.rotate_every).then_some(SegmentReason::Age)
        }
    }

    fn begin_segment(&mut self, division: &Division) -> Result<(), SinkError> {
        if let Some(ending) = self.ending.take() {
            self.finish_segment(ending, SegmentEnd::Damaged);
        }
        let Some(segment) = &mut self.current else {
            self.resume();
            return Ok(());
        };
        let uuid = segment.uuid;
        let sealed = segment.file.seal();
        self.check(sealed)?;
        // If the segment has failed, the next one has begun, or is tried again.
        let Some(mut segment) = self.current.take_if(|segment| segment.uuid == uuid) else { return Ok(()) };
        segment.at_end = Some(self.tally.clone());
        self.previous = Some(uuid);
        self.ending = Some(segment);
        self.begin_next(division.reason, division.clock, division.positions.cpus.clone());
        Ok(())
    }

    fn record_late(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.apply(record);
        if let Some(segment) = &mut self.ending {
            match segment.file.record(record) {
                Ok(()) => {}
                Err(SinkError::Encode(error)) => return Err(SinkError::Encode(error)),
                Err(error) => self.abandon_ending(&error),
            }
        }
        let Record::Details(details) = record else { return Ok(()) };
        let DetailsSubject::Exec { tgid, time } = details.subject else { return Ok(()) };
        let process = self.model.get(tgid).filter(|process| process.exec_at() == Some(time));
        match process.map(|process| process.details()) {
            Some(details) => self.write(&Record::Details(Box::new(details))),
            None => Ok(()),
        }
    }

    fn end_segment(&mut self, end: &End) -> Result<(), SinkError> {
        let Some(mut segment) = self.ending.take() else { return Ok(()) };
        let at_end = segment.at_end.take();
        match segment.record_end(end, at_end.as_ref().unwrap_or(&self.tally)) {
            Ok(()) => self.finish_segment(segment, SegmentEnd::Clean),
            Err(SinkError::Encode(error)) => return Err(SinkError::Encode(error)),
            Err(error) => {
                self.last_error.set(error.to_string());
                self.finish_segment(segment, SegmentEnd::Damaged);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if let Some(ending) = self.ending.take() {
            self.finish_segment(ending, SegmentEnd::Damaged);
        }
        if self.current.is_none() {
            self.resume();
            if let Some(end) = self.unwritten_end.take() {
                // The next recorder continues at them.
                if let Some(positions) = self.unwritten_positions.take() {
                    self.write(&Record::Positions(positions))?;
                }
                self.write(&Record::End(end))?;
            }
        }
        let failed = match self.current.take() {
            Some(segment) => {
                let filesystem = self.filesystem.clone();
                let mut last =
                    FinishingSegment::begin(segment, SegmentEnd::Clean, filesystem, self.shared.clone());
                last.wait();
                last.take_error()
            }
            None => self.last_error.text().map(str::to_owned),
        };
        self.finishing.iter_mut().for_each(FinishingSegment::wait);
        self.poll_finishing();
        if failed.is_none() {
            self.written.clone_from(&self.tally);
        }
        failed.iter().for_each(|error| self.last_error.set(error.clone()));
        self.update_status();
        failed.map_or(Ok(()), |error| Err(SinkError::Other(error)))
    }
}
