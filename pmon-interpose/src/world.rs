//! The interface to the source of events and processes.

use std::time::Duration;

use pmon_fake::Kernel;

/// A sequence of process events on a fake kernel, and the processes as of those events.
pub trait ReplayWorld {
    /// The reason why the world cannot continue.
    type Error;

    /// Returns the kernel that emits the events.
    fn kernel(&mut self) -> &mut Kernel;

    /// Returns when the next event is due.
    ///
    /// # Errors
    /// When the next event cannot be read.
    fn next_event(&mut self) -> Result<NextEvent, Self::Error>;

    /// Emits the next event, even if it is not due according to [`ReplayWorld::next_event`].
    ///
    /// # Errors
    /// When the world cannot continue.
    fn step(&mut self) -> Result<(), Self::Error>;

    /// Returns the number of calls of [`ReplayWorld::step`] so far.
    fn position(&self) -> u64;

    /// Records that the program has received all events up to this [`ReplayWorld::position`], and
    /// none of later ones. A position before that of an earlier call has no effect.
    fn mark_received(&mut self, position: u64);

    /// Returns the processes as of the highest position of [`ReplayWorld::mark_received`].
    fn processes(&mut self) -> &dyn ProcessView;
}

/// The time at which the next event is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextEvent {
    /// The event is emitted as soon as the program waits for one.
    OnDemand,
    /// The event is emitted after this time, whatever the program does.
    In(Duration),
    /// No event is left.
    Never,
}

/// The processes that the program sees in `/proc`.
pub trait ProcessView {
    /// Returns the ids of all processes, in ascending order.
    fn pids(&self) -> Vec<u32>;

    /// Returns information on the process or thread with this id; `None` if there is none.
    fn task(&self, id: u32) -> Option<TaskInfo>;

    /// Returns the entries of the task's `/proc` directory by their paths in it, such as `comm` or
    /// `task/7/comm`. The entries of a directory follow the directory.
    fn entries(&self, id: u32) -> Vec<(String, ProcEntry)>;

    /// Returns the entry with this path in the task's `/proc` directory, whose own path is
    /// empty; `None` if there is none.
    ///
    /// Programs read few files of each process: an implementation that generates only the requested
    /// one is faster than this default, which uses [`ProcessView::entries`].
    fn entry(&self, id: u32, path: &str) -> Option<ProcEntry> {
        if path.is_empty() {
            return self.task(id).map(|_| ProcEntry::Directory);
        }
        self.entries(id).into_iter().find_map(|(name, entry)| (name == path).then_some(entry))
    }

    /// Returns the names and kinds of the entries of a directory in the task's `/proc` directory,
    /// whose own path is empty.
    fn list(&self, id: u32, directory: &str) -> Vec<(String, ProcEntryKind)> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let entries = self.entries(id).into_iter();
        entries
            .filter_map(|(path, entry)| {
                let name = path.strip_prefix(&prefix)?;
                (!name.contains('/')).then(|| (name.to_owned(), entry.kind()))
            })
            .collect()
    }

    /// Returns the uptime of the recorded machine; `None` if it is unknown.
    fn uptime(&self) -> Option<Duration>;

    /// Returns the boot time of the recorded machine, in seconds since 1970.
    fn boot_time(&self) -> Option<u64>;

    /// Returns the clocks of the recorded machine at the time of the last event; `None` if they are
    /// unknown.
    fn clocks(&self) -> Option<ClockTimes> {
        None
    }
}

/// The clocks of a machine at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockTimes {
    /// `CLOCK_MONOTONIC`, by which the kernel stamps events.
    pub monotonic: Duration,
    /// `CLOCK_BOOTTIME`, which also advances during suspend.
    pub boottime: Duration,
    /// `CLOCK_REALTIME`: the time since 1970-01-01T00:00Z.
    pub realtime: Duration,
}

impl ClockTimes {
    /// Returns the clocks after this time.
    pub(crate) fn plus(self, time: Duration) -> Self {
        let [monotonic, boottime, realtime] =
            [self.monotonic, self.boottime, self.realtime].map(|clock| clock.saturating_add(time));
        Self { monotonic, boottime, realtime }
    }
}

/// Information on a process or thread, apart from its files in `/proc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskInfo {
    /// The version of the task's files. It differs after each change of a file, and for another
    /// task with the same id.
    pub version: u64,
    /// Owner of the task's files: effective user and group id.
    pub owner: (u32, u32),
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
    /// Time of the process's fork, in nanoseconds since boot; `None` if it is unknown. It
    /// distinguishes processes with the same id.
    pub forked: Option<u64>,
    /// Whether the task is a zombie.
    pub is_zombie: bool,
}

/// An entry of a process's directory in `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcEntry {
    /// A file with this content.
    File(Vec<u8>),
    /// A symbolic link with this target.
    Link(Vec<u8>),
    /// A directory.
    Directory,
}

impl ProcEntry {
    /// Returns the kind of the entry.
    pub fn kind(&self) -> ProcEntryKind {
        match self {
            Self::File(_) => ProcEntryKind::File,
            Self::Link(_) => ProcEntryKind::Link,
            Self::Directory => ProcEntryKind::Directory,
        }
    }
}

/// The kind of an entry of a process's directory in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcEntryKind {
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A directory.
    Directory,
}
