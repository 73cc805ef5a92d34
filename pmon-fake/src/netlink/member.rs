//! An open socket, as the connector knows it: what it asked for, and what it therefore hears.
//!
//! After `cn_proc_mcast_ctl` and `cn_filter` of `drivers/connector/cn_proc.c`.

use pmon_core::wire::{EventKind, layout, u32_at};
use rustix::io::Errno;

use crate::netlink::connector::GROUP;
use crate::netlink::filter::ClassicFilter;
use crate::netlink::receive_queue::ReceiveQueue;
use crate::netlink::request::Request;

/// `PROC_EVENT_ALL`.
const ALL: u32 = 0xE000_03C7;
/// `PROC_EVENT_NONZERO_EXIT`: exits other than of success.
const NONZERO_EXIT: u32 = 0x2000_0000;
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;

/// An open socket.
#[derive(Debug)]
pub(crate) struct SocketState {
    pub(crate) sock: ReceiveQueue,
    pub(crate) port: u32,
    /// Whether the port is this socket's: after `EADDRINUSE`, it shows one that is another's.
    pub(crate) bound: bool,
    pub(crate) groups: u32,
    /// When it joined its first group, among the joins: the last one hears first.
    pub(crate) joined: u64,
    /// Where `send` goes, port and group, if it is connected. Nobody else's messages come to its port then.
    pub(crate) peer: Option<(u32, u32)>,
    pub(crate) filter: Option<ClassicFilter>,
    /// `SO_LOCK_FILTER`.
    pub(crate) filter_is_locked: bool,
    /// `sk_user_data`: what it last asked for.
    input: Option<Input>,
    pub(crate) open: bool,
    /// Whether its owner has `CAP_NET_ADMIN`.
    pub(crate) admin: bool,
    /// Calls that will be interrupted, or find nothing.
    pub(crate) interrupted: u32,
    pub(crate) starved: u32,
    /// Nothing will come any more.
    pub(crate) ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Input {
    operation: u32,
    mask: u32,
}

impl SocketState {
    pub(crate) fn new(admin: bool) -> Self {
        Self {
            sock: ReceiveQueue::default(),
            port: 0,
            bound: false,
            groups: 0,
            joined: 0,
            peer: None,
            filter: None,
            filter_is_locked: false,
            input: None,
            open: true,
            admin,
            interrupted: 0,
            starved: 0,
            ended: false,
        }
    }

    /// `close`.
    pub(crate) fn close(&mut self) {
        *self = Self { open: false, ..Self::new(self.admin) };
    }

    /// Takes a request: by how much it changes the count of listeners, and the errno of the answer.
    pub(crate) fn ask(&mut self, request: &Request) -> (i32, u32) {
        let mask = match request.mask.map(|mask| mask & ALL) {
            None | Some(0) => ALL,
            Some(mask) => mask,
        };
        let before = self.input.replace(Input { operation: request.operation, mask });
        match request.operation {
            LISTEN => (i32::from(before.is_none_or(|input| input.operation != LISTEN)), 0),
            IGNORE => {
                self.input = Some(Input { operation: IGNORE, mask: 0 });
                (-i32::from(before.is_some_and(|input| input.operation != IGNORE)), 0)
            }
            _ => (0, Errno::INVAL.raw_os_error() as u32),
        }
    }

    pub(crate) fn listens(&self) -> bool {
        self.groups & GROUP != 0
    }

    /// Whether it hears everything, and would have it at once.
    #[inline]
    pub(crate) fn takes_all(&self) -> bool {
        self.listens()
            && self.port != 0
            && self.starved == 0
            && !self.ended
            && self.filter.is_none()
            && matches!(self.input, None | Some(Input { operation: LISTEN, mask: ALL }))
            && self.sock.is_idle()
    }

    /// `cn_filter`, for what the kernel sends.
    #[inline]
    pub(crate) fn wants(&self, datagram: &[u8]) -> bool {
        match self.input {
            None | Some(Input { operation: LISTEN, mask: ALL }) => true,
            Some(Input { operation: IGNORE, .. }) => false,
            Some(Input { mask, .. }) => {
                let (what, code) =
                    (u32_at(datagram, layout::WHAT.start), u32_at(datagram, layout::EXIT_CODE.start));
                let is_failure =
                    mask & NONZERO_EXIT != 0 && Some(what) == EventKind::Exit.what() && code != 0;
                mask == ALL || is_failure || mask & what != 0
            }
        }
    }
}
