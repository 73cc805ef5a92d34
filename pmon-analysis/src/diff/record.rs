//! The records that a comparison looks at, and when two of them are equal.

use pmon_core::accounting::LossByCause;
use pmon_core::capture::{Blind, Loss, RecordedDatagram};
use pmon_core::wire::{ByteOrder, Event, layout};
use pmon_core::{Cpu, MonoNs, Seq};

/// One of the two captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first capture.
    A,
    /// The second capture.
    B,
}

impl Side {
    /// Returns the other capture.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Consecutive lost events of one CPU: one loss record, or several adjacent ones with any causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossInterval {
    /// CPU that emitted the events.
    pub cpu: Cpu,
    /// First lost sequence number.
    pub first: Seq,
    /// Last lost sequence number.
    pub last: Seq,
    /// Number of lost events.
    pub count: u64,
    /// Time of the CPU's last event before the loss.
    pub after: MonoNs,
    /// Time of the CPU's first event after the loss.
    pub before: MonoNs,
    /// Number of lost events for each cause.
    pub causes: LossByCause,
}

impl LossInterval {
    pub(super) fn new(loss: &Loss) -> Self {
        let Loss { cpu, first, last, after, before, cause } = *loss;
        let (count, mut causes) = (loss.count(), LossByCause::default());
        causes.add(cause, count);
        Self { cpu, first, last, count, after, before, causes }
    }

    /// Adds a loss if it directly follows, between the same two events. Returns whether it does.
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

    /// Returns whether two intervals are equal except for their causes.
    fn is_same_loss(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.cpu, it.first, it.last, it.count, it.after, it.before);
        key(self) == key(other)
    }
}

/// A record that a comparison looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComparedRecord {
    /// A datagram that holds one event in its usual form.
    Event(Event),
    /// Any other datagram.
    Raw(Box<[u8]>),
    /// Lost events.
    Loss(Box<LossInterval>),
    /// A time span in which the kernel did not emit all events.
    Blind(Blind),
}

/// A borrowed [`ComparedRecord`].
#[derive(Clone, Copy)]
pub(super) enum ComparedRef<'a> {
    Datagram(RecordedDatagram<'a>),
    Loss(&'a LossInterval),
    Blind(Blind),
}

impl ComparedRecord {
    #[inline]
    pub(super) fn as_compared(&self) -> ComparedRef<'_> {
        match self {
            Self::Event(event) => ComparedRef::Datagram(RecordedDatagram::Event(*event)),
            Self::Raw(bytes) => ComparedRef::Datagram(RecordedDatagram::Raw(bytes)),
            Self::Loss(interval) => ComparedRef::Loss(interval),
            Self::Blind(blind) => ComparedRef::Blind(*blind),
        }
    }

    /// Returns the time of the record, or 0 for a datagram in an unusual form.
    pub(super) fn time(&self) -> MonoNs {
        match self {
            Self::Event(event) => event.time,
            Self::Raw(_) => MonoNs(0),
            Self::Loss(interval) => interval.after,
            Self::Blind(blind) => blind.from,
        }
    }
}

impl ComparedRef<'_> {
    #[inline]
    pub(super) fn to_record(self) -> ComparedRecord {
        match self {
            Self::Datagram(RecordedDatagram::Event(event)) => ComparedRecord::Event(event),
            Self::Datagram(RecordedDatagram::Raw(bytes)) => ComparedRecord::Raw(bytes.into()),
            Self::Loss(interval) => ComparedRecord::Loss(Box::new(*interval)),
            Self::Blind(blind) => ComparedRecord::Blind(blind),
        }
    }

    /// Returns the heap memory of the owned record, in bytes.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Datagram(RecordedDatagram::Raw(bytes)) => bytes.len(),
            Self::Loss(_) => size_of::<LossInterval>(),
            Self::Datagram(RecordedDatagram::Event(_)) | Self::Blind(_) => 0,
        }
    }
}

/// When two records are equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct EqualityRules {
    /// Whether to ignore sequence numbers.
    pub(super) renumbered: bool,
    /// Byte orders of the datagrams in the two captures.
    pub(super) orders: [ByteOrder; 2],
}

impl EqualityRules {
    /// Returns whether a record of `side` equals one of the other side.
    #[inline]
    pub(super) fn are_equal(self, side: Side, ours: &ComparedRef<'_>, theirs: &ComparedRef<'_>) -> bool {
        use ComparedRef::{Blind, Datagram, Loss};
        match (ours, theirs) {
            (Datagram(RecordedDatagram::Event(ours)), Datagram(RecordedDatagram::Event(theirs))) => {
                let alike = (ours.time, ours.cpu) == (theirs.time, theirs.cpu) && ours.body == theirs.body;
                // If the byte orders are the same, equal fields mean equal bytes.
                alike && (self.renumbered || ours.seq == theirs.seq && self.orders[0] == self.orders[1])
            }
            (Datagram(ours), Datagram(theirs)) => self.have_equal_bytes(side, ours, theirs),
            (Loss(ours), Loss(theirs)) if self.renumbered => {
                (ours.cpu, ours.count) == (theirs.cpu, theirs.count)
            }
            (Loss(ours), Loss(theirs)) => ours.is_same_loss(theirs),
            (Blind(ours), Blind(theirs)) => ours == theirs,
            _ => false,
        }
    }

    #[cold]
    fn have_equal_bytes(
        self,
        side: Side,
        ours: &RecordedDatagram<'_>,
        theirs: &RecordedDatagram<'_>,
    ) -> bool {
        let [our_order, their_order] = [side, side.other()].map(|side| self.orders[side as usize]);
        ours.with_bytes(our_order, |ours| {
            theirs.with_bytes(their_order, |theirs| match self.renumbered {
                true => without_numbers(ours, our_order) == without_numbers(theirs, their_order),
                false => ours == theirs,
            })
        })
    }
}

/// Copies a datagram, with zeros for the sequence numbers of its messages: `nlmsghdr.nlmsg_seq` and
/// `cn_msg.seq`.
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
        // Messages are aligned to 4 bytes. A message shorter than its length field is invalid.
        match len.checked_next_multiple_of(4) {
            Some(len @ 4..) => at = at.saturating_add(len).min(bytes.len()),
            _ => break,
        }
    }
    bytes
}
