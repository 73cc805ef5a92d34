//! Delivery of one datagram to several sockets, some of which have filters.
//!
//! After `do_one_broadcast` of `net/netlink/af_netlink.c`: a filter of one socket can truncate the
//! datagram for the sockets that come after it. Without filters, each socket receives the datagram
//! whole.

use pmon_core::Cpu;

use crate::netlink::receive_queue::truesize;
use crate::netlink::socket_state::SocketState;

/// A datagram during its delivery.
#[derive(Debug)]
pub(crate) struct Multicast<'a> {
    datagram: &'a [u8],
    sender: u32,
    groups: u32,
    /// The CPU that filters see.
    cpu: Cpu,
    /// The length that filters have left of the original.
    len: usize,
    /// Whether another holder has the original, so that each socket gets a copy and a filter
    /// truncates only that.
    is_shared: bool,
    /// The length of a copy that was dropped for lack of buffer space; the next socket gets that
    /// copy.
    spare_copy: Option<usize>,
    /// The number of the overrun in which each socket drops the datagram, however empty its buffer
    /// is.
    lost: Option<u64>,
}

impl<'a> Multicast<'a> {
    pub(crate) fn new(datagram: &'a [u8], sender: u32, groups: u32, cpu: Cpu) -> Self {
        // A sender in user space keeps the original for the unicast to the destination port.
        let (len, is_shared) = (datagram.len(), sender != 0);
        Self { datagram, sender, groups, cpu, len, is_shared, spare_copy: None, lost: None }
    }

    /// Lets each socket drop the datagram that would receive it, in the overrun with this number.
    pub(crate) fn lost(self, overrun: u64) -> Self {
        Self { lost: Some(overrun), ..self }
    }

    /// Delivers the datagram to one socket, if its mask and its filter accept it.
    pub(crate) fn deliver(&mut self, socket: &mut SocketState) {
        let mut len = self.spare_copy.take().unwrap_or(self.len);
        if self.sender == 0 && !socket.mask_selects(self.datagram) {
            return;
        }
        if let Some(filter) = &mut socket.filter {
            len = filter.run(&self.datagram[..len], self.cpu).min(len);
            if len == 0 {
                return;
            }
        }
        if !self.is_shared {
            self.len = len;
        }
        if let Some(overrun) = self.lost {
            return socket.queue.lose(overrun);
        }
        let truesize = truesize(self.datagram.len());
        if socket.queue.enqueue(&self.datagram[..len], truesize, self.sender, self.groups) {
            self.is_shared = true;
        } else if self.is_shared {
            self.spare_copy = Some(len);
        }
    }
}
