//! A capture that happens again, on a fake kernel.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Seek};

use pmon_analysis::{Entry, Filter, Processes};
use pmon_core::accounting::LossCause;
use pmon_core::batch::Batch;
use pmon_core::capture::{Blind, Loss, Reader, Record, Subject, Usage};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, EVENT_FRAME, Event};
use pmon_core::{Cpu, MonoNs, Seq, Task};
use pmon_fake::{Feed, Kernel, Script, Socket};

use crate::ReplayError;
use crate::pieces::{Joined, Loaded, Piece, Pieces};

/// What the kernel says before the first event, it says so long before it.
const BEFORE_NS: u64 = 2_000;
/// Events of different CPUs come out of order by less than this.
const INVERSION_NS: u64 = 1_000_000_000;

/// A replay of a capture through a [`Kernel`], and a [`Source`] that delivers it.
///
/// The events have their times, CPUs and numbers; losses are lost again: the numbers are missing, each listener counts the drops, and
/// has `ENOBUFS` (what the kernel had no memory for, nobody counts). In a time in which nothing was heard, nothing is. Where the
/// capture left events out because they were not wanted, or a filter does, the numbers close up: only a loss is a gap.
///
/// As a source it delivers everything at once, one thing after the other, and drops nothing of its own accord. With other sockets of its
/// kernel, the test says when it goes on: [`Replay::step`], [`Replay::advance`]; then what finds no room is dropped, as a kernel does.
///
/// It holds one block of the capture at a time, whatever the capture's length; with [`Replay::follow`], also what a
/// [`pmon_analysis::Joiner`] and [`Processes`] hold.
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
    stage: Stage,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Played {
    /// An event happened.
    Event(Event),
    /// A datagram came that holds no event.
    Datagram,
    /// Events were lost.
    Loss(Loss),
    /// Nothing was heard for a time, until now.
    Blind(Blind),
    /// A record that is no event; what [`Replay::passing`] asks for.
    Other,
}

/// What is in a capture beside events and losses, where it stands; see [`Replay::passing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// A record as it is: details, a snapshot, clocks, a note, a fence, what was recorded.
    Record(Box<Record<'static>>),
    /// A time in which nothing was heard.
    Blind(Blind),
    /// A loss, for a recorder that counts itself. What an earlier recorder had no room for ([`LossCause::Backpressure`]), the kernel did not
    /// drop: it says nothing then.
    Loss(Loss),
}

/// What was used until an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitUsage {
    /// When it was,
    pub time: MonoNs,
    /// of which task.
    pub task: Task,
    /// What.
    pub usage: Box<Usage>,
}

/// What is played, and how far it is.
#[derive(Default)]
struct Stage {
    from: Option<MonoNs>,
    until: Option<MonoNs>,
    now: MonoNs,
    /// Where the kernel is before the first event.
    before: (Cpu, Seq),
    /// The range has begun.
    reached: bool,
    ended: bool,
    /// Of a capture that leaves events out, the number that comes next of each CPU: what is missing and not lost is left out.
    left_out: Option<BTreeMap<Cpu, u32>>,
    /// What passes beside the events, if anybody wants it.
    passed: Option<VecDeque<Passed>>,
    usages: Vec<ExitUsage>,
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
            stage: Stage::default(),
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

    /// Only what `filter` shows. The other events never happened: the numbers behind them move up. Losses remain.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.pieces.join(filter);
        self
    }

    /// Follows the processes: [`Replay::processes`]. It costs about as much as all the rest.
    #[must_use]
    pub fn follow(self) -> Self {
        if self.pieces.joined().is_some() { self } else { self.filter(Filter::default()) }
    }

    /// Things go wrong as `script` says, which counts the events of this replay.
    #[must_use]
    pub fn faults(mut self, script: Script, seed: u64) -> Self {
        self.kernel.inject(script, seed);
        self
    }

    /// Keeps what is beside the events: [`Replay::take_passed`]. The source then ends each run of events with [`Received::Empty`] before
    /// whatever stands between them, which is to be taken then.
    #[must_use]
    pub fn passing(mut self) -> Self {
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

    /// The processes as of the last event that happened; `None` unless [`Replay::follow`] or a filter was asked for.
    pub fn processes(&self) -> Option<&Processes> {
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
    pub fn step(&mut self) -> Result<Option<Played>, ReplayError> {
        self.start()?;
        while !self.stage.ended && self.pieces.load()? {
            let Self { pieces, kernel, stage, .. } = self;
            let (loaded, joined) = pieces.loaded();
            let played = stage.play(loaded, joined, &mut kernel.feed());
            if played.is_some() {
                return Ok(played);
            }
        }
        self.kernel.settle();
        Ok(None)
    }

    /// All happens that is due until then; gives the number of events.
    ///
    /// # Errors
    /// As [`Replay::step`].
    pub fn advance(&mut self, until: MonoNs) -> Result<u64, ReplayError> {
        let mut events = 0;
        while self.next_time()?.is_some_and(|time| time <= until) {
            events += u64::from(matches!(self.step()?, Some(Played::Event(_) | Played::Datagram)));
        }
        self.kernel.feed().at(until);
        Ok(events)
    }

    /// What has passed beside the events since this was asked last.
    pub fn take_passed(&mut self) -> Option<Passed> {
        self.stage.passed.as_mut()?.pop_front()
    }

    /// What was used until the exits that have happened since this was asked last, in their order, if [`Replay::passing`] was asked for.
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
        while !self.started && self.pieces.load()? {
            let Self { pieces, kernel, stage, .. } = self;
            let (loaded, joined) = pieces.loaded();
            let mut feed = kernel.feed();
            if loaded.is_datagram() && !loaded.time().is_some_and(|time| stage.is_before(time)) {
                self.started = true;
                if let Some(Event { cpu, seq, time, .. }) = loaded.event() {
                    stage.before = (cpu, Seq(seq.0.wrapping_sub(1)));
                    feed.at(MonoNs(time.0.saturating_sub(BEFORE_NS)));
                }
                feed.begin(stage.before.0, stage.before.1);
            } else if let Some(loss) = loaded.loss()
                && !stage.is_before(loss.before)
            {
                self.started = true;
                stage.before = (loss.cpu, Seq(loss.first.0.wrapping_sub(1)));
                feed.begin(stage.before.0, stage.before.1);
                feed.at(loss.after);
            } else {
                stage.play(loaded, joined, &mut feed);
            }
        }
        Ok(())
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
            for frame in loaded.frames() {
                taken += 1;
                is_direct = !stage.meets(frame, &mut feed) || feed.frame_into(frame, batch);
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

    /// The source's own socket: what the kernel says to it of its subscription is nobody's business.
    fn listen(&mut self) -> Result<&mut Socket, ReplayError> {
        if self.socket.is_none() {
            let mut socket = self.socket()?;
            // Room for whatever a script does; only a loss of the capture is one.
            let listened = socket.force_rcvbuf(i32::MAX).and_then(|()| socket.listen());
            let acknowledged = listened.and_then(|()| socket.recv(&mut [], pmon_fake::RecvFlags::empty()));
            acknowledged.map_err(ReplayError::Socket)?;
            let (cpu, before) = self.stage.before;
            self.kernel.feed().begin(cpu, before);
            self.socket = Some(socket);
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

impl Stage {
    /// Lets the next piece happen, if it is in the range and shown.
    fn play(
        &mut self,
        loaded: &mut Loaded,
        joined: Option<&mut Joined>,
        feed: &mut Feed<'_>,
    ) -> Option<Played> {
        let event = loaded.event();
        let played = match (loaded.first()?, event) {
            (Piece::Frames(_), event) => self.event(&event?, None, feed),
            (Piece::Exit(event, usage), _) => self.event(event, Some(usage), feed),
            (Piece::Raw(bytes), _) => self.raw(bytes, feed),
            (Piece::Loss(loss), _) => self.loss(*loss, feed),
            (Piece::Blind(blind), _) => self.blind(*blind),
            (Piece::Other(record), _) => {
                self.pass(std::mem::replace(&mut **record, Record::Unknown { kind: 0 }))
            }
            (Piece::Entry(entry), _) => self.entry(entry, joined, feed),
        };
        loaded.take();
        played
    }

    fn event(
        &mut self,
        event: &Event,
        usage: Option<&mut Box<Usage>>,
        feed: &mut Feed<'_>,
    ) -> Option<Played> {
        if !self.goes_on(event.time) {
            return None;
        }
        if let Some(next) = &mut self.left_out {
            close_up(next, event, feed);
        }
        let is_emitted = feed.event(event);
        if let (Some(usage), Some(_), Some(task), true) = (usage, &self.passed, event.task(), is_emitted) {
            let usage = std::mem::take(usage);
            self.usages.push(ExitUsage { time: event.time, task, usage });
        }
        Some(Played::Event(*event))
    }

    /// Whether an event that comes next is in the range; the numbers then close up to it.
    #[inline]
    fn meets(&mut self, frame: &[u8; EVENT_FRAME], feed: &mut Feed<'_>) -> bool {
        if self.from.is_none() && self.until.is_none() && self.left_out.is_none() {
            return true;
        }
        let Ok(event) = Event::decode(frame, ByteOrder::NATIVE) else { return true };
        let goes_on = self.goes_on(event.time);
        if let (Some(next), true) = (&mut self.left_out, goes_on) {
            close_up(next, &event, feed);
        }
        goes_on
    }

    fn raw(&mut self, bytes: &[u8], feed: &mut Feed<'_>) -> Option<Played> {
        let event = Event::decode(bytes, ByteOrder::NATIVE).ok();
        if !self.goes_on(event.map_or(self.now, |event| event.time)) {
            return None;
        }
        if let (Some(next), Some(event)) = (&mut self.left_out, &event) {
            close_up(next, event, feed);
        }
        feed.datagram(bytes);
        Some(event.map_or(Played::Datagram, Played::Event))
    }

    fn loss(&mut self, loss: Loss, feed: &mut Feed<'_>) -> Option<Played> {
        if self.is_before(loss.before) || self.until.is_some_and(|until| loss.after > until) {
            return None;
        }
        self.reached = true;
        if let Some(next) = self.left_out.as_mut().and_then(|next| next.get_mut(&loss.cpu)) {
            *next = next.wrapping_add(loss.count() as u32);
        }
        let is_dropped = match loss.cause {
            LossCause::KernelMemory => false,
            LossCause::Backpressure => self.passed.is_none(),
            _ => true,
        };
        if is_dropped {
            feed.lose(loss.count());
        }
        if let Some(passed) = &mut self.passed {
            passed.push_back(Passed::Loss(loss));
        }
        Some(Played::Loss(loss))
    }

    fn blind(&mut self, blind: Blind) -> Option<Played> {
        if self.is_before(blind.until) {
            return None;
        }
        if let Some(passed) = &mut self.passed {
            passed.push_back(Passed::Blind(blind));
        }
        Some(Played::Blind(blind))
    }

    fn pass(&mut self, record: Record<'static>) -> Option<Played> {
        if let Record::Scope(_) = record {
            self.left_out.get_or_insert_default();
        }
        if let Record::End(end) = &record
            && self.until.is_none()
        {
            self.now = self.now.max(end.time);
        }
        if !self.is_wanted(&record) {
            return None;
        }
        // What a recorder counts, it counts anew.
        let is_counted = matches!(
            record,
            Record::End(_)
                | Record::Witness(_)
                | Record::LeftOut(_)
                | Record::Ring(_)
                | Record::Unknown { .. }
        );
        if let (Some(passed), false) = (&mut self.passed, is_counted) {
            passed.push_back(Passed::Record(Box::new(record)));
            return Some(Played::Other);
        }
        None
    }

    /// Whether a record that is no event belongs to the range: what is told of the time before it is not passed.
    fn is_wanted(&self, record: &Record<'_>) -> bool {
        let is_in_range =
            |time: MonoNs| !self.is_before(time) && self.until.is_none_or(|until| time <= until);
        match record {
            Record::Scope(_) => true,
            Record::Details(details) => match details.subject {
                Subject::Exec { time, .. } => is_in_range(time),
                _ => self.reached || self.from.is_none(),
            },
            Record::Mark(mark) => is_in_range(mark.time),
            _ => self.reached || self.from.is_none(),
        }
    }

    fn entry(
        &mut self,
        entry: &mut Entry,
        joined: Option<&mut Joined>,
        feed: &mut Feed<'_>,
    ) -> Option<Played> {
        let Joined { processes, filter, wall, .. } = joined?;
        processes.apply(entry);
        filter.observe(entry);
        match entry {
            Entry::Event(occurrence) => {
                if !filter.shows(occurrence.event.as_ref(), processes, wall) {
                    self.hide(occurrence.event.as_ref()?, feed);
                    return None;
                }
                let played = match (&occurrence.event, &occurrence.raw) {
                    (_, Some(bytes)) => self.raw(bytes, feed),
                    (Some(event), None) => self.event(event, occurrence.usage.as_mut(), feed),
                    (None, None) => None,
                };
                if let (Some(details), Some(_)) = (occurrence.details.take(), &played) {
                    self.pass(Record::Details(details));
                }
                played
            }
            Entry::Loss(loss) => self.loss(*loss, feed),
            Entry::Blind(blind) => self.blind(*blind),
            Entry::Clock(anchor) => {
                wall.observe(*anchor);
                self.pass(Record::Clock(*anchor))
            }
            Entry::Snapshot(snapshot) => self.pass(Record::Snapshot(*snapshot)),
            Entry::Details(details) => self.pass(Record::Details(details.clone())),
            Entry::Mark(mark) => self.pass(Record::Mark(mark.clone())),
            _ => None,
        }
    }

    /// An event that the filter does not show never happened.
    fn hide(&mut self, event: &Event, feed: &mut Feed<'_>) {
        if self.goes_on(event.time) {
            if let Some(next) = &mut self.left_out {
                close_up(next, event, feed);
            }
            feed.leave_out(event.cpu, 1);
        }
    }

    fn is_before(&self, time: MonoNs) -> bool {
        self.from.is_some_and(|from| time < from)
    }

    /// Whether what happens at that time is in the range.
    #[inline]
    fn goes_on(&mut self, time: MonoNs) -> bool {
        if let Some(until) = self.until
            && time > until
        {
            self.ended |= time.0 - until.0 > INVERSION_NS;
            return false;
        }
        self.now = self.now.max(time);
        self.reached |= !self.is_before(time);
        !self.is_before(time)
    }
}

/// The numbers between that event and the one before it on its CPU, but those that were lost, were left out: they close up.
fn close_up(next: &mut BTreeMap<Cpu, u32>, event: &Event, feed: &mut Feed<'_>) {
    let behind = event.seq.0.wrapping_add(1);
    if let Some(expected) = next.insert(event.cpu, behind) {
        let missing = event.seq.0.wrapping_sub(expected);
        if missing < 1 << 31 {
            feed.leave_out(event.cpu, missing);
        }
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
                frames => return Ok(Received::Frames(frames)),
            }
        }
    }

    fn drops(&mut self) -> Result<Option<u64>, ReplayError> {
        self.listen()?.drops().map_err(ReplayError::Socket)
    }
}
