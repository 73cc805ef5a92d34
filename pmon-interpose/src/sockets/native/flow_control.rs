//! Transfers datagrams from the model to native sockets, and decides when the next event is
//! emitted.
//!
//! In a world without a clock, an event is emitted when the tracee has received the previous one
//! and waits, so that `/proc` is as of the event that the tracee handles. A tracee that does not
//! look at the recorded processes gets more events at once. In a world with a clock, everything is
//! transferred at once, and the kernel counts overruns.

use std::time::{Duration, Instant};

use pmon_fake::native_socket::transport::MAX_DATAGRAM;
use rustix::io::Errno;

use crate::error::{InterposeError, ServeResult};
use crate::sockets::emitter::EventEmitter;
use crate::sockets::native::activity::{Activity, ActivityObserver};
use crate::sockets::native::backlog::{Backlog, backlog, is_blocked, note_drops, receivers};
use crate::sockets::native::channel::{NativeChannel, SHORT};
use crate::sockets::native::namespace::NetlinkNamespace;
use crate::sockets::native::schedule::ObservationSchedule;
use crate::sockets::proxy::SocketProxy;
use crate::sockets::table::SocketTable;
use crate::world::ReplayWorld;

/// Number of events that the tracee must receive without looking at the recorded processes before
/// it gets several at once.
const EVENTS_WITHOUT_LOOK: usize = 64;
/// Maximum number of events that the tracee has not received.
const MAX_DEPTH: usize = 192;
/// First interval between two looks at the tracee while it handles an event.
const FIRST_INTERVAL: Duration = Duration::from_micros(20);
/// The same for a tracee that makes intercepted calls for most events: they show what it does.
const FIRST_INTERVAL_WITH_CALLS: Duration = Duration::from_micros(400);
/// Maximum interval between two looks at the tracee.
const MAX_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum interval between two transfers of several events.
const MAX_DEEP_INTERVAL: Duration = Duration::from_millis(2);
/// Time after which a tracee that sleeps, but not in a call that waits for files or signals, counts
/// as waiting for an event.
const SLEEP: Duration = Duration::from_millis(2);
/// CPU time after which a tracee that has received everything counts as waiting for an event: it
/// repeats nonblocking calls.
const SPIN: Duration = Duration::from_millis(2);
/// The same for a tracee that makes intercepted calls meanwhile.
const SPIN_WITH_CALLS: Duration = Duration::from_millis(50);
/// Time after which a tracee that waits for files, but leaves datagrams in a socket, counts as not
/// reading that socket.
const UNREAD: Duration = Duration::from_millis(100);
/// The same for a tracee with a thread that sleeps otherwise: it may handle an event, for example
/// write to a pipe that is full.
const UNREAD_ASLEEP: Duration = Duration::from_secs(1);

/// The state of the transfer to native sockets.
pub(crate) struct FlowControl {
    namespace: NetlinkNamespace,
    /// The charge of a short datagram to a receive buffer.
    charge: u32,
    pub(crate) observer: ActivityObserver,
    /// Number of events that the tracee may not yet have received.
    depth: usize,
    /// Whether the tracee has looked at the recorded processes since its first event.
    looks: bool,
    /// Number of events that the tracee has received without looking at the recorded processes.
    received: usize,
    /// The tracee has looked at the recorded processes since the last event was emitted.
    has_looked: bool,
    /// Whether such a look has caused the last event.
    was_caused_by_look: bool,
    schedule: ObservationSchedule,
    /// When no event is left, the world stays as of the last one, and so do the tracee's clocks
    /// while it handles that event.
    pub(crate) stays_at_last_event: bool,
    /// A datagram of the tracee was transferred, and may have caused an overrun.
    has_own_datagrams: bool,
    /// A receive buffer was too full for a datagram of the tracee.
    has_refused: bool,
}

impl FlowControl {
    pub(crate) fn new(namespace: NetlinkNamespace, charge: u32, observer: ActivityObserver) -> Self {
        Self {
            namespace,
            charge,
            observer,
            depth: 1,
            looks: false,
            received: 0,
            has_looked: false,
            was_caused_by_look: false,
            schedule: ObservationSchedule::new(FIRST_INTERVAL),
            stays_at_last_event: false,
            has_own_datagrams: false,
            has_refused: false,
        }
    }

    /// Opens a native socket.
    pub(crate) fn open(&mut self, nonblocking: bool) -> Result<NativeChannel, Errno> {
        NativeChannel::open(&mut self.namespace, self.charge, nonblocking)
    }

    /// Notes that the tracee has looked at the recorded processes.
    pub(crate) fn note_look(&mut self) {
        if self.received > 0 {
            self.looks = true;
            self.has_looked = true;
            self.depth = 1;
        }
    }

    /// Notes that the tracee makes a call: it neither sleeps nor repeats nonblocking calls only.
    pub(crate) fn note_call(&mut self) {
        (self.schedule.asleep_since, self.schedule.cpu_time) = (None, None);
    }

    /// Notes that the tracee has changed its subscription: the next events must be as of the
    /// change.
    pub(crate) fn note_change(&mut self) {
        if self.depth > 1 {
            self.depth = 1;
            self.received = 1;
        }
    }

    /// Finds out what the tracee has received: the processes of the world become as of then.
    pub(crate) fn observe<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        sockets: &mut SocketTable,
    ) -> Result<(), InterposeError> {
        let (mut last, mut most) = (None, 0);
        for proxy in &mut sockets.proxies {
            let SocketProxy { channel, received, .. } = proxy;
            let Some(native) = channel.native_mut() else { continue };
            let before = native.unread();
            last = last.max(native.observe(received)?);
            if before == 0 {
                continue;
            }
            most = most.max(before - native.unread());
            if native.unread() == 0 {
                proxy.is_abandoned = false;
            }
        }
        if let Some(position) = last {
            world.mark_received(position);
            self.schedule.unread_since = None;
            self.received = self.received.saturating_add(most);
            if !self.looks && self.received >= EVENTS_WITHOUT_LOOK {
                self.depth = (self.depth * 2).min(MAX_DEPTH);
            }
        }
        Ok(())
    }

    /// Transfers what the model has queued, as far as possible; the last frames are only collected.
    /// `position` is that of the world.
    fn transfer(
        &mut self,
        sockets: &mut SocketTable,
        position: u64,
        is_on_demand: bool,
    ) -> Result<(), InterposeError> {
        for proxy in &mut sockets.proxies {
            let SocketProxy { channel, socket, .. } = proxy;
            let Some(native) = channel.native_mut() else { continue };
            loop {
                let readiness = socket.poll();
                if readiness.error {
                    // The tracee sees the error before all datagrams that it has not received.
                    if is_on_demand && native.unread() > 0 {
                        break;
                    }
                    self.flush()?;
                    if socket.take_error().is_some() {
                        native.overrun(&mut self.namespace.kernel, position)?;
                    }
                    if is_on_demand {
                        break;
                    }
                }
                let Some(datagram) = socket.unqueue() else { break };
                let len = datagram.bytes().len();
                let before = if len > SHORT { Some(native.unread_bytes()?) } else { None };
                match (datagram.sender(), datagram.groups()) {
                    // A socket cannot receive an empty datagram.
                    _ if len == 0 => continue,
                    (0, _) if len > MAX_DATAGRAM => return Err(InterposeError::LongDatagram { len }),
                    (0, _) => {
                        self.namespace.kernel.queue(native.tag, datagram.bytes())?;
                    }
                    (sender, groups) => {
                        self.flush()?;
                        self.has_own_datagrams = true;
                        let to = (native.port, native.tag);
                        match self.namespace.send_from(sender, to, groups, datagram.bytes()) {
                            // The buffer is full: a unicast is never dropped.
                            Err(Errno::AGAIN) => {
                                self.has_refused = true;
                                continue;
                            }
                            Err(Errno::MSGSIZE) => return Err(InterposeError::LongDatagram { len }),
                            sent => sent?,
                        }
                    }
                }
                native.note_sent(position, &datagram);
                if let Some(before) = before {
                    self.flush()?;
                    native.note_charge(before)?;
                }
            }
        }
        Ok(())
    }

    /// Transfers what the model has queued for the tracee, as far as it may receive it now.
    pub(crate) fn deliver(&mut self, sockets: &mut SocketTable, position: u64) -> Result<(), InterposeError> {
        self.transfer(sockets, position, true)?;
        self.flush()?;
        // The kernel counts overruns by the tracee's own datagrams.
        if std::mem::take(&mut self.has_own_datagrams) { note_drops(sockets) } else { Ok(()) }
    }

    /// Returns whether a receive buffer was too full for a datagram of the tracee since the last
    /// call.
    pub(crate) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.has_refused)
    }

    /// Sends the collected datagrams.
    fn flush(&mut self) -> Result<(), InterposeError> {
        Ok(self.namespace.kernel.flush()?)
    }

    /// In a world with a clock, transfers everything.
    pub(crate) fn transfer_all(
        &mut self,
        sockets: &mut SocketTable,
        position: u64,
    ) -> Result<(), InterposeError> {
        for proxy in &mut sockets.proxies {
            let SocketProxy { channel, received, .. } = proxy;
            if let Some(native) = channel.native_mut() {
                native.observe(received)?;
            }
        }
        self.transfer(sockets, position, false)?;
        self.flush()?;
        note_drops(sockets)
    }

    /// In a world without a clock, transfers what the tracee may receive, and emits events if it
    /// waits for one. Returns the time after which to call again.
    pub(crate) fn pump<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        sockets: &mut SocketTable,
        emitter: &mut EventEmitter,
    ) -> ServeResult<W, Option<Duration>> {
        self.observe(world, sockets)?;
        self.deliver(sockets, world.position())?;
        let Some(backlog) = backlog(sockets) else { return Ok(None) };
        let is_exhausted = emitter.empty_reads().is_some();
        if is_exhausted && backlog.max == 0 && !backlog.is_blocked {
            if !self.stays_at_last_event {
                world.mark_received(world.position());
            }
            return Ok(None);
        }
        if emitter.is_settling {
            return Ok(None);
        }
        let now = Instant::now();
        let events = match self.events_to_emit(backlog, sockets, now) {
            Ok(events) => events,
            Err(wait) => return Ok(Some(wait)),
        };
        self.was_caused_by_look = std::mem::take(&mut self.has_looked);
        for _ in 0..events {
            let indexes: Vec<usize> = receivers(sockets).map(|(index, _)| index).collect();
            emitter.advance(sockets, world, &indexes, None)?;
            self.transfer(sockets, world.position(), true)?;
            if emitter.batch_is_incomplete || emitter.empty_reads().is_some() || is_blocked(sockets) {
                break;
            }
        }
        self.flush()?;
        if self.depth == 1 {
            let has_calls = self.was_caused_by_look;
            self.schedule =
                ObservationSchedule::new(if has_calls { FIRST_INTERVAL_WITH_CALLS } else { FIRST_INTERVAL });
        } else {
            self.schedule.next = Instant::now() + self.schedule.interval;
        }
        Ok(Some(if emitter.batch_is_incomplete { Duration::ZERO } else { self.schedule.interval }))
    }

    /// Returns the number of events to emit now; or the time after which to decide again.
    fn events_to_emit(
        &mut self,
        backlog: Backlog,
        sockets: &mut SocketTable,
        now: Instant,
    ) -> Result<usize, Duration> {
        let depth = self.depth.min(backlog.half.max(1));
        if !backlog.is_blocked {
            if depth > 1 && backlog.max * 2 <= depth {
                // The tracee should neither run dry nor be observed too often.
                if backlog.max == 0 {
                    self.schedule.interval = (self.schedule.interval / 2).max(FIRST_INTERVAL);
                }
                return Ok(depth - backlog.max);
            }
            if backlog.max == 0 && self.has_looked {
                return Ok(1);
            }
        }
        if let Some(wait) = self.schedule.next.checked_duration_since(now).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        let has_room = !backlog.is_blocked && backlog.max < backlog.half.max(1);
        if backlog.min == 0 && has_room && self.waits(now, self.received > 0 || sockets.any_subscribed()) {
            return Ok(1);
        }
        if (backlog.min > 0 || !has_room) && self.leaves_unread(now) {
            self.schedule.unread_since = None;
            let before = sockets.proxies.len();
            sockets.remove_closed();
            if sockets.proxies.len() < before {
                return Err(Duration::ZERO);
            }
            // An edge-triggered reader that has left datagrams in the queue waits for the next
            // edge.
            if has_room {
                return Ok(1);
            }
            let receivers = sockets.proxies.iter_mut().filter(|proxy| proxy.socket.receives_events());
            for proxy in receivers {
                proxy.is_abandoned |= proxy.unread() >= backlog.half.max(1);
            }
        }
        if depth == 1 {
            return Err(self.schedule.back_off(now, MAX_INTERVAL));
        }
        // The tracee needs longer than expected for the events that it has.
        self.schedule.interval = (self.schedule.interval * 5 / 4).min(MAX_DEEP_INTERVAL);
        self.schedule.next = now + self.schedule.interval;
        Err(self.schedule.interval)
    }

    /// Returns `None` if the tracee waits for an event before it has subscribed; otherwise the time
    /// after which to call again.
    pub(crate) fn await_first_wait(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if let Some(wait) = self.schedule.next.checked_duration_since(now).filter(|wait| !wait.is_zero()) {
            return Some(wait);
        }
        if self.waits(now, false) { None } else { Some(self.schedule.back_off(now, MAX_INTERVAL)) }
    }

    /// Returns whether the tracee, which has received everything from a socket, waits for an event.
    fn waits(&mut self, now: Instant, has_begun: bool) -> bool {
        // Before, it may still prepare its subscription.
        let factor = if has_begun { 1 } else { 10 };
        let activity = self.observer.observe();
        if activity != Activity::Asleep {
            self.schedule.asleep_since = None;
        }
        if matches!(activity, Activity::Asleep | Activity::Running) && self.observer.has_pending_call() {
            self.note_call();
            return false;
        }
        match activity {
            Activity::Receiving | Activity::Waiting => true,
            Activity::Asleep => now - *self.schedule.asleep_since.get_or_insert(now) >= SLEEP * factor,
            Activity::Running => {
                let used = self.observer.cpu_time();
                let since = |start: &mut Option<Duration>| used.saturating_sub(*start.get_or_insert(used));
                since(&mut self.schedule.cpu_time) >= SPIN * factor
                    || has_begun && since(&mut self.schedule.first_cpu_time) >= SPIN_WITH_CALLS
            }
        }
    }

    /// Returns whether the tracee sleeps although a socket has something to receive.
    fn leaves_unread(&mut self, now: Instant) -> bool {
        let activity = self.observer.observe_sleepers();
        if activity == Activity::Running {
            self.schedule.unread_since = None;
            return false;
        }
        let since = *self.schedule.unread_since.get_or_insert_with(|| {
            self.schedule.has_slept = false;
            now
        });
        self.schedule.has_slept |= activity == Activity::Asleep;
        now - since >= if self.schedule.has_slept { UNREAD_ASLEEP } else { UNREAD }
    }

    /// Returns whether the tracee has received everything.
    pub(crate) fn has_delivered_all(sockets: &SocketTable) -> bool {
        backlog(sockets).is_none_or(|backlog| backlog.max == 0 && !backlog.is_blocked)
    }
}
