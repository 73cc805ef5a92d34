//! What a capture holds.

use serde::{Deserialize, Serialize};

use crate::accounting::Gap;
use crate::ids::{Cpu, MonoNs, Seq, Tgid};
use crate::wire::{ByteOrder, EVENT_FRAME, Event};

/// A datagram as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// One event in its usual form: [`Event::encode`] gives the datagram's bytes back.
    Event(Event),
    /// Any other datagram, byte for byte: an unknown kind, an old kernel's shorter form, anything.
    Raw(&'a [u8]),
}

impl<'a> Frame<'a> {
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

    /// Gives the datagram's bytes to `consume`, allocating nothing.
    #[inline]
    pub fn with_bytes<R>(&self, order: ByteOrder, consume: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Event(event) => consume(&event.encode(order).unwrap_or([0; EVENT_FRAME])),
            Self::Raw(bytes) => consume(bytes),
        }
    }
}

/// One record of a capture, in the order in which the recorder learned of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A datagram.
    Event(Frame<'a>),
    /// Events that were emitted and did not arrive, before the next event.
    Loss(Loss),
    /// What the clocks said.
    Clock(ClockAnchor),
    /// A scan of `/proc` has ended; its processes are the `Details` before it, since the last of its kind.
    Snapshot(Snapshot),
    /// What is known of a process besides its events.
    Details(Box<Details>),
    /// A user's note.
    Mark(Mark),
    /// The recorder ended cleanly. Nothing follows.
    End(End),
    /// A record of a kind that this version does not know.
    Unknown {
        /// Its kind.
        kind: u8,
    },
}

/// Why events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LossCause {
    /// Not known beyond the gap in the numbers.
    Unknown,
    /// The socket's buffer was full (`ENOBUFS`).
    Socket,
}

impl LossCause {
    /// Its name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Socket => "socket",
        }
    }
}

/// Consecutive events of one CPU that were lost.
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
    /// The loss that a gap shows.
    pub fn new(gap: Gap, cause: LossCause) -> Self {
        Self { cpu: gap.cpu, first: gap.first, last: gap.last, after: gap.after, before: gap.before, cause }
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

/// A scan of `/proc`, which takes time: not a state that ever was, process by process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the scan began.
    pub started: MonoNs,
    /// When it ended.
    pub ended: MonoNs,
    /// How many processes it found, so many `Details` stand before.
    pub processes: u32,
}

/// A user's note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it was made.
    pub time: MonoNs,
    /// What it says.
    pub text: String,
}

/// The totals of a recording that ended cleanly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When it ended.
    pub time: MonoNs,
    /// Datagrams recorded.
    pub events: u64,
    /// Events lost, over all `Loss` records.
    pub lost: u64,
    /// Datagrams that were not recorded because user space sent them.
    pub rejected: u64,
}

/// What details belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
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

impl Subject {
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
pub enum Miss {
    /// The process had ended, or its id belonged to another by then.
    Gone,
    /// The recorder may not read them.
    Denied,
    /// Too many were asked for at once.
    Busy,
    /// The process ran another program by then.
    Superseded,
}

impl Miss {
    /// Its name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Superseded => "superseded",
        }
    }
}

/// What is known of a process besides its events. A field is `None` when it could not be read; then `miss` says
/// why. A kernel thread has neither `exe` nor `args` and misses nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// What they belong to.
    pub subject: Subject,
    /// Why something is missing.
    pub miss: Option<Miss>,
    /// Parent process, from `/proc/<pid>/stat`.
    pub ppid: Option<u32>,
    /// Start time in clock ticks since boot, from `/proc/<pid>/stat`: with the pid, a process's identity.
    pub start_ticks: Option<u64>,
    /// Real, effective user id, real, effective group id.
    pub ids: Option<Credentials>,
    /// Name of its first thread.
    pub comm: Option<Vec<u8>>,
    /// Path of the executable.
    pub exe: Option<Vec<u8>>,
    /// Working directory.
    pub cwd: Option<Vec<u8>>,
    /// `/proc/<pid>/cgroup` without the final newline.
    pub cgroup: Option<Vec<u8>>,
    /// The arguments, as `/proc/<pid>/cmdline` has them: each ends with a zero byte.
    pub args: Option<Vec<u8>>,
}

impl Details {
    /// Details of which nothing could be had.
    pub fn missed(subject: Subject, miss: Miss) -> Self {
        Self {
            subject,
            miss: Some(miss),
            ppid: None,
            start_ticks: None,
            ids: None,
            comm: None,
            exe: None,
            cwd: None,
            cgroup: None,
            args: None,
        }
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
