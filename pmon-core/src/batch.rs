//! Preallocated memory for many datagrams, filled by a source and handed on whole.

/// Bytes kept of one datagram. A process event takes 76; a longer datagram is truncated and marked.
pub const SLOT: usize = 128;

/// What is known of a datagram besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Its length as sent, in bytes; more than [`SLOT`] if truncated.
    pub len: usize,
    /// The sender's netlink port (`sockaddr_nl.nl_pid`): 0 is the kernel, anything else is user space.
    pub sender: u32,
}

/// One datagram of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The bytes that were kept: the whole datagram unless [`Frame::is_truncated`].
    pub bytes: &'a [u8],
    /// Its length as sent, and its sender.
    pub arrival: Arrival,
}

impl Frame<'_> {
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
}

impl Batch {
    /// An empty batch with room for `frames` datagrams.
    pub fn with_capacity(frames: usize) -> Self {
        Self { slots: vec![0; frames * SLOT].into(), arrivals: Vec::with_capacity(frames) }
    }

    /// How many datagrams it can hold.
    pub fn capacity(&self) -> usize {
        self.slots.len() / SLOT
    }

    /// How many datagrams it holds.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Forgets the datagrams, keeps the memory.
    pub fn clear(&mut self) {
        self.arrivals.clear();
    }

    /// The free slots, [`SLOT`] bytes each, for a source that writes into them itself and then calls
    /// [`Batch::commit`] once for each that it filled, in order.
    pub fn free_slots(&mut self) -> std::slice::ChunksExactMut<'_, u8> {
        self.slots[self.arrivals.len() * SLOT..].chunks_exact_mut(SLOT)
    }

    /// Counts the next free slot as filled. Without a free slot, nothing happens.
    pub fn commit(&mut self, arrival: Arrival) {
        if !self.is_full() {
            self.arrivals.push(arrival);
        }
    }

    /// Appends a copy of `datagram`, cut to [`SLOT`] bytes; `false` if there is no room.
    pub fn push(&mut self, datagram: &[u8], sender: u32) -> bool {
        let Some(slot) = self.free_slots().next() else { return false };
        let kept = datagram.len().min(SLOT);
        slot[..kept].copy_from_slice(&datagram[..kept]);
        self.commit(Arrival { len: datagram.len(), sender });
        true
    }

    /// The datagrams, oldest first.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame<'_>> {
        self.slots
            .chunks_exact(SLOT)
            .zip(&self.arrivals)
            .map(|(slot, &arrival)| Frame { bytes: &slot[..arrival.len.min(SLOT)], arrival })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_back_as_pushed_until_the_batch_is_full() {
        let mut batch = Batch::with_capacity(2);
        assert!(batch.push(b"one", 0));
        assert!(batch.push(&[7; SLOT + 1], 42));
        assert!(!batch.push(b"three", 0));
        let frames: Vec<_> = batch.frames().collect();
        assert_eq!(frames[0].bytes, b"one");
        assert!(!frames[0].is_truncated());
        assert_eq!(frames[1].bytes.len(), SLOT);
        assert!(frames[1].is_truncated());
        assert_eq!(frames[1].arrival, Arrival { len: SLOT + 1, sender: 42 });
        batch.clear();
        assert!(batch.is_empty() && batch.push(b"again", 0));
    }
}
