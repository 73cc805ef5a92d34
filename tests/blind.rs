//! What becomes of a recording when somebody makes the kernel silent. A program of its own: while it runs, every other
//! listener on the host hears nothing either, now and then.

mod common;

use std::ffi::CString;

use common::{Capture, Recorder, scene, skip, wait_until};
use pmon_core::capture::Reason;
use pmon_core::wire::{Body, ByteOrder, CN_IDX_PROC, Event, Operation, Request};
use rustix::fd::OwnedFd;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use rustix::thread::set_name;

/// Where a request has its operation.
const OPERATION: usize = 36;
/// No operation of the kernel's.
const INVALID: u8 = 7;
/// More listeners than the kernel counts, those included that have gone without a word.
const TRIES: usize = 10_000;
/// Listeners that the kernel is made to count fewer than none.
const BELOW: usize = 20;

fn socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR)).unwrap()
}

fn rename(name: &str) {
    set_name(&CString::new(name).unwrap()).unwrap();
}

/// Somebody who makes the kernel count its listeners wrong: without privilege, where anybody may listen.
struct Attacker {
    socket: OwnedFd,
    requests: [Vec<u8>; 2],
    /// Hears what the kernel says while it counts a listener.
    probe: OwnedFd,
    probes: u32,
}

impl Attacker {
    fn new() -> Self {
        let ignore = Request::new(Operation::Ignore, 0).encode(0, ByteOrder::NATIVE);
        let mut invalid = ignore.clone();
        invalid[OPERATION..OPERATION + 4].copy_from_slice(&u32::from(INVALID).to_ne_bytes());
        let probe = socket();
        bind(&probe, &SocketAddrNetlink::new(0, CN_IDX_PROC)).unwrap();
        Self { socket: socket(), requests: [invalid, ignore], probe, probes: 0 }
    }

    /// Makes the kernel count one listener fewer.
    fn take_one(&self) {
        for request in &self.requests {
            send(&self.socket, request, SendFlags::empty()).unwrap();
        }
    }

    /// The name of an event that the kernel kept to itself, if it does.
    fn unheard(&mut self) -> Option<String> {
        let mut bytes = [0; 128];
        let mut hears = || recv(&self.probe, &mut bytes, RecvFlags::empty()) != Err(rustix::io::Errno::AGAIN);
        while hears() {}
        self.probes += 1;
        let name = format!("probe{}", self.probes);
        rename(&name);
        (!hears()).then_some(name)
    }

    /// Makes the kernel silent; gives the name of an event that nobody has heard. `None` if the kernel counts too well.
    fn silence(&mut self) -> Option<String> {
        for _ in 0..TRIES {
            self.take_one();
            if let Some(unheard) = self.unheard() {
                (0..BELOW).for_each(|_| self.take_one());
                return Some(unheard);
            }
        }
        skip("this kernel cannot be made silent");
        None
    }
}

fn renamed<'a>(capture: &'a Capture, name: &str) -> Option<&'a Event> {
    let is_it =
        |event: &&Event| matches!(event.body, Body::Comm { comm, .. } if comm.as_bytes() == name.as_bytes());
    capture.events().find(is_it)
}

#[test]
fn a_kernel_that_falls_silent_is_noticed_and_healed_and_the_capture_says_for_how_long() {
    let Some((dir, _guard)) = scene() else { return };
    let recorder = Recorder::start(&dir, &["--heartbeat", "100ms"]);
    wait_until(|| !Capture::read(&recorder.partial()).snapshots.is_empty());
    rename("before");
    let Some(unheard) = Attacker::new().silence() else { return };
    wait_until(|| recorder.said().contains("the kernel is heard again"));
    assert!(recorder.said().contains("nothing is heard of the kernel any more"), "{}", recorder.said());
    rename("after");
    let is_scanned = |capture: &Capture| capture.snapshots.iter().any(|scan| scan.reason == Reason::Blind);
    wait_until(|| is_scanned(&Capture::read(&recorder.partial())));
    let capture = recorder.end();

    capture.check();
    let [blind] = capture.blind[..] else { panic!("once: {:?}", capture.blind) };
    let (before, after) = (renamed(&capture, "before").unwrap(), renamed(&capture, "after").unwrap());
    assert!(before.time <= blind.from && blind.until <= after.time, "{blind:?}");
    // Two heartbeats are missed before it is noticed.
    assert!((100_000_000..10_000_000_000).contains(&blind.length_ns()), "{blind:?}");
    assert!(renamed(&capture, &unheard).is_none());
    assert!(capture.totals().blind_ns > 0);
    let scan = capture.snapshots.iter().find(|scan| scan.reason == Reason::Blind).unwrap();
    assert!(scan.started >= blind.from, "{scan:?}");
}

#[test]
fn a_recorder_that_begins_in_silence_is_heard() {
    let Some((dir, _guard)) = scene() else { return };
    let Some(unheard) = Attacker::new().silence() else { return };
    let recorder = Recorder::start(&dir, &[]);
    rename("heard");
    let capture = recorder.end();
    capture.check();
    assert!(capture.blind.is_empty(), "{:?}", capture.blind);
    assert!(renamed(&capture, "heard").is_some() && renamed(&capture, &unheard).is_none());
}
