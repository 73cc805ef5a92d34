//! Whether two captures hold the same events and losses, and where they first differ.
//!
//! Compared are EVENT, LOSS and BLIND records, in the order of the capture, or each CPU's own ones in theirs. All else
//! (details, usage, scans, clocks, fences, marks, totals) is somebody's knowledge of them, and passed over.
//!
//! Records are pushed in pieces of any size, from whichever capture [`Diff::next_side`]. What has no counterpart yet is held, up to
//! [`MAX_HELD`] records.

mod queue;
mod record;

use pmon_core::Cpu;
use pmon_core::accounting::MAX_CPUS;
use pmon_core::capture::{Record, RecordedDatagram};
use pmon_core::wire::ByteOrder;

use queue::{Met, Stream};
pub use record::{ComparedRecord, LossInterval};
use record::{Piece, Rules};

/// Records that one capture may be ahead of the other, over all streams: more than any block holds, so that captures
/// that are read by turns, in one order, never come to it.
pub const MAX_HELD: usize = 1 << 18;
/// Bytes of unusual datagrams and of losses among them, beside the records themselves.
pub const MAX_HELD_BYTES: usize = 16 << 20;
/// Memory is kept for so many times [`MAX_HELD`] records. Three, because queues double: then giving back what is over
/// costs less, in the long run, than the records that made it grow.
const ROOM: usize = 3;

/// One of the two captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What counts as the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// Each CPU's records are compared in their own order, whatever comes between.
    pub by_cpu: bool,
    /// Numbers of events may differ: events are compared by time, CPU, kind and content, losses by CPU and count.
    pub renumbered: bool,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffCounts {
    /// Datagrams.
    pub events: u64,
    /// Stretches of lost events: losses that follow one another are one.
    pub losses: u64,
    /// Events in them.
    pub lost: u64,
    /// Times in which nothing was heard.
    pub blind: u64,
}

impl DiffCounts {
    fn add(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Frame(_) => self.events += 1,
            Piece::Loss(stretch) => {
                self.losses += 1;
                self.lost = self.lost.saturating_add(stretch.count);
            }
            Piece::Blind(_) => self.blind += 1,
        }
    }
}

/// What is compared in an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffStream {
    /// All there is.
    All,
    /// Events and losses of one CPU.
    Cpu(Cpu),
    /// Datagrams without an event that can be read, or of a CPU that cannot be.
    Strange,
    /// Times in which nothing was heard.
    Blind,
}

/// Where two captures differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where this is.
    pub lane: DiffStream,
    /// How much of that lane was the same before.
    pub before: DiffCounts,
    /// What the first capture has there; `None` if nothing more.
    pub a: Option<ComparedRecord>,
    /// What the second has.
    pub b: Option<ComparedRecord>,
}

/// One capture is too far ahead of the other to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFarApart {
    /// The lane with the most records that wait.
    pub lane: DiffStream,
    /// Which capture has them.
    pub ahead: Side,
    /// How many they are,
    pub held: u64,
    /// and in all lanes.
    pub held_in_all: u64,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffOutcome {
    /// They are the same.
    Identical,
    /// They are not, and this is where.
    Different(Box<Difference>),
    /// It cannot be told.
    TooFarApart(TooFarApart),
}

/// Losses that are the same but for their causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseDifferences {
    /// How many.
    pub losses: u64,
    /// The first of them, as the one capture has it and as the other does.
    pub first: (LossInterval, LossInterval),
}

/// Compares two captures. Push records until [`Diff::next_side`] neither, end both, and [`Diff::finish`].
#[derive(Debug)]
pub struct Diff {
    options: DiffOptions,
    rules: Rules,
    lanes: Vec<Stream>,
    ended: [bool; 2],
    totals: [DiffCounts; 2],
    equal: DiffCounts,
    causes: Option<CauseDifferences>,
    /// Records taken, of each side: losses that are one count once.
    taken: [u64; 2],
    held: usize,
    held_bytes: usize,
    most_held: usize,
    /// For how many records there is memory, over all streams.
    room: usize,
    outcome: Option<DiffOutcome>,
}

/// Lanes before those of the CPUs.
const STRANGE: usize = 0;
const BLIND: usize = 1;
const CPUS: usize = 2;

impl Diff {
    /// A comparison of captures whose datagrams are in these orders.
    pub fn new(options: DiffOptions, orders: [ByteOrder; 2]) -> Self {
        Self {
            options,
            rules: Rules { renumbered: options.renumbered, orders },
            lanes: (0..CPUS).map(|_| Stream::default()).collect(),
            ended: [false; 2],
            totals: [DiffCounts::default(); 2],
            equal: DiffCounts::default(),
            causes: None,
            taken: [0; 2],
            held: 0,
            held_bytes: 0,
            most_held: MAX_HELD,
            room: 0,
            outcome: None,
        }
    }

    /// Which capture to read on: the one that is behind. `None` when both have ended.
    pub fn next_side(&self) -> Option<Side> {
        match self.ended {
            [true, true] => None,
            [true, false] => Some(Side::B),
            [false, true] => Some(Side::A),
            [false, false] if self.taken[0] <= self.taken[1] => Some(Side::A),
            [false, false] => Some(Side::B),
        }
    }

    /// Whether it has seen a difference, or gave up. What is pushed from then on is counted only.
    pub fn is_decided(&self) -> bool {
        self.outcome.is_some()
    }

    /// Takes the next record of a capture.
    #[inline]
    pub fn push(&mut self, side: Side, record: &Record<'_>) {
        match record {
            Record::Event(frame, _) => {
                let lane = self.lane_of(frame, side);
                self.take(lane, side, Piece::Frame(*frame));
            }
            Record::Loss(loss) => {
                let lane = if self.options.by_cpu { self.lane_of_cpu(loss.cpu) } else { STRANGE };
                if let Some(whole) = self.lanes[lane].join(side, loss) {
                    self.meet(lane, side, Piece::Loss(&whole));
                }
            }
            Record::Blind(blind) => {
                let lane = if self.options.by_cpu { BLIND } else { STRANGE };
                self.take(lane, side, Piece::Blind(*blind));
            }
            _ => {}
        }
    }

    /// A capture has no more records.
    pub fn end(&mut self, side: Side) {
        for lane in 0..self.lanes.len() {
            if let Some(whole) = self.lanes[lane].whole_loss(side) {
                self.meet(lane, side, Piece::Loss(&whole));
            }
        }
        self.ended[side as usize] = true;
        if self.outcome.is_none() {
            // The earliest of what the other one has already, and this one never will.
            let left = self.lanes.iter().enumerate();
            let left = left.filter_map(|(lane, stream)| Some((stream.oldest(side.other())?, lane)));
            if let Some((_, lane)) = left.min() {
                let more = self.lanes[lane].pop();
                self.differ(lane, side.other(), more, None);
            }
        }
    }

    /// What was found, once both have ended.
    pub fn finish(mut self) -> DiffReport {
        for side in [Side::A, Side::B] {
            if !self.ended[side as usize] {
                self.end(side);
            }
        }
        let outcome = self.outcome.unwrap_or(DiffOutcome::Identical);
        DiffReport { outcome, totals: self.totals, equal: self.equal, causes: self.causes }
    }

    #[inline]
    fn take(&mut self, lane: usize, side: Side, piece: Piece<'_>) {
        if let Some(whole) = self.lanes[lane].whole_loss(side) {
            self.meet(lane, side, Piece::Loss(&whole));
        }
        self.meet(lane, side, piece);
    }

    /// Compares a record with its counterpart, or lets it wait for it.
    #[inline]
    fn meet(&mut self, lane: usize, side: Side, piece: Piece<'_>) {
        self.totals[side as usize].add(&piece);
        self.taken[side as usize] += 1;
        if self.outcome.is_some() {
            return;
        }
        let stream = &mut self.lanes[lane];
        match stream.meet(side, &piece, self.rules) {
            Met::Same { bytes } => {
                self.held -= 1;
                self.held_bytes -= bytes;
                stream.equal.add(&piece);
                self.equal.add(&piece);
            }
            Met::SameLoss(theirs) => {
                self.held -= 1;
                self.held_bytes -= piece.bytes();
                stream.equal.add(&piece);
                self.equal.add(&piece);
                if let Piece::Loss(ours) = piece {
                    self.compare_causes(side, ours, &theirs);
                }
            }
            Met::Different(theirs) => self.differ(lane, side, Some(piece.to_item()), Some(theirs)),
            Met::Alone if self.ended[side.other() as usize] => {
                self.differ(lane, side, Some(piece.to_item()), None);
            }
            Met::Alone => {
                self.room += stream.hold(side, piece.to_item());
                self.held += 1;
                self.held_bytes += piece.bytes();
                if self.held > self.most_held || self.held_bytes > MAX_HELD_BYTES {
                    self.give_up();
                } else if self.room > ROOM * self.most_held {
                    self.give_back();
                }
            }
        }
    }

    #[cold]
    fn compare_causes(&mut self, side: Side, ours: &LossInterval, theirs: &LossInterval) {
        if ours.causes == theirs.causes {
            return;
        }
        let first = if side == Side::A { (*ours, *theirs) } else { (*theirs, *ours) };
        self.causes.get_or_insert(CauseDifferences { losses: 0, first }).losses += 1;
    }

    #[cold]
    fn differ(
        &mut self,
        lane: usize,
        side: Side,
        ours: Option<ComparedRecord>,
        theirs: Option<ComparedRecord>,
    ) {
        let before = self.lanes[lane].equal;
        let (a, b) = if side == Side::A { (ours, theirs) } else { (theirs, ours) };
        let lane = self.lane(lane);
        self.decide(DiffOutcome::Different(Box::new(Difference { lane, before, a, b })));
    }

    #[cold]
    fn give_up(&mut self) {
        let most = self.lanes.iter().enumerate().max_by_key(|(_, stream)| stream.held());
        if let Some((lane, stream)) = most {
            let (ahead, held) = (stream.holder(), stream.held() as u64);
            let (lane, held_in_all) = (self.lane(lane), self.held as u64);
            self.decide(DiffOutcome::TooFarApart(TooFarApart { lane, ahead, held, held_in_all }));
        }
    }

    /// Frees the memory of what no longer waits: else each CPU that was behind once would keep its own.
    #[cold]
    fn give_back(&mut self) {
        self.lanes.iter_mut().for_each(Stream::shrink);
        self.room = self.lanes.iter().map(Stream::room).sum();
    }

    /// From now on nothing waits.
    fn decide(&mut self, outcome: DiffOutcome) {
        self.outcome = Some(outcome);
        self.lanes.iter_mut().for_each(Stream::forget);
        (self.held, self.held_bytes, self.room) = (0, 0, 0);
    }

    #[inline]
    fn lane_of(&mut self, frame: &RecordedDatagram<'_>, side: Side) -> usize {
        if !self.options.by_cpu {
            return STRANGE;
        }
        match frame {
            RecordedDatagram::Event(event) => self.lane_of_cpu(event.cpu),
            frame => match frame.event(self.rules.orders[side as usize]) {
                Some(event) => self.lane_of_cpu(event.cpu),
                None => STRANGE,
            },
        }
    }

    #[inline]
    fn lane_of_cpu(&mut self, cpu: Cpu) -> usize {
        if cpu.0 >= MAX_CPUS {
            return STRANGE;
        }
        let lane = CPUS + cpu.0 as usize;
        if lane >= self.lanes.len() {
            self.lanes.resize_with(lane + 1, Stream::default);
        }
        lane
    }

    fn lane(&self, lane: usize) -> DiffStream {
        match lane {
            _ if !self.options.by_cpu => DiffStream::All,
            STRANGE => DiffStream::Strange,
            BLIND => DiffStream::Blind,
            lane => DiffStream::Cpu(Cpu((lane - CPUS) as u32)),
        }
    }
}

/// What a whole comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffReport {
    /// Whether they are the same.
    pub outcome: DiffOutcome,
    /// All there is in each.
    pub totals: [DiffCounts; 2],
    /// What was the same until the difference.
    pub equal: DiffCounts,
    /// Losses so far that are the same but for their causes.
    pub causes: Option<CauseDifferences>,
}

#[cfg(test)]
mod tests;
