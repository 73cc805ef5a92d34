//! The ring: a BPF program on the socket copies events into memory that is mapped here, so that none is queued and none takes
//! a system call (`bpf/ring.bpf.c`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{Array, MapData, MapError, RingBuf};
use aya::programs::{ProgramError, SocketFilter};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};
use pmon_core::wire::EVENT_FRAME;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

/// The program, compiled.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/ring.bpf.o");

/// A ring that a socket's events go to.
pub(crate) struct Ring {
    ring: RingBuf<MapData>,
    asleep: Array<MapData, u32>,
    /// The program and the rest of its maps.
    _program: Ebpf,
}

/// Why there is no ring. The socket then has its own queue only.
#[derive(Debug, Error)]
pub(crate) enum RingError {
    #[error("no permission to load a BPF program: it takes CAP_BPF and CAP_PERFMON")]
    Privilege,
    #[error("the kernel does not describe its types (no /sys/kernel/btf/vmlinux)")]
    NoBtf,
    #[error("{}", chain(.0))]
    Load(#[from] EbpfError),
    #[error("{}", chain(.0))]
    Program(#[from] ProgramError),
    #[error("{}", chain(.0))]
    Map(#[from] MapError),
    #[error("the compiled program lacks {0}")]
    Incomplete(&'static str),
}

impl Ring {
    /// Puts a ring of so many bytes, rounded up to a power of two, in front of the queue of a socket that is not bound yet.
    pub(crate) fn attach(socket: impl AsFd, bytes: usize) -> Result<Self, RingError> {
        let privilege = |error| if is_permission(&error) { RingError::Privilege } else { error };
        Self::load(socket, bytes).map_err(privilege)
    }

    fn load(socket: impl AsFd, bytes: usize) -> Result<Self, RingError> {
        // Without it, the loader would leave the places of the kernel's fields as they were compiled.
        let btf = Btf::from_sys_fs().map_err(|_unreadable| RingError::NoBtf)?;
        let size = u32::try_from(bytes.next_power_of_two()).unwrap_or(1 << 30).max(page_size());
        let mut program = EbpfLoader::new().btf(Some(&btf)).map_max_entries("RING", size).load(OBJECT)?;
        let filter: &mut SocketFilter =
            program.program_mut("take").ok_or(RingError::Incomplete("its filter"))?.try_into()?;
        filter.load()?;
        filter.attach(socket.as_fd())?;
        let mut map = |name| program.take_map(name).ok_or(RingError::Incomplete(name));
        let (ring, asleep) = (RingBuf::try_from(map("RING")?)?, Array::try_from(map("ASLEEP")?)?);
        Ok(Self { ring, asleep, _program: program })
    }

    /// The next event's frame.
    pub(crate) fn next(&mut self) -> Option<[u8; EVENT_FRAME]> {
        self.ring.next().and_then(|item| item.first_chunk().copied())
    }

    /// Whether nothing is in it, also no event that its CPU is only just writing, for which [`Ring::next`] does not wait.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        let mut ring = [PollFd::new(&self.ring, PollFlags::IN)];
        Ok(rustix::io::retry_on_intr(|| poll(&mut ring, Some(&Timespec::default())))? == 0)
    }

    /// Lets the next event wake whoever waits for the ring's descriptor. What was there before wakes nobody.
    pub(crate) fn arm(&mut self) -> io::Result<()> {
        self.asleep.set(0, 1, 0).map_err(io::Error::other)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

fn page_size() -> u32 {
    rustix::param::page_size() as u32
}

/// Whether at the bottom of it there is a lack of permission.
fn is_permission(error: &RingError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::PermissionDenied;
        }
        next = error.source();
    }
    false
}

/// An error with all that is below it, in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
