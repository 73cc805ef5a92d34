//! Preallocated memory for many datagrams, filled by a source and handed on whole.

/// Bytes kept of one datagram. A process event takes 76; a longer datagram is truncated and marked.
pub const SLOT_LEN: usize = 128;

/// What is known of a datagram besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Its length as sent, in bytes; more than [`SLOT_LEN`] if truncated.
    pub len: usize,
    /// The sender's netlink port (`sockaddr_nl.nl_pid`): 0 is the kernel, anything else is user space.
    pub sender: u32,
}

/// One datagram of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The bytes that were kept: the whole datagram unless [`Datagram::is_truncated`].
    pub bytes: &'a [u8],
    /// Its length as sent, and its sender.
    pub arrival: Arrival,
    /// What the source knows besides, in a form of its own; mostly nothing.
    pub metadata: &'a [u8],
}

impl Datagram<'_> {
    /// Whether bytes are missing at the end.
    pub fn is_truncated(&self) -> bool {
        self.arrival.len > self.bytes.len()
    }
}

/// Datagrams in the order of their arrival. Its memory is allocated once, by [`Batch::with_capacity`].
#[derive(Debug)]
pub struct Batch {
    slots: Box<[u8]>,
    arrivals: Vec<Arrival>,
    /// The annexes, and where that of each datagram ends.
    annexes: Vec<u8>,
    ends: Vec<usize>,
    largest_annex: usize,
}

impl Batch {
    /// An empty batch with room for `frames` datagrams.
    pub fn with_capacity(frames: usize) -> Self {
        Self::with_metadata(frames, 0, 0)
    }

    /// An empty batch that has room for `frames` datagrams and `bytes` of annexes, of which one is of `largest` bytes at the most.
    pub fn with_metadata(frames: usize, bytes: usize, largest: usize) -> Self {
        Self {
            slots: vec![0; frames * SLOT_LEN].into(),
            arrivals: Vec::with_capacity(frames),
            annexes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(frames),
            largest_annex: largest,
        }
    }

    /// How many datagrams it can hold.
    pub fn capacity(&self) -> usize {
        self.slots.len() / SLOT_LEN
    }

    /// How many datagrams it holds.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Whether there is no room left for a datagram with any annex.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity() || self.annexes.capacity() - self.annexes.len() < self.largest_annex
    }

    /// Forgets the datagrams, keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Forgets the datagrams from number `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.arrivals.truncate(len);
        self.ends.truncate(len);
        self.annexes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// The free slots, [`SLOT_LEN`] bytes each, for a source that writes into them itself and then calls
    /// [`Batch::commit`] once for each that it filled, in order.
    pub fn free_slots(&mut self) -> std::slice::ChunksExactMut<'_, u8> {
        self.slots[self.arrivals.len() * SLOT_LEN..].chunks_exact_mut(SLOT_LEN)
    }

    /// Counts the next free slot as filled. Without a free slot, nothing happens.
    pub fn commit(&mut self, arrival: Arrival) {
        if self.len() < self.capacity() {
            self.arrivals.push(arrival);
            self.ends.push(self.annexes.len());
        }
    }

    /// Appends a copy of `datagram`, cut to [`SLOT_LEN`] bytes; `false` if there is no room.
    pub fn push(&mut self, datagram: &[u8], sender: u32) -> bool {
        self.push_with_metadata(datagram, Arrival { len: datagram.len(), sender }, &[])
    }

    /// The same of a datagram that arrived as `arrival` says, with an annex that is the `parts` end to end; `false` also if there is
    /// no room for that.
    #[inline]
    pub fn push_with_metadata(&mut self, datagram: &[u8], arrival: Arrival, parts: &[&[u8]]) -> bool {
        let metadata: usize = parts.iter().map(|part| part.len()).sum();
        if metadata > self.annexes.capacity() - self.annexes.len() {
            return false;
        }
        let Some(slot) = self.free_slots().next() else { return false };
        let kept = datagram.len().min(SLOT_LEN);
        slot[..kept].copy_from_slice(&datagram[..kept]);
        parts.iter().for_each(|part| self.annexes.extend_from_slice(part));
        self.commit(arrival);
        true
    }

    /// The datagrams, oldest first.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.datagrams_from(0)
    }

    /// The datagrams from number `first` on.
    pub fn datagrams_from(&self, first: usize) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        let first = first.min(self.len());
        let mut start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        let slots = self.slots[first * SLOT_LEN..].chunks_exact(SLOT_LEN);
        slots.zip(&self.arrivals[first..]).zip(&self.ends[first..]).map(move |((slot, &arrival), &end)| {
            let metadata = &self.annexes[std::mem::replace(&mut start, end)..end];
            Datagram { bytes: &slot[..arrival.len.min(SLOT_LEN)], arrival, metadata }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_back_as_pushed_until_the_batch_is_full() {
        let mut batch = Batch::with_capacity(2);
        assert!(batch.push(b"one", 0));
        assert!(batch.push(&[7; SLOT_LEN + 1], 42));
        assert!(!batch.push(b"three", 0));
        let frames: Vec<_> = batch.datagrams().collect();
        assert_eq!(frames[0].bytes, b"one");
        assert!(!frames[0].is_truncated());
        assert_eq!(frames[1].bytes.len(), SLOT_LEN);
        assert!(frames[1].is_truncated());
        assert_eq!(frames[1].arrival, Arrival { len: SLOT_LEN + 1, sender: 42 });
        batch.clear();
        assert!(batch.is_empty() && batch.push(b"again", 0));
    }

    #[test]
    fn annexes_stay_with_their_datagrams_and_are_taken_only_as_long_as_any_fits() {
        let mut batch = Batch::with_metadata(8, 10, 4);
        let arrival = Arrival { len: 3, sender: 0 };
        assert!(batch.push_with_metadata(b"one", arrival, &[b"an", b"nex"]));
        assert!(batch.push(b"two", 0));
        assert!(!batch.is_full() && !batch.push_with_metadata(b"too long", arrival, &[b"annexe"]));
        assert!(batch.push_with_metadata(b"six", arrival, &[b"ab"]));
        assert!(batch.is_full());
        let annexes =
            |batch: &Batch| batch.datagrams().map(|frame| frame.metadata.to_vec()).collect::<Vec<_>>();
        assert_eq!(annexes(&batch), [&b"annex"[..], b"", b"ab"]);
        assert_eq!(
            batch.datagrams_from(2).map(|frame| (frame.bytes, frame.metadata)).collect::<Vec<_>>(),
            [(&b"six"[..], &b"ab"[..])]
        );
        assert_eq!((batch.datagrams_from(3).len(), batch.datagrams_from(9).len()), (0, 0));
        batch.truncate(2);
        assert!(!batch.is_full() && batch.push_with_metadata(b"six", arrival, &[b"cd"]));
        assert_eq!(annexes(&batch), [&b"annex"[..], b"", b"cd"]);
    }
}
