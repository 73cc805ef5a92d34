//! Recorded datagrams.

use crate::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event, Message, messages};

/// A datagram as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedDatagram<'a> {
    /// One event in the usual form, whose bytes [`Event::encode`] reproduces.
    Event(Event),
    /// The bytes of any other datagram, for example of an unknown kind or of an old kernel's
    /// shorter form.
    Raw(&'a [u8]),
}

impl<'a> RecordedDatagram<'a> {
    /// Classifies a datagram.
    #[inline]
    pub fn new(datagram: &'a [u8], order: ByteOrder) -> Self {
        Event::from_exact(datagram, order).map_or(Self::Raw(datagram), Self::Event)
    }

    /// Returns the datagram's first event; `None` if it cannot be decoded.
    #[inline]
    pub fn event(&self, order: ByteOrder) -> Option<Event> {
        match self {
            Self::Event(event) => Some(*event),
            Self::Raw(bytes) => Event::decode(bytes, order).ok(),
        }
    }

    /// Calls `consume` with the datagram's first event; returns `None` if it cannot be decoded.
    ///
    /// This copies no event. A copy right after the event's fields were stored one by one would
    /// stall the processor.
    #[inline]
    pub fn with_event<R>(&self, order: ByteOrder, consume: impl FnOnce(&Event) -> R) -> Option<R> {
        match self {
            Self::Event(event) => Some(consume(event)),
            Self::Raw(bytes) => Event::decode(bytes, order).ok().map(|event| consume(&event)),
        }
    }

    /// Returns whether the datagram contains no event that can be decoded, or bytes that are not a
    /// valid message.
    pub fn is_malformed(&self, order: ByteOrder) -> bool {
        let Self::Raw(bytes) = self else { return false };
        let mut events = 0;
        for message in messages(bytes, order) {
            match message {
                Ok(Message::Event(_)) => events += 1,
                Ok(_) => {}
                Err(_) => return true,
            }
        }
        events == 0
    }

    /// Calls `consume` with the datagram's bytes. Allocates nothing.
    #[inline]
    pub fn with_bytes<R>(&self, order: ByteOrder, consume: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Event(event) => consume(&event.encode(order).unwrap_or([0; EVENT_DATAGRAM_LEN])),
            Self::Raw(bytes) => consume(bytes),
        }
    }
}
