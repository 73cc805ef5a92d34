//! A program that runs on the fake kernel: its calls, and their answers.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use thiserror::Error;

use crate::error::InterposeError;
use crate::launch::options::LaunchOptions;
use crate::launch::pid_layout::pid_max;
use crate::launch::{Launched, Said, launch};
use crate::processes::pidfd::PidFd;
use crate::procfs::tree::Tree;
use crate::sockets::proxy::Held;
use crate::sockets::wait::Waiting;
use crate::sys::is_ready;
use crate::sys::{self, Notification};
use crate::tracee::Tasks;
use crate::world::{NextEvent, ProcessView, ReplayWorld};

pub(crate) mod handlers;
pub(crate) mod run;

/// Who asks so often without waiting waits in its own way.
const OFTEN: u32 = 3;

/// A program that runs on the fake kernel.
///
/// It runs in namespaces of its own: whoever runs this process sees itself there as root, its processes see none of this system's, and when it
/// is dropped, they all end. So do they when the thread ends that has started it, whatever happens to this process.
pub struct Supervisor {
    pub(crate) launched: Launched,
    pub(crate) listener: OwnedFd,
    pub(crate) tree: Option<Tree>,
    pub(crate) tasks: Tasks,
    /// Its sockets on the fake kernel.
    pub(crate) held: Vec<Held>,
    /// Whether it has ever had one.
    pub(crate) has_opened_socket: bool,
    /// Whether it has asked for one as a program for another machine.
    pub(crate) has_foreign_abi: bool,
    /// What it has by `pidfd_open`.
    pub(crate) pidfds: Vec<PidFd>,
    /// Calls that wait for something to come.
    pub(crate) waiting: Vec<Waiting>,
    /// A call that was asked about and has no answer yet, as the world could not go on.
    unanswered: Option<Notification>,
    /// How the program ended, as `wait` gives it.
    status: Option<i32>,
    /// All its processes have ended.
    is_over: bool,
    /// It asks for more where there is no more.
    pub(crate) wants_more: bool,
    /// How often it has asked since, without waiting.
    pub(crate) asked_in_vain: u32,
    /// Tasks that wait, as far as is known, in a call that was let through,
    pub(crate) pollers: Vec<u32>,
    /// and for which something is to happen.
    pub(crate) owes: bool,
    /// Nothing happens as one of several sockets is half full.
    pub(crate) is_held_back: bool,
    /// A call that was answered when a signal had interrupted it already: if its task makes it again, it is done.
    unheard: Option<(Notification, Result<i64, Errno>)>,
    /// Why it could not be seen which socket is meant.
    pub(crate) trouble: Option<Errno>,
    /// The world has not given anything for long: it goes on when the program's other calls were looked at.
    pub(crate) is_unfinished: bool,
    /// Something has happened of which calls that wait do not know yet.
    pub(crate) stirred: bool,
    /// Whether things happen in their time, whatever it does.
    is_timed: bool,
}

/// What [`Supervisor::serve`] has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// The time is over, or there was a signal.
    Nothing,
    /// Calls were answered.
    Calls,
    /// The program, and all processes that hold a socket, have ended: with that status, as `wait` gives it.
    Ended(i32),
}

/// Why a program cannot be served any longer.
#[derive(Debug, Error)]
pub enum ServeError<E> {
    /// The world cannot go on. What the program has asked for is asked again by the next call.
    #[error("{0}")]
    World(E),
    /// This system fails.
    #[error(transparent)]
    Interpose(#[from] InterposeError),
}

impl<E> From<Errno> for ServeError<E> {
    fn from(errno: Errno) -> Self {
        Self::Interpose(errno.into())
    }
}

/// What becomes of a call.
pub(crate) enum Answer {
    /// It is made, as if nobody had asked.
    Make,
    Give(Result<i64, Errno>),
    /// It has its answer, or waits for it.
    None,
}

impl From<Result<usize, Errno>> for Answer {
    fn from(result: Result<usize, Errno>) -> Self {
        Self::Give(result.map(|value| value as i64))
    }
}

impl Supervisor {
    /// Starts it, among these processes. It runs until it wants something of the fake kernel; [`Supervisor::serve`] gives it that.
    ///
    /// # Errors
    /// When this system does not allow it, or there is no such program.
    pub fn start(options: &LaunchOptions, processes: &dyn ProcessView) -> Result<Self, InterposeError> {
        let taken = processes.pids();
        let pid_max = pid_max(&taken);
        let mut launched = launch(options, &taken, pid_max)?;
        let tree = launched.proc.take().map(|(root, real)| Tree::new(root, real, pid_max)).transpose()?;
        launched.run()?;
        let listener = match launched.hear() {
            Said::Listener(listener) => listener,
            Said::Failed(error) => return Err(error),
            _ => return Err(Errno::PIPE.into()),
        };
        sys::wake_in_turn(listener.as_fd());
        Ok(Self {
            launched,
            listener,
            tree,
            tasks: Tasks::default(),
            held: Vec::new(),
            has_opened_socket: false,
            has_foreign_abi: false,
            pidfds: Vec::new(),
            waiting: Vec::new(),
            unanswered: None,
            status: None,
            is_over: false,
            wants_more: false,
            asked_in_vain: 0,
            pollers: Vec::new(),
            owes: false,
            is_held_back: false,
            unheard: None,
            trouble: None,
            is_unfinished: false,
            stirred: false,
            is_timed: true,
        })
    }

    /// Lets things happen, and answers one of the program's calls; waits for that time at the most, and no longer than for a signal to this
    /// process.
    ///
    /// # Errors
    /// When the world cannot go on, or the program cannot be run after all ([`InterposeError::Exec`]).
    pub fn serve<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        timeout: Duration,
    ) -> Result<Served, ServeError<W::Error>> {
        if let Some(notification) = self.unanswered.take() {
            self.handle(world, notification)?;
            return Ok(Served::Calls);
        }
        let due = self.pass_time(world)?;
        self.end_pidfds(world.processes());
        self.pump(world)?;
        if std::mem::take(&mut self.is_unfinished) {
            self.nudge(world)?;
        }
        let timeout = if self.is_unfinished { Duration::ZERO } else { timeout };
        let now = Instant::now();
        let soonest = self.waiting.iter().filter_map(|waiting| waiting.until).min();
        let soonest = soonest.map(|until| until.saturating_duration_since(now));
        let timeout = [Some(timeout), due, soonest].into_iter().flatten().min().unwrap_or_default();
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut fds = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.launched.control, PollFlags::IN),
        ];
        let loose = self.held.iter().filter_map(Held::interest);
        fds.extend(loose.map(|(end, interest)| PollFd::from_borrowed_fd(end, interest)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = [0, 1].map(|at| !fds[at].revents().is_empty());
        if fds[2..].iter().any(|fd| fd.revents().contains(PollFlags::HUP)) {
            self.close_those_that_were_closed();
        }
        if ready[0] {
            match sys::receive(self.listener.as_fd()) {
                Ok(notification) => {
                    self.handle(world, notification)?;
                    return Ok(Served::Calls);
                }
                // Its task has ended, or all of them have.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if ready[1] {
            return self.hear().map_err(ServeError::Interpose);
        }
        self.expire()?;
        Ok(Served::Nothing)
    }

    /// Whether it asks for more, and nothing more comes; and whether it is sure that it does nothing else: it waits in a call that a signal ends
    /// whenever that comes, or asks again and again; and no other of its sockets has anything left.
    pub fn wants_more(&self) -> Option<bool> {
        let waits = !self.waiting.is_empty() || self.asked_in_vain >= OFTEN;
        self.wants_more.then(|| waits && !self.held.iter().any(Held::is_ready))
    }

    /// Whether it might wait for something in a way that is not seen here: there is nothing for it, and things happen when it asks.
    pub(crate) fn may_wait_unseen(&self) -> bool {
        let hears = self.held.iter().any(|held| held.socket.receives_events());
        let has_nothing = self.waiting.is_empty() && !self.held.iter().any(Held::is_ready);
        !self.is_timed && hears && (has_nothing || self.is_held_back)
    }

    /// Nothing comes any more: behind what is queued, each socket is at its end.
    pub(crate) fn end_of_file<W: ReplayWorld>(&mut self, world: &mut W) -> Result<(), InterposeError> {
        world.kernel().end_of_file();
        self.held.iter_mut().for_each(Held::announce);
        match self.go_on(world) {
            Ok(()) | Err(ServeError::World(_)) => Ok(()),
            Err(ServeError::Interpose(error)) => Err(error),
        }
    }

    /// Whether it has ever opened a socket on the proc connector.
    pub fn has_opened_socket(&self) -> bool {
        self.has_opened_socket
    }

    /// Whether a program for another machine, as a 32-bit one, has asked for such a socket: it was told that there are none.
    pub fn has_foreign_abi(&self) -> bool {
        self.has_foreign_abi
    }

    /// Whether the program's first process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    /// The process above all of the program's.
    pub(crate) fn init(&self) -> u32 {
        self.launched.pid
    }

    /// Whatever has not ended ends now.
    pub fn kill(&self) {
        self.launched.kill();
    }

    fn hear(&mut self) -> Result<Served, InterposeError> {
        match self.launched.hear() {
            Said::Failed(error) => return Err(error),
            Said::Ended(status) => self.status = Some(status),
            Said::Ready(..) | Said::Listener(_) => {}
            Said::Nothing => self.is_over = true,
        }
        self.close_those_that_were_closed();
        // A program may go into the background: what has a socket goes on, or who may be about to open one.
        let is_done = self.is_over || self.has_opened_socket && self.held.is_empty();
        Ok(match self.status {
            Some(status) if is_done => Served::Ended(status),
            None if self.is_over => Served::Ended(libc::SIGKILL),
            _ => Served::Calls,
        })
    }

    /// In a world with a clock, what is due happens. How long until more does.
    fn pass_time<W: ReplayWorld>(&mut self, world: &mut W) -> Result<Option<Duration>, ServeError<W::Error>> {
        if !self.is_timed || !self.held.iter().any(|held| held.socket.receives_events()) {
            return Ok(None);
        }
        let mut happened = false;
        let due = loop {
            match world.next_event().map_err(ServeError::World)? {
                // If it is late, it waits for the program's calls, rather than for the program to be late as well.
                NextEvent::In(Duration::ZERO) if happened && self.is_called() => break Some(Duration::ZERO),
                NextEvent::In(Duration::ZERO) => {
                    world.step().map_err(ServeError::World)?;
                    happened = true;
                }
                NextEvent::In(due) => break Some(due),
                NextEvent::OnDemand => {
                    self.is_timed = false;
                    break None;
                }
                NextEvent::Never => {
                    self.wants_more |= !self.held.iter().any(Held::is_ready);
                    break None;
                }
            }
        };
        if happened {
            world.mark_received();
            self.held.iter_mut().filter(|held| held.is_ready()).for_each(Held::announce);
            self.go_on(world)?;
        }
        Ok(due)
    }

    fn is_called(&self) -> bool {
        is_ready(self.listener.as_fd(), PollFlags::IN) == Ok(true)
    }

    fn handle<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        notification: Notification,
    ) -> Result<(), ServeError<W::Error>> {
        // Whoever makes a call waits in no other: that one was interrupted, or has ended.
        let is_over = |waiting: &mut Waiting| waiting.notification.pid == notification.pid;
        for mut waiting in self.waiting.extract_if(.., is_over) {
            waiting.give_up(&mut self.held);
        }
        self.pollers.retain(|&task| task != notification.pid);
        let is_again = |(before, _): &mut (Notification, _)| is_same_call(before, &notification);
        let answer = match self.unheard.take_if(is_again) {
            Some((_, result)) => Ok(Answer::Give(result)),
            None => self.respond(world, &notification),
        };
        match self.trouble.take() {
            None => {}
            Some(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(InterposeError::Memory(errno).into()),
            Some(errno) => return Err(errno.into()),
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.unanswered = Some(notification);
                return Err(error);
            }
        };
        self.answer(&notification, answer)?;
        if std::mem::take(&mut self.owes) {
            self.nudge(world)?;
        }
        if std::mem::take(&mut self.stirred) {
            self.go_on(world)?;
        }
        Ok(())
    }

    pub(crate) fn answer(&mut self, notification: &Notification, answer: Answer) -> Result<(), Errno> {
        let result = match answer {
            Answer::Make => None,
            Answer::Give(result) => Some(result),
            Answer::None => return Ok(()),
        };
        match sys::answer(self.listener.as_fd(), notification.id, result) {
            Err(Errno::NOENT) => {
                self.unheard = result.map(|result| (*notification, result));
                Ok(())
            }
            done => done,
        }
    }

    pub(crate) fn close_those_that_were_closed(&mut self) {
        self.held.retain(|held| !held.is_closed());
    }
}

/// Whether a task makes a call again, as the kernel does for it after a signal.
fn is_same_call(before: &Notification, again: &Notification) -> bool {
    let parts = |of: &Notification| (of.pid, of.data.nr, of.data.args);
    parts(before) == parts(again)
}
