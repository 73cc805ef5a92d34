//! Emission of events on the fake kernel.
//!
//! In a world without a clock, the next event is emitted when the tracee waits for one: in a
//! blocking call that finds the queue empty, in the second of two consecutive nonblocking calls
//! that find it empty, or before a waiting call (`poll`, `select`, `epoll_wait`) that the kernel
//! then executes. In a world with a clock, events are emitted when they are due.

use std::time::{Duration, Instant};

use crate::error::{ServeError, ServeResult};
use crate::seccomp::listener::SeccompListener;
use crate::sockets::proxy::SocketProxy;
use crate::sockets::table::SocketTable;
use crate::world::{NextEvent, ReplayWorld};

/// Maximum number of events emitted in a batch, before other calls are handled.
const BATCH: u32 = 4096;

/// The state of the emission of events.
#[derive(Default)]
pub(crate) struct EventEmitter {
    /// Events are emitted on demand. Until the world has an event on demand, it is taken for a
    /// world with a clock.
    pub(crate) is_on_demand: bool,
    /// A call of the tracee has waited for an event. Otherwise, events with a clock begin with the
    /// first subscription, so that a program receives none between `bind` and its request.
    pub(crate) is_demanded: bool,
    input: InputState,
    /// No event is emitted until the program has settled.
    pub(crate) is_settling: bool,
    /// The next event of a world with a clock is not due yet.
    pub(crate) awaits_due: bool,
    /// The last batch ended before it reached an event for the tracee.
    pub(crate) batch_is_incomplete: bool,
    /// No event is emitted because one of several sockets is half full, and since then the tracee
    /// has received nothing and has slept.
    pub(crate) held_back_since: Option<Instant>,
}

/// Whether the world has events left.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum InputState {
    /// Events are left, or the tracee has not waited for one since the last.
    #[default]
    Available,
    /// No event is left, and the tracee has waited for one. Since then, `empty_reads` nonblocking
    /// calls have found nothing.
    Exhausted { empty_reads: u32 },
}

impl EventEmitter {
    /// Returns the number of nonblocking calls that have found nothing since the input is
    /// exhausted; `None` while it is not.
    pub(crate) fn empty_reads(&self) -> Option<u32> {
        match self.input {
            InputState::Available => None,
            InputState::Exhausted { empty_reads } => Some(empty_reads),
        }
    }

    /// Counts a nonblocking call that has found nothing.
    pub(crate) fn count_empty_read(&mut self) {
        if let InputState::Exhausted { empty_reads } = &mut self.input {
            *empty_reads += 1;
        }
    }

    fn set_exhausted(&mut self) {
        if self.input == InputState::Available {
            self.input = InputState::Exhausted { empty_reads: 0 };
        }
    }

    /// Returns whether events with a clock have begun.
    pub(crate) fn may_begin(&self, sockets: &SocketTable) -> bool {
        self.is_demanded || sockets.any_subscribed()
    }

    /// In a world with a clock, emits the events that are due, at most `batch`. Returns the time
    /// until the next one, and whether any was emitted.
    pub(crate) fn emit_due<W: ReplayWorld>(
        &mut self,
        sockets: &mut SocketTable,
        world: &mut W,
        listener: &SeccompListener,
        batch: u32,
    ) -> ServeResult<W, (Option<Duration>, bool)> {
        self.awaits_due = false;
        let (mut emitted, mut has_emitted) = (0, false);
        let is_idle = self.is_settling || self.is_on_demand;
        if is_idle || !self.may_begin(sockets) || !sockets.any_receives_events() {
            return Ok((None, has_emitted));
        }
        loop {
            match world.next_event().map_err(ServeError::World)? {
                // Late events wait for the tracee's calls: the tracee must not be late, too.
                NextEvent::In(Duration::ZERO) if has_emitted && (emitted >= batch || listener.is_ready()) => {
                    return Ok((Some(Duration::ZERO), has_emitted));
                }
                NextEvent::In(Duration::ZERO) => {
                    world.step().map_err(ServeError::World)?;
                    emitted += 1;
                    has_emitted = true;
                }
                NextEvent::In(due) => {
                    self.awaits_due = true;
                    return Ok((Some(due), has_emitted));
                }
                NextEvent::OnDemand => {
                    self.is_on_demand = true;
                    return Ok((None, has_emitted));
                }
                NextEvent::Never => {
                    if !sockets.any_ready() {
                        self.set_exhausted();
                    }
                    return Ok((None, has_emitted));
                }
            }
        }
    }

    /// Emits events until one of the sockets `indexes` is ready; returns whether any was emitted. A
    /// call receives from the socket `receiver` immediately afterwards, so that its waiting calls
    /// need no notification.
    pub(crate) fn advance<W: ReplayWorld>(
        &mut self,
        sockets: &mut SocketTable,
        world: &mut W,
        indexes: &[usize],
        receiver: Option<usize>,
    ) -> ServeResult<W, bool> {
        if self.is_settling {
            return Ok(false);
        }
        // A fast reader waits for a slow reader, unless the latter does not read at all.
        let proxies = &mut sockets.proxies;
        let is_slower = |(index, proxy): (usize, &SocketProxy)| {
            !indexes.contains(&index) && proxy.is_lagging() && !proxy.is_closed()
        };
        if proxies.len() > 1 && proxies.iter().enumerate().any(is_slower) {
            self.held_back_since.get_or_insert_with(Instant::now);
            return Ok(false);
        }
        let mut steps = 0;
        while !indexes.iter().any(|&index| proxies[index].is_ready())
            && indexes.iter().any(|&index| proxies[index].socket.receives_events())
        {
            self.is_demanded = true;
            match world.next_event().map_err(ServeError::World)? {
                NextEvent::OnDemand if steps == BATCH => {
                    self.batch_is_incomplete = true;
                    break;
                }
                NextEvent::OnDemand => {
                    world.step().map_err(ServeError::World)?;
                    steps += 1;
                }
                NextEvent::In(_) => break,
                NextEvent::Never => {
                    self.set_exhausted();
                    break;
                }
            }
        }
        if steps > 0 {
            let is_other =
                |(index, proxy): &(usize, &mut SocketProxy)| Some(*index) != receiver && proxy.is_ready();
            proxies.iter_mut().enumerate().filter(is_other).for_each(|(_, proxy)| proxy.wake());
        }
        Ok(steps > 0)
    }
}
