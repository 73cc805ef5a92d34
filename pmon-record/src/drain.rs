//! The drain thread: datagrams from the socket into chunks, and nothing else. At steady state it allocates nothing,
//! takes no lock and does no I/O but to receive.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pmon_core::MonoNs;
use pmon_core::batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{Body, ByteOrder, Event, Operation};
use rtrb::{Consumer, Producer};

use crate::chunk::{Chunk, SETTLE};
use crate::clock::Clock;
use crate::details::{Exec, Requests};
use crate::fence;
use crate::netlink::Socket;
use crate::recording::Shared;

/// The thread's name.
pub(crate) const DRAIN: &CStr = c"pmon-drain";

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// Wake-ups by the socket in one window of [`crate::Options::latency`]; then events wait for the window's end. A lone
/// event is seen at once, and a short-lived process while it is there,
const WAKEUPS: u32 = 64;
/// while a storm costs so many wake-ups, and not one per event.
const STORM_WAKEUPS: u32 = 8;
/// A storm is more events than this in the window before.
const STORM: usize = 128;
/// Without a free chunk, look again after this time.
const NO_ROOM: Duration = Duration::from_millis(1);
/// So many filled chunks, and the writer is behind: then a chunk is handed over only when full.
const BEHIND: usize = 2;
/// At the end, details that are being read get this long,
const GRACE: Duration = Duration::from_millis(60);
/// and a storm so long to let the socket be emptied.
const LAST: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Drain {
    socket: Socket,
    poll: Poll,
    filled: Producer<Chunk>,
    empty: Consumer<Chunk>,
    writer: Thread,
    requests: Option<Requests>,
    shared: Arc<Shared>,
    clock: Clock,
    latency: Duration,
    /// The chunk that is being filled; its datagrams up to `scanned` were looked at.
    current: Option<Chunk>,
    scanned: usize,
    handed_at: Instant,
    window: Window,
    /// A chunk that turned out not to be needed.
    spare: Option<Chunk>,
}

/// How a look at the socket ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Drained,
    /// A chunk is full, and more may wait.
    More,
    /// No chunk is free: the writer is behind, and events wait in the socket's buffer.
    NoRoom,
    Closed,
}

/// The ends of the drain thread's queues.
pub(crate) struct Queues {
    pub(crate) filled: Producer<Chunk>,
    pub(crate) empty: Consumer<Chunk>,
    pub(crate) writer: Thread,
    pub(crate) requests: Option<Requests>,
}

impl Drain {
    pub(crate) fn new(
        socket: Socket,
        queues: Queues,
        poll: Poll,
        shared: Arc<Shared>,
        latency: Duration,
    ) -> io::Result<Self> {
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, Interest::READABLE)?;
        let Queues { filled, empty, writer, requests } = queues;
        let clock = Clock::new();
        Ok(Self {
            socket,
            poll,
            filled,
            empty,
            writer,
            requests,
            shared,
            clock,
            latency,
            current: None,
            scanned: 0,
            handed_at: Instant::now(),
            window: Window::new(latency),
            spare: None,
        })
    }

    /// Something that wakes the thread out of `poll`.
    pub(crate) fn waker(poll: &Poll) -> io::Result<Waker> {
        Waker::new(poll.registry(), WAKER)
    }

    /// Runs until stopped; begins with what arrived `early`.
    pub(crate) fn run(mut self, early: Vec<Chunk>) -> io::Result<()> {
        let result = self.record(early);
        if result.is_err() {
            self.hand_over();
            self.shared.failed.store(true, Ordering::Release);
        }
        // The writer ends when it sees the queue abandoned, the details thread likewise.
        let Self { writer, requests, filled, .. } = self;
        drop(filled);
        writer.unpark();
        drop(requests);
        result
    }

    fn record(&mut self, early: Vec<Chunk>) -> io::Result<()> {
        for chunk in early {
            (self.current, self.scanned) = (Some(chunk), 0);
            self.spot_execs();
            self.hand_over();
        }
        let mut events = Events::with_capacity(4);
        while !self.shared.is_stopping() {
            match self.look()? {
                Look::Closed => return Ok(()),
                Look::More => continue,
                Look::NoRoom => {
                    // Events wait in the socket's buffer, and what does not fit there is lost and shows as a gap.
                    // (Dropping them here instead, counted with that cause, would be backpressure of our own.)
                    thread::park_timeout(NO_ROOM);
                    continue;
                }
                Look::Drained => {}
            }
            if let Some(rest) = self.window.rest(Instant::now()) {
                thread::park_timeout(rest);
                continue;
            }
            let timeout = (self.current.is_some() || self.is_unsettled()).then_some(self.latency);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.window.woken(Instant::now()),
            }
        }
        self.end()
    }

    /// Takes what the socket still holds, lets every CPU say a last word, unsubscribes, and takes what came until then.
    fn end(&mut self) -> io::Result<()> {
        // A socket that has lost events takes none until it has been emptied: the last words would be lost, too, and with
        // them the count. So it is emptied first, however long the writer takes for that.
        let (mut settled_by, mut emptied_by) = (Instant::now() + GRACE, Instant::now() + LAST);
        loop {
            let look = self.look()?;
            let now = Instant::now();
            match look {
                Look::Drained if !self.is_unsettled() || now >= settled_by => break,
                Look::Drained => thread::sleep(NO_ROOM),
                Look::More if now < emptied_by => {}
                Look::NoRoom if !self.filled.is_abandoned() => {
                    thread::sleep(NO_ROOM);
                    (settled_by, emptied_by) = (now + GRACE, now + LAST);
                }
                Look::More | Look::NoRoom => break,
                Look::Closed => return Ok(()),
            }
        }
        fence::raise(DRAIN);
        self.socket.request(Operation::Ignore, 0)?;
        // Before Linux 6.6, other listeners keep the events coming. What was queued until now is taken in this time; waiting
        // for the writer does not count.
        let mut deadline = Instant::now() + LAST;
        loop {
            match self.look()? {
                Look::More if Instant::now() < deadline => {}
                Look::NoRoom if !self.filled.is_abandoned() => {
                    thread::sleep(NO_ROOM);
                    deadline = Instant::now() + LAST;
                }
                _ => break,
            }
        }
        self.hand_over();
        Ok(())
    }

    /// Receives until the socket is empty or a chunk is full.
    fn look(&mut self) -> io::Result<Look> {
        let done = self.requests.as_ref().map(Requests::done);
        loop {
            if self.current.is_none() {
                let Some(chunk) = self.spare.take().or_else(|| self.empty.pop().ok()) else {
                    return Ok(Look::NoRoom);
                };
                (self.current, self.scanned) = (Some(chunk), 0);
            }
            let Some(chunk) = &mut self.current else { return Ok(Look::NoRoom) };
            let drained_at = MonoNs(self.clock.mono().0.saturating_sub(SETTLE));
            match self.socket.receive(&mut chunk.batch)? {
                Received::Frames(count) => {
                    self.window.frames += count;
                    if chunk.batch.is_full() {
                        self.spot_execs();
                        self.hand_over();
                        return Ok(Look::More);
                    }
                }
                Received::Overrun => {
                    chunk.overruns += 1;
                    chunk.drained_at = None;
                }
                Received::Empty => {
                    let news = !chunk.batch.is_empty() || chunk.overruns > 0;
                    let unsettled = self.requests.as_ref().is_some_and(Requests::is_unsettled);
                    if news || unsettled {
                        chunk.drained_at = Some(drained_at);
                        self.spot_execs();
                        if self.is_due() || self.shared.is_stopping() {
                            self.hand_over();
                            if let (Some(requests), Some(done)) = (&mut self.requests, done) {
                                requests.settle(done, drained_at);
                            }
                        }
                    } else if let Some(chunk) = self.current.take() {
                        self.put_back(chunk);
                    }
                    return Ok(Look::Drained);
                }
                Received::Closed => {
                    self.hand_over();
                    return Ok(Look::Closed);
                }
            }
        }
    }

    /// Whether a chunk that is not full should be handed over: the writer is woken no more often than this, too.
    fn is_due(&self) -> bool {
        let queued = self.filled.buffer().capacity() - self.filled.slots();
        queued < BEHIND && self.handed_at.elapsed() >= self.latency
    }

    /// Asks for the details of the execs among the datagrams not looked at yet.
    fn spot_execs(&mut self) {
        let (Some(chunk), Some(requests)) = (&mut self.current, &mut self.requests) else { return };
        let mut asked = false;
        for (at, frame) in chunk.batch.frames().enumerate().skip(self.scanned) {
            if let Some(exec) = exec(&frame) {
                if requests.push(exec) {
                    asked = true;
                } else {
                    chunk.busy.push(at as u32);
                }
            }
        }
        self.scanned = chunk.batch.len();
        if asked {
            requests.wake();
        }
    }

    fn hand_over(&mut self) {
        let Some(chunk) = self.current.take() else { return };
        if chunk.is_empty() {
            return self.put_back(chunk);
        }
        self.shared.handed.fetch_add(1, Ordering::Relaxed);
        // There are no more chunks than places in the queue.
        let _never_full = self.filled.push(chunk);
        self.writer.unpark();
        self.handed_at = Instant::now();
    }

    /// Keeps an unused chunk for the next look.
    fn put_back(&mut self, chunk: Chunk) {
        self.spare = Some(chunk);
    }

    /// Whether details are awaited that no look has confirmed yet.
    fn is_unsettled(&self) -> bool {
        self.requests.as_ref().is_some_and(Requests::is_unsettled)
    }
}

/// The exec event that a datagram is, if the kernel sent it; looks closely only where it may be one.
fn exec(frame: &batch::Frame<'_>) -> Option<Exec> {
    let what = *frame.bytes.get(36..)?.first_chunk()?;
    if u32::from_ne_bytes(what) != 2 || frame.arrival.sender != 0 {
        return None;
    }
    let event = Event::decode(frame.bytes, ByteOrder::NATIVE).ok()?;
    let Body::Exec { task } = event.body else { return None };
    Some(Exec { tgid: task.tgid, time: event.time })
}

/// The windows in which wake-ups are counted.
struct Window {
    length: Duration,
    start: Instant,
    wakeups: u32,
    budget: u32,
    /// Datagrams received.
    frames: usize,
}

impl Window {
    fn new(length: Duration) -> Self {
        Self { length, start: Instant::now(), wakeups: 0, budget: WAKEUPS, frames: 0 }
    }

    fn woken(&mut self, now: Instant) {
        let passed = now.duration_since(self.start);
        if passed >= self.length {
            // A window that nothing has ended in time says nothing of a storm.
            let is_storm = passed < 2 * self.length && self.frames > STORM;
            *self = Self {
                start: now,
                budget: if is_storm { STORM_WAKEUPS } else { WAKEUPS },
                ..Self::new(self.length)
            };
        }
        self.wakeups += 1;
    }

    /// How long to sleep before the socket may wake the thread again; `None` if it may.
    fn rest(&self, now: Instant) -> Option<Duration> {
        if self.wakeups < self.budget {
            return None;
        }
        let rest = self.length.saturating_sub(now.duration_since(self.start));
        (!rest.is_zero()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(10);

    /// Wakes at `now` as often as allowed, at most `most` times, with `frames` datagrams each.
    fn wake(window: &mut Window, now: Instant, most: u32, frames: usize) -> u32 {
        let allowed = |window: &Window| window.rest(now).is_none();
        let wakeups =
            (0..most).take_while(|_| allowed(window).then(|| window.woken(now)).is_some()).count() as u32;
        window.frames += frames * wakeups as usize;
        wakeups
    }

    #[test]
    fn lone_events_wake_at_once_and_a_storm_only_so_often() {
        let mut window = Window::new(LENGTH);
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
}
