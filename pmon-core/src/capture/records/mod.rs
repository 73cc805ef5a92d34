//! What a capture holds.

mod self_generated;

pub use self_generated::SelfGenerated;
use serde::{Deserialize, Serialize};

use crate::accounting::{Gap, LossByCause, LossCause};
use crate::ids::{Cpu, MonoNs, Seq, Tgid};
use crate::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event, Message, messages};

/// A datagram as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedDatagram<'a> {
    /// One event in its usual form: [`Event::encode`] gives the datagram's bytes back.
    Event(Event),
    /// Any other datagram, byte for byte: an unknown kind, an old kernel's shorter form, anything.
    Raw(&'a [u8]),
}

impl<'a> RecordedDatagram<'a> {
    /// Sorts a datagram into one of the two.
    #[inline]
    pub fn new(datagram: &'a [u8], order: ByteOrder) -> Self {
        Event::from_exact(datagram, order).map_or(Self::Raw(datagram), Self::Event)
    }

    /// The first event in it, if it can be read at all.
    #[inline]
    pub fn event(&self, order: ByteOrder) -> Option<Event> {
        match self {
            Self::Event(event) => Some(*event),
            Self::Raw(bytes) => Event::decode(bytes, order).ok(),
        }
    }

    /// Whether no event can be read from it, or what follows the last one that can is no message.
    pub fn is_malformed(&self, order: ByteOrder) -> bool {
        let Self::Raw(bytes) = self else { return false };
        let mut events = 0;
        for message in messages(bytes, order) {
            match message {
                Ok(Message::Event(_)) => events += 1,
                Ok(_) => {}
                Err(_) => return true,
            }
        }
        events == 0
    }

    /// Gives the datagram's bytes to `consume`, allocating nothing.
    #[inline]
    pub fn with_bytes<R>(&self, order: ByteOrder, consume: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Event(event) => consume(&event.encode(order).unwrap_or([0; EVENT_DATAGRAM_LEN])),
            Self::Raw(bytes) => consume(bytes),
        }
    }
}

/// One record of a capture, in the order in which the recorder learned of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A datagram, and of an exit perhaps what was used until then.
    Event(RecordedDatagram<'a>, Option<Box<Usage>>),
    /// Events that were emitted and did not arrive, before the next event.
    Loss(Loss),
    /// A time in which the recorder heard nothing, and does not know what happened.
    Blind(Blind),
    /// The recorder had each CPU say something.
    Fence(Fence),
    /// The two counts of what the source lost.
    Witness(Witness),
    /// A reading of the kernel's fork counter, which can reveal missing events that sequence
    /// numbers and drop counts do not show.
    Forks(ForkReading),
    /// What is recorded, if that is not everything.
    Scope(ScopeInfo),
    /// Events that were left out because they were not wanted.
    Excluded(Excluded),
    /// What became of events at the ring.
    Ring(RingCounts),
    /// What the clocks said.
    Clock(ClockAnchor),
    /// A scan of `/proc` has ended; its processes are the `Details` before it, since the last of its kind.
    Snapshot(Snapshot),
    /// What is known of a process besides its events.
    Details(Box<Details>),
    /// The recorder ended cleanly. Nothing follows.
    End(End),
    /// A record of a kind that this version does not know.
    Unknown {
        /// Its kind.
        kind: u8,
    },
}

impl<'a> From<RecordedDatagram<'a>> for Record<'a> {
    /// A datagram of which nothing else is known.
    fn from(frame: RecordedDatagram<'a>) -> Self {
        Self::Event(frame, None)
    }
}

/// Consecutive events of one CPU that were lost. Where one stretch of them had several causes, it is as many losses,
/// one behind the other: how many had which cause is exact, and which of them is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The CPU that emitted them.
    pub cpu: Cpu,
    /// The first number lost.
    pub first: Seq,
    /// The last number lost.
    pub last: Seq,
    /// The time of that CPU's event before.
    pub after: MonoNs,
    /// The time of that CPU's event behind.
    pub before: MonoNs,
    /// Why.
    pub cause: LossCause,
}

impl Loss {
    /// The losses that a gap is, given its causes and the number of each, of which the sum is the gap's.
    pub fn of_gap(
        gap: Gap,
        causes: impl IntoIterator<Item = (LossCause, u64)>,
    ) -> impl Iterator<Item = Self> {
        let Gap { cpu, mut first, after, before, .. } = gap;
        causes.into_iter().map(move |(cause, count)| {
            let behind = first.0.wrapping_add(count as u32);
            let last = Seq(behind.wrapping_sub(1));
            Self { cpu, first: std::mem::replace(&mut first, Seq(behind)), last, after, before, cause }
        })
    }

    /// How many events: 1 to 2^32.
    pub fn count(&self) -> u64 {
        u64::from(self.last.0.wrapping_sub(self.first.0)) + 1
    }
}

/// The three clocks, read together: what turns an event's time into wall-clock time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// `CLOCK_MONOTONIC`.
    pub mono: MonoNs,
    /// `CLOCK_BOOTTIME`, in ns: runs on in suspend.
    pub boot_ns: u64,
    /// `CLOCK_REALTIME`, in ns since 1970-01-01T00:00Z.
    pub real_ns: i64,
}

/// A time span in which the kernel emitted no events, or not all of them.
///
/// The recorder detects it when one of its self-generated events does not arrive, or when the
/// kernel counted more forks ([`ForkReading`]) than fork events arrived. Missing events have no sequence
/// numbers and cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// Time of the last event received before the span; for a span shown by the fork counter, the
    /// time of the reading before it.
    pub from: MonoNs,
    /// Time of the first event received after the span, or the end of the recording if there was
    /// none; for a span shown by the fork counter, the time of the reading after it.
    pub until: MonoNs,
}

impl Blind {
    /// How long, in ns.
    pub fn length_ns(&self) -> u64 {
        self.until.0.saturating_sub(self.from.0)
    }
}

/// Each CPU was made to emit an event of the recorder's own. What was lost of a CPU between its events of two fences shows
/// as a gap; what was lost of one that a fence could not reach, outside of its other events, does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// When all had been asked.
    pub time: MonoNs,
    /// What it stands at.
    pub position: FencePosition,
    /// The CPUs that were not heard.
    pub unreached: Vec<UnreachedCpu>,
}

/// What a [`Fence`] stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FencePosition {
    /// The recording's start.
    Start,
    /// Its end.
    End,
}

impl FencePosition {
    /// Its name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
        }
    }
}

/// A CPU that a [`Fence`] did not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreachedCpu {
    /// The CPU.
    pub cpu: Cpu,
    /// Why not.
    pub why: UnreachedReason,
}

/// Why a CPU was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UnreachedReason {
    /// It was not online.
    Offline,
    /// The recorder may not run there (`cpuset(7)`).
    Forbidden,
    /// Its event did not come in time: the CPU had other things to do, or the event was lost.
    Silent,
}

impl UnreachedReason {
    /// Its name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Forbidden => "forbidden",
            Self::Silent => "silent",
        }
    }
}

/// Two independent counts of what the source lost, since the recording began. Where they differ for good, the gaps are
/// more when the kernel had no memory for a message, and the drops are more when what the source dropped had no number (user
/// space sent it) or shows in no gap (it came before the first event of its CPU or after the last).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// When they were compared.
    pub time: MonoNs,
    /// What the source counted itself: `SO_MEMINFO`, `SK_MEMINFO_DROPS`.
    pub drops: u64,
    /// Events missing in the numbers, without those that the recorder dropped itself.
    pub gaps: u64,
}

/// A reading of the kernel's fork counter, `processes` in `/proc/stat` (`proc_stat(5)`).
///
/// The counter includes every new process and thread of the machine, even while no process listens
/// for events. The kernel increments it shortly before it emits the fork event. If the kernel
/// emitted all events, the forks counted between two readings equal the fork events in between,
/// except for tasks between these two steps during a reading. Each such task was running or waiting
/// for a CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForkReading {
    /// The counter was read.
    Counted(ForkCount),
    /// The counter cannot be read, so it proves nothing.
    Absent {
        /// The reason why the counter cannot be read.
        why: String,
    },
}

/// A single reading of the fork counter: see [`ForkReading`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkCount {
    /// Start of the reading; the counter was read at or after this time.
    pub from: MonoNs,
    /// End of the reading; the counter was read at or before this time.
    pub until: MonoNs,
    /// Forks since boot; on 32-bit machines, the counter wraps at 2^32.
    pub forks: u64,
    /// Tasks running or waiting for a CPU, including the reader: `procs_running` in `/proc/stat`.
    pub running: u64,
}

impl ForkCount {
    /// Returns the forks since an earlier reading, including across the wrap of a 32-bit counter;
    /// `None` if the counter was reset.
    pub fn since(&self, earlier: &Self) -> Option<u64> {
        const WRAP: u64 = 1 << 32;
        match self.forks.checked_sub(earlier.forks) {
            Some(forks) => Some(forks),
            None if earlier.forks < WRAP => {
                Some(self.forks + WRAP - earlier.forks).filter(|&forks| forks < WRAP / 2)
            }
            None => None,
        }
    }
}

/// What is recorded, if that is not everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeInfo {
    /// In words.
    pub text: String,
}

/// Events of one CPU that were left out because they were not wanted. They have numbers: of the numbers from the CPU's first
/// event in the capture up to `last`, so many are left out, and the others are recorded or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// The CPU that emitted them.
    pub cpu: Cpu,
    /// Up to this number: that of an event in the capture, the CPU's last one before this record.
    pub last: Seq,
    /// How many.
    pub count: u64,
}

/// What became of events that did not come by the ring, since the recording began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingCounts {
    /// When they were counted.
    pub time: MonoNs,
    /// Of each CPU.
    pub cpus: Vec<CpuCounts>,
}

/// See [`RingCounts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuCounts {
    /// The CPU.
    pub cpu: Cpu,
    /// The ring was full, so that they went to the socket's queue, which may have dropped them.
    pub spilled: u64,
    /// The ring was full, and they are lost.
    pub dropped: u64,
    /// They were not wanted.
    pub excluded: u64,
}

/// A scan of `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the scan began.
    pub started: MonoNs,
    /// When it ended.
    pub ended: MonoNs,
    /// How many processes it found, so many `Details` stand before.
    pub processes: u32,
    /// Why it was made.
    pub reason: SnapshotReason,
    /// Whether it shows one moment. A scan process by process takes time, and is no state that ever was.
    pub atomic: bool,
}

/// Why a scan was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SnapshotReason {
    /// The recording began.
    Start,
    /// Events had been lost.
    Loss,
    /// Nothing had been heard for some time.
    Blind,
}

/// The totals of a recording that ended cleanly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When it ended.
    pub time: MonoNs,
    /// Datagrams recorded.
    pub events: u64,
    /// Datagrams that were not recorded because user space sent them.
    pub rejected: u64,
    /// Datagrams that hold no event that can be read, or were cut because they are too long ([`RecordedDatagram::is_malformed`]);
    /// recorded, or dropped because there was no room.
    pub malformed: u64,
    /// For how long nothing was heard, over all `Blind` records, in ns.
    pub blind_ns: u64,
    /// What the source counts as dropped; `None` if it does not count.
    pub drops: Option<u64>,
    /// Events lost, over all `Loss` records.
    pub lost: LossByCause,
}

/// What details belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DetailsSubject {
    /// The process as it was after this exec.
    Exec {
        /// The process.
        tgid: Tgid,
        /// The exec event's time.
        time: MonoNs,
    },
    /// The process as a scan of `/proc` found it.
    Snapshot {
        /// The process.
        tgid: Tgid,
    },
}

impl DetailsSubject {
    /// The process.
    pub fn tgid(self) -> Tgid {
        match self {
            Self::Exec { tgid, .. } | Self::Snapshot { tgid } => tgid,
        }
    }
}

/// Why details, or some of them, could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissReason {
    /// The process had ended, or its id belonged to another by then.
    Gone,
    /// The recorder may not read them.
    Denied,
    /// Too many were asked for at once.
    Busy,
    /// The process ran another program by then.
    Superseded,
    /// Its memory could not be read at that moment.
    Unreadable,
    /// It is longer than the recorder takes.
    TooLong,
}

impl MissReason {
    /// Its name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Superseded => "superseded",
            Self::Unreadable => "unreadable",
            Self::TooLong => "too_long",
        }
    }
}

/// What is known of a process besides its events. A field is `None` when it could not be read; then `miss` says
/// why. A kernel thread has neither `exe` nor `args` and misses nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// What they belong to.
    pub subject: DetailsSubject,
    /// Why something is missing.
    pub miss: Option<MissReason>,
    /// Parent process, from `/proc/<pid>/stat`.
    pub ppid: Option<u32>,
    /// Start time in clock ticks since boot, from `/proc/<pid>/stat`: with the pid, a process's identity.
    pub start_ticks: Option<u64>,
    /// The same of the parent.
    pub parent_start_ticks: Option<u64>,
    /// Real, effective user id, real, effective group id.
    pub ids: Option<Credentials>,
    /// Name of its first thread.
    pub comm: Option<Vec<u8>>,
    /// Path of the executable.
    pub exe: Option<Vec<u8>>,
    /// What was given to `execve`: a path as the caller knew it, of a script the script's.
    pub filename: Option<Vec<u8>>,
    /// Working directory.
    pub cwd: Option<Vec<u8>>,
    /// `/proc/<pid>/cgroup` without the final newline.
    pub cgroup: Option<Vec<u8>>,
    /// The arguments, as `/proc/<pid>/cmdline` has them: each ends with a zero byte.
    pub args: Option<Vec<u8>>,
    /// If these are only the first bytes of the arguments, how many there were: not 0.
    pub args_len: Option<u64>,
    /// Where it belongs.
    pub context: Option<ProcessContext>,
    /// Number of threads of the process when a scan found it; never 0.
    pub threads: Option<u32>,
}

/// Overhead of one heap allocation, in bytes.
const ALLOCATION: usize = 16;

impl Details {
    /// Details of which nothing could be had.
    pub fn missed(subject: DetailsSubject, miss: MissReason) -> Self {
        Self {
            subject,
            miss: Some(miss),
            ppid: None,
            start_ticks: None,
            parent_start_ticks: None,
            ids: None,
            comm: None,
            exe: None,
            filename: None,
            cwd: None,
            cgroup: None,
            args: None,
            args_len: None,
            context: None,
            threads: None,
        }
    }

    /// Its texts.
    pub fn strings(&self) -> [&Option<Vec<u8>>; 6] {
        [&self.comm, &self.exe, &self.filename, &self.cwd, &self.cgroup, &self.args]
    }

    /// Returns the bytes of memory that these details take when they are boxed.
    pub fn memory(&self) -> usize {
        let texts = self.strings().into_iter().flatten().map(|text| text.capacity() + ALLOCATION);
        size_of::<Self>() + ALLOCATION + texts.sum::<usize>()
    }

    /// The arguments one by one; none if they were missed.
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        let args = self.args.as_deref().unwrap_or_default();
        let args = args.strip_suffix(b"\0").unwrap_or(args);
        let some =
            (self.args.as_ref().is_some_and(|args| !args.is_empty())).then(|| args.split(|&byte| byte == 0));
        some.into_iter().flatten()
    }
}

/// Where a process belongs, as the kernel knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessContext {
    /// Its session, by its leader.
    pub session: u32,
    /// Its process group, by its leader.
    pub group: u32,
    /// Who had logged in (`/proc/<pid>/loginuid`); all ones if nobody.
    pub login_uid: u32,
    /// Its cgroup of version 2: the inode number of the cgroup's directory; 0 where that is not known.
    pub cgroup: u64,
    /// Its PID namespace: the inode number; 0 where that is not known.
    pub pid_namespace: u32,
    /// Its id there.
    pub pid: u32,
}

/// What was used until an exit: by the process, if it is the first thread that ends, else by the thread alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
    /// Time on a CPU, in us, as of the scheduler's last look: at most a tick before the exit.
    pub cpu_us: u64,
    /// CPU time, as the clock's ticks found it: in user mode,
    pub user_us: u64,
    /// and in the kernel, in us.
    pub system_us: u64,
    /// Peak resident memory of the process since its last exec, in KiB (`VmHWM` of
    /// `proc_pid_status(5)`). The value is 0 if it is unknown, and for a thread that is neither the
    /// first nor the last one to exit.
    pub max_rss_kib: u64,
    /// Page faults served without,
    pub minor_faults: u64,
    /// and with storage.
    pub major_faults: u64,
    /// Bytes read from,
    pub read_bytes: u64,
    /// and written to storage; 0 where the kernel does not account for them.
    pub write_bytes: u64,
    /// Other threads of the process that go on, or were about to end: what they used until then is in the sums.
    pub threads: u32,
    /// Threads were ending just then, and may be missing in the sums.
    pub at_least: bool,
    /// State of the process after this exit.
    pub process: ProcessState,
    /// CPU time of all threads of the process, in us, if the process has ended; 0 otherwise.
    pub process_cpu_us: u64,
}

impl Usage {
    /// Returns what an exit with this usage is for its process; `code` is the exit code of the thread.
    ///
    /// Captures before 1.2 do not say it. There, the exit of the first thread ends the process if it
    /// counts no other thread.
    pub fn process_state(&self, is_leader: bool, code: u32) -> ProcessState {
        match self.process {
            ProcessState::Unknown if is_leader && self.threads == 0 && !self.at_least => {
                ProcessState::Ended { status: code }
            }
            state => state,
        }
    }
}

/// Whether a process still has threads after the exit of one of them.
///
/// If the last two threads exit at the same time on two CPUs, both exits can report the end of the
/// process, with the same status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcessState {
    /// The recorder could not determine the state.
    #[default]
    Unknown,
    /// Other threads are still running.
    Alive,
    /// No thread is left.
    Ended {
        /// Raw wait status of the process, as `wait(2)` returns it to the parent.
        status: u32,
    },
}

/// User and group ids of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
}
