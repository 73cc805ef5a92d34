//! What a capture holds, recorded again: from the fake kernel's socket, by the recorder's own assembler.

use std::collections::VecDeque;
use std::io::Read;
use std::time::Instant;

use pmon_core::accounting::{Discarded, LossCause};
use pmon_core::capture::{Loss, Record, RecordedDatagram};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{MonoNs, Tgid};
use pmon_fake::Socket;
use pmon_record::assemble::{Assembler, AssemblerSettings};
use pmon_record::{Chunk, Sink, SinkError};
use pmon_replay::{ExitUsage, PassedRecord, Replay, ReplayError};

/// Datagrams of a chunk.
const CHUNK: usize = 2048;

/// A recorder of what a [`Replay`] delivers. What the capture holds besides goes where it was.
pub struct Rerecorder<S> {
    assembler: Assembler<WithUsage<S>>,
    chunk: Chunk,
}

impl<S: Sink> Rerecorder<S> {
    /// Records into `sink` what the process `recorder` once recorded.
    pub fn new(sink: S, recorder: Tgid) -> Self {
        let sink = WithUsage { sink, usages: VecDeque::new() };
        let setup = AssemblerSettings::new(ByteOrder::NATIVE, recorder);
        Self { assembler: Assembler::new(sink, setup), chunk: Chunk::with_capacity(CHUNK) }
    }

    /// Takes what `replay` delivers, or what a `socket` on its kernel has, until there is nothing more at the moment, something else
    /// stands between, or a part is damaged; `false` at the end.
    ///
    /// # Errors
    /// When the capture or the sink fails. After damage, the next call goes on.
    pub fn take<R: Read>(
        &mut self,
        replay: &mut Replay<R>,
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

    /// Records a part of the events before the first one to replay; returns `false` once there are
    /// no more. Without this, the first event takes them all at once.
    ///
    /// # Errors
    /// As [`Rerecorder::take`].
    pub fn begin<R: Read>(&mut self, replay: &mut Replay<R>) -> Result<bool, RerecordError> {
        let is_nearer = replay.approach();
        self.hand_over(replay)?;
        Ok(is_nearer?)
    }

    fn hand_over<R: Read>(&mut self, replay: &mut Replay<R>) -> Result<(), RerecordError> {
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

    /// Time has passed, for a replay that takes its time.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn tick(&mut self) -> Result<(), RerecordError> {
        self.assembler.sink_mut().sink.tick(Instant::now())?;
        Ok(())
    }

    /// The end of the recording, which is that of the replay.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(mut self, end: MonoNs) -> Result<S, RerecordError> {
        self.assembler.add_chunk(&self.chunk)?;
        self.assembler.finish(end)?;
        Ok(self.assembler.into_sink().sink)
    }
}

/// What a recorder had no room for then, it has none for now. Behind other losses, too, there may be no event that shows them.
fn dropped(loss: &Loss) -> Discarded {
    let count = if loss.cause == LossCause::Backpressure { loss.count() } else { 0 };
    let (first, last) = ((loss.first, loss.after), (loss.last, loss.before));
    Discarded { cpu: loss.cpu, first, last, count, excluded: 0 }
}

/// Why a replay is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RerecordError {
    /// The capture.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The output.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// Gives the exits back what was known of them: that does not come by a socket.
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
            let is_its = |of: &ExitUsage| (of.time, of.task) == (event.time, *task);
            if let Some(at) = self.usages.iter().position(is_its) {
                // Those before it are of exits that were lost on the way.
                let usage = self.usages.drain(..=at).next_back().map(|of| of.usage);
                return self.sink.record(&Record::Event(RecordedDatagram::Event(*event), usage));
            }
        }
        self.sink.record(record)
    }

    fn received_at(&mut self, _time: Instant) {
        // The same content is the same file, however fast it came.
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        self.sink.tick(now)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}
