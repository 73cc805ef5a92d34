//! Datagrams that user space sends, not the kernel.

use std::fs;
use std::path::Path;

use pmon_core::wire::{ByteOrder, CN_IDX_PROC, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task};
use rustix::fd::OwnedFd;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};

use pmon_testkit::capture::CaptureContents;
use pmon_testkit::guard::{Need, skip};
use pmon_testkit::live::{live_test_with, wait_until};
use pmon_testkit::recorder::RecorderProcess;
use pmon_testkit::recorder::transport_options;

/// The name in the forged event; no thread has it.
const FORGED_NAME: &[u8] = b"forged";

/// Returns the port of a recorder's socket: `/proc/net/netlink` shows each socket's inode, and the
/// recorder's `/proc/PID/fd` has a link with that inode.
fn port(recorder: &RecorderProcess) -> u32 {
    let files = fs::read_dir(format!("/proc/{}/fd", recorder.pid())).unwrap();
    let links = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    let links: Vec<_> = links.collect();
    let table = fs::read_to_string("/proc/net/netlink").unwrap();
    let ports = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (protocol, port, inode) = (fields[1], fields[2], fields[fields.len() - 1]);
        let link = format!("socket:[{inode}]");
        (protocol == "11" && links.iter().any(|found| found == Path::new(&link)))
            .then(|| port.parse().unwrap())
    });
    let [port] = ports.collect::<Vec<_>>()[..] else { panic!("not one socket: {table}") };
    port
}

/// Returns a valid event with the next number of a CPU.
fn forged(capture: &CaptureContents) -> [u8; 76] {
    let Event { time, seq, cpu, .. } = *capture.events().last().unwrap();
    let mut comm = Comm::default();
    comm.0[..FORGED_NAME.len()].copy_from_slice(FORGED_NAME);
    let body = EventBody::Comm { task: Task::new(1, 1), comm };
    let event = Event { time: MonoNs(time.0 + 1), seq: Seq(seq.0.wrapping_add(1)), cpu: Cpu(cpu.0), body };
    event.encode(ByteOrder::NATIVE).unwrap()
}

pub(super) fn datagrams_from_user_space_are_rejected_and_counted() {
    // Sending to other sockets requires root.
    let Some((dir, _guard)) = live_test_with(&[Need::Root, Need::Recording(transport_options())]) else {
        return;
    };
    let recorder = RecorderProcess::start(&dir, &[]);
    let socket: OwnedFd =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(CONNECTOR))
            .unwrap();
    let port = port(&recorder);
    wait_until(|| recorder.read_partial().events().next().is_some());
    let forged = forged(&recorder.read_partial());
    let to_recorder = SocketAddrNetlink::new(port, 0);
    let to_group = SocketAddrNetlink::new(0, CN_IDX_PROC);
    for (bytes, address) in [
        (&forged[..], &to_recorder),
        (&forged, &to_group),
        (b"not an event", &to_recorder),
        (&forged[..50], &to_recorder),
    ] {
        match sendto(&socket, bytes, SendFlags::empty(), address) {
            Ok(sent) => assert_eq!(sent, bytes.len()),
            // Root in a container may lack the capability.
            Err(rustix::io::Errno::PERM) => return skip("CAP_NET_ADMIN is missing"),
            Err(error) => panic!("{error}"),
        }
    }
    let capture = recorder.finish();
    capture.check();
    let end = capture.totals();
    assert_eq!((end.rejected, end.malformed, end.lost.total()), (4, 0, 0));
    let is_forged =
        |event: &Event| matches!(event.body, EventBody::Comm { comm, .. } if comm.as_bytes() == FORGED_NAME);
    assert!(!capture.events().any(is_forged));
}
