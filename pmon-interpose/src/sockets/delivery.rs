//! Delivery of events to the tracee's sockets and to blocked calls.

use std::time::{Duration, Instant};

use pmon_fake::QueuedDatagram;
use rustix::io::Errno;

use crate::error::{InterposeError, ServeError, ServeResult};
use crate::seccomp::listener::{InterceptedCall, Reply, SeccompListener};
use crate::sockets::emitter::EventEmitter;
use crate::sockets::native::flow_control::FlowControl;
use crate::sockets::proxy::SocketProxy;
use crate::sockets::receive::{ReceiveCall, ReceiveError, ReceiveScratch};
use crate::sockets::table::SocketTable;
use crate::sys::Notification;
use crate::tracee::fds::FileId;
use crate::tracee::memory::TraceeMemory;
use crate::world::ReplayWorld;

/// Number of nonblocking calls that find the input exhausted before the tracee counts as waiting.
const EMPTY_READS: u32 = 3;

/// Maximum number of due events that are emitted before they are transferred to native sockets.
const NATIVE_BATCH: u32 = 32;

/// The tracee's sockets, its blocked and waiting calls, and the emitter of events.
pub(crate) struct EventDelivery {
    pub(crate) listener: SeccompListener,
    pub(crate) sockets: SocketTable,
    /// Receiving calls that wait for a datagram.
    blocked: Vec<BlockedReceive>,
    /// Tasks that may still be in a waiting call that the kernel executes.
    pub(crate) pollers: Vec<u32>,
    pub(crate) emitter: EventEmitter,
    /// The transfer to native sockets; `None` if sockets are emulated.
    pub(crate) flow: Option<FlowControl>,
    /// After the reply to the current call, events are emitted for tasks in waiting calls.
    pub(crate) must_advance: bool,
    /// After the reply to the current call, blocked calls are retried, because events were emitted.
    pub(crate) must_resume: bool,
    scratch: ReceiveScratch,
}

/// A receiving call that waits for a datagram.
struct BlockedReceive {
    notification: Notification,
    call: ReceiveCall,
    /// The socket.
    file: FileId,
    /// Number of datagrams copied to the tracee.
    received: u64,
    /// The copied datagrams. If the call is interrupted, they return to the queue.
    dequeued: Vec<QueuedDatagram>,
    /// End of the time-out of the socket.
    deadline: Option<Instant>,
}

impl EventDelivery {
    pub(crate) fn new(listener: SeccompListener, sockets: SocketTable, flow: Option<FlowControl>) -> Self {
        Self {
            listener,
            sockets,
            blocked: Vec::new(),
            pollers: Vec::new(),
            emitter: EventEmitter::default(),
            flow,
            must_advance: false,
            must_resume: false,
            scratch: ReceiveScratch::default(),
        }
    }

    /// Returns `Some` if the tracee has waited for an event after the last one: `Some(true)` if it
    /// certainly does nothing but wait, in a blocked call or by repeated nonblocking calls, and has
    /// received everything from its other sockets.
    pub(crate) fn waits_at_end(&self) -> Option<bool> {
        let empty_reads = self.emitter.empty_reads()?;
        // No intercepted call shows that a tracee waits on a native socket.
        if self.flow.is_some() {
            return Some(false);
        }
        let waits = !self.blocked.is_empty() || empty_reads >= EMPTY_READS;
        Some(waits && !self.sockets.any_ready())
    }

    /// Returns whether the tracee may wait in a way that no intercepted call shows: it has
    /// subscribed, events are emitted on demand, and nothing is queued or no event is emitted
    /// because of a slow reader.
    pub(crate) fn may_wait_unnoticed(&self) -> bool {
        let has_nothing = self.blocked.is_empty() && !self.sockets.any_ready();
        self.emitter.is_on_demand
            && self.flow.is_none()
            && self.sockets.any_receives_events()
            && (has_nothing || self.emitter.held_back_since.is_some())
    }

    /// Returns the end of the earliest time-out of a blocked call.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.blocked.iter().filter_map(|blocked| blocked.deadline).min()
    }

    /// Removes the blocked and waiting calls of a task that makes another call: they were
    /// interrupted.
    pub(crate) fn remove_calls_of(&mut self, task: u32) {
        for mut blocked in self.blocked.extract_if(.., |blocked| blocked.notification.pid == task) {
            blocked.requeue(&mut self.sockets);
        }
        self.pollers.retain(|&poller| poller != task);
    }

    /// Does the work that the current call has deferred.
    pub(crate) fn finish_call<W: ReplayWorld>(&mut self, world: &mut W) -> ServeResult<W> {
        if std::mem::take(&mut self.must_advance) {
            self.advance_all(world)?;
        }
        if std::mem::take(&mut self.must_resume) {
            self.resume_blocked(world)?;
        }
        Ok(())
    }

    /// In a world with a clock, emits the events that are due; returns the time until the next one.
    pub(crate) fn emit_due<W: ReplayWorld>(&mut self, world: &mut W) -> ServeResult<W, Option<Duration>> {
        // The kernel, not the model, counts overruns of native sockets: transfer in between.
        let batch = if self.flow.is_some() { NATIVE_BATCH } else { u32::MAX };
        let (due, has_emitted) = self.emitter.emit_due(&mut self.sockets, world, &self.listener, batch)?;
        if has_emitted {
            world.mark_received(world.position());
            self.sockets.notify_ready();
            self.resume_blocked(world)?;
        }
        Ok(due)
    }

    /// Transfers datagrams to native sockets and emits events for them. Returns the time after
    /// which to call again.
    pub(crate) fn pump_native<W: ReplayWorld>(&mut self, world: &mut W) -> ServeResult<W, Option<Duration>> {
        let Self { flow: Some(flow), sockets, emitter, .. } = self else { return Ok(None) };
        if emitter.is_on_demand || !sockets.any_receives_events() {
            return flow.pump(world, sockets, emitter);
        }
        // A world counts as one with a clock until it has an event on demand.
        flow.transfer_all(sockets, world.position())?;
        if emitter.is_settling || emitter.may_begin(sockets) {
            return Ok(None);
        }
        let wait = flow.await_first_wait();
        emitter.is_demanded |= wait.is_none();
        Ok(Some(wait.unwrap_or_default()))
    }

    /// Transfers to native sockets what a call of the tracee has queued, before the call returns.
    /// Returns whether a receive buffer was too full for a datagram of the tracee.
    pub(crate) fn deliver_native<W: ReplayWorld>(&mut self, world: &W) -> Result<bool, InterposeError> {
        let Self { flow: Some(flow), sockets, emitter, .. } = self else { return Ok(false) };
        flow.note_change();
        if emitter.is_on_demand {
            flow.deliver(sockets, world.position())?;
        } else {
            flow.transfer_all(sockets, world.position())?;
        }
        Ok(flow.take_refused())
    }

    /// Transfers to native sockets the events that a call of the tracee has caused in a world with
    /// a clock, before the call returns.
    pub(crate) fn deliver_caused<W: ReplayWorld>(&mut self, world: &W) -> Result<(), InterposeError> {
        let Self { flow: Some(flow), sockets, emitter, .. } = self else { return Ok(()) };
        if emitter.is_on_demand || !sockets.any_ready() {
            return Ok(());
        }
        flow.transfer_all(sockets, world.position())
    }

    /// Finds out what the tracee has received from native sockets.
    pub(crate) fn observe_native<W: ReplayWorld>(&mut self, world: &mut W) -> Result<(), InterposeError> {
        let Self { flow: Some(flow), sockets, .. } = self else { return Ok(()) };
        flow.observe(world, sockets)
    }

    /// Returns whether the tracee has received everything from all sockets that it reads.
    pub(crate) fn has_received_all(&self) -> bool {
        let is_unread =
            |proxy: &SocketProxy| proxy.channel.native().is_none() && !proxy.is_abandoned && proxy.is_ready();
        FlowControl::has_delivered_all(&self.sockets) && !self.sockets.proxies.iter().any(is_unread)
    }

    /// Notes that the tracee makes a call.
    pub(crate) fn note_call(&mut self) {
        if let Some(flow) = &mut self.flow {
            flow.note_call();
        }
    }

    /// Notes whether a call of the tracee has looked at the recorded processes.
    pub(crate) fn note_look(&mut self, has_looked: bool) {
        if let (Some(flow), true) = (&mut self.flow, has_looked) {
            flow.note_look();
        }
    }

    /// Continues an incomplete batch. Returns whether it is still incomplete.
    pub(crate) fn continue_batch<W: ReplayWorld>(&mut self, world: &mut W) -> ServeResult<W, bool> {
        let was_incomplete = std::mem::take(&mut self.emitter.batch_is_incomplete);
        if self.flow.is_some() {
            return Ok(was_incomplete);
        }
        if was_incomplete {
            self.advance_all(world)?;
        }
        Ok(self.emitter.batch_is_incomplete)
    }

    /// Emits events as [`EventEmitter::advance`] does.
    pub(crate) fn advance<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        indexes: &[usize],
        receiver: Option<usize>,
    ) -> ServeResult<W> {
        self.must_resume |= self.emitter.advance(&mut self.sockets, world, indexes, receiver)?;
        Ok(())
    }

    /// Emits events until each subscribed socket is ready, for tasks in waiting calls, and resumes
    /// blocked calls.
    pub(crate) fn advance_all<W: ReplayWorld>(&mut self, world: &mut W) -> ServeResult<W> {
        for index in 0..self.sockets.proxies.len() {
            if self.sockets.proxies[index].socket.receives_events() {
                self.advance(world, &[index], None)?;
            }
        }
        self.resume_blocked(world)
    }

    /// Emits events although a socket is half full: the tracee sleeps without reading it.
    pub(crate) fn advance_past_abandoned<W: ReplayWorld>(&mut self, world: &mut W) -> ServeResult<W> {
        for proxy in self.sockets.proxies.iter_mut().filter(|proxy| proxy.is_lagging()) {
            proxy.is_abandoned = true;
        }
        self.advance_all(world)
    }

    /// Moves datagrams of untracked sockets, and emits events while they have room.
    pub(crate) fn pump_untracked<W: ReplayWorld>(&mut self, world: &mut W) -> ServeResult<W> {
        for index in 0..self.sockets.proxies.len() {
            while self.sockets.proxies[index].is_untracked && self.sockets.proxies[index].pump()? {
                // A socket that is only bound may be about to subscribe.
                if !self.sockets.proxies[index].socket.is_subscribed() {
                    break;
                }
                self.advance(world, &[index], Some(index))?;
                if !self.sockets.proxies[index].is_ready() {
                    break;
                }
                world.mark_received(world.position());
            }
        }
        Ok(())
    }

    /// Ends the input: once their queues are empty, all sockets return the end of file.
    pub(crate) fn end_input<W: ReplayWorld>(&mut self, world: &mut W) -> Result<(), InterposeError> {
        world.kernel().end_of_file();
        self.sockets.proxies.iter_mut().for_each(SocketProxy::notify);
        match self.resume_blocked(world) {
            Ok(()) | Err(ServeError::World(_)) => Ok(()),
            Err(ServeError::Interpose(error)) => Err(error),
        }
    }

    /// Executes a receiving call on the socket `index`.
    pub(crate) fn receive<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        intercepted: &InterceptedCall<'_>,
        index: usize,
    ) -> ServeResult<W, Reply> {
        let call = match ReceiveCall::parse(intercepted) {
            Ok(Some(call)) => call,
            Ok(None) => return Ok(Reply::Return(Ok(0))),
            Err(error) => return Ok(error.into()),
        };
        let proxy = &mut self.sockets.proxies[index];
        if call.is_recvmmsg()
            && call.flags & libc::MSG_ERRQUEUE as u32 == 0
            && let Some(error) = proxy.take_error()
        {
            return Ok(error.into());
        }
        let blocks = !proxy.nonblocking && call.flags & libc::MSG_DONTWAIT as u32 == 0;
        // A time-out that exceeds the range of the clock is unlimited.
        let deadline = proxy.options.rcvtimeo.and_then(|timeout| Instant::now().checked_add(timeout));
        let (notification, file) = (intercepted.notification, proxy.file);
        let mut blocked =
            BlockedReceive { notification, call, file, received: 0, dequeued: Vec::new(), deadline };
        match self.try_receive(world, &mut blocked, index, blocks) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => {
                self.blocked.push(blocked);
                Ok(Reply::Deferred)
            }
            // The call is retried from its first datagram on.
            Err(error) => {
                blocked.requeue(&mut self.sockets);
                Err(error)
            }
        }
    }

    /// Copies available datagrams to a call and replies to it; returns `None` if the call has to
    /// wait.
    fn try_receive<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        blocked: &mut BlockedReceive,
        index: usize,
        blocks: bool,
    ) -> ServeResult<W, Option<Reply>> {
        let BlockedReceive { notification, call, received, dequeued, .. } = blocked;
        let is_recvmmsg = call.is_recvmmsg();
        let mut len = 0;
        while *received < call.max_datagrams() {
            let waits = blocks && (*received == 0 || call.flags & libc::MSG_WAITFORONE as u32 == 0);
            if *received > 0 && call.timeout.as_ref().is_some_and(|timeout| timeout.remaining().is_zero()) {
                break;
            }
            // A tracee that repeats a nonblocking call waits for an event.
            if waits || self.sockets.proxies[index].found_empty {
                self.advance(world, &[index], Some(index))?;
                // That may have taken long: another task may have got the id of a task that has
                // ended.
                if !self.listener.is_pending(notification.id) {
                    blocked.requeue(&mut self.sockets);
                    return Ok(Some(Reply::Deferred));
                }
            }
            let proxy = &mut self.sockets.proxies[index];
            proxy.found_empty = false;
            // `recvmmsg` does not return empty messages at the end.
            if is_recvmmsg && proxy.socket.is_at_end() {
                break;
            }
            let copied = call.copy_next(proxy, notification.pid, *received, &mut self.scratch);
            let copied = copied.map_err(|error| match error {
                ReceiveError::NotReceived(error) => error,
                ReceiveError::Lost(error) => {
                    call.dequeue(proxy);
                    error
                }
            });
            match copied {
                Ok(copied) => {
                    proxy.is_abandoned = false;
                    world.mark_received(world.position());
                    self.must_advance |= self.emitter.held_back_since.take().is_some();
                    len = copied;
                    *received += 1;
                    // A single datagram leaves the queue after the reply has been delivered.
                    if is_recvmmsg {
                        dequeued.extend(call.dequeue(proxy));
                    }
                }
                // A fault script may let a call find nothing while datagrams are queued.
                Err(Errno::AGAIN) if waits && proxy.is_ready() => {}
                // `recvmmsg` returns what it has when no event is left.
                Err(Errno::AGAIN) if waits && (*received == 0 || self.emitter.empty_reads().is_none()) => {
                    return Ok(None);
                }
                Err(error) if *received > 0 => {
                    // The next call reports the error, as in the kernel.
                    if ![Errno::AGAIN, Errno::INTR].contains(&error) {
                        proxy.socket.set_error(error);
                    }
                    break;
                }
                Err(error) => {
                    proxy.received.count_error(error);
                    if error == Errno::AGAIN {
                        proxy.found_empty = true;
                        self.emitter.count_empty_read();
                        // Another task waits for the event, or for an edge on this socket.
                        if !self.pollers.is_empty() {
                            self.must_advance = true;
                            if proxy.is_ready() {
                                proxy.notify();
                            }
                        }
                    }
                    world.mark_received(world.position());
                    return Ok(Some(error.into()));
                }
            }
        }
        let result = if is_recvmmsg { blocked.received_messages() } else { Ok(len as i64) };
        let BlockedReceive { notification, call, .. } = blocked;
        match self.listener.complete(notification.id, result) {
            Ok(()) if !is_recvmmsg => drop(call.dequeue(&mut self.sockets.proxies[index])),
            Ok(()) => {}
            // A signal has interrupted the call; the task will restart it.
            Err(Errno::NOENT) => blocked.requeue(&mut self.sockets),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(Reply::Deferred))
    }

    /// Retries all blocked calls.
    fn resume_blocked<W: ReplayWorld>(&mut self, world: &mut W) -> ServeResult<W> {
        let mut result = Ok(());
        for mut blocked in std::mem::take(&mut self.blocked) {
            let notification = blocked.notification;
            if !self.listener.is_pending(notification.id) {
                blocked.requeue(&mut self.sockets);
                continue;
            }
            // A blocked call keeps the socket, even if another thread closes its descriptor.
            let Some(index) = self.sockets.index_of(blocked.file) else {
                self.listener.reply(&notification, Errno::BADF.into())?;
                continue;
            };
            match self.try_receive(world, &mut blocked, index, true) {
                Ok(Some(reply)) => self.listener.reply(&notification, reply)?,
                Ok(None) => self.blocked.push(blocked),
                Err(error) => {
                    self.blocked.push(blocked);
                    result = Err(error);
                }
            }
        }
        result
    }

    /// Replies to blocked calls whose time-out has expired.
    pub(crate) fn expire(&mut self) -> Result<(), Errno> {
        let now = Instant::now();
        let is_expired =
            |blocked: &mut BlockedReceive| blocked.deadline.is_some_and(|deadline| deadline <= now);
        for mut blocked in self.blocked.extract_if(.., is_expired) {
            let result = if blocked.received > 0 { blocked.received_messages() } else { Err(Errno::AGAIN) };
            match self.listener.complete(blocked.notification.id, result) {
                // A signal has interrupted the call before.
                Err(Errno::NOENT) => blocked.requeue(&mut self.sockets),
                done => done?,
            }
        }
        Ok(())
    }
}

impl BlockedReceive {
    /// Returns the result of `recvmmsg`, and writes the remaining time.
    fn received_messages(&self) -> Result<i64, Errno> {
        if let Some(timeout) = &self.call.timeout
            && self.received > 0
        {
            timeout.write(TraceeMemory::of(self.notification.pid), timeout.remaining())?;
        }
        Ok(self.received as i64)
    }

    /// Puts the datagrams of an interrupted call back into the queue.
    fn requeue(&mut self, sockets: &mut SocketTable) {
        if let Some(index) = sockets.index_of(self.file) {
            for datagram in self.dequeued.drain(..).rev() {
                sockets.proxies[index].requeue(datagram);
            }
        }
    }
}
