//! The public interface of a replay.

use std::collections::VecDeque;

use pmon_analysis::{Filter, OwnedRecord, ProcessTable};
use pmon_core::batch::Batch;
use pmon_core::capture::{Meta, Record, RecordingReader, SeekRecording};
use pmon_core::source::{Received, Source};
use pmon_core::wire::Event;
use pmon_core::{MonoNs, Seq};
use pmon_fake::{FaultScript, Kernel, Socket};

use super::loader::CaptureLoader;
use super::play::{ExitUsage, PassedRecord, Player, StepResult};
use crate::ReplayError;

/// Time in ns between the fake kernel's own events at the start and the first recorded event.
const START_LEAD_NS: u64 = 2_000;

/// A replay of a capture on a fake [`Kernel`], and a [`Source`] that delivers the events.
///
/// Events keep their recorded times, CPUs and sequence numbers. Lost events are lost again: their
/// numbers are missing, and each listener counts the drops and gets `ENOBUFS`. As in the real
/// kernel, losses for lack of kernel memory are not counted. No events happen during a blind span.
/// Events that the recording excluded, or that a filter hides, leave no gap in the numbers: only
/// losses do.
///
/// As on the recorded machine, the kernel counts the recorder as a listener: a socket that is bound
/// to the group of process events receives them even if it has not subscribed itself.
///
/// As a source, a replay delivers all records in order, without delay and without drops of its own.
/// For other sockets of its kernel, the caller decides when the replay continues: see
/// [`Replay::step`] and [`Replay::advance`]. Events that do not fit into a socket's buffer are then
/// dropped, as in the real kernel.
///
/// A replay holds one block of the capture in memory, whatever the length of the capture. With
/// [`Replay::follow_processes`], it also holds a [`pmon_analysis::DetailsJoiner`] and a
/// [`ProcessTable`].
///
/// ```
/// use pmon_core::batch::Batch;
/// use pmon_core::capture::{Encoder, Header, Meta, Reader};
/// use pmon_core::source::{Received, Source};
/// use pmon_core::wire::ByteOrder;
/// use pmon_replay::Replay;
///
/// let header = Header { uuid: [1; 16], byte_order: ByteOrder::NATIVE, meta: Meta::default() };
/// let mut encoder = Encoder::new(&header)?;
/// encoder.push_datagram(b"a datagram")?;
/// let capture = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
///
/// let mut replay = Replay::new(Reader::open(capture.as_slice())?);
/// let mut batch = Batch::with_capacity(8);
/// assert_eq!(replay.receive(&mut batch)?, Received::Datagrams(1));
/// assert_eq!(batch.datagrams().next().unwrap().bytes, b"a datagram");
/// assert_eq!(replay.receive(&mut batch)?, Received::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay<C> {
    loader: CaptureLoader<C>,
    kernel: Kernel,
    /// Socket that the source receives from.
    socket: Option<Socket>,
    has_started: bool,
    player: Player,
}

impl<C: RecordingReader> Replay<C> {
    /// Creates a replay of the unread rest of a recording, on a new fake kernel.
    ///
    /// A recording is one capture, read by a [`Reader`](pmon_core::capture::Reader), or several
    /// that continue each other.
    pub fn new(reader: C) -> Self {
        let cpus = reader.header().map_or(1, |header| header.meta.cpus_online.max(1));
        let mut kernel = Kernel::new(cpus);
        // The recorder, which had subscribed on the recorded machine.
        kernel.set_listeners(1);
        Self {
            loader: CaptureLoader::new(reader),
            kernel,
            socket: None,
            has_started: false,
            player: Player::default(),
        }
    }

    /// Replays only events from this time on. For a seekable capture, [`Replay::seek`] is faster.
    /// Records about processes from before this time are not passed on.
    #[must_use]
    pub fn from(mut self, time: MonoNs) -> Self {
        self.player.from = Some(time);
        self
    }

    /// Replays only events up to this time.
    #[must_use]
    pub fn until(mut self, time: MonoNs) -> Self {
        self.player.until = Some(time);
        self
    }

    /// Replays only events that match `filter`. Hidden events leave no gap in the sequence numbers,
    /// and losses remain. If self-generated events of the recorder are hidden, so is an initial
    /// acknowledgement, because the consumer that takes the recorder's place receives its own one.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.loader.track_records(filter);
        self
    }

    /// Tracks the processes: see [`Replay::processes`]. This takes about as much CPU time as the
    /// rest of the replay.
    #[must_use]
    pub fn follow_processes(mut self) -> Self {
        self.loader.follow_processes();
        self
    }

    /// Injects the faults of `script`, whose triggers count the events of this replay. If their
    /// places name processes by name or command line, the replay also tracks the processes.
    #[must_use]
    pub fn faults(mut self, script: FaultScript, seed: u64) -> Self {
        if script.uses_args() {
            self.loader.follow_command_lines();
        } else if script.uses_comm() {
            self.loader.follow_processes();
        }
        self.kernel.inject(script, seed);
        self
    }

    /// Passes on all records other than events: see [`Replay::take_passed_record`]. The source then
    /// returns [`Received::Empty`] at each such record, and the caller must take the record before
    /// it receives again.
    #[must_use]
    pub fn pass_records(mut self) -> Self {
        self.player.passed = Some(VecDeque::new());
        self.loader.keep_usage();
        self
    }

    /// Returns the fake kernel of the replay.
    pub fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    /// Creates a socket for a consumer. Events that the fake kernel generates for the consumer
    /// before the first recorded event have earlier numbers and times.
    ///
    /// # Errors
    /// Fails like [`Replay::step`].
    pub fn socket(&mut self) -> Result<Socket, ReplayError> {
        self.start()?;
        Ok(self.kernel.socket())
    }

    /// Creates a socket that receives all events from the first one on. Its buffer is as large as
    /// possible, so that it drops only the losses of the capture. The acknowledgement of its
    /// subscription has already been received, and its sequence number is free again.
    ///
    /// # Errors
    /// Fails like [`Replay::step`].
    pub fn listener(&mut self) -> Result<Socket, ReplayError> {
        let mut socket = self.socket()?;
        let listened = socket.force_rcvbuf(i32::MAX).and_then(|()| socket.listen());
        let acknowledged = listened.and_then(|()| socket.recv(&mut [], pmon_fake::RecvFlags::empty()));
        acknowledged.map_err(ReplayError::Socket)?;
        let (cpu, before) = self.player.before;
        self.kernel.feed().start_at(cpu, before);
        Ok(socket)
    }

    /// Returns the processes as of the latest event; `None` unless [`Replay::follow_processes`] was
    /// called or the filter needs them.
    pub fn processes(&self) -> Option<&ProcessTable> {
        let tracking = self.loader.tracking().filter(|tracking| tracking.follows_processes)?;
        Some(&tracking.processes)
    }

    /// Returns the time of the next record; `None` at the end.
    ///
    /// # Errors
    /// Fails like [`Replay::step`].
    pub fn next_time(&mut self) -> Result<Option<MonoNs>, ReplayError> {
        self.start()?;
        if self.player.has_ended || !self.loader.load()? {
            return Ok(None);
        }
        let (loaded, _) = self.loader.loaded();
        Ok(Some(loaded.time().unwrap_or(self.player.now).max(self.player.now)))
    }

    /// Lets the next record happen. Returns `None` at the end.
    ///
    /// # Errors
    /// Fails if the capture cannot be read or is damaged. The next call continues after the damage.
    pub fn step(&mut self) -> Result<Option<StepResult>, ReplayError> {
        self.start()?;
        while let Some(played) = self.play()? {
            if played.is_some() {
                return Ok(played);
            }
        }
        Ok(None)
    }

    /// Plays the next record. Returns `None` at the end, and `Some(None)` if the record has no
    /// effect.
    pub(crate) fn play(&mut self) -> Result<Option<Option<StepResult>>, ReplayError> {
        if self.player.has_ended || !self.loader.load()? {
            self.kernel.release_delayed();
            return Ok(None);
        }
        let Self { loader, kernel, player, .. } = self;
        let (loaded, tracking) = loader.loaded();
        Ok(Some(player.play(loaded, tracking, &mut kernel.feed())))
    }

    /// Lets everything happen up to this time. Returns the number of events.
    ///
    /// # Errors
    /// Fails like [`Replay::step`].
    pub fn advance(&mut self, until: MonoNs) -> Result<u64, ReplayError> {
        let mut events = 0;
        while self.next_time()?.is_some_and(|time| time <= until) {
            events += u64::from(matches!(self.step()?, Some(StepResult::Event(_) | StepResult::Datagram)));
        }
        self.kernel.feed().advance_to(until);
        Ok(events)
    }

    /// Returns the next record that was passed on: see [`Replay::pass_records`].
    pub fn take_passed_record(&mut self) -> Option<PassedRecord> {
        self.player.passed.as_mut()?.pop_front()
    }

    /// Returns the resource usage of the exits that have happened since the last call, in order, if
    /// [`Replay::pass_records`] was requested.
    pub fn take_usages(&mut self) -> impl Iterator<Item = ExitUsage> {
        self.player.usages.drain(..)
    }

    /// Returns the time of the latest record, or of the end of the recording.
    pub fn now(&self) -> MonoNs {
        self.kernel.now().max(self.player.now)
    }

    /// Returns the number of bytes of the capture that have been read.
    pub fn offset(&self) -> u64 {
        self.loader.offset()
    }

    /// Advances to the first event in the range, because the fake kernel numbers its own earlier
    /// events relative to it.
    fn start(&mut self) -> Result<(), ReplayError> {
        while self.advance_to_start()? {}
        Ok(())
    }

    /// Advances by one record toward the first event in the range. Returns `false` at that event or
    /// at the end of the capture.
    ///
    /// The other methods advance by themselves, but then hold all records that are
    /// [passed on](Replay::pass_records) before the event, which can be a scan of many processes.
    ///
    /// # Errors
    /// Fails like [`Replay::step`].
    pub fn advance_to_start(&mut self) -> Result<bool, ReplayError> {
        if self.has_started || !self.loader.load()? {
            return Ok(false);
        }
        let Self { loader, kernel, player, .. } = self;
        let (loaded, tracking) = loader.loaded();
        let mut feed = kernel.feed();
        if loaded.is_datagram() && !loaded.time().is_some_and(|time| player.is_before(time)) {
            self.has_started = true;
            if let Some(Event { cpu, seq, time, .. }) = loaded.event() {
                player.before = (cpu, Seq(seq.0.wrapping_sub(1)));
                feed.advance_to(MonoNs(time.0.saturating_sub(START_LEAD_NS)));
            }
            feed.start_at(player.before.0, player.before.1);
        } else if let Some(loss) = loaded.loss()
            && !player.is_before(loss.before)
        {
            self.has_started = true;
            player.before = (loss.cpu, Seq(loss.first.0.wrapping_sub(1)));
            feed.start_at(player.before.0, player.before.1);
            feed.advance_to(loss.after);
        } else {
            player.play(loaded, tracking, &mut feed);
        }
        Ok(!self.has_started)
    }

    /// Returns the bytes of memory that the capture's reader holds.
    pub(crate) fn reader_memory(&self) -> usize {
        self.loader.reader_memory()
    }

    /// Keeps the records about processes for [`Replay::take_process_records`].
    pub(crate) fn keep_process_records(self) -> Self {
        let mut replay = if self.loader.tracking().is_some() { self } else { self.filter(Filter::default()) };
        replay.player.passed = None;
        replay.player.process_records = Some(Vec::new());
        replay
    }

    /// Returns the records about processes since the last call, whether shown or hidden, up to the
    /// end of the range.
    pub(crate) fn take_process_records(&mut self) -> impl Iterator<Item = OwnedRecord> {
        self.player.process_records.iter_mut().flat_map(|records| records.drain(..))
    }

    /// Returns the metadata of the recording, if the header can be read.
    pub(crate) fn meta(&self) -> Option<&Meta> {
        self.loader.meta()
    }

    /// Lets the next events happen, and appends them to `batch` directly as long as the source's
    /// socket would receive them at once. Returns the number of appended datagrams.
    fn fill(&mut self, batch: &mut Batch) -> usize {
        let Self { loader, kernel, player, .. } = self;
        let (loaded, mut tracking) = loader.loaded();
        let mut feed = kernel.feed();
        let before = batch.len();
        while !player.has_ended && !batch.is_full() {
            let mut taken = 0;
            let mut is_direct = true;
            for datagram in loaded.datagrams() {
                taken += 1;
                is_direct = !player.advance_to_event(datagram, &mut feed) || feed.emit_into(datagram, batch);
                if !is_direct || player.has_ended || batch.is_full() {
                    break;
                }
            }
            loaded.advance_datagrams(taken);
            // Any other record happens alone, after all events before it have been received.
            if !is_direct || taken == 0 {
                if batch.len() == before && is_direct {
                    player.play(loaded, tracking.as_deref_mut(), &mut feed);
                }
                break;
            }
        }
        batch.len() - before
    }

    /// Returns the socket of the source, and creates it first if needed.
    fn listen(&mut self) -> Result<&mut Socket, ReplayError> {
        if self.socket.is_none() {
            self.socket = Some(self.listener()?);
        }
        self.socket.as_mut().ok_or(ReplayError::Socket(pmon_fake::Errno::BADF))
    }
}

impl<C: SeekRecording> Replay<C> {
    /// Replays only events from this time on, like [`Replay::from`], but uses the index of the
    /// capture: reads the first block, and then continues near this time. Returns `false`, without
    /// an advantage, if the capture has no usable index.
    ///
    /// # Errors
    /// Fails like [`Replay::step`].
    pub fn seek(&mut self, time: MonoNs) -> Result<bool, ReplayError> {
        self.player.from = Some(time);
        // The scope of the recording is at the start of the capture.
        self.loader.load_more()?;
        let scope = self.loader.scope();
        let has_moved = self.loader.seek(time)?;
        if let (Some(scope), true) = (scope, has_moved) {
            self.player.pass(Record::Scope(scope));
        }
        Ok(has_moved)
    }
}

impl<C: RecordingReader> Source for Replay<C> {
    type Error = ReplayError;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, ReplayError> {
        loop {
            let socket = self.listen()?;
            match socket.receive(batch).map_err(ReplayError::Socket)? {
                // A fault script can make a call return no datagram.
                Received::Empty if !socket.poll().readable => {}
                received => return Ok(received),
            }
            if self.player.passed.as_ref().is_some_and(|passed| !passed.is_empty()) {
                return Ok(Received::Empty);
            }
            if self.player.has_ended || !self.loader.load()? {
                self.kernel.end_of_file();
                continue;
            }
            match self.fill(batch) {
                0 => {}
                received => return Ok(Received::Datagrams(received)),
            }
        }
    }

    fn drops(&mut self) -> Result<Option<u64>, ReplayError> {
        self.listen()?.drops().map_err(ReplayError::Socket)
    }
}
