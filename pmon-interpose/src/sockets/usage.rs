//! Counts of what the tracee has done with its sockets, and of what it has received.

use pmon_core::wire::{ByteOrder, Event, EventBody};
use rustix::io::Errno;

/// Maximum number of closed sockets that are reported individually.
const MAX_CLOSED: usize = 64;

/// What the program has done with a socket, and what it has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketUsage {
    /// Whether the socket had a port, through `bind` or its first `send`.
    pub is_bound: bool,
    /// Whether the socket has requested events (`PROC_CN_MCAST_LISTEN`).
    pub has_subscribed: bool,
    /// Number of events received.
    pub events: u64,
    /// Number of acknowledgements of subscriptions received.
    pub acknowledgements: u64,
    /// Number of other datagrams received: truncated events, messages that are not events, and
    /// datagrams of other processes.
    pub others: u64,
    /// Number of calls that failed with `ENOBUFS`.
    pub overruns: u64,
    /// Number of datagrams dropped because the receive buffer was full.
    pub drops: u64,
}

/// The kind of a received datagram, or of the error of a receiving call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceivedKind {
    Event,
    Acknowledgement,
    Other,
    Overrun,
}

impl ReceivedKind {
    /// Returns the kind of a datagram of the netlink port `sender`.
    pub(crate) fn of(datagram: &[u8], sender: u32) -> Self {
        match Event::decode(datagram, ByteOrder::NATIVE) {
            Ok(Event { body: EventBody::Ack { .. }, .. }) if sender == 0 => Self::Acknowledgement,
            Ok(_) if sender == 0 => Self::Event,
            Ok(_) | Err(_) => Self::Other,
        }
    }
}

impl SocketUsage {
    /// Counts a received datagram of the netlink port `sender`.
    pub(crate) fn count(&mut self, datagram: &[u8], sender: u32) {
        self.count_kind(ReceivedKind::of(datagram, sender));
    }

    /// Counts a received datagram or error.
    pub(crate) fn count_kind(&mut self, kind: ReceivedKind) {
        match kind {
            ReceivedKind::Event => self.events += 1,
            ReceivedKind::Acknowledgement => self.acknowledgements += 1,
            ReceivedKind::Other => self.others += 1,
            ReceivedKind::Overrun => self.overruns += 1,
        }
    }

    /// Takes back the count of a datagram that returns to the queue.
    pub(crate) fn uncount(&mut self, datagram: &[u8], sender: u32) {
        let mut one = Self::default();
        one.count(datagram, sender);
        self.events -= one.events;
        self.acknowledgements -= one.acknowledgements;
        self.others -= one.others;
    }

    /// Counts an error that a receiving call returned.
    pub(crate) fn count_error(&mut self, error: Errno) {
        self.overruns += u64::from(error == Errno::NOBUFS);
    }

    fn add(&mut self, other: &Self) {
        self.is_bound |= other.is_bound;
        self.has_subscribed |= other.has_subscribed;
        self.events += other.events;
        self.acknowledgements += other.acknowledgements;
        self.others += other.others;
        self.overruns += other.overruns;
        self.drops += other.drops;
    }
}

/// The usage of all sockets of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketSummary {
    /// Number of sockets that were opened.
    pub opened: u64,
    /// Sums over all sockets; the flags are set if they are set for any socket.
    pub total: SocketUsage,
    /// The sockets, in the order in which they were opened. Of the sockets that the program has
    /// closed, only the first 64 are included.
    pub each: Vec<SocketUsage>,
}

/// The usage of the sockets that the tracee has closed.
#[derive(Default)]
pub(crate) struct ClosedSockets {
    total: SocketUsage,
    /// The first closed sockets, each with its number in the order of opening.
    each: Vec<(u64, SocketUsage)>,
}

impl ClosedSockets {
    pub(crate) fn push(&mut self, number: u64, usage: SocketUsage) {
        self.total.add(&usage);
        if self.each.len() < MAX_CLOSED {
            self.each.push((number, usage));
        }
    }

    /// Returns the usage of these and of the open sockets, each with its number.
    pub(crate) fn summary(
        &self,
        opened: u64,
        open: impl Iterator<Item = (u64, SocketUsage)>,
    ) -> SocketSummary {
        let (mut total, mut each) = (self.total, self.each.clone());
        for (number, usage) in open {
            total.add(&usage);
            each.push((number, usage));
        }
        each.sort_by_key(|&(number, _)| number);
        SocketSummary { opened, total, each: each.into_iter().map(|(_, usage)| usage).collect() }
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::wire::EVENT_DATAGRAM_LEN;
    use pmon_fake::{Kernel, RecvFlags};

    use super::*;

    #[test]
    fn events_acknowledgements_and_other_datagrams_are_counted_apart() {
        let mut kernel = Kernel::new(1);
        let mut socket = kernel.socket();
        socket.listen().unwrap();
        let task = kernel.add_process("test");
        kernel.fork(task);
        let mut usage = SocketUsage::default();
        let mut buffer = [0; EVENT_DATAGRAM_LEN];
        for _ in 0..2 {
            let datagram = socket.recv(&mut buffer, RecvFlags::empty()).unwrap();
            usage.count(&buffer[..datagram.len], datagram.sender);
        }
        // A forged event, and a truncated one.
        usage.count(&buffer, 4711);
        usage.count(&buffer[..40], 0);
        let expected = SocketUsage { events: 1, acknowledgements: 1, others: 2, ..SocketUsage::default() };
        assert_eq!(usage, expected);

        usage.uncount(&buffer, 0);
        assert_eq!(usage, SocketUsage { events: 0, ..expected });
    }

    #[test]
    fn the_summary_lists_sockets_in_the_order_of_opening_and_adds_up_all() {
        let mut closed = ClosedSockets::default();
        for number in (0..100).rev() {
            closed.push(number, SocketUsage { events: number, ..SocketUsage::default() });
        }
        let open = SocketUsage { events: 1000, has_subscribed: true, ..SocketUsage::default() };
        let summary = closed.summary(101, [(100, open)].into_iter());
        assert_eq!((summary.opened, summary.each.len()), (101, MAX_CLOSED + 1));
        assert_eq!((summary.total.events, summary.total.has_subscribed), (99 * 50 + 1000, true));
        assert!(summary.each.is_sorted_by_key(|usage| usage.events));
    }
}
