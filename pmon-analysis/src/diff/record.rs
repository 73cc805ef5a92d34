//! What is compared, and when it is the same.

use pmon_core::accounting::LossByCause;
use pmon_core::capture::{Blind, Loss, RecordedDatagram};
use pmon_core::wire::{ByteOrder, Event, layout};
use pmon_core::{Cpu, MonoNs, Seq};

use super::Side;

/// Consecutive lost events of one CPU, of whatever causes: one loss, or several that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossInterval {
    /// The CPU that emitted them.
    pub cpu: Cpu,
    /// The first number lost.
    pub first: Seq,
    /// The last number lost.
    pub last: Seq,
    /// How many.
    pub count: u64,
    /// The time of that CPU's event before.
    pub after: MonoNs,
    /// The time of that CPU's event behind.
    pub before: MonoNs,
    /// Why: so many for each cause.
    pub causes: LossByCause,
}

impl LossInterval {
    pub(super) fn new(loss: &Loss) -> Self {
        let Loss { cpu, first, last, after, before, cause } = *loss;
        let (count, mut causes) = (loss.count(), LossByCause::default());
        causes.add(cause, count);
        Self { cpu, first, last, count, after, before, causes }
    }

    /// Takes the loss in if it follows, between the same two events.
    pub(super) fn extend(&mut self, loss: &Loss) -> bool {
        let between = (loss.cpu, loss.after, loss.before) == (self.cpu, self.after, self.before);
        if !between || loss.first != self.last.next() {
            return false;
        }
        self.last = loss.last;
        self.count = self.count.saturating_add(loss.count());
        self.causes.add(loss.cause, loss.count());
        true
    }

    fn is_same_loss(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.cpu, it.first, it.last, it.count, it.after, it.before);
        key(self) == key(other)
    }
}

/// A record that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComparedRecord {
    /// A datagram: one event in its usual form.
    Event(Event),
    /// Any other datagram.
    Raw(Box<[u8]>),
    /// Lost events.
    Loss(Box<LossInterval>),
    /// A time in which nothing was heard.
    Blind(Blind),
}

/// The same, borrowed.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    Frame(RecordedDatagram<'a>),
    Loss(&'a LossInterval),
    Blind(Blind),
}

impl ComparedRecord {
    #[inline]
    pub(super) fn piece(&self) -> Piece<'_> {
        match self {
            Self::Event(event) => Piece::Frame(RecordedDatagram::Event(*event)),
            Self::Raw(bytes) => Piece::Frame(RecordedDatagram::Raw(bytes)),
            Self::Loss(stretch) => Piece::Loss(stretch),
            Self::Blind(blind) => Piece::Blind(*blind),
        }
    }

    /// When it was: 0 of a datagram that is not in its usual form.
    pub(super) fn time(&self) -> MonoNs {
        match self {
            Self::Event(event) => event.time,
            Self::Raw(_) => MonoNs(0),
            Self::Loss(stretch) => stretch.after,
            Self::Blind(blind) => blind.from,
        }
    }
}

impl Piece<'_> {
    #[inline]
    pub(super) fn to_item(self) -> ComparedRecord {
        match self {
            Self::Frame(RecordedDatagram::Event(event)) => ComparedRecord::Event(event),
            Self::Frame(RecordedDatagram::Raw(bytes)) => ComparedRecord::Raw(bytes.into()),
            Self::Loss(stretch) => ComparedRecord::Loss(Box::new(*stretch)),
            Self::Blind(blind) => ComparedRecord::Blind(blind),
        }
    }

    /// Bytes that it takes beside its [`ComparedRecord`].
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Frame(RecordedDatagram::Raw(bytes)) => bytes.len(),
            Self::Loss(_) => size_of::<LossInterval>(),
            Self::Frame(RecordedDatagram::Event(_)) | Self::Blind(_) => 0,
        }
    }
}

/// When two are the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) renumbered: bool,
    pub(super) orders: [ByteOrder; 2],
}

impl Rules {
    /// Whether a record of that side is the same as one of the other.
    #[inline]
    pub(super) fn same(self, side: Side, ours: &Piece<'_>, theirs: &Piece<'_>) -> bool {
        match (ours, theirs) {
            (Piece::Frame(RecordedDatagram::Event(ours)), Piece::Frame(RecordedDatagram::Event(theirs))) => {
                let alike = (ours.time, ours.cpu) == (theirs.time, theirs.cpu) && ours.body == theirs.body;
                // In one byte order, equal fields are equal bytes.
                alike && (self.renumbered || ours.seq == theirs.seq && self.orders[0] == self.orders[1])
            }
            (Piece::Frame(ours), Piece::Frame(theirs)) => self.same_bytes(side, ours, theirs),
            (Piece::Loss(ours), Piece::Loss(theirs)) if self.renumbered => {
                (ours.cpu, ours.count) == (theirs.cpu, theirs.count)
            }
            (Piece::Loss(ours), Piece::Loss(theirs)) => ours.is_same_loss(theirs),
            (Piece::Blind(ours), Piece::Blind(theirs)) => ours == theirs,
            _ => false,
        }
    }

    #[cold]
    fn same_bytes(self, side: Side, ours: &RecordedDatagram<'_>, theirs: &RecordedDatagram<'_>) -> bool {
        let [our_order, their_order] = [side, side.other()].map(|side| self.orders[side as usize]);
        ours.with_bytes(our_order, |ours| {
            theirs.with_bytes(their_order, |theirs| match self.renumbered {
                true => without_numbers(ours, our_order) == without_numbers(theirs, their_order),
                false => ours == theirs,
            })
        })
    }
}

/// A datagram with zeros for the numbers of its messages: `nlmsghdr.nlmsg_seq` and `cn_msg.seq`.
fn without_numbers(datagram: &[u8], order: ByteOrder) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    let mut at = 0;
    while let Some(&[a, b, c, d]) = bytes.get(at..at + 4) {
        let len = match order {
            ByteOrder::Little => u32::from_le_bytes([a, b, c, d]),
            ByteOrder::Big => u32::from_be_bytes([a, b, c, d]),
        } as usize;
        let message = &mut bytes[at..];
        let message_len = len.min(message.len());
        for number in [layout::NLMSG_SEQ, layout::CN_SEQ] {
            if let Some(number) = message[..message_len].get_mut(number) {
                number.fill(0);
            }
        }
        // Messages are aligned to 4 bytes; one shorter than its length field is none.
        match len.checked_next_multiple_of(4) {
            Some(len @ 4..) => at = at.saturating_add(len).min(bytes.len()),
            _ => break,
        }
    }
    bytes
}
