//! The ring. A BPF program on the socket (`bpf/ring.bpf.c`) copies events into memory that the
//! recorder has mapped, so events are not queued and receiving them needs no system call.

mod cgroups;
pub(crate) mod entry;
mod kernel_types;
mod loader;
mod refusal;
#[allow(unsafe_code, reason = "`bpf(2)` and mapped memory have no safe wrapper")]
mod sys;
mod tree;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use pmon_core::Cpu;
use pmon_core::batch::Batch;
use pmon_core::capture::CpuCounts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use cgroups::Cgroups;
use kernel_types::KernelTypes;
use loader::Object;
pub(crate) use refusal::RingError;
use sys::SkippedCounts;
use tree::TreeMarker;

use crate::options::RecordOptions;
use crate::scope::{MAX_UIDS, TreeScope};

/// The compiled BPF programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/ring.bpf.o");

/// Maximum size of a ring in bytes. A map's size is a 32-bit number, and a ring's size is a power
/// of two.
pub const MAX_RING_BYTES: usize = 1 << 31;

/// A ring that receives the events of a socket.
pub(crate) struct Ring {
    ring: RingBuf<MapData>,
    asleep: Array<MapData, u32>,
    counts: PerCpuArray<MapData, SkippedCounts>,
    /// Received cgroup paths, and the round in which the BPF program sends each path once.
    cgroups: Cgroups,
    round: Array<MapData, u32>,
    /// Counts of each CPU at the start of the recording.
    before: Vec<CpuCounts>,
    /// Whether events that do not fit are lost instead of going to the socket's queue.
    loses_events: bool,
    /// Marks the processes of the tree before the recording begins.
    tree_marker: Option<TreeMarker>,
    /// Keeps the program attached that reads the peak memory of each process.
    peak_tracer: Option<OwnedFd>,
}

impl Ring {
    /// Attaches a ring of `options.ring` bytes, rounded up to a power of two, to a socket that is
    /// not bound yet. With `details`, execs and exits have details in their metadata (`entry.rs`).
    /// `cgroup` is the id of the scope's cgroup.
    ///
    /// The filter stays on the socket until the socket is closed, even after the ring is closed. It
    /// is therefore attached last, after every step that can fail and make the recorder use the
    /// socket alone.
    pub(crate) fn attach(
        socket: impl AsFd,
        options: &RecordOptions,
        cgroup: Option<u64>,
        details: bool,
    ) -> Result<Self, RingError> {
        let types = KernelTypes::read().map_err(RingError::of_types)?;
        let size = size(options.ring).ok_or(RingError::TooLarge(options.ring))?;
        let scope = &options.scope;
        let mut uids = [0; MAX_UIDS];
        uids.iter_mut().zip(&scope.uids).for_each(|(slot, &uid)| *slot = uid);
        let numbers = [
            ("ARGS", options.args_read() as u32),
            ("FILTER", (!scope.is_all()).into()),
            ("KINDS", scope.mask()),
            ("UIDS", scope.uids.len().min(MAX_UIDS) as u32),
            ("BY_TREE", scope.tree.is_some().into()),
            ("CHILDREN", (scope.tree == Some(TreeScope::Children)).into()),
            ("RECORDER", std::process::id()),
            ("CPUS", aya::util::nr_cpus().map_or(1, |cpus| cpus as u32)),
        ];
        let slabs = if scope.tree.is_some() { tree::SLABS } else { 1 };

        let mut constants = numbers.map(|(name, number)| (name, number.to_ne_bytes().to_vec())).to_vec();
        constants.push(("UID", uids.map(u32::to_ne_bytes).concat()));
        constants.push(("CGROUP", cgroup.unwrap_or(0).to_ne_bytes().to_vec()));
        let mut object = Object::load(OBJECT, &constants, (size, slabs), &types)?;
        let name = if details { "take_with_details" } else { "take_bare" };
        let filter = object.load_program(name, 0)?;
        let mut map = |name| object.take_map(name);
        let tree_marker = match scope.tree {
            Some(TreeScope::Process(root)) => Some(TreeMarker::new(root, &map("TREE")?, map("MARKING")?)?),
            _ => None,
        };
        let (ring, asleep, counts, round) = (map("RING")?, map("ASLEEP")?, map("COUNTS")?, map("ROUND")?);
        let mut this = Self {
            ring: RingBuf::try_from(ring).map_err(|error| RingError::of_mapping(error, size))?,
            asleep: Array::try_from(asleep)?,
            counts: PerCpuArray::try_from(counts)?,
            cgroups: Cgroups::default(),
            round: Array::try_from(round)?,
            before: Vec::new(),
            loses_events: !scope.is_all(),
            tree_marker,
            peak_tracer: None,
        };
        crate::sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_BPF, filter.as_raw_fd())
            .map_err(RingError::of_attachment)?;
        if details {
            this.peak_tracer = trace_peaks(&object, &types);
        }
        Ok(this)
    }

    /// Marks the processes of the scope's tree, before the socket listens.
    pub(crate) fn begin_tree(&mut self) -> io::Result<()> {
        self.tree_marker.as_mut().map_or(Ok(()), TreeMarker::begin)
    }

    /// Marks the processes that were forked meanwhile, once the socket listens. Returns `false` if
    /// the scope is not a tree.
    pub(crate) fn complete_tree(&mut self) -> io::Result<bool> {
        let Some(mut tree_marker) = self.tree_marker.take() else { return Ok(false) };
        tree_marker.complete()?;
        Ok(true)
    }

    /// Appends the next event to a batch that is not full; returns `false` if there is none.
    #[inline]
    pub(crate) fn next(&mut self, batch: &mut Batch) -> bool {
        while let Some(item) = self.ring.next() {
            let is_event = !entry::is_cgroup(&item);
            entry::push(&item, &mut self.cgroups, batch);
            if is_event {
                return true;
            }
            if self.cgroups.take_dropped() {
                let round = self.round.get(&0, 0).unwrap_or_default();
                // If this fails, an exec in a dropped cgroup records a missed path.
                let _sent = self.round.set(0, round.wrapping_add(1), 0);
            }
        }
        false
    }

    /// Whether the ring is empty. An event that a CPU is still writing, for which [`Ring::next`]
    /// does not wait, counts as present.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        let mut ring = [PollFd::new(&self.ring, PollFlags::IN)];
        Ok(rustix::io::retry_on_intr(|| poll(&mut ring, Some(&Timespec::default())))? == 0)
    }

    /// Makes the next event wake a thread that waits for the ring's descriptor. Earlier events do
    /// not.
    pub(crate) fn arm(&mut self) -> io::Result<()> {
        self.asleep.set(0, 1, 0).map_err(io::Error::other)
    }

    /// Number of events that were lost because the ring was full; 0 if they go to the socket's
    /// queue.
    pub(crate) fn drops(&self) -> io::Result<u64> {
        if !self.loses_events {
            return Ok(0);
        }
        Ok(self.all_counts()?.iter().map(|counts| counts.dropped).sum())
    }

    /// Begins the recording: earlier events do not count.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.before = self.all_counts()?;
        Ok(())
    }

    /// Numbers of events of each CPU that the ring did not deliver since the start of the
    /// recording.
    pub(crate) fn counts(&self) -> io::Result<Vec<CpuCounts>> {
        let mut counts = self.all_counts()?;
        for (counts, before) in counts.iter_mut().zip(&self.before) {
            counts.spilled -= before.spilled;
            counts.dropped -= before.dropped;
            counts.excluded -= before.excluded;
        }
        Ok(counts)
    }

    fn all_counts(&self) -> io::Result<Vec<CpuCounts>> {
        let counts = self.counts.get(&0, 0).map_err(io::Error::other)?;
        let of_cpu = |(counts, cpu): (&SkippedCounts, u32)| CpuCounts {
            cpu: Cpu(cpu),
            spilled: counts.spilled,
            dropped: counts.dropped,
            excluded: counts.excluded,
        };
        Ok(counts.iter().zip(0..).map(of_cpu).collect())
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Returns the size of a ring for `bytes` bytes, a power of two as the kernel requires; `None` if
/// the size is too large.
fn size(bytes: usize) -> Option<u32> {
    u32::try_from(bytes.checked_next_power_of_two()?).ok().map(|size| size.max(page_size()))
}

/// Attaches a program that reads a process's peak memory before the kernel releases the address
/// space. If the kernel accepts neither variant, the peak is unknown.
fn trace_peaks(object: &Object, types: &KernelTypes) -> Option<OwnedFd> {
    let attach = |program, function, tracepoint| {
        let program = object.load_program(program, function).ok()?;
        sys::attach_tracer(program.as_fd(), tracepoint).ok()
    };
    let function = types.function("exit_mm_release");
    let at_release = function.and_then(|function| attach("keep_peak_at_release", function, None));
    at_release.or_else(|| attach("keep_peak_at_exit", 0, Some(c"sched_process_exit")))
}

fn page_size() -> u32 {
    rustix::param::page_size() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rings_size_is_rounded_up_or_rejected() {
        assert_eq!([0, 1, 4097].map(size), [Some(page_size()), Some(page_size()), Some(8192)]);
        assert_eq!(size(MAX_RING_BYTES), Some(1 << 31));
        assert_eq!([MAX_RING_BYTES + 1, 8 << 30, usize::MAX / 2, usize::MAX].map(size), [None; 4]);
    }
}
