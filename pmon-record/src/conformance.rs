//! The running kernel: its socket, with or without a ring in front of it.

use std::ffi::CString;
use std::io;
use std::time::{Duration, Instant};

use pmon_core::Cpu;
use pmon_core::batch::{Batch, Datagram};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_testkit::conformance::{Host, conforms};
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, getsockname, sendto, socket};
use rustix::thread::{CpuSet, gettid, sched_setaffinity, set_name};

use crate::cpus;
use crate::options::RecordOptions;
use crate::transport::live_source::LiveSource;
use crate::transport::netlink::Socket;
use crate::transport::ring::{Ring, entry};

/// Room for what others do, however long this thread has to wait for a CPU.
const ROOM: usize = 64 << 20;
/// A port that nobody has: above all process ids, and below those that the kernel chooses otherwise.
const NOBODY: u32 = 0x7FFF_FFF0;

/// The kernel answers at once, or not at all.
const ANSWER: Duration = Duration::from_millis(250);

/// What is in front of the queue.
#[derive(Clone, Copy, Debug)]
enum Front {
    None,
    Ring { bytes: usize, details: bool },
}

/// See the module. The thread that opens it emits the events.
struct Live {
    feed: LiveSource,
    cpus: Vec<Cpu>,
    largest_annex: usize,
    hushed: bool,
    /// Hears what the other socket has no room for.
    witness: Option<Socket>,
}

impl Live {
    /// Or why this environment has none.
    fn open(front: Front, hushed: bool) -> Result<Self, String> {
        let why = |error: io::Error| match error.raw_os_error() {
            Some(
                libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EPERM | libc::EACCES | libc::ECONNREFUSED,
            ) => error.to_string(),
            _ => panic!("{error}"),
        };
        let cpus: Vec<_> = cpus::online().into_iter().map(Cpu).collect();
        if let Some(cpu) = cpus.iter().find(|&&cpu| !is_reached(cpu)) {
            return Err(format!("this thread may not run on CPU {cpu}"));
        }
        let socket = Socket::open().map_err(why)?;
        let room = socket.enlarge(ROOM).unwrap();
        if hushed {
            socket.no_enobufs().unwrap();
        }
        let mut largest_annex = 0;
        let ring = match front {
            Front::None => None,
            Front::Ring { bytes, details } => {
                largest_annex = if details { entry::LARGEST } else { 0 };
                let options = RecordOptions { ring: bytes, args_max: 0, ..RecordOptions::default() };
                Some(Ring::attach(&socket, &options, None, details).map_err(|error| error.to_string())?)
            }
        };
        socket.bind().map_err(why)?;
        let mut feed = LiveSource::new(socket, ring, room / 832);
        let number = 0x0A5C_0000 ^ gettid().as_raw_nonzero().get() as u32;
        feed.socket_mut().listen(number).map_err(why)?;
        // The acknowledgement, if this kernel speaks to us at all. Those of others' requests come to all.
        let expected = EventBody::Ack { ack: number + 1, err: 0 };
        let is_answer = |frame: Datagram<'_>| {
            frame.arrival.sender == 0
                && Event::decode(frame.bytes, ByteOrder::NATIVE).is_ok_and(|event| event.body == expected)
        };
        let mut batch = Batch::with_metadata(1, largest_annex, largest_annex);
        let began = Instant::now();
        while !batch.datagrams().any(is_answer) {
            batch.clear();
            if feed.receive(&mut batch).unwrap() != Received::Empty {
                continue;
            }
            let Some(left) = ANSWER.checked_sub(began.elapsed()) else {
                return Err("the kernel does not answer".into());
            };
            feed.wait(left).unwrap();
        }
        Ok(Self { feed, cpus, largest_annex, hushed, witness: None })
    }
}

/// Moves this thread there.
fn is_reached(cpu: Cpu) -> bool {
    let mut only = CpuSet::new();
    only.set(cpu.0 as usize);
    sched_setaffinity(None, &only).is_ok()
}

impl Host for Live {
    type Source = LiveSource;

    fn tells_overruns(&self) -> bool {
        !self.hushed
    }

    fn knows_senders(&self) -> bool {
        true
    }

    fn largest_annex(&self) -> usize {
        self.largest_annex
    }

    fn cpus(&self) -> Vec<Cpu> {
        self.cpus.clone()
    }

    fn tid(&self) -> u32 {
        gettid().as_raw_nonzero().get() as u32
    }

    fn emit(&mut self, cpu: Cpu, name: &str) {
        assert!(is_reached(cpu));
        set_name(&CString::new(name).unwrap()).unwrap();
    }

    fn listen(&mut self, ack: u32) {
        self.feed.socket_mut().listen(ack).unwrap();
    }

    fn ignore(&mut self) {
        self.feed.socket_mut().ignore().unwrap();
    }

    fn forge(&mut self, datagram: &[u8]) -> Result<u32, String> {
        let socket = socket(AddressFamily::NETLINK, SocketType::DGRAM, Some(CONNECTOR)).unwrap();
        bind(&socket, &SocketAddrNetlink::new(0, 0)).unwrap();
        let to = SocketAddrNetlink::new(NOBODY, 1);
        match sendto(&socket, datagram, SendFlags::empty(), &to) {
            // By nobody; the group has it.
            Err(rustix::io::Errno::CONNREFUSED) => {}
            Err(rustix::io::Errno::PERM) => return Err("no permission to send to the group".into()),
            other => panic!("{other:?}"),
        }
        let name = SocketAddrNetlink::try_from(getsockname(&socket).unwrap()).unwrap();
        Ok(name.pid())
    }

    fn forged(&mut self) -> u64 {
        let Some(witness) = &mut self.witness else { return 0 };
        let mut batch = Batch::with_capacity(512);
        let mut forged = 0;
        while let Received::Datagrams(1..) = witness.receive(&mut batch).unwrap() {
            forged += batch.datagrams().filter(|frame| frame.arrival.sender != 0).count() as u64;
            batch.clear();
        }
        forged
    }

    fn squeeze(&mut self) {
        let witness = Socket::open().unwrap();
        witness.enlarge(ROOM).unwrap();
        witness.bind().unwrap();
        self.witness = Some(witness);
        self.feed.socket_mut().enlarge(0).unwrap();
    }

    fn relieve(&mut self) {
        self.feed.socket_mut().enlarge(ROOM).unwrap();
    }

    fn lost(&mut self) -> u64 {
        // Not by the feed, which is under test; what comes by these rings is not dropped without the queue.
        self.feed.socket_mut().drops().unwrap().expect("this kernel counts")
    }

    fn source(&mut self) -> &mut LiveSource {
        &mut self.feed
    }
}

#[test]
fn the_sockets_queue() {
    conforms("the_sockets_queue", || Live::open(Front::None, false));
}

#[test]
fn the_sockets_queue_without_enobufs() {
    conforms("the_sockets_queue_without_enobufs", || Live::open(Front::None, true));
}

#[test]
fn the_ring() {
    conforms("the_ring", || Live::open(Front::Ring { bytes: 64 << 10, details: false }, true));
}

#[test]
fn the_ring_with_details() {
    let front = Front::Ring { bytes: 64 << 10, details: true };
    conforms("the_ring_with_details", || Live::open(front, true));
}

/// Most of what comes at once goes by the queue.

#[test]
fn a_ring_that_is_mostly_full() {
    let front = Front::Ring { bytes: 4 << 10, details: false };
    conforms("a_ring_that_is_mostly_full", || Live::open(front, true));
}
