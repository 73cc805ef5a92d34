//! Stops the kernel's events for all listeners, as any process can.

use std::ffi::CString;

use pmon_core::wire::{ByteOrder, CN_IDX_PROC, SubscribeOp, SubscribeRequest};
use pmon_testkit::guard::skip;
use rustix::fd::OwnedFd;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use rustix::thread::set_name;

/// Offset of the operation in a request.
const OPERATION: usize = 36;
/// An operation that the kernel does not have.
const INVALID: u8 = 7;
/// Maximum number of listeners that the kernel counts, including those that were closed without
/// IGNORE.
const MAX_LISTENERS: usize = 10_000;
fn socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR)).unwrap()
}

/// Renames this thread.
pub(crate) fn rename(name: &str) {
    set_name(&CString::new(name).unwrap()).unwrap();
}

/// An unprivileged process that falsifies the kernel's count of listeners.
pub(crate) struct Attacker {
    socket: OwnedFd,
    /// Requests with an invalid operation, to ignore, and to listen.
    requests: [Vec<u8>; 3],
    /// Receives events while the kernel emits them.
    pub(crate) probe: OwnedFd,
    probes: u32,
}

impl Attacker {
    pub(crate) fn new() -> Self {
        let [ignore, listen] = [SubscribeOp::Ignore, SubscribeOp::Listen]
            .map(|operation| SubscribeRequest::new(operation, 0).encode(0, ByteOrder::NATIVE));
        let mut invalid = ignore.clone();
        invalid[OPERATION..OPERATION + 4].copy_from_slice(&u32::from(INVALID).to_ne_bytes());
        let probe = socket();
        bind(&probe, &SocketAddrNetlink::new(0, CN_IDX_PROC)).unwrap();
        Self { socket: socket(), requests: [invalid, ignore, listen], probe, probes: 0 }
    }

    /// Makes the kernel count one listener fewer.
    fn remove_listener(&self) {
        self.send([0, 1]);
    }

    /// Sends two requests by their indices.
    pub(crate) fn send(&self, requests: [usize; 2]) {
        for request in requests.map(|at| &self.requests[at]) {
            send(&self.socket, request, SendFlags::empty()).unwrap();
        }
    }

    /// Renames this thread. Returns the new name if the kernel emits no event of it.
    pub(crate) fn probe_events(&mut self) -> Option<String> {
        let mut bytes = [0; 128];
        let mut receives =
            || recv(&self.probe, &mut bytes, RecvFlags::empty()) != Err(rustix::io::Errno::AGAIN);
        while receives() {}
        self.probes += 1;
        let name = format!("probe{}", self.probes);
        rename(&name);
        (!receives()).then_some(name)
    }

    /// Stops the kernel's events. Returns the name in an event that was not emitted. Skips the test
    /// and returns `None` if this kernel's count cannot be falsified.
    pub(crate) fn silence(&mut self, below: usize) -> Option<String> {
        for _ in 0..MAX_LISTENERS {
            self.remove_listener();
            if let Some(hidden_name) = self.probe_events() {
                (0..below).for_each(|_| self.remove_listener());
                return Some(hidden_name);
            }
        }
        skip("the listener count of this kernel cannot be falsified");
        None
    }

    /// Makes the kernel count one listener more than before.
    pub(crate) fn add_listener(&self) {
        self.send([0, 2]);
    }

    /// Makes the kernel emit events again.
    pub(crate) fn restore(&mut self) {
        self.add_listener();
        while self.probe_events().is_some() {
            self.add_listener();
        }
    }
}
