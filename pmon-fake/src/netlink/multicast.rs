//! A datagram for many, where some have filters: one that is cut may be another's, too.
//!
//! After `do_one_broadcast` of `net/netlink/af_netlink.c`. Without a filter nothing of it shows.

use pmon_core::Cpu;

use crate::netlink::member::SocketState;
use crate::netlink::receive_queue::charge;

/// A datagram on its way.
#[derive(Debug)]
pub(crate) struct Multicast<'a> {
    datagram: &'a [u8],
    sender: u32,
    groups: u32,
    /// Where it is sent, which filters may ask.
    cpu: Cpu,
    /// How much of it there still is: as long as nobody else has it, a filter cuts it for all who come after.
    len: usize,
    is_shared: bool,
    /// The length of a copy that found no room: the next gets it.
    copy: Option<usize>,
}

impl<'a> Multicast<'a> {
    pub(crate) fn new(datagram: &'a [u8], sender: u32, groups: u32, cpu: Cpu) -> Self {
        // Who sends from user space keeps it, for the port that it is also sent to.
        Self { datagram, sender, groups, cpu, len: datagram.len(), is_shared: sender != 0, copy: None }
    }

    /// To the next that it is addressed to, if that wants it.
    pub(crate) fn deliver(&mut self, member: &mut SocketState) {
        let mut len = self.copy.take().unwrap_or(self.len);
        if self.sender == 0 && !member.wants(self.datagram) {
            return;
        }
        if let Some(filter) = &mut member.filter {
            len = filter.run(&self.datagram[..len], self.cpu).min(len);
            if len == 0 {
                return;
            }
        }
        if !self.is_shared {
            self.len = len;
        }
        let charge = charge(self.datagram.len());
        if member.sock.deliver_charged(&self.datagram[..len], charge, self.sender, self.groups) {
            self.is_shared = true;
        } else if self.is_shared {
            self.copy = Some(len);
        }
    }
}
