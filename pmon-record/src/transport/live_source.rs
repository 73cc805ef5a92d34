//! Where events come from: the socket's queue, with or without a ring in front of it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use pmon_core::batch::Batch;
use pmon_core::capture::CpuCounts;
use pmon_core::source::{Received, Source};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::transport::merge::Merge;
use crate::transport::netlink::Socket;
use crate::transport::ring::Ring;

/// Datagrams taken from the queue at a time: there are seldom any.
const QUEUE: usize = 64;

/// A CPU that has begun to write an event into the ring ends it within a microsecond, unless its host stops it meanwhile. What
/// has spilled waits no longer than this for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A socket, and perhaps its ring.
pub(crate) struct LiveSource {
    socket: Socket,
    front: Option<Front>,
}

/// A ring, and what it takes to put what comes by it and what spills from it in order.
struct Front {
    ring: Ring,
    merge: Merge,
    queue: Batch,
    /// What was in the queue at any moment is not more than this.
    room: usize,
    /// The last call found both empty behind what it gave.
    is_drained: bool,
    /// Whether anything was in the queue since its drops were counted, and their number then. It drops nothing while it is empty.
    spilled: bool,
    drops: Option<u64>,
}

impl LiveSource {
    /// Creates a feed from a socket with room for this many events.
    pub(crate) fn new(socket: Socket, ring: Option<Ring>, room: u64) -> Self {
        let front = ring.map(|ring| Front {
            ring,
            merge: Merge::default(),
            queue: Batch::with_capacity(QUEUE),
            room: room as usize + QUEUE,
            is_drained: false,
            spilled: true,
            drops: None,
        });
        Self { socket, front }
    }

    /// The socket.
    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// What becomes readable when there is something to receive after [`LiveSource::may_sleep`] has said so.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let ring = self.front.as_ref().map(|front| front.ring.as_raw_fd());
        std::iter::once(self.socket.as_raw_fd()).chain(ring)
    }

    /// Whether there is nothing to receive; then, whatever comes will wake who waits.
    pub(crate) fn may_sleep(&mut self) -> io::Result<bool> {
        let Some(front) = &mut self.front else { return Ok(true) };
        front.ring.arm()?;
        front.ring.is_empty()
    }

    /// Whether the ring, if there is one, holds no entry, not even one that is still being written.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        self.front.as_ref().map_or(Ok(true), |front| front.ring.is_empty())
    }

    /// [`Source::drops`], also of what was dropped while nothing was taken.
    pub(crate) fn drops_now(&mut self) -> io::Result<Option<u64>> {
        if let Some(front) = &mut self.front {
            front.spilled = true;
        }
        self.drops()
    }

    /// The recording begins now.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.front.as_mut().map_or(Ok(()), |front| front.ring.restart())
    }

    /// Marks the rest of the scope's tree; see [`Ring::complete_tree`].
    pub(crate) fn complete_tree(&mut self) -> io::Result<bool> {
        self.front.as_mut().map_or(Ok(false), |front| front.ring.complete_tree())
    }

    /// What did not come by the ring since then, of each CPU; `None` without a ring.
    pub(crate) fn ring_counts(&self) -> io::Result<Option<Vec<CpuCounts>>> {
        self.front.as_ref().map(|front| front.ring.counts()).transpose()
    }

    /// Waits until there is something to receive, or the time is over.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.may_sleep()? {
            return Ok(());
        }
        let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
        let socket = PollFd::new(&self.socket, PollFlags::IN);
        let polled = match &self.front {
            Some(front) => {
                let ring = front.ring.as_fd();
                poll(&mut [socket, PollFd::new(&ring, PollFlags::IN)], Some(&timeout))
            }
            None => poll(&mut [socket], Some(&timeout)),
        };
        match polled {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Front {
    fn receive(&mut self, socket: &mut Socket, batch: &mut Batch) -> io::Result<Received> {
        if std::mem::take(&mut self.is_drained) {
            // What has come since then is for the next look.
            return Ok(Received::Empty);
        }
        let began = Instant::now();
        loop {
            let taken = self.merge.take(batch);
            if taken > 0 || batch.is_full() {
                return Ok(Received::Datagrams(taken));
            }
            let before = batch.len();
            while !batch.is_full() && self.ring.next(batch) {}
            // What spilled before these were put into the ring is in the queue by now.
            self.empty(socket)?;
            if self.merge.is_empty() {
                let frames = batch.len() - before;
                self.is_drained = frames > 0 && !batch.is_full();
                return Ok(if frames == 0 { Received::Empty } else { Received::Datagrams(frames) });
            }
            batch.datagrams_from(before).for_each(|frame| self.merge.ring(&frame));
            batch.truncate(before);
            if self.ring.is_empty()? || began.elapsed() > PATIENCE {
                self.merge.ring_is_empty();
            }
        }
    }

    /// Takes what is in the queue.
    fn empty(&mut self, socket: &mut Socket) -> io::Result<()> {
        let mut taken = 0;
        while taken < self.room {
            self.queue.clear();
            match socket.receive(&mut self.queue)? {
                Received::Datagrams(frames) => {
                    taken += frames;
                    self.spilled = true;
                }
                Received::Overrun => self.spilled = true,
                Received::Empty | Received::Closed => break,
            }
            self.queue.datagrams().for_each(|frame| self.merge.spill(&frame));
        }
        Ok(())
    }
}

impl Source for LiveSource {
    type Error = io::Error;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, io::Error> {
        match &mut self.front {
            Some(front) => front.receive(&mut self.socket, batch),
            None => self.socket.receive(batch),
        }
    }

    fn drops(&mut self) -> Result<Option<u64>, io::Error> {
        let Some(front) = &mut self.front else { return self.socket.drops() };
        if std::mem::take(&mut front.spilled) {
            front.drops = self.socket.drops()?;
        }
        let in_ring = front.ring.drops()?;
        Ok(front.drops.map(|in_queue| in_queue + in_ring))
    }
}
