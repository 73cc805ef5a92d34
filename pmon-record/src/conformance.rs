//! The conformance suite of `pmon-testkit` on the running kernel: its socket, with and without a
//! ring.

use std::ffi::CString;
use std::io;
use std::time::{Duration, Instant};

use pmon_core::Cpu;
use pmon_core::batch::{Batch, Datagram};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_testkit::conformance::{SourceUnderTest, conforms};
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, getsockname, sendto, socket};
use rustix::thread::{CpuSet, gettid, sched_setaffinity, set_name};

use crate::machine;
use crate::options::RecordOptions;
use crate::transport::live_source::LiveSource;
use crate::transport::netlink::NetlinkSocket;
use crate::transport::ring::{Ring, entry};

/// A buffer for the events of other processes while this thread waits for a CPU.
const LARGE_BUFFER: usize = 64 << 20;
/// A port that no socket has: above all process IDs, and below the ports that the kernel assigns
/// otherwise.
const UNUSED_PORT: u32 = 0x7FFF_FFF0;

/// Maximum time in which the kernel acknowledges the subscription.
const MAX_ACK_DELAY: Duration = Duration::from_millis(250);

/// The ring that receives events before the socket's queue does.
#[derive(Clone, Copy, Debug)]
struct FrontRing {
    bytes: usize,
    details: bool,
}

/// The running kernel, with a source of its events.
struct LiveKernel {
    source: LiveSource,
    cpus: Vec<Cpu>,
    max_metadata: usize,
    no_enobufs: bool,
    /// Receives the datagrams that the other socket drops.
    witness: Option<NetlinkSocket>,
}

impl LiveKernel {
    /// Subscribes.
    ///
    /// # Errors
    /// Why this environment has no process events.
    fn open(ring: Option<FrontRing>, no_enobufs: bool) -> Result<Self, String> {
        let why = |error: io::Error| match error.raw_os_error() {
            Some(
                libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EPERM | libc::EACCES | libc::ECONNREFUSED,
            ) => error.to_string(),
            _ => panic!("{error}"),
        };
        let cpus = machine::online_cpus();
        if let Some(cpu) = cpus.iter().find(|&&cpu| !move_to(cpu)) {
            return Err(format!("this thread may not run on CPU {cpu}"));
        }
        let socket = NetlinkSocket::open().map_err(why)?;
        let room = socket.set_buffer(LARGE_BUFFER).unwrap();
        if no_enobufs {
            socket.set_no_enobufs().unwrap();
        }
        let mut max_metadata = 0;
        let ring = match ring {
            None => None,
            Some(FrontRing { bytes, details }) => {
                max_metadata = if details { entry::MAX_METADATA_BYTES } else { 0 };
                let options = RecordOptions { ring: bytes, args_max: 0, ..RecordOptions::default() };
                Some(Ring::attach(&socket, &options, None, details).map_err(|error| error.to_string())?)
            }
        };
        socket.bind().map_err(why)?;
        let mut source = LiveSource::new(socket, ring, room / 832);
        let number = 0x0A5C_0000 ^ gettid().as_raw_nonzero().get() as u32;
        source.socket_mut().listen(number).map_err(why)?;
        // The kernel sends acknowledgements to all listeners, so those of other processes arrive,
        // too.
        let expected = EventBody::Ack { ack: number + 1, err: 0 };
        let is_own_ack = |datagram: Datagram<'_>| {
            datagram.arrival.sender == 0
                && Event::decode(datagram.bytes, ByteOrder::NATIVE).is_ok_and(|event| event.body == expected)
        };
        let mut batch = Batch::with_metadata(1, max_metadata, max_metadata);
        let began = Instant::now();
        while !batch.datagrams().any(is_own_ack) {
            batch.clear();
            if source.receive(&mut batch).unwrap() != Received::Empty {
                continue;
            }
            let Some(left) = MAX_ACK_DELAY.checked_sub(began.elapsed()) else {
                return Err("the kernel does not acknowledge the subscription".into());
            };
            source.wait(left).unwrap();
        }
        Ok(Self { source, cpus, max_metadata, no_enobufs, witness: None })
    }
}

/// Moves this thread to a CPU. Returns whether that is permitted.
fn move_to(cpu: Cpu) -> bool {
    let mut only = CpuSet::new();
    only.set(cpu.0 as usize);
    sched_setaffinity(None, &only).is_ok()
}

impl SourceUnderTest for LiveKernel {
    type Source = LiveSource;

    fn reports_overruns(&self) -> bool {
        !self.no_enobufs
    }

    fn reports_senders(&self) -> bool {
        true
    }

    fn max_metadata(&self) -> usize {
        self.max_metadata
    }

    fn cpus(&self) -> Vec<Cpu> {
        self.cpus.clone()
    }

    fn tid(&self) -> u32 {
        gettid().as_raw_nonzero().get() as u32
    }

    fn emit(&mut self, cpu: Cpu, name: &str) {
        assert!(move_to(cpu));
        set_name(&CString::new(name).unwrap()).unwrap();
    }

    fn listen(&mut self, ack: u32) {
        self.source.socket_mut().listen(ack).unwrap();
    }

    fn ignore(&mut self) {
        self.source.socket_mut().ignore().unwrap();
    }

    fn send_to_group(&mut self, datagram: &[u8]) -> Result<u32, String> {
        let socket = socket(AddressFamily::NETLINK, SocketType::DGRAM, Some(CONNECTOR)).unwrap();
        bind(&socket, &SocketAddrNetlink::new(0, 0)).unwrap();
        let to = SocketAddrNetlink::new(UNUSED_PORT, 1);
        match sendto(&socket, datagram, SendFlags::empty(), &to) {
            // No socket has the port, but the group has received the datagram.
            Err(rustix::io::Errno::CONNREFUSED) => {}
            Err(rustix::io::Errno::PERM) => return Err("no permission to send to the group".into()),
            other => panic!("{other:?}"),
        }
        let name = SocketAddrNetlink::try_from(getsockname(&socket).unwrap()).unwrap();
        Ok(name.pid())
    }

    fn foreign_datagrams(&mut self) -> u64 {
        let Some(witness) = &mut self.witness else { return 0 };
        let mut batch = Batch::with_capacity(512);
        let mut datagrams = 0;
        while let Received::Datagrams(1..) = witness.receive(&mut batch).unwrap() {
            datagrams += batch.datagrams().filter(|datagram| datagram.arrival.sender != 0).count() as u64;
            batch.clear();
        }
        datagrams
    }

    fn shrink_buffer(&mut self) {
        let witness = NetlinkSocket::open().unwrap();
        witness.set_buffer(LARGE_BUFFER).unwrap();
        witness.bind().unwrap();
        self.witness = Some(witness);
        self.source.socket_mut().set_buffer(0).unwrap();
    }

    fn enlarge_buffer(&mut self) {
        self.source.socket_mut().set_buffer(LARGE_BUFFER).unwrap();
    }

    fn dropped(&mut self) -> u64 {
        // Read from the socket: the source's own count is under test. A ring drops no event that
        // the queue does not drop as well.
        self.source.socket_mut().drops().unwrap().expect("this kernel counts")
    }

    fn source(&mut self) -> &mut LiveSource {
        &mut self.source
    }
}

#[test]
fn the_sockets_queue() {
    conforms("the_sockets_queue", || LiveKernel::open(None, false));
}

#[test]
fn the_sockets_queue_without_enobufs() {
    conforms("the_sockets_queue_without_enobufs", || LiveKernel::open(None, true));
}

#[test]
fn the_ring() {
    conforms("the_ring", || LiveKernel::open(Some(FrontRing { bytes: 64 << 10, details: false }), true));
}

#[test]
fn the_ring_with_details() {
    let ring = FrontRing { bytes: 64 << 10, details: true };
    conforms("the_ring_with_details", || LiveKernel::open(Some(ring), true));
}

/// Most events of a burst arrive by the socket's queue.
#[test]
fn a_ring_that_is_mostly_full() {
    let ring = FrontRing { bytes: 4 << 10, details: false };
    conforms("a_ring_that_is_mostly_full", || LiveKernel::open(Some(ring), true));
}
