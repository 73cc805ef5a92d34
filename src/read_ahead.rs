//! Reads a recording on a thread of its own, a little ahead of the verb that uses the records.
//!
//! Reading takes about as much time as following the processes. The memory of records returns to
//! the reading thread: an allocator is slow if one thread allocates what another one frees.

mod batch;
mod queue;

use std::sync::Arc;
use std::thread;

use indicatif::ProgressBar;
use pmon_core::capture::{Header, RecordPool};

use self::batch::RecordBatch;
pub(crate) use self::queue::Recycler;
use self::queue::{Message, PartEnd, Position, Queue};
use crate::exit::{self, Failure};
use crate::input::{CaptureInput, InputItem, ReadOutcome};
use crate::terminal;

/// A recording that is read by another thread.
pub(crate) struct ReadAhead {
    /// The recording until the first part is requested.
    input: Option<CaptureInput>,
    queue: Arc<Queue>,
    name: String,
    header: Option<Header>,
    /// The recorder that is still writing the last capture.
    pub(crate) is_recorded_by: Option<u32>,
    /// How far the parts were read that were passed on.
    position: Position,
}

impl ReadAhead {
    /// Reads a recording. The thread begins with the first call of [`ReadAhead::read_some`].
    pub(crate) fn new(input: CaptureInput) -> Self {
        Self {
            queue: Arc::default(),
            name: input.name().to_owned(),
            header: input.header().cloned(),
            is_recorded_by: input.is_recorded_by,
            position: Position { offset: input.offset(), outcome: input.outcome() },
            input: Some(input),
        }
    }

    /// Returns the header of the current capture, if it is intact.
    pub(crate) fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Returns the number of bytes up to the end of the last part that was passed on.
    pub(crate) fn offset(&self) -> u64 {
        self.position.offset
    }

    /// Returns the result of reading up to the last part that was passed on.
    pub(crate) fn outcome(&self) -> ReadOutcome {
        self.position.outcome
    }

    /// Returns what takes back the memory of records.
    pub(crate) fn recycler(&self) -> Recycler {
        Recycler::new(Arc::clone(&self.queue))
    }

    /// Passes the items of the next part to `visit`, as [`CaptureInput::read_some`], but a long
    /// block in several parts.
    pub(crate) fn read_some(
        &mut self,
        mut visit: impl FnMut(InputItem<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        self.start()?;
        match self.queue.pop()? {
            Message::Records(mut batch) => {
                batch.drain(|record| visit(InputItem::Record(record)))?;
                self.queue.return_batch(batch);
                visit(InputItem::BlockEnd)?;
            }
            Message::Failed(failure) => return Err(failure),
            Message::End { end, position, notices } => {
                self.position = position;
                notices.iter().for_each(terminal::eprintln);
                match end {
                    PartEnd::Block => {}
                    PartEnd::Damage(name, damage) => visit(InputItem::Damage(&name, damage))?,
                    PartEnd::Segment(header, junction) => {
                        self.header = *header;
                        visit(InputItem::Segment(self.header.as_ref(), junction))?;
                    }
                    PartEnd::Recording => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Reads to the end, and passes each item to `visit`. `bar` shows the progress.
    pub(crate) fn read(
        mut self,
        bar: &ProgressBar,
        mut visit: impl FnMut(InputItem<'_>) -> Result<(), Failure>,
    ) -> Result<ReadOutcome, Failure> {
        while self.read_some(&mut visit)? {
            bar.set_position(self.offset());
        }
        bar.finish_and_clear();
        Ok(self.outcome())
    }

    /// Starts the thread, unless it was started.
    fn start(&mut self) -> Result<(), Failure> {
        let Some(input) = self.input.take() else { return Ok(()) };
        let end = self.queue.end_guard();
        let thread = thread::Builder::new().name("pmon-read".into());
        let started = thread.spawn(move || {
            if let Err(failure) = read_all(input, end.queue()) {
                end.queue().push(Message::Failed(failure));
            }
        });
        // The thread ends by itself: with the recording, or when the queue is closed. It is not
        // joined, because it may wait for a pipe.
        started.map(drop).map_err(|error| {
            Failure::new(
                exit::ENVIRONMENT,
                format_args!("cannot start a thread to read {}: {error}", self.name),
            )
        })
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Reads a recording to its end, or until the queue is closed.
fn read_all(mut input: CaptureInput, queue: &Queue) -> Result<(), Failure> {
    let pool = RecordPool::default();
    let mut batch = RecordBatch::default();
    let mut is_open = true;
    while is_open {
        let mut end = PartEnd::Recording;
        let has_more = input.read_from(Some(&pool), |item| {
            match item {
                InputItem::Record(record) => {
                    batch.push(record);
                    if batch.is_full() && is_open {
                        is_open = queue.push(Message::Records(std::mem::take(&mut batch)));
                        batch = queue.take_spent(&pool);
                    }
                }
                InputItem::BlockEnd => end = PartEnd::Block,
                InputItem::Damage(name, damage) => end = PartEnd::Damage(name.to_owned(), damage),
                InputItem::Segment(header, junction) => {
                    end = PartEnd::Segment(Box::new(header.cloned()), junction);
                }
            }
            // The rest of the block is not needed either.
            if is_open { Ok(()) } else { Err(Failure { code: exit::DONE, error: None }) }
        });
        if !is_open {
            return Ok(());
        }
        has_more?;
        if !batch.is_empty() {
            is_open = queue.push(Message::Records(std::mem::take(&mut batch)));
            batch = queue.take_spent(&pool);
        }
        let is_over = matches!(end, PartEnd::Recording);
        let position = Position { offset: input.offset(), outcome: input.outcome() };
        let notices = input.take_notices();
        is_open = is_open && queue.push(Message::End { end, position, notices }) && !is_over;
    }
    Ok(())
}
