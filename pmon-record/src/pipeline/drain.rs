//! The drain thread receives datagrams from the socket into chunks, and does nothing else.
//!
//! At steady state it allocates nothing, takes no lock, and does no I/O except receiving. It waits
//! for no other thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pmon_core::MonoNs;
use pmon_core::batch;
use pmon_core::capture::FencePosition;
use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind, layout, u32_at};

use crate::clock::Clock;
use crate::details::exec::{Exec, Requests};
use crate::liveness::fence;
use crate::liveness::heartbeat::Pulse;
use crate::pipeline::chunk::SETTLE;
use crate::pipeline::receive::{ReceiveStatus, Receiver};
use crate::recording::Shared;
use crate::transport::live_source::LiveSource;
use crate::transport::ring::entry;

/// The thread's name.
pub(crate) const DRAIN: &str = "pmon-drain";

const SOURCE: Token = Token(0);
const WAKER: Token = Token(1);

/// Maximum number of event-driven wake-ups per window of [`crate::RecordOptions::latency`] while the
/// event rate is low.
///
/// Waking up early lets the details thread read `/proc/<pid>` before a short-lived process exits.
const WAKEUPS: u32 = 64;
/// Maximum number of event-driven wake-ups per window during a storm (see [`STORM`]), so that a
/// storm does not cause one per event.
const STORM_WAKEUPS: u32 = 8;
/// Number of events in the previous window above which the current window is a storm.
const STORM: u64 = 128;
/// Number of windows between two hand-overs to the writer thread if details come with the events.
///
/// An event then wakes the drain thread only after a window without events. A full chunk is handed
/// over at once.
const LAZY_HANDOVER: u32 = 6;
/// Maximum time between two such hand-overs, unless the window is longer. A crash loses these
/// events.
const LONGEST_HANDOVER: Duration = Duration::from_millis(60);
/// Maximum time that the end of a recording waits for details that are being read.
const GRACE: Duration = Duration::from_millis(60);
/// Maximum time at the end of a recording to empty the socket and to receive an event of every CPU.
const LAST: Duration = Duration::from_secs(1);
/// Time between two receptions at the end of a recording.
const PAUSE: Duration = Duration::from_millis(1);

/// The state of the drain thread.
pub(crate) struct Drain {
    receiver: Receiver<LiveSource>,
    pulse: Pulse,
    /// The last checkpoint of the heartbeat thread before which all events have been received or
    /// lost.
    checkpoints: u64,
    poll: Poll,
    ends: Ends,
    clock: Clock,
    latency: Duration,
    /// The writer is woken no more often.
    handover: Duration,
    window: Window,
}

/// The threads that the drain thread works for.
pub(crate) struct Ends {
    writer: Thread,
    requests: Option<Requests>,
    shared: Arc<Shared>,
    handed_at: Instant,
}

impl Ends {
    pub(crate) fn new(writer: Thread, requests: Option<Requests>, shared: Arc<Shared>) -> Self {
        Self { writer, requests, shared, handed_at: Instant::now() }
    }

    /// Asks for the details of the execs among the datagrams not looked at yet, and hands over a full chunk.
    fn take(&mut self, receiver: &mut Receiver<LiveSource>, look: ReceiveStatus) -> io::Result<()> {
        self.spot_execs(receiver);
        if matches!(look, ReceiveStatus::Full | ReceiveStatus::Closed) {
            self.hand_over(receiver)
        } else {
            Ok(())
        }
    }

    fn spot_execs(&mut self, receiver: &mut Receiver<LiveSource>) {
        let Some(requests) = &mut self.requests else { return };
        let mut asked = false;
        receiver.scan(|frame| {
            let Some(exec) = exec(frame) else { return false };
            let taken = requests.push(exec);
            asked |= taken;
            !taken
        });
        if asked {
            requests.wake();
        }
    }

    fn hand_over(&mut self, receiver: &mut Receiver<LiveSource>) -> io::Result<()> {
        if receiver.hand_over()? {
            self.shared.handed.fetch_add(1, Ordering::Relaxed);
            self.writer.unpark();
            self.handed_at = Instant::now();
        }
        Ok(())
    }

    /// Whether details are awaited that no look has confirmed yet.
    fn is_unsettled(&self) -> bool {
        self.requests.as_ref().is_some_and(Requests::is_unsettled)
    }
}

impl Drain {
    pub(crate) fn new(
        mut receiver: Receiver<LiveSource>,
        pulse: Pulse,
        poll: Poll,
        ends: Ends,
        pace: Pace,
    ) -> io::Result<Self> {
        for descriptor in receiver.source_mut().descriptors() {
            poll.registry().register(&mut SourceFd(&descriptor), SOURCE, Interest::READABLE)?;
        }
        let (window, latency) = (Window::new(pace), pace.latency);
        let lazy = (LAZY_HANDOVER * latency).min(LONGEST_HANDOVER).max(latency);
        let handover = if pace.is_lazy { lazy } else { latency };
        Ok(Self {
            receiver,
            pulse,
            checkpoints: 0,
            poll,
            ends,
            clock: Clock::new(),
            latency,
            handover,
            window,
        })
    }

    /// Something that wakes the thread out of `poll`.
    pub(crate) fn waker(poll: &Poll) -> io::Result<Waker> {
        Waker::new(poll.registry(), WAKER)
    }

    /// Runs until stopped.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let result = self.record();
        if result.is_err() {
            // What is there is kept; the socket's error is the one that counts.
            let _ = self.receiver.hand_over();
            self.ends.shared.failed.store(true, Ordering::Release);
        }
        // The writer ends when it sees the queue abandoned, the details thread likewise.
        let Self { ends, receiver, .. } = self;
        drop(receiver);
        ends.writer.unpark();
        result
    }

    fn record(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(4);
        while !self.ends.shared.is_stopping() {
            match self.look()? {
                ReceiveStatus::Closed => return Ok(()),
                ReceiveStatus::Full | ReceiveStatus::Dropped => continue,
                ReceiveStatus::Drained => {}
            }
            if let Some(rest) = self.window.rest(Instant::now()) {
                thread::park_timeout(rest);
                continue;
            }
            if !self.receiver.source_mut().may_sleep()? {
                continue;
            }
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.window.woken(Instant::now()),
            }
        }
        self.end()
    }

    /// How long to wait for the socket: no longer than something else waits for this thread.
    fn timeout(&mut self) -> Option<Duration> {
        let soon = (self.ends.is_unsettled() || self.receiver.current().is_some()).then_some(self.latency);
        // The next heartbeat has been emitted by then, whether or not it is received.
        soon.or(self.pulse.interval.map(|interval| interval + self.latency))
    }

    /// Takes what the socket still holds, lets every CPU say a last word, unsubscribes, and takes what came until then.
    fn end(&mut self) -> io::Result<()> {
        // Without room in the socket, the last words would be lost, too. So it is emptied first.
        let began = Instant::now();
        loop {
            let look = self.look()?;
            match look {
                ReceiveStatus::Closed => return Ok(()),
                ReceiveStatus::Drained if self.ends.is_unsettled() && began.elapsed() < GRACE => {
                    thread::sleep(PAUSE)
                }
                ReceiveStatus::Full | ReceiveStatus::Dropped if began.elapsed() < LAST => {}
                _ => break,
            }
        }
        // Three readings: without a fence, with one, and with the last one. Two must agree that
        // forks are missing.
        self.pulse.count_forks();
        self.pulse.requester().recount();
        let Self { receiver, pulse, ends, clock, .. } = self;
        let handle = |receiver: &mut _, look| ends.take(receiver, look);
        let fence = fence::raise(FencePosition::End, receiver, (pulse, *clock), LAST, handle, |_| Ok(true))?;
        self.receiver.source_mut().socket_mut().ignore()?;
        // Before Linux 6.6, other listeners keep the events coming. What was queued until now is taken in this time.
        let (began, checkpoints) = (Instant::now(), self.pulse.checkpoints());
        loop {
            match self.look()? {
                ReceiveStatus::Drained if self.receiver.source_mut().is_empty()? => {
                    self.receiver.complete_checkpoints(checkpoints);
                    break;
                }
                ReceiveStatus::Closed => break,
                _ if began.elapsed() > LAST => break,
                ReceiveStatus::Drained => thread::sleep(PAUSE),
                ReceiveStatus::Full | ReceiveStatus::Dropped => {}
            }
        }
        self.receiver.set_fence(fence);
        // Whatever is in the capture is in these, too.
        let ring = self.receiver.source_mut().ring_counts()?;
        ring.into_iter().for_each(|counts| self.receiver.set_ring_counts(counts));
        self.receiver.finish()?;
        self.ends.writer.unpark();
        Ok(())
    }

    /// Receives until the socket is empty or a chunk is full, and hands over what is due.
    fn look(&mut self) -> io::Result<ReceiveStatus> {
        let done = self.ends.requests.as_ref().map(Requests::done);
        let checkpoints = self.pulse.checkpoints();
        let drained_at = MonoNs(self.clock.mono().0.saturating_sub(SETTLE));
        let look = self.receiver.receive()?;
        self.window.frames += self.receiver.take_frames();
        self.ends.take(&mut self.receiver, look)?;
        if look != ReceiveStatus::Drained {
            return Ok(look);
        }
        if self.receiver.take_lost()? {
            self.pulse.doubt();
        }
        if checkpoints > self.checkpoints
            && self.receiver.source_mut().is_empty()?
            && self.receiver.chunk().is_some()
        {
            self.receiver.complete_checkpoints(checkpoints);
            self.checkpoints = checkpoints;
        }
        let is_due = self.is_due();
        let chunk = if self.ends.is_unsettled() { self.receiver.chunk() } else { self.receiver.current() };
        if let Some(chunk) = chunk {
            chunk.drained_at = Some(drained_at);
            if is_due {
                self.ends.hand_over(&mut self.receiver)?;
                if let (Some(requests), Some(done)) = (&mut self.ends.requests, done) {
                    requests.settle(done, drained_at);
                }
            }
        }
        Ok(look)
    }

    /// Whether a chunk that is not full should be handed over: the writer is woken no more often than this, too.
    fn is_due(&self) -> bool {
        let now = !self.receiver.is_behind() && self.ends.handed_at.elapsed() >= self.handover;
        now || self.ends.shared.is_stopping()
    }
}

/// The exec event that a datagram is, if the kernel sent it and its details did not come with it; looks closely only where it may
/// be one.
pub(crate) fn exec(frame: &batch::Datagram<'_>) -> Option<Exec> {
    let what = u32_at(frame.bytes, layout::WHAT.start);
    if Some(what) != EventKind::Exec.what() || frame.arrival.sender != 0 || entry::has_details(frame) {
        return None;
    }
    let event = Event::decode(frame.bytes, ByteOrder::NATIVE).ok()?;
    let EventBody::Exec { task } = event.body else { return None };
    Some(Exec { tgid: task.tgid, time: event.time })
}

/// How often the drain thread receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Time between two receptions while events arrive.
    pub(crate) latency: Duration,
    /// Number of datagrams that fit into the source. The thread receives more often if the source
    /// fills up.
    pub(crate) room: u64,
    /// Whether details come with the events.
    pub(crate) is_lazy: bool,
}

/// The windows in which wake-ups, or events, are counted.
struct Window {
    pace: Pace,
    start: Instant,
    wakeups: u32,
    budget: u32,
    /// Datagrams received.
    frames: u64,
}

impl Window {
    fn new(pace: Pace) -> Self {
        Self { pace, start: Instant::now(), wakeups: 0, budget: WAKEUPS, frames: 0 }
    }

    fn woken(&mut self, now: Instant) {
        let (passed, length) = (now.duration_since(self.start), self.pace.latency);
        if self.pace.is_lazy {
            self.start = now;
        } else if passed >= length {
            // A window that nothing has ended in time says nothing of a storm.
            let is_storm = passed < 2 * length && self.frames > STORM;
            let budget = if is_storm { STORM_WAKEUPS } else { WAKEUPS };
            *self = Self { start: now, budget, ..Self::new(self.pace) };
        }
        self.wakeups += 1;
    }

    /// How long to sleep before the next look, or before the socket may wake the thread again; `None` if it may.
    fn rest(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.duration_since(self.start);
        // At the pace so far, half of the source's room is taken by then.
        let half_full = passed.mul_f64((self.pace.room / 2) as f64 / self.frames.max(1) as f64);
        let rest = if self.pace.is_lazy {
            self.start = now;
            let frames = std::mem::take(&mut self.frames);
            (frames > 0).then_some(self.pace.latency.min(half_full))
        } else {
            let spent = self.wakeups >= self.budget;
            spent.then(|| self.pace.latency.saturating_sub(passed).min(half_full))
        };
        rest.filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(10);
    const PACE: Pace = Pace { latency: LENGTH, room: 80_000, is_lazy: false };

    /// Wakes from `now` on, every 10 us, as often as allowed, at most `most` times, with `frames` datagrams each.
    fn wake(window: &mut Window, mut now: Instant, most: u32, frames: u64) -> u32 {
        let mut wakeups = 0;
        while wakeups < most && window.rest(now).is_none() {
            window.woken(now);
            window.frames += frames;
            wakeups += 1;
            now += LENGTH / 1000;
        }
        wakeups
    }

    #[test]
    fn lone_events_wake_at_once_and_a_storm_only_so_often() {
        let mut window = Window::new(PACE);
        let mut now = window.start;
        for _ in 0..100 {
            now += LENGTH;
            assert_eq!(wake(&mut window, now, 40, 1), 40);
        }
        now += LENGTH;
        assert_eq!(wake(&mut window, now, 1000, 10), WAKEUPS);
        for _ in 0..100 {
            now += LENGTH;
            assert_eq!(wake(&mut window, now, 1000, 1000), STORM_WAKEUPS);
            assert_eq!(window.rest(now + LENGTH / 2), Some(LENGTH / 2));
        }
        // The storm is over: its last window still counts, then all is as before.
        now += LENGTH * 2;
        assert_eq!(wake(&mut window, now, 40, 1), 40);
    }

    #[test]
    fn where_nothing_hurries_events_are_taken_once_a_window_and_the_first_after_none_at_once() {
        let mut window = Window::new(Pace { is_lazy: true, room: 1000, ..PACE });
        let now = window.start + LENGTH;
        assert_eq!(window.rest(now), None);
        window.woken(now + LENGTH);
        window.frames += 1;
        assert_eq!(window.rest(now + LENGTH + LENGTH / 100), Some(LENGTH));
        window.frames += 100;
        assert_eq!(window.rest(now + LENGTH * 2), Some(LENGTH));
        // In a window as many as there is room for.
        window.frames += 1000;
        assert_eq!(window.rest(now + LENGTH * 3), Some(LENGTH / 2));
        assert_eq!(window.rest(now + LENGTH * 4), None);
    }

    #[test]
    fn no_rest_is_so_long_that_the_socket_overruns() {
        let mut window = Window::new(Pace { room: 1000, ..PACE });
        let now = window.start + LENGTH;
        // 640 events in the first millisecond: in the same time as many again come, more than half of what there is room for.
        assert_eq!(wake(&mut window, now, 1000, 10), WAKEUPS);
        assert_eq!(window.rest(now + LENGTH / 10), Some(LENGTH / 10 * 500 / 640));
        // With more room, it is the window that ends.
        window.pace.room *= 100;
        assert_eq!(window.rest(now + LENGTH / 10), Some(LENGTH - LENGTH / 10));
    }
}
