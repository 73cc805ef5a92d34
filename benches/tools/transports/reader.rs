//! Readers that only count. Each is this program again, by a hidden first argument, so that its CPU time is its own; it
//! ends with SIGINT or SIGTERM, and then says on standard output how many events it took, and how often it was told of
//! an overrun.

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

/// The arguments: one `recv` for each event,
pub(crate) const RECV: &str = "--recv";
/// and the ring alone.
pub(crate) const BARE_RING: &str = "--bare-ring";

/// The program that the recorder loads, and its ring's size there.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../pmon-record/bpf/ring.bpf.o");
const RING: u32 = 16 << 20;
/// The ring is emptied this often, as by the recorder in a storm.
const LATENCY: Duration = Duration::from_millis(10);

/// What a reader has seen so far.
#[derive(Default)]
struct Counts {
    events: AtomicU64,
    overruns: AtomicU64,
}

/// One `recv` for each event, which waits for it; the socket as the kernel gives it.
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

/// Only what it takes to empty the ring; nothing is ever taken from the socket.
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

/// Puts a ring in front of the socket's queue.
fn attach(socket: &OwnedFd) -> anyhow::Result<Ebpf> {
    let btf = Btf::from_sys_fs()?;
    let mut program = EbpfLoader::new().btf(Some(&btf)).map_max_entries("RING", RING).load(OBJECT)?;
    let filter: &mut SocketFilter =
        program.program_mut("take_bare").context("it has no filter")?.try_into()?;
    filter.load()?;
    filter.attach(socket)?;
    Ok(program)
}

/// A socket that hears nothing yet.
fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(CONNECTOR))?)
}

/// Listens, and has `read` run, for as long as it can, until a signal comes.
fn count_until_signal(
    socket: &Arc<OwnedFd>,
    read: impl FnOnce(&OwnedFd, &Counts) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot take signals")?;
    // On a port of our number, by which we are known in `/proc/net/netlink`.
    bind(socket, &SocketAddrNetlink::new(process::id(), CN_IDX_PROC))?;
    request(socket, SubscribeOp::Listen)?;
    let counts = Arc::<Counts>::default();
    let reader = thread::spawn({
        let (socket, counts) = (Arc::clone(socket), Arc::clone(&counts));
        move || {
            if let Err(error) = read(&socket, &counts) {
                let _ = writeln!(io::stderr(), "{error:#}");
            }
        }
    });
    while !matches!(signals.wait(None)?, WakeReason::Interrupt | WakeReason::Terminate) {}
    anyhow::ensure!(!reader.is_finished(), "the reader has failed");
    // Otherwise the kernel would go on as if somebody listened.
    request(socket, SubscribeOp::Ignore)?;
    writeln!(io::stdout(), "{} {}", counts.events.load(Relaxed), counts.overruns.load(Relaxed))?;
    Ok(())
}

fn request(socket: &OwnedFd, operation: SubscribeOp) -> io::Result<()> {
    let request = SubscribeRequest::new(operation, 0).encode(getpid().as_raw_pid() as u32, ByteOrder::NATIVE);
    send(socket, &request, SendFlags::empty())?;
    Ok(())
}
