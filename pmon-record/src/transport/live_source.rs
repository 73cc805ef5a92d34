//! The source of live events: the netlink socket, with or without a ring.
//!
//! With a ring, the socket receives only events that spill because the ring is full.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use pmon_core::batch::Batch;
use pmon_core::capture::CpuCounts;
use pmon_core::source::{Received, Source};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::transport::merge::Merge;
use crate::transport::netlink::NetlinkSocket;
use crate::transport::ring::{Ring, RingCounter};

/// Number of datagrams that are read from the socket at once. Spilled events are rare.
const SPILL_BATCH: usize = 64;

/// Maximum time that spilled events wait for an unfinished entry of the ring.
///
/// A CPU finishes an entry within a microsecond, unless a hypervisor stops that CPU.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(1);

/// The netlink socket, and the ring if there is one, as one source of events.
pub(crate) struct LiveSource {
    socket: NetlinkSocket,
    ring: Option<MergedRing>,
}

/// A ring, and the state that merges its events with spilled ones.
struct MergedRing {
    ring: Ring,
    merge: Merge,
    /// Datagrams that were read from the socket.
    spilled: Batch,
    /// Maximum number of datagrams in the socket's queue at any moment.
    queue_capacity: usize,
    /// Whether the last call returned events and found both ring and socket empty after them.
    is_drained: bool,
    /// Whether the socket's queue was not empty since the socket's drops were counted. An empty
    /// queue drops nothing.
    has_spilled: bool,
    /// The socket's count of drops when it was last read.
    socket_drops: Option<u64>,
}

impl LiveSource {
    /// Creates a source from a socket with room for `capacity` events, and its ring.
    pub(crate) fn new(socket: NetlinkSocket, ring: Option<Ring>, capacity: u64) -> Self {
        let ring = ring.map(|ring| MergedRing {
            ring,
            merge: Merge::default(),
            spilled: Batch::with_capacity(SPILL_BATCH),
            queue_capacity: capacity as usize + SPILL_BATCH,
            is_drained: false,
            has_spilled: true,
            socket_drops: None,
        });
        Self { socket, ring }
    }

    /// Returns the socket.
    pub(crate) fn socket_mut(&mut self) -> &mut NetlinkSocket {
        &mut self.socket
    }

    /// Returns the descriptors that become readable when events arrive after
    /// [`LiveSource::may_sleep`] has returned `true`.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ring = self.ring.as_ref().map(|merged| merged.ring.as_fd());
        std::iter::once(self.socket.as_fd()).chain(ring)
    }

    /// Whether the caller may wait for the descriptors: there is no event to receive, and the next
    /// one will make a descriptor readable.
    pub(crate) fn may_sleep(&mut self) -> io::Result<bool> {
        let Some(merged) = &mut self.ring else { return Ok(true) };
        merged.ring.arm()?;
        merged.ring.is_empty()
    }

    /// Leaves the descriptors to the next recorder: the kernel continues to emit events into them.
    ///
    /// Call this function after the last reception. The BPF program then sends the paths of cgroups
    /// again.
    pub(crate) fn detach(&mut self) {
        self.socket.keep_listening();
        if let Some(merged) = &mut self.ring {
            merged.ring.request_cgroups();
        }
    }

    /// Whether the ring, if there is one, holds no entry, not even an unfinished one.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        self.ring.as_ref().map_or(Ok(true), |merged| merged.ring.is_empty())
    }

    /// Reads [`Source::drops`], including drops since the last reception.
    pub(crate) fn drops_now(&mut self) -> io::Result<Option<u64>> {
        if let Some(merged) = &mut self.ring {
            merged.has_spilled = true;
        }
        self.drops()
    }

    /// Resets the ring's counts, because the recording begins now.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.ring.as_mut().map_or(Ok(()), |merged| merged.ring.restart())
    }

    /// Marks the rest of the scope's tree; see [`Ring::complete_tree`].
    pub(crate) fn complete_tree(&mut self) -> io::Result<bool> {
        self.ring.as_mut().map_or(Ok(false), |merged| merged.ring.complete_tree())
    }

    /// Returns for each CPU the numbers of events that did not come by the ring since the recording
    /// began; `None` without a ring.
    pub(crate) fn ring_counts(&self) -> io::Result<Option<Vec<CpuCounts>>> {
        self.ring_counter().map(RingCounter::counts).transpose()
    }

    /// Returns the counter of these numbers; `None` without a ring.
    pub(crate) fn ring_counter(&self) -> Option<&RingCounter> {
        self.ring.as_ref().map(|merged| merged.ring.counter())
    }

    /// Waits until there is an event to receive, at most for `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.may_sleep()? {
            return Ok(());
        }
        let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
        let readable = |descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN);
        match poll(&mut self.descriptors().map(readable).collect::<Vec<_>>(), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl MergedRing {
    fn receive(&mut self, socket: &mut NetlinkSocket, batch: &mut Batch) -> io::Result<Received> {
        if std::mem::take(&mut self.is_drained) {
            // Events that have arrived since then are left for the next call.
            return Ok(Received::Empty);
        }
        let began = Instant::now();
        loop {
            let merged = self.merge.take(batch);
            if merged > 0 || batch.is_full() {
                return Ok(Received::Datagrams(merged));
            }
            let before = batch.len();
            while !batch.is_full() && self.ring.next(batch) {}
            // Events that spilled before these entered the ring are in the socket now.
            self.receive_spilled(socket)?;
            if self.merge.is_empty() {
                let received = batch.len() - before;
                self.is_drained = received > 0 && !batch.is_full();
                return Ok(if received == 0 { Received::Empty } else { Received::Datagrams(received) });
            }
            batch.datagrams_from(before).for_each(|datagram| self.merge.add_from_ring(&datagram));
            batch.truncate(before);
            if self.ring.is_empty()? || began.elapsed() > ENTRY_TIMEOUT {
                self.merge.set_ring_empty();
            }
        }
    }

    /// Receives the spilled events in the socket's queue.
    fn receive_spilled(&mut self, socket: &mut NetlinkSocket) -> io::Result<()> {
        let mut received = 0;
        while received < self.queue_capacity {
            self.spilled.clear();
            match socket.receive(&mut self.spilled)? {
                Received::Datagrams(datagrams) => {
                    received += datagrams;
                    self.has_spilled = true;
                }
                Received::Overrun => self.has_spilled = true,
                Received::Empty | Received::Closed => break,
            }
            self.spilled.datagrams().for_each(|datagram| self.merge.add_spilled(&datagram));
        }
        Ok(())
    }
}

impl Source for LiveSource {
    type Error = io::Error;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, io::Error> {
        match &mut self.ring {
            Some(merged) => merged.receive(&mut self.socket, batch),
            None => self.socket.receive(batch),
        }
    }

    fn drops(&mut self) -> Result<Option<u64>, io::Error> {
        let Some(merged) = &mut self.ring else { return self.socket.drops() };
        if std::mem::take(&mut merged.has_spilled) {
            merged.socket_drops = self.socket.drops()?;
        }
        let ring_drops = merged.ring.drops()?;
        Ok(merged.socket_drops.map(|drops| drops + ring_drops))
    }
}
