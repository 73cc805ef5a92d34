//! Records a replay into a new capture, with the recorder's own assembler.

use std::collections::VecDeque;
use std::time::Instant;

use pmon_core::accounting::{Discarded, LossCause};
use pmon_core::capture::{Loss, Record, RecordedDatagram, RecordingReader};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{MonoNs, Tgid};
use pmon_fake::Socket;
use pmon_record::assemble::{Assembler, AssemblerSettings};
use pmon_record::{Chunk, Sink, SinkError};
use pmon_replay::{ExitUsage, PassedRecord, Replay, ReplayError};

/// Maximum number of datagrams in a chunk.
const CHUNK: usize = 2048;

/// Records the datagrams that a [`Replay`] delivers. Other records of the capture keep their
/// positions.
pub struct Rerecorder<S> {
    assembler: Assembler<WithUsage<S>>,
    chunk: Chunk,
}

impl<S: Sink> Rerecorder<S> {
    /// Creates a recorder that writes to `sink`. `recorder` is the process that recorded the
    /// original.
    pub fn new(sink: S, recorder: Tgid) -> Self {
        let sink = WithUsage { sink, usages: VecDeque::new() };
        let setup = AssemblerSettings::new(ByteOrder::NATIVE, recorder);
        Self { assembler: Assembler::new(sink, setup), chunk: Chunk::with_capacity(CHUNK) }
    }

    /// Records the datagrams that `replay` delivers, or that a `socket` of its kernel has queued.
    ///
    /// Returns `true` if there may be more later: nothing is queued at the moment, or a record that
    /// is not an event follows. Returns `false` at the end of the capture.
    ///
    /// # Errors
    /// Fails if the capture is damaged or the sink fails. After damage, the next call continues.
    pub fn take<C: RecordingReader>(
        &mut self,
        replay: &mut Replay<C>,
        mut socket: Option<&mut Socket>,
    ) -> Result<bool, RerecordError> {
        let end = loop {
            let batch = &mut self.chunk.batch;
            let received = match &mut socket {
                Some(socket) => socket.receive(batch).map_err(ReplayError::Socket),
                None => replay.receive(batch),
            };
            match received {
                Ok(Received::Datagrams(_)) if batch.is_full() => self.hand_over(replay)?,
                Ok(Received::Datagrams(_)) => {}
                Ok(Received::Overrun) => self.chunk.overruns += 1,
                Ok(Received::Empty) => break Ok(true),
                Ok(Received::Closed) => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        self.chunk.drops = match socket {
            Some(socket) => socket.drops().map_err(ReplayError::Socket)?,
            None => replay.drops()?,
        };
        self.hand_over(replay)?;
        Ok(end?)
    }

    /// Reads a part of the capture before the first event to replay, and returns `false` once that
    /// event is reached. Without this call, the first event reads the whole part at once.
    ///
    /// # Errors
    /// Fails like [`Rerecorder::take`].
    pub fn begin<C: RecordingReader>(&mut self, replay: &mut Replay<C>) -> Result<bool, RerecordError> {
        let has_more = replay.advance_to_start();
        self.hand_over(replay)?;
        Ok(has_more?)
    }

    fn hand_over<C: RecordingReader>(&mut self, replay: &mut Replay<C>) -> Result<(), RerecordError> {
        self.assembler.sink_mut().usages.extend(replay.take_usages());
        self.assembler.add_chunk(&self.chunk)?;
        self.chunk.clear();
        while let Some(passed) = replay.take_passed_record() {
            match passed {
                PassedRecord::Record(record) => self.assembler.record(&record)?,
                PassedRecord::Blind(blind) => self.assembler.add_blind(blind)?,
                PassedRecord::Loss(loss) => self.chunk.dropped.events.push(dropped(&loss)),
            }
        }
        Ok(())
    }

    /// Lets the sink do periodic work, in a replay that is not instant.
    ///
    /// # Errors
    /// Fails if the sink fails.
    pub fn tick(&mut self) -> Result<(), RerecordError> {
        self.assembler.sink_mut().sink.tick(Instant::now())?;
        Ok(())
    }

    /// Ends the recording at the time `end`, and returns the sink.
    ///
    /// # Errors
    /// Fails if the sink fails.
    pub fn finish(mut self, end: MonoNs) -> Result<S, RerecordError> {
        self.assembler.add_chunk(&self.chunk)?;
        self.assembler.finish(end)?;
        Ok(self.assembler.into_sink().sink)
    }
}

/// Converts a recorded loss to the assembler's form, so that the loss is recorded even if no later
/// event reveals it. A loss by backpressure stays one.
fn dropped(loss: &Loss) -> Discarded {
    let count = if loss.cause == LossCause::Backpressure { loss.count() } else { 0 };
    let (first, last) = ((loss.first, loss.after), (loss.last, loss.before));
    Discarded { cpu: loss.cpu, first, last, count, excluded_before: 0, excluded: 0 }
}

/// The reason why a replay cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RerecordError {
    /// Reading or replaying the capture failed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Writing the new capture failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// A sink that adds the recorded resource usage to exits, because a socket does not deliver it.
struct WithUsage<S> {
    sink: S,
    usages: VecDeque<ExitUsage>,
}

impl<S: Sink> Sink for WithUsage<S> {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        if let Record::Event(
            RecordedDatagram::Event(event @ Event { body: EventBody::Exit { task, .. }, .. }),
            None,
        ) = record
        {
            let matches = |of: &ExitUsage| (of.time, of.task) == (event.time, *task);
            if let Some(at) = self.usages.iter().position(matches) {
                // Earlier entries belong to exits that were lost during the replay.
                let usage = self.usages.drain(..=at).next_back().map(|of| of.usage);
                return self.sink.record(&Record::Event(RecordedDatagram::Event(*event), usage));
            }
        }
        self.sink.record(record)
    }

    fn received_at(&mut self, _time: Instant) {
        // Ignored, so that the same content gives the same file.
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        self.sink.tick(now)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}
