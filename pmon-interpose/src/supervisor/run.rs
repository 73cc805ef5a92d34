//! From a program's first call to its end.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::stat;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::InterposeError;
use crate::supervisor::{ServeError, Served, Supervisor};
use crate::tracee::{FileId, file_id, stat_of};
use crate::world::{NextEvent, ReplayWorld};

/// While it is to be seen whether the program sleeps, it is looked at this often,
const GLANCE: Duration = Duration::from_millis(2);
/// and it does if it was found asleep so often in a row.
const GLANCES: u32 = 3;
/// Otherwise, it is looked at whether time is over this often.
const TICK: Duration = Duration::from_millis(100);

/// What happens when the program wants more, and nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndPolicy {
    /// It gets `SIGINT`, as if somebody had pressed Ctrl-C.
    Signal,
    /// Its calls return 0: the end of a file. No netlink socket says so, but many programs understand it.
    Eof,
    /// Nothing. It goes on to wait.
    Silence,
}

/// How a program is run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// What happens at the end,
    pub at_end: EndPolicy,
    /// and how long the program may take to end by that: then it gets a signal, as long after that a stronger one, and `SIGKILL` at last.
    pub timeout: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { at_end: EndPolicy::Signal, timeout: Duration::from_secs(10) }
    }
}

/// How it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// Its status, as `wait` gives it.
    pub status: i32,
    /// The last signal that it got from here.
    pub signal: Option<Signal>,
}

impl RunReport {
    /// Its exit code; 128 and the signal's number, if one has ended it.
    pub fn exit_code(&self) -> u8 {
        match self.status & 0x7F {
            0 => (self.status >> 8) as u8,
            signal => 128 + signal as u8,
        }
    }

    /// Whether it has ended by the `SIGINT` that it got when nothing more came, as who has no handler does.
    pub fn is_interrupted(&self) -> bool {
        self.signal == Some(Signal::INT) && self.status & 0x7F == Signal::INT.as_raw()
    }
}

impl Supervisor {
    /// Runs it to its end.
    ///
    /// `meanwhile` is called every now and then, and soon after a signal to this process. An error of the world is told to `tell`, which says
    /// whether to go on.
    ///
    /// # Errors
    /// As [`Supervisor::serve`], with what `tell` says of an error of the world.
    pub fn run<W: ReplayWorld, E>(
        &mut self,
        world: &mut W,
        conduct: &RunOptions,
        mut meanwhile: impl FnMut(&Self) -> Result<(), E>,
        mut tell: impl FnMut(W::Error) -> Result<(), E>,
    ) -> Result<RunReport, ServeError<E>> {
        let mut end = End::new(conduct);
        let mut looked = Instant::now();
        let mut patience = GLANCE;
        loop {
            let timeout = if end.is_near(self) { GLANCE } else { patience };
            let mut unseen = Ok(());
            match self.serve(world, timeout) {
                Ok(Served::Ended(status)) => return Ok(RunReport { status, signal: end.signal }),
                Ok(Served::Calls) if looked.elapsed() < TICK => (end.asleep, patience) = (0, GLANCE),
                Ok(Served::Calls) => {
                    (end.asleep, patience) = (0, GLANCE);
                    end.active = Instant::now();
                    looked = end.active;
                    meanwhile(self).map_err(ServeError::World)?;
                }
                Ok(Served::Nothing) => {
                    meanwhile(self).map_err(ServeError::World)?;
                    // It may count on a signal, or on a wait that began before there was a socket.
                    if self.may_wait_unseen() && self.is_asleep() {
                        self.find_strays();
                        unseen = match world.next_event() {
                            // Whether it wants more is not known so soon.
                            Ok(NextEvent::Never) if patience < TICK => Ok(()),
                            Ok(_) => self.force(world),
                            Err(error) => Err(ServeError::World(error)),
                        };
                    }
                    patience = TICK.min(patience * 2);
                }
                Err(ServeError::World(error)) => tell(error).map_err(ServeError::World)?,
                Err(ServeError::Interpose(error)) => return Err(error.into()),
            }
            match unseen {
                Err(ServeError::World(error)) => tell(error).map_err(ServeError::World)?,
                Err(ServeError::Interpose(error)) => return Err(error.into()),
                Ok(()) => {}
            }
            end.go_on(self, world)?;
        }
    }

    /// Sends a signal to the program: to those of its processes that have a socket on the proc connector, and to those of which these are
    /// forks; or to all if none has one. A shell that waits for it, and who reads what it prints, go on.
    ///
    /// # Errors
    /// When none of them can be reached.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let all = self.processes();
        let mut having: Vec<u32> = all.iter().copied().filter(|&pid| self.has_socket(pid)).collect();
        let mut at = 0;
        while let Some(&pid) = having.get(at) {
            let origin = origin_of(pid).filter(|origin| all.contains(origin) && !having.contains(origin));
            having.extend(origin);
            at += 1;
        }
        // Who starts it anew when it ends shall know before.
        having.reverse();
        self.send(signal, if having.is_empty() { all } else { having })
    }

    /// Sends a signal to all its processes.
    ///
    /// # Errors
    /// When none of them can be reached.
    pub fn signal_all(&self, signal: Signal) -> Result<(), Errno> {
        self.send(signal, self.processes())
    }

    pub(crate) fn send(&self, signal: Signal, pids: Vec<u32>) -> Result<(), Errno> {
        let mut result = Err(Errno::SRCH);
        for pid in pids {
            let process = Pid::from_raw(pid as i32).ok_or(Errno::SRCH);
            let process = process.and_then(|process| pidfd_open(process, PidfdFlags::empty()));
            // Its id may have been another's by then.
            let is_ours = |_: &OwnedFd| self.processes().contains(&pid);
            let sent = process.map(|process| Some(process).filter(is_ours)).and_then(|process| {
                process.map_or(Err(Errno::SRCH), |process| pidfd_send_signal(process, signal))
            });
            result = sent.or(result);
        }
        result
    }

    /// The program's processes, by the ids that they have here.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut parents = vec![self.init()];
        while let Some(parent) = parents.pop() {
            for task in tasks(parent) {
                let children = fs::read_to_string(format!("/proc/{parent}/task/{task}/children"));
                let children: Vec<u32> = children
                    .unwrap_or_default()
                    .split_whitespace()
                    .filter_map(|child| child.parse().ok())
                    .collect();
                found.extend(&children);
                parents.extend(&children);
            }
        }
        found
    }

    fn has_socket(&self, process: u32) -> bool {
        files(process).any(|(_, file)| self.held.iter().any(|held| held.file == file))
    }

    /// Sockets that the program has by numbers that are not asked about, as it got them from another of its processes: they go by their pairs.
    fn find_strays(&mut self) {
        for (fd, file) in self.processes().into_iter().flat_map(files) {
            let stray = self.held.iter_mut().find(|held| held.file == file && !held.is_loose);
            if let (Some(held), false) = (stray, self.launched.reserved.contains(fd)) {
                // If that fails, it stays as it is.
                let _ = held.loosen();
            }
        }
    }

    /// Whether all its threads sleep.
    fn is_asleep(&self) -> bool {
        self.processes().into_iter().all(|process| {
            tasks(process).into_iter().all(|task| {
                let stat = stat_of(format_args!("{process}/task/{task}")).unwrap_or_default();
                !stat.starts_with(['R', 'D'])
            })
        })
    }
}

/// The files that a process has open, by their numbers.
fn files(process: u32) -> impl Iterator<Item = (u32, FileId)> {
    let fds = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten();
    fds.filter_map(|fd| {
        let fd = fd.ok()?;
        Some((fd.file_name().to_str()?.parse().ok()?, file_id(&stat(fd.path()).ok()?)))
    })
}

/// The parent of which a process is a fork: it has the same command line.
fn origin_of(process: u32) -> Option<u32> {
    let parent = stat_of(process)?.split(' ').nth(1)?.parse().ok()?;
    let command = |process: u32| fs::read(format!("/proc/{process}/cmdline")).ok();
    (command(process)? == command(parent)?).then_some(parent)
}

/// The threads of a process.
fn tasks(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// When that time is over; one that is beyond all time, in a year.
fn after(now: Instant, time: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now + time.min(YEAR)
}

/// How far the end is.
struct End<'a> {
    conduct: &'a RunOptions,
    /// What comes next, and when.
    next: Option<(Blow, Instant)>,
    signal: Option<Signal>,
    /// Since when it has wanted more than there is.
    wanted: Option<Instant>,
    /// How often in a row it was found asleep.
    asleep: u32,
    /// When the program last asked for anything.
    active: Instant,
}

/// What makes a program end.
#[derive(Clone, Copy)]
enum Blow {
    Eof,
    Interrupt,
    Terminate,
    Kill,
}

impl<'a> End<'a> {
    fn new(conduct: &'a RunOptions) -> Self {
        Self { conduct, next: None, signal: None, wanted: None, asleep: 0, active: Instant::now() }
    }

    /// Whether it is to be seen soon that the program only waits.
    fn is_near(&self, program: &Supervisor) -> bool {
        self.next.is_none() && program.wants_more().is_some()
    }

    fn finds_asleep(&mut self, program: &Supervisor) -> bool {
        self.asleep = if program.is_asleep() { self.asleep + 1 } else { 0 };
        self.asleep >= GLANCES
    }

    fn go_on<W: ReplayWorld>(
        &mut self,
        program: &mut Supervisor,
        world: &mut W,
    ) -> Result<(), InterposeError> {
        let now = Instant::now();
        let RunOptions { at_end, timeout } = *self.conduct;
        let Some((blow, due)) = self.next else {
            let waits = program.wants_more().is_some_and(|is_sure| {
                let since = *self.wanted.get_or_insert(now);
                // One of its threads may never rest.
                is_sure || self.finds_asleep(program) || now - since >= timeout
            });
            // The program has ended, and somebody who does nothing with it has its socket.
            let is_left = program.has_ended() && now - self.active >= timeout;
            if waits || is_left {
                self.next = Some(match at_end {
                    _ if is_left => (Blow::Terminate, now),
                    EndPolicy::Signal => (Blow::Interrupt, now),
                    EndPolicy::Eof => (Blow::Eof, now),
                    EndPolicy::Silence => (Blow::Interrupt, after(now, timeout)),
                });
            }
            return Ok(());
        };
        if now < due {
            return Ok(());
        }
        let mut signal = |signal| {
            self.signal = Some(signal);
            // If it has ended meanwhile, it will be heard of.
            let _ = program.signal(signal);
        };
        let next = match blow {
            Blow::Eof => {
                program.end_of_file(world)?;
                Blow::Terminate
            }
            Blow::Interrupt => {
                signal(Signal::INT);
                Blow::Terminate
            }
            Blow::Terminate => {
                signal(Signal::TERM);
                Blow::Kill
            }
            Blow::Kill => {
                signal(Signal::KILL);
                Blow::Kill
            }
        };
        self.next = Some((next, after(now, timeout)));
        Ok(())
    }
}
