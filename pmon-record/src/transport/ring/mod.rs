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
use std::sync::Arc;

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use pmon_core::Cpu;
use pmon_core::batch::Batch;
use pmon_core::capture::{CpuCounts, SignalTracing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use cgroups::Cgroups;
use kernel_types::KernelTypes;
use loader::Object;
pub(crate) use refusal::RingError;
use sys::SkippedCounts;
use tree::TreeMarker;

use crate::handover::{Descriptors, HandoverError, Role};
use crate::options::RecordOptions;
use crate::scope::{MAX_UIDS, TreeScope};

/// The compiled BPF programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/ring.bpf.o");

/// Maximum size of a ring in bytes. A map's size is a 32-bit number, and a ring's size is a power
/// of two.
pub const MAX_RING_BYTES: usize = 1 << 31;

/// Why there are no senders of signals with another transport than a ring with details.
pub(crate) const NO_DETAILS: &str = "only the transport ring+details has them";

/// A ring that receives the events of a socket.
pub(crate) struct Ring {
    ring: RingBuf<MapData>,
    asleep: Array<MapData, u32>,
    counter: RingCounter,
    /// Received cgroup paths, and the round in which the BPF program sends each path once.
    cgroups: Cgroups,
    round: Array<MapData, u32>,
    /// Whether events that do not fit are lost instead of going to the socket's queue.
    loses_events: bool,
    /// Marks the processes of the tree before the recording begins.
    tree_marker: Option<TreeMarker>,
    /// Keeps the program attached that reads the peak memory of each process.
    peak_tracer: Option<OwnedFd>,
    /// Keeps the program attached that observes the senders of signals, or why there is none.
    signal_tracer: Result<OwnedFd, String>,
    /// Copies of the maps' descriptors for the next recorder, until they are taken.
    copies: Vec<(Role, OwnedFd)>,
}

/// The maps that the recorder uses while it records.
struct RingMaps {
    ring: Map,
    asleep: Map,
    counts: Map,
    round: Map,
}

impl RingMaps {
    /// Returns copies of the descriptors.
    fn copies(&self) -> io::Result<Vec<(Role, OwnedFd)>> {
        let all = [
            (Role::Ring, &self.ring),
            (Role::Asleep, &self.asleep),
            (Role::Counts, &self.counts),
            (Role::Round, &self.round),
        ];
        let copy = |(role, map): (Role, &Map)| match map {
            Map::RingBuf(data) | Map::Array(data) | Map::PerCpuArray(data) => {
                Some(data.fd().as_fd().try_clone_to_owned().map(|fd| (role, fd)))
            }
            _ => None,
        };
        all.into_iter().filter_map(copy).collect()
    }
}

/// Reads the numbers of events that a ring did not deliver.
#[derive(Clone)]
pub(crate) struct RingCounter {
    counts: Arc<PerCpuArray<MapData, SkippedCounts>>,
    /// Counts of each CPU at the start of the recording.
    before: Vec<CpuCounts>,
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
        let maps = RingMaps {
            ring: map("RING")?,
            asleep: map("ASLEEP")?,
            counts: map("COUNTS")?,
            round: map("ROUND")?,
        };
        let copies = maps.copies().map_err(RingError::Mapping)?;
        let mut this = Self::of_maps(maps, copies, |error| RingError::of_mapping(error, size))?;
        (this.loses_events, this.tree_marker) = (!scope.is_all(), tree_marker);
        crate::sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_BPF, filter.as_raw_fd())
            .map_err(RingError::of_attachment)?;
        if details {
            this.peak_tracer = trace_peaks(&object, &types);
            this.signal_tracer = trace_signals(&object).map_err(|error| error.to_string());
        }
        Ok(this)
    }

    /// Continues with the ring of an earlier recorder, at the position up to which it has been
    /// read. The filter is attached to the socket already.
    pub(crate) fn adopt(descriptors: &Descriptors) -> Result<Self, HandoverError> {
        let unusable = |name, source| HandoverError::Unusable { name, source };
        let map = |role: Role| {
            let map = MapData::from_fd(descriptors.copy(role)?).and_then(Map::from_map_data);
            map.map_err(|error| unusable(role.name(), io::Error::other(error)))
        };
        let maps = RingMaps {
            ring: map(Role::Ring)?,
            asleep: map(Role::Asleep)?,
            counts: map(Role::Counts)?,
            round: map(Role::Round)?,
        };
        let mut this =
            Self::of_maps(maps, Vec::new(), |error| unusable(Role::Ring.name(), io::Error::other(error)))?;
        this.peak_tracer =
            descriptors.descriptor(Role::Peaks).map(|_| descriptors.copy(Role::Peaks)).transpose()?;
        this.signal_tracer = match descriptors.descriptor(Role::Signals) {
            Some(_) => Ok(descriptors.copy(Role::Signals)?),
            None => Err(descriptors.no_signals().into()),
        };
        this.request_cgroups();
        Ok(this)
    }

    /// Maps the ring. `failed` returns the error of a map.
    fn of_maps<E>(
        maps: RingMaps,
        copies: Vec<(Role, OwnedFd)>,
        failed: impl Fn(MapError) -> E,
    ) -> Result<Self, E> {
        Ok(Self {
            ring: RingBuf::try_from(maps.ring).map_err(&failed)?,
            asleep: Array::try_from(maps.asleep).map_err(&failed)?,
            counter: RingCounter {
                counts: Arc::new(PerCpuArray::try_from(maps.counts).map_err(&failed)?),
                before: Vec::new(),
            },
            cgroups: Cgroups::default(),
            round: Array::try_from(maps.round).map_err(&failed)?,
            loses_events: false,
            tree_marker: None,
            peak_tracer: None,
            signal_tracer: Err(NO_DETAILS.into()),
            copies,
        })
    }

    /// Returns copies of the descriptors that the next recorder needs; none if they were taken
    /// before.
    pub(crate) fn take_copies(&mut self) -> io::Result<Vec<(Role, OwnedFd)>> {
        let mut copies = std::mem::take(&mut self.copies);
        if let Some(peaks) = &self.peak_tracer {
            copies.push((Role::Peaks, peaks.try_clone()?));
        }
        if let Ok(signals) = &self.signal_tracer {
            copies.push((Role::Signals, signals.try_clone()?));
        }
        Ok(copies)
    }

    /// Whether the senders of signals are observed.
    pub(crate) fn signals(&self) -> SignalTracing {
        match &self.signal_tracer {
            Ok(_) => SignalTracing::On,
            Err(why) => SignalTracing::Off { why: why.clone() },
        }
    }

    /// Makes the BPF program send the path of each cgroup again, because the paths that it has sent
    /// are not known here.
    pub(crate) fn request_cgroups(&mut self) {
        begin_round(&mut self.round);
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
                begin_round(&mut self.round);
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
        Ok(self.counter.all()?.iter().map(|counts| counts.dropped).sum())
    }

    /// Begins the recording: earlier events do not count.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.counter.before = self.counter.all()?;
        Ok(())
    }

    /// Returns the counter, which another thread can use.
    pub(crate) fn counter(&self) -> &RingCounter {
        &self.counter
    }
}

impl RingCounter {
    /// Numbers of events of each CPU that the ring did not deliver since the start of the
    /// recording.
    pub(crate) fn counts(&self) -> io::Result<Vec<CpuCounts>> {
        let mut counts = self.all()?;
        for (counts, before) in counts.iter_mut().zip(&self.before) {
            counts.spilled -= before.spilled;
            counts.dropped -= before.dropped;
            counts.excluded -= before.excluded;
        }
        Ok(counts)
    }

    fn all(&self) -> io::Result<Vec<CpuCounts>> {
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

/// Begins another round, in which the BPF program sends each cgroup's path once.
fn begin_round(round: &mut Array<MapData, u32>) {
    let number = round.get(&0, 0).unwrap_or_default();
    // If this fails, an exec in a cgroup whose path is not known records a missed path.
    let _sent = round.set(0, number.wrapping_add(1), 0);
}

/// Returns a number that identifies the BPF programs (FNV-1a). The entries of the ring, and the
/// values of the maps, mean the same to every recorder with these programs.
pub(crate) fn object_id() -> u64 {
    OBJECT.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns the size of a ring for `bytes` bytes, a power of two as the kernel requires; `None` if
/// the size is too large.
pub(crate) fn size(bytes: usize) -> Option<u32> {
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

/// Attaches the program that observes the senders of signals.
fn trace_signals(object: &Object) -> Result<OwnedFd, RingError> {
    let program = object.load_program("keep_sender", 0)?;
    sys::attach_tracer(program.as_fd(), Some(c"signal_generate"))
        .map_err(|error| RingError::of_call("BPF_RAW_TRACEPOINT_OPEN", error))
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
