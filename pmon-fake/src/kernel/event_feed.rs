//! External events: those that happened on another kernel, and happen here again.

use std::sync::MutexGuard;

use pmon_core::batch::Batch;
use pmon_core::wire::{EVENT_DATAGRAM_LEN, Event};
use pmon_core::{Cpu, MonoNs, Seq};

use crate::faults::place::EventProcess;
use crate::netlink::connector::Connector;

/// Feeds external events, such as those of a capture, to a [`Kernel`](crate::Kernel).
///
/// The kernel is locked while this value exists. [`Kernel::feed`](crate::Kernel::feed) returns it.
#[derive(Debug)]
pub struct EventFeed<'a>(pub(super) MutexGuard<'a, Connector>);

impl EventFeed<'_> {
    /// Emits an event with its own time and CPU; returns `false` if the event is not emitted.
    ///
    /// The differences between the sequence numbers of a CPU's events are preserved; the numbers
    /// themselves are shifted by the count of this kernel's own events on that CPU.
    #[inline]
    pub fn emit(&mut self, event: &Event) -> bool {
        self.emit_of(event, EventProcess::default())
    }

    /// Emits an event as [`EventFeed::emit`]; the places of a fault script compare `process`.
    #[inline]
    pub fn emit_of(&mut self, event: &Event, process: EventProcess<'_>) -> bool {
        self.0.emit_external(event, process)
    }

    /// Returns whether the faults depend on the processes passed to [`EventFeed::emit_of`].
    pub fn needs_processes(&self) -> bool {
        self.0.faults.uses_processes
    }

    /// Emits an event as encoded by [`Event::encode`], bypassing the queue of the kernel's only
    /// socket where that is possible.
    ///
    /// The event is pushed to `batch`, which must not be full. If it has to be queued instead,
    /// `false` is returned, and [`Source::receive`](pmon_core::source::Source::receive) must be
    /// called next.
    #[inline]
    pub fn emit_into(&mut self, datagram: &[u8; EVENT_DATAGRAM_LEN], batch: &mut Batch) -> bool {
        self.0.emit_external_into(datagram, batch)
    }

    /// Emits a datagram of any form as one of the kernel.
    pub fn emit_datagram(&mut self, bytes: &[u8]) {
        self.emit_datagram_of(bytes, EventProcess::default());
    }

    /// Emits a datagram as [`EventFeed::emit_datagram`]; the places of a fault script compare
    /// `process`.
    pub fn emit_datagram_of(&mut self, bytes: &[u8], process: EventProcess<'_>) {
        self.0.emit_external_datagram(bytes, process);
    }

    /// Leaves out the CPU's next `events` external events, without a gap in the sequence numbers.
    pub fn omit(&mut self, cpu: Cpu, events: u32) {
        self.0.seq.omit(cpu, events);
    }

    /// Counts `events` drops on each socket in the group and reports `ENOBUFS`, without using
    /// sequence numbers.
    pub fn drop_datagrams(&mut self, events: u64) {
        self.0.drop_datagrams(events);
    }

    /// Sets CPU and sequence number of this kernel's next own event.
    pub fn start_at(&mut self, cpu: Cpu, next: Seq) {
        self.0.current_cpu = cpu;
        self.0.seq.set_next(cpu, next);
    }

    /// Advances the clock to `time`, unless it is past it already.
    pub fn advance_to(&mut self, time: MonoNs) {
        self.0.advance_to(time);
    }
}
