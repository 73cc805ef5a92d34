//! What a program finds itself in: events that happen, and processes that it can look at.

use std::time::Duration;

use pmon_fake::Kernel;

/// Events that happen, one after the other, and the processes that they tell of.
pub trait ReplayWorld {
    /// Why it cannot go on.
    type Error;

    /// The kernel on which they happen.
    fn kernel(&mut self) -> &mut Kernel;

    /// When the next thing happens.
    ///
    /// # Errors
    /// When that cannot be known.
    fn next_event(&mut self) -> Result<NextEvent, Self::Error>;

    /// Lets it happen, whatever [`ReplayWorld::next_event`] says.
    ///
    /// # Errors
    /// When it cannot go on.
    fn step(&mut self) -> Result<(), Self::Error>;

    /// The program has received what has happened so far: from now on, the processes are as of then.
    fn mark_received(&mut self);

    /// The processes that the program sees.
    fn processes(&self) -> &dyn ProcessView;
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextEvent {
    /// As soon as a program waits for it.
    OnDemand,
    /// After that time, whatever the program does.
    In(Duration),
    /// Never: nothing is left.
    Never,
}

/// Processes, as `/proc` shows them.
pub trait ProcessView {
    /// The ids of all processes, in their order.
    fn pids(&self) -> Vec<u32>;

    /// What an id stands for, be it a process's or that of one of its other threads; `None` if nothing has it.
    fn task(&self, id: u32) -> Option<TaskInfo>;

    /// What is in its directory, each by its path there, `comm` or `task/7/comm`; what is in a directory comes behind it.
    fn entries(&self, id: u32) -> Vec<(String, ProcEntry)>;

    /// How long the host has been up; `None` if it is not known.
    fn uptime(&self) -> Option<Duration>;

    /// When the host was started, in seconds since 1970.
    fn boot_time(&self) -> Option<u64>;
}

/// What is known of a task beside its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskInfo {
    /// Another number whenever any of its files has changed, and for another task with the same id.
    pub version: u64,
    /// Whose its files are: effective user and group id.
    pub owner: (u32, u32),
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// When its process was forked, in nanoseconds since boot, by which two of the same id are told apart; `None` if that is not known.
    pub forked: Option<u64>,
    /// Whether it is a zombie.
    pub is_zombie: bool,
}

/// Something in a process's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcEntry {
    /// A file with that content.
    File(Vec<u8>),
    /// A symbolic link.
    Link(Vec<u8>),
    /// A directory.
    Directory,
}
