//! A capture that happens again, on a fake kernel.

use std::collections::VecDeque;
use std::io::{Read, Seek};

use pmon_analysis::{Filter, OwnedRecord, ProcessTable};
use pmon_core::batch::Batch;
use pmon_core::capture::{Meta, Reader, Record};
use pmon_core::source::{Received, Source};
use pmon_core::wire::Event;
use pmon_core::{MonoNs, Seq};
use pmon_fake::{FaultScript, Kernel, Socket};

use super::pieces::Pieces;
use super::{ExitUsage, PassedRecord, Player, StepResult};
use crate::ReplayError;

/// What the kernel says before the first event, it says so long before it.
const BEFORE_NS: u64 = 2_000;

/// A replay of a capture through a [`Kernel`], and a [`Source`] that delivers it.
///
/// The events have their times, CPUs and numbers; losses are lost again: the numbers are missing, each listener counts the drops, and
/// has `ENOBUFS` (what the kernel had no memory for, nobody counts). In a time in which nothing was heard, nothing is. Where the
/// capture left events out because they were not wanted, or a filter does, the numbers close up: only a loss is a gap.
///
/// As a source it delivers everything at once, one thing after the other, and drops nothing of its own accord. With other sockets of its
/// kernel, the test says when it goes on: [`Replay::step`], [`Replay::advance`]; then what finds no room is dropped, as a kernel does.
///
/// It holds one block of the capture at a time, whatever the capture's length; with [`Replay::follow_processes`], also what a
/// [`pmon_analysis::DetailsJoiner`] and [`ProcessTable`] hold.
///
/// ```
/// use pmon_core::batch::Batch;
/// use pmon_core::capture::{Encoder, Header, Meta, Reader};
/// use pmon_core::source::{Received, Source};
/// use pmon_core::wire::ByteOrder;
/// use pmon_replay::Replay;
///
/// let header = Header { uuid: [1; 16], frame_order: ByteOrder::NATIVE, meta: Meta::default() };
/// let mut encoder = Encoder::new(&header)?;
/// encoder.push_frame(b"a datagram")?;
/// let capture = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
///
/// let mut replay = Replay::new(Reader::open(capture.as_slice())?);
/// let mut batch = Batch::with_capacity(8);
/// assert_eq!(replay.receive(&mut batch)?, Received::Frames(1));
/// assert_eq!(batch.frames().next().unwrap().bytes, b"a datagram");
/// assert_eq!(replay.receive(&mut batch)?, Received::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay<R> {
    pieces: Pieces<R>,
    kernel: Kernel,
    /// The source's own.
    socket: Option<Socket>,
    started: bool,
    stage: Player,
}

impl<R: Read> Replay<R> {
    /// A replay of what `reader` has not read yet, on a kernel of its own.
    pub fn new(reader: Reader<R>) -> Self {
        let cpus = reader.header().map_or(1, |header| header.meta.cpus_online.max(1));
        Self {
            pieces: Pieces::new(reader),
            kernel: Kernel::new(cpus),
            socket: None,
            started: false,
            stage: Player::default(),
        }
    }

    /// Only what happened from then on; of a capture that can be read anywhere, [`Replay::seek`] is sooner there. What was known before of
    /// processes is not passed.
    #[must_use]
    pub fn from(mut self, time: MonoNs) -> Self {
        self.stage.from = Some(time);
        self
    }

    /// Only what happened until then.
    #[must_use]
    pub fn until(mut self, time: MonoNs) -> Self {
        self.stage.until = Some(time);
        self
    }

    /// Only what `filter` shows. The other events never happened: the numbers behind them move up. Losses remain. If the recorder's own
    /// events are hidden, so is the first of all, if that is what the kernel answered it: whoever takes its place has an answer of its own.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.pieces.join(filter);
        self
    }

    /// Follows the processes: [`Replay::processes`]. It costs about as much as all the rest.
    #[must_use]
    pub fn follow_processes(self) -> Self {
        if self.pieces.joined().is_some() { self } else { self.filter(Filter::default()) }
    }

    /// Things go wrong as `script` says, which counts the events of this replay.
    #[must_use]
    pub fn faults(mut self, script: FaultScript, seed: u64) -> Self {
        self.kernel.inject(script, seed);
        self
    }

    /// Keeps what is beside the events: [`Replay::take_passed_record`]. The source then ends each run of events with [`Received::Empty`] before
    /// whatever stands between them, which is to be taken then.
    #[must_use]
    pub fn pass_records(mut self) -> Self {
        self.stage.passed = Some(VecDeque::new());
        self.pieces.keep_usage();
        self
    }

    /// The kernel on which it happens.
    pub fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    /// A new socket of a consumer on that kernel. What the kernel says to it before the first event has the numbers and the time
    /// before that.
    ///
    /// # Errors
    /// As [`Replay::step`].
    pub fn socket(&mut self) -> Result<Socket, ReplayError> {
        self.start()?;
        Ok(self.kernel.socket())
    }

    /// A socket that hears everything from the first event on, with room for whatever a script does, so that only a loss of the capture
    /// is one. What the kernel says to it of its subscription is nobody's business: that is taken already, and its number is free again.
    ///
    /// # Errors
    /// As [`Replay::step`].
    pub fn listener(&mut self) -> Result<Socket, ReplayError> {
        let mut socket = self.socket()?;
        let listened = socket.force_rcvbuf(i32::MAX).and_then(|()| socket.listen());
        let acknowledged = listened.and_then(|()| socket.recv(&mut [], pmon_fake::RecvFlags::empty()));
        acknowledged.map_err(ReplayError::Socket)?;
        let (cpu, before) = self.stage.before;
        self.kernel.feed().start_at(cpu, before);
        Ok(socket)
    }

    /// The processes as of the last event that happened; `None` unless [`Replay::follow_processes`] or a filter was asked for.
    pub fn processes(&self) -> Option<&ProcessTable> {
        self.pieces.joined().map(|joined| &joined.processes)
    }

    /// When the next thing happens; `None` at the end.
    ///
    /// # Errors
    /// As [`Replay::step`].
    pub fn next_time(&mut self) -> Result<Option<MonoNs>, ReplayError> {
        self.start()?;
        if self.stage.ended || !self.pieces.load()? {
            return Ok(None);
        }
        let (loaded, _) = self.pieces.loaded();
        Ok(Some(loaded.time().unwrap_or(self.stage.now).max(self.stage.now)))
    }

    /// The next thing in the capture happens; `None` at the end.
    ///
    /// # Errors
    /// When the capture cannot be read, or is damaged: then the next call goes on behind the damage.
    pub fn step(&mut self) -> Result<Option<StepResult>, ReplayError> {
        self.start()?;
        while let Some(played) = self.play()? {
            if played.is_some() {
                return Ok(played);
            }
        }
        Ok(None)
    }

    /// The next piece is played, and perhaps nothing happens by it; `None` at the end.
    pub(crate) fn play(&mut self) -> Result<Option<Option<StepResult>>, ReplayError> {
        if self.stage.ended || !self.pieces.load()? {
            self.kernel.release_delayed();
            return Ok(None);
        }
        let Self { pieces, kernel, stage, .. } = self;
        let (loaded, joined) = pieces.loaded();
        Ok(Some(stage.play(loaded, joined, &mut kernel.feed())))
    }

    /// All happens that is due until then; gives the number of events.
    ///
    /// # Errors
    /// As [`Replay::step`].
    pub fn advance(&mut self, until: MonoNs) -> Result<u64, ReplayError> {
        let mut events = 0;
        while self.next_time()?.is_some_and(|time| time <= until) {
            events += u64::from(matches!(self.step()?, Some(StepResult::Event(_) | StepResult::Datagram)));
        }
        self.kernel.feed().advance_to(until);
        Ok(events)
    }

    /// What has passed beside the events since this was asked last.
    pub fn take_passed_record(&mut self) -> Option<PassedRecord> {
        self.stage.passed.as_mut()?.pop_front()
    }

    /// What was used until the exits that have happened since this was asked last, in their order, if [`Replay::pass_records`] was asked for.
    pub fn take_usages(&mut self) -> impl Iterator<Item = ExitUsage> {
        self.stage.usages.drain(..)
    }

    /// When the last thing happened, or the recording ended.
    pub fn now(&self) -> MonoNs {
        self.kernel.now().max(self.stage.now)
    }

    /// Bytes of the capture that have been read.
    pub fn offset(&self) -> u64 {
        self.pieces.offset()
    }

    /// Goes as far as the first event in the range: what the kernel says before it is numbered from there.
    fn start(&mut self) -> Result<(), ReplayError> {
        while self.approach()? {}
        Ok(())
    }

    /// Advances by one record toward the first event in the range. Returns `false` at that event or
    /// at the end of the capture.
    ///
    /// The other methods advance by themselves, but then hold everything that
    /// [passes](Replay::pass_records) on the way, which can be a scan of many processes.
    ///
    /// # Errors
    /// As [`Replay::step`].
    pub fn approach(&mut self) -> Result<bool, ReplayError> {
        if self.started || !self.pieces.load()? {
            return Ok(false);
        }
        let Self { pieces, kernel, stage, .. } = self;
        let (loaded, joined) = pieces.loaded();
        let mut feed = kernel.feed();
        if loaded.is_datagram() && !loaded.time().is_some_and(|time| stage.is_before(time)) {
            self.started = true;
            if let Some(Event { cpu, seq, time, .. }) = loaded.event() {
                stage.before = (cpu, Seq(seq.0.wrapping_sub(1)));
                feed.advance_to(MonoNs(time.0.saturating_sub(BEFORE_NS)));
            }
            feed.start_at(stage.before.0, stage.before.1);
        } else if let Some(loss) = loaded.loss()
            && !stage.is_before(loss.before)
        {
            self.started = true;
            stage.before = (loss.cpu, Seq(loss.first.0.wrapping_sub(1)));
            feed.start_at(stage.before.0, stage.before.1);
            feed.advance_to(loss.after);
        } else {
            stage.play(loaded, joined, &mut feed);
        }
        Ok(!self.started)
    }

    /// Returns the bytes of memory that the capture's reader holds.
    pub(crate) fn reader_memory(&self) -> usize {
        self.pieces.reader_memory()
    }

    /// Follows the processes, and keeps what tells of them, [`Replay::told`], and nothing else.
    pub(crate) fn telling(self) -> Self {
        let mut replay = self.follow_processes();
        replay.stage.passed = None;
        replay.stage.told = Some(VecDeque::new());
        replay
    }

    /// What has told of processes since this was asked last, shown or not, with what belongs to it; nothing behind the range.
    pub(crate) fn told(&mut self) -> impl Iterator<Item = OwnedRecord> {
        self.stage.told.iter_mut().flat_map(|told| told.drain(..))
    }

    /// Where, how and by what the capture was recorded, if its header can be read.
    pub(crate) fn meta(&self) -> Option<&Meta> {
        self.pieces.meta()
    }

    /// Gives the kernel what comes next, and `batch` what its socket has of it at once; the number of that.
    fn fill(&mut self, batch: &mut Batch) -> usize {
        let Self { pieces, kernel, stage, .. } = self;
        let (loaded, mut joined) = pieces.loaded();
        let mut feed = kernel.feed();
        let before = batch.len();
        while !stage.ended && !batch.is_full() {
            let mut taken = 0;
            let mut is_direct = true;
            for frame in loaded.datagrams() {
                taken += 1;
                is_direct = !stage.meets(frame, &mut feed) || feed.emit_into(frame, batch);
                if !is_direct || stage.ended || batch.is_full() {
                    break;
                }
            }
            loaded.take_frames(taken);
            // Whatever else there is comes when all before it was taken, and stands alone.
            if !is_direct || taken == 0 {
                if batch.len() == before && is_direct {
                    stage.play(loaded, joined.as_deref_mut(), &mut feed);
                }
                break;
            }
        }
        batch.len() - before
    }

    /// The source's own socket.
    fn listen(&mut self) -> Result<&mut Socket, ReplayError> {
        if self.socket.is_none() {
            self.socket = Some(self.listener()?);
        }
        self.socket.as_mut().ok_or(ReplayError::Socket(pmon_fake::Errno::BADF))
    }
}

impl<R: Read + Seek> Replay<R> {
    /// [`Replay::from`], by the capture's index: reads its first block, and then from near that time on. `false`, and no sooner there, if
    /// there is no index that can be trusted.
    ///
    /// # Errors
    /// As [`Replay::step`].
    pub fn seek(&mut self, time: MonoNs) -> Result<bool, ReplayError> {
        self.stage.from = Some(time);
        // What the capture leaves out, it says at its beginning.
        self.pieces.load_more()?;
        let scope = self.pieces.scope();
        let there = self.pieces.seek(time)?;
        if let (Some(scope), true) = (scope, there) {
            self.stage.pass(Record::Scope(scope));
        }
        Ok(there)
    }
}

impl<R: Read> Source for Replay<R> {
    type Error = ReplayError;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, ReplayError> {
        loop {
            let socket = self.listen()?;
            match socket.receive(batch).map_err(ReplayError::Socket)? {
                // A script may have it that a call finds nothing.
                Received::Empty if !socket.poll().readable => {}
                received => return Ok(received),
            }
            if self.stage.passed.as_ref().is_some_and(|passed| !passed.is_empty()) {
                return Ok(Received::Empty);
            }
            if self.stage.ended || !self.pieces.load()? {
                self.kernel.end_of_file();
                continue;
            }
            match self.fill(batch) {
                0 => {}
                frames => return Ok(Received::Datagrams(frames)),
            }
        }
    }

    fn drops(&mut self) -> Result<Option<u64>, ReplayError> {
        self.listen()?.drops().map_err(ReplayError::Socket)
    }
}
