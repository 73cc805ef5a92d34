//! Readers that only count. Each is this program again, with a hidden first argument, so that its
//! CPU time is separate. It exits on SIGINT or SIGTERM, and prints how many events it received, and
//! how many overruns were reported.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use aya::maps::RingBuf;
use aya::programs::SocketFilter;
use aya::{Btf, Ebpf, EbpfLoader};
use pmon_core::wire::{ByteOrder, CN_IDX_PROC, SubscribeOp, SubscribeRequest};
use pmon_record::{Signals, WakeReason};
use rustix::io::Errno;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use rustix::process::getpid;

/// Argument of the reader that calls `recv` for each event.
pub(crate) const RECV: &str = "--recv";
/// Argument of the reader that empties the ring.
pub(crate) const BARE_RING: &str = "--bare-ring";

/// The BPF program that the recorder loads.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../pmon-record/bpf/ring.bpf.o");
/// Size of the ring in bytes, as in the recorder.
const RING_BYTES: u32 = 16 << 20;
/// Interval in which the ring is emptied, as by the recorder in a storm.
const LATENCY: Duration = Duration::from_millis(10);

/// Events and overruns so far.
#[derive(Default)]
struct ReaderCounts {
    events: AtomicU64,
    overruns: AtomicU64,
}

/// Calls `recv` for each event, on a socket with default options.
pub(crate) fn read_socket() -> anyhow::Result<()> {
    count_until_signal(&Arc::new(socket()?), |socket, counts| {
        let (mut events, mut overruns) = (0, 0);
        let mut frame = [0; 256];
        loop {
            match recv(socket, &mut frame, RecvFlags::empty()) {
                Ok(_) => events += 1,
                Err(Errno::NOBUFS) => overruns += 1,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            counts.events.store(events, Relaxed);
            counts.overruns.store(overruns, Relaxed);
        }
    })
}

/// Empties the ring; receives nothing from the socket.
pub(crate) fn read_ring() -> anyhow::Result<()> {
    let socket = Arc::new(socket()?);
    let mut program = attach(&socket).context("cannot attach the ring's program")?;
    let mut ring = RingBuf::try_from(program.take_map("RING").context("the program has no ring")?)?;
    count_until_signal(&socket, move |_, counts| {
        let mut events = 0;
        loop {
            while ring.next().is_some() {
                events += 1;
            }
            counts.events.store(events, Relaxed);
            thread::sleep(LATENCY);
        }
    })
}

/// Attaches the BPF program to the socket, so that events go to the ring.
fn attach(socket: &OwnedFd) -> anyhow::Result<Ebpf> {
    let btf = Btf::from_sys_fs()?;
    let mut program = EbpfLoader::new().btf(Some(&btf)).map_max_entries("RING", RING_BYTES).load(OBJECT)?;
    let filter: &mut SocketFilter =
        program.program_mut("take_bare").context("it has no filter")?.try_into()?;
    filter.load()?;
    filter.attach(socket)?;
    Ok(program)
}

/// Opens a socket that has not joined the group.
fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(CONNECTOR))?)
}

/// Subscribes, and runs `read` in a thread until a signal arrives.
fn count_until_signal(
    socket: &Arc<OwnedFd>,
    read: impl FnOnce(&OwnedFd, &ReaderCounts) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot receive signals")?;
    // The port is the process ID, so that `/proc/net/netlink` shows which process it is.
    bind(socket, &SocketAddrNetlink::new(process::id(), CN_IDX_PROC))?;
    request(socket, SubscribeOp::Listen)?;
    let counts = Arc::<ReaderCounts>::default();
    let reader = thread::spawn({
        let (socket, counts) = (Arc::clone(socket), Arc::clone(&counts));
        move || {
            if let Err(error) = read(&socket, &counts) {
                let _ = writeln!(io::stderr(), "{error:#}");
            }
        }
    });
    while !matches!(signals.wait(None)?, WakeReason::Interrupt | WakeReason::Terminate) {}
    anyhow::ensure!(!reader.is_finished(), "the reader failed");
    // Otherwise the kernel would continue to count this listener.
    request(socket, SubscribeOp::Ignore)?;
    writeln!(io::stdout(), "{} {}", counts.events.load(Relaxed), counts.overruns.load(Relaxed))?;
    Ok(())
}

fn request(socket: &OwnedFd, operation: SubscribeOp) -> io::Result<()> {
    let request = SubscribeRequest::new(operation, 0).encode(getpid().as_raw_pid() as u32, ByteOrder::NATIVE);
    send(socket, &request, SendFlags::empty())?;
    Ok(())
}
