//! The effects of a fault script that have begun and not ended yet.

use pmon_core::Cpu;

use crate::faults::injector::FaultInjector;

/// A running fault script, and its effects on coming events.
#[derive(Debug, Default)]
pub(crate) struct FaultState {
    pub(crate) injector: FaultInjector,
    /// Number of coming events that are not emitted (fault `blind`).
    pub(crate) blind: u64,
    pub(crate) delayed: Vec<DelayedDatagram>,
    /// Length to which the next datagram is truncated (fault `truncate`).
    pub(crate) truncate: Option<usize>,
}

/// A datagram that the fault `hold` keeps back.
#[derive(Debug)]
pub(crate) struct DelayedDatagram {
    pub(crate) cpu: Cpu,
    /// Number of events on other CPUs that come before this datagram.
    pub(crate) remaining: u32,
    /// The datagram, or `None` until its event has happened.
    pub(crate) datagram: Option<Vec<u8>>,
}

impl FaultState {
    /// Returns whether datagrams have to be truncated or delayed.
    #[inline]
    pub(crate) fn intercepts_datagrams(&self) -> bool {
        self.truncate.is_some() || !self.delayed.is_empty()
    }
}
