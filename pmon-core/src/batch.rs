//! Preallocated memory for many datagrams, which a source fills and a consumer reads.

/// Maximum bytes kept of one datagram. A process event takes 76; longer datagrams are truncated and
/// marked.
pub const SLOT_LEN: usize = 128;

/// Length and sender of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Length in bytes as sent; more than [`SLOT_LEN`] if the datagram was truncated.
    pub len: usize,
    /// Netlink port of the sender (`sockaddr_nl.nl_pid`): 0 is the kernel, other values are user
    /// space.
    pub sender: u32,
}

/// One datagram of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The kept bytes: the whole datagram unless [`Datagram::is_truncated`] returns `true`.
    pub bytes: &'a [u8],
    /// Length as sent, and sender.
    pub arrival: Arrival,
    /// Metadata in a format that the source defines; usually empty.
    pub metadata: &'a [u8],
}

impl Datagram<'_> {
    /// Returns whether bytes are missing at the end.
    pub fn is_truncated(&self) -> bool {
        self.arrival.len > self.bytes.len()
    }
}

/// Datagrams in the order of their arrival. All memory is allocated when the batch is created.
#[derive(Debug)]
pub struct Batch {
    slots: Box<[u8]>,
    arrivals: Vec<Arrival>,
    /// Metadata of all datagrams, end to end.
    metadata: Vec<u8>,
    /// End offset of each datagram's metadata.
    ends: Vec<usize>,
    /// Maximum bytes of metadata of one datagram.
    max_metadata: usize,
}

impl Batch {
    /// Creates an empty batch with room for `datagrams` datagrams without metadata.
    pub fn with_capacity(datagrams: usize) -> Self {
        Self::with_metadata(datagrams, 0, 0)
    }

    /// Creates an empty batch with room for `datagrams` datagrams and `metadata_bytes` bytes of
    /// metadata, of which one datagram has at most `max_metadata`.
    pub fn with_metadata(datagrams: usize, metadata_bytes: usize, max_metadata: usize) -> Self {
        Self {
            slots: vec![0; datagrams * SLOT_LEN].into(),
            arrivals: Vec::with_capacity(datagrams),
            metadata: Vec::with_capacity(metadata_bytes),
            ends: Vec::with_capacity(datagrams),
            max_metadata,
        }
    }

    /// Returns the maximum number of datagrams.
    pub fn capacity(&self) -> usize {
        self.slots.len() / SLOT_LEN
    }

    /// Returns the number of datagrams.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Returns whether the batch holds no datagram.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Returns whether there is no room for another datagram with metadata of any permitted length.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity() || self.metadata.capacity() - self.metadata.len() < self.max_metadata
    }

    /// Removes all datagrams and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Removes all datagrams after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.arrivals.truncate(len);
        self.ends.truncate(len);
        self.metadata.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Returns the free slots, [`SLOT_LEN`] bytes each. The caller writes datagrams into them and
    /// then calls [`Batch::commit`] for each, in order.
    pub fn free_slots(&mut self) -> std::slice::ChunksExactMut<'_, u8> {
        self.slots[self.arrivals.len() * SLOT_LEN..].chunks_exact_mut(SLOT_LEN)
    }

    /// Marks the next free slot as filled with a datagram. Does nothing if no slot is free.
    pub fn commit(&mut self, arrival: Arrival) {
        if self.len() < self.capacity() {
            self.arrivals.push(arrival);
            self.ends.push(self.metadata.len());
        }
    }

    /// Appends a copy of `datagram`, truncated to [`SLOT_LEN`] bytes. Returns `false` if there is
    /// no room.
    pub fn push(&mut self, datagram: &[u8], sender: u32) -> bool {
        self.push_with_metadata(datagram, Arrival { len: datagram.len(), sender }, &[])
    }

    /// Appends a copy of `datagram`, truncated to [`SLOT_LEN`] bytes, with the concatenated `parts`
    /// as its metadata. Returns `false` if there is no room for both.
    #[inline]
    pub fn push_with_metadata(&mut self, datagram: &[u8], arrival: Arrival, parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > self.metadata.capacity() - self.metadata.len() {
            return false;
        }
        let Some(slot) = self.free_slots().next() else { return false };
        let kept = datagram.len().min(SLOT_LEN);
        slot[..kept].copy_from_slice(&datagram[..kept]);
        parts.iter().for_each(|part| self.metadata.extend_from_slice(part));
        self.commit(arrival);
        true
    }

    /// Returns the datagrams, oldest first.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.datagrams_from(0)
    }

    /// Returns the datagrams from number `first` on.
    pub fn datagrams_from(&self, first: usize) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        let first = first.min(self.len());
        let mut start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        let slots = self.slots[first * SLOT_LEN..].chunks_exact(SLOT_LEN);
        slots.zip(&self.arrivals[first..]).zip(&self.ends[first..]).map(move |((slot, &arrival), &end)| {
            let metadata = &self.metadata[std::mem::replace(&mut start, end)..end];
            Datagram { bytes: &slot[..arrival.len.min(SLOT_LEN)], arrival, metadata }
        })
    }
}

#[cfg(test)]
mod tests;
