//! Supervises a program on the fake kernel: receives its intercepted calls and replies to them.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::clock::ClockEmulation;
use crate::error::{InterposeError, ServeError, ServeResult};
use crate::launch::control::{ChildMessage, receive_message};
use crate::launch::options::{ClockSource, LaunchOptions};
use crate::launch::pid_layout::pid_max;
use crate::launch::socket_kind::SocketKind;
use crate::launch::{Launched, launch};
use crate::processes::pidfd::PidFdTable;
use crate::procfs::tree::ProcfsTree;
use crate::seccomp::listener::{Reply, SeccompListener};
use crate::sockets::delivery::EventDelivery;
use crate::sockets::native::activity::ActivityObserver;
use crate::sockets::native::flow_control::FlowControl;
use crate::sockets::native::self_test::choose_sockets;
use crate::sockets::native::sys::set_timer_slack;
use crate::sockets::proxy::SocketProxy;
use crate::sockets::table::SocketTable;
use crate::sockets::usage::SocketSummary;
use crate::sys::Notification;
use crate::tracee::fds::TaskFds;
use crate::tracee::processes::{TraceeProcesses, fork_parent};
use crate::world::{ProcessView, ReplayWorld};

/// Timer slack of this thread in nanoseconds, if it transfers events to native sockets.
const TIMER_SLACK: u64 = 1_000;

pub(crate) mod end_sequence;
pub(crate) mod handlers;
pub(crate) mod observed_view;
pub(crate) mod run;
mod settle;

/// A program that runs on the fake kernel.
///
/// The program runs in user, mount and PID namespaces of its own, in which it sees itself as root
/// (or as [`LaunchOptions::uid`]) and cannot reach this system's processes. All of its processes
/// are killed when the supervisor is dropped or the thread that started it ends.
pub struct Supervisor {
    launched: Launched,
    tracee: TraceeProcesses,
    socket_kind: SocketKind,
    tasks: TaskFds,
    delivery: EventDelivery,
    observer: ActivityObserver,
    /// The program's `/proc`; `None` if it is this system's.
    procfs: Option<ProcfsTree>,
    pidfds: PidFdTable,
    /// The program's clocks; `None` if they are this system's.
    clock: Option<ClockEmulation>,
    /// A received call whose handler failed; [`Supervisor::serve`] handles it again.
    retry: Option<Notification>,
    state: TraceeState,
}

/// Which of the program's processes have exited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TraceeState {
    Running,
    /// The first process has exited with this wait status; others may still run.
    FirstExited(i32),
    /// All processes have exited. The status is that of the first one.
    AllExited(i32),
}

/// The result of a wait.
enum Input {
    Call(Notification),
    Message,
    Signal,
    Nothing,
}

/// The result of [`Supervisor::serve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// The time-out has expired, or a signal has arrived.
    Nothing,
    /// Calls were replied to.
    Calls,
    /// The program, and all processes that had a socket open, have exited; the value is the
    /// program's wait status.
    Ended(i32),
}

impl Supervisor {
    /// Starts a program whose `/proc` shows `processes`. It runs until it makes an intercepted
    /// call, which [`Supervisor::serve`] handles.
    ///
    /// # Errors
    /// When this system does not allow it, or the program does not exist.
    pub fn start(options: &LaunchOptions, processes: &dyn ProcessView) -> Result<Self, InterposeError> {
        if options.clock == ClockSource::World && processes.clocks().is_none() {
            return Err(InterposeError::NoClocks);
        }
        let taken = processes.pids();
        let pid_max = pid_max(&taken);
        let (socket_kind, namespace) = choose_sockets(options)?;
        let mut launched = launch(options, &taken, pid_max, socket_kind)?;
        let procfs =
            launched.proc.take().map(|(root, real)| ProcfsTree::new(root, real, pid_max)).transpose()?;
        launched.run()?;
        let listener = match receive_message(&launched.control) {
            ChildMessage::Listener(listener) => listener,
            ChildMessage::Failed(error) => return Err(error),
            _ => return Err(Errno::PIPE.into()),
        };
        let listener = SeccompListener::new(listener);
        let tracee = TraceeProcesses { init: launched.pid };
        let sockets = SocketTable::new(launched.reserved.clone(), tracee);
        let flow = namespace.map(|(namespace, charge)| {
            // Short waits for the program must end on time. The program keeps the usual slack.
            set_timer_slack(TIMER_SLACK);
            let observer = ActivityObserver::new(tracee, launched.reserved.clone(), Arc::clone(&listener.fd));
            let mut flow = FlowControl::new(namespace, charge, observer);
            flow.stays_at_last_event = options.clock == ClockSource::World;
            flow
        });
        Ok(Self {
            observer: ActivityObserver::new(tracee, launched.reserved.clone(), Arc::clone(&listener.fd)),
            tracee,
            socket_kind,
            launched,
            tasks: TaskFds::default(),
            delivery: EventDelivery::new(listener, sockets, flow),
            procfs,
            pidfds: PidFdTable::default(),
            clock: (options.clock == ClockSource::World).then(ClockEmulation::default),
            retry: None,
            state: TraceeState::Running,
        })
    }

    /// Emits events that are due and handles one of the program's calls. Waits for at most
    /// `timeout`, and returns early if a signal arrives.
    ///
    /// # Errors
    /// When the world fails, or the program cannot be executed ([`InterposeError::Exec`]).
    pub fn serve<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        timeout: Duration,
    ) -> Result<Served, ServeError<W::Error>> {
        if let Some(notification) = self.retry.take() {
            self.handle(world, notification)?;
            return Ok(Served::Calls);
        }
        // A time-out that exceeds the range of the clock is unlimited.
        let until = Instant::now().checked_add(timeout);
        loop {
            if let Some(clock) = &mut self.clock {
                let event = world.processes().clocks().unwrap_or_default();
                clock.expire(&self.delivery.listener, event)?;
            }
            let due = self.delivery.emit_due(world)?;
            let refill = self.delivery.pump_native(world)?;
            if !self.pidfds.is_empty() {
                self.pidfds.update(world.processes());
            }
            self.delivery.pump_untracked(world)?;
            let is_incomplete = self.delivery.continue_batch(world)?;
            let now = Instant::now();
            let left = |at: Instant| at.saturating_duration_since(now);
            let timeout = if is_incomplete { Some(Duration::ZERO) } else { until.map(left) };
            let sleep = self.clock.as_ref().and_then(ClockEmulation::next_deadline);
            let deadline = self.delivery.next_deadline().into_iter().chain(sleep).min();
            let timeout = [timeout, due, refill, deadline.map(left)];
            let timeout = timeout.into_iter().flatten().min();
            match self.await_input(timeout)? {
                Input::Call(notification) => {
                    self.handle(world, notification)?;
                    return Ok(Served::Calls);
                }
                Input::Message => return self.receive_message().map_err(ServeError::Interpose),
                Input::Nothing => self.delivery.expire()?,
                Input::Signal => return Ok(Served::Nothing),
            }
            // Native sockets are refilled much more often than the caller has other work.
            if refill.is_none() || until.is_some_and(|until| until <= Instant::now()) {
                return Ok(Served::Nothing);
            }
        }
    }

    /// Waits for a call of the program, or for a message from the new processes.
    fn await_input(&mut self, timeout: Option<Duration>) -> Result<Input, InterposeError> {
        // A time-out that exceeds the range of `Timespec` is unlimited.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.delivery.listener.fd.as_fd(), PollFlags::IN),
            PollFd::new(&self.launched.control, PollFlags::IN),
        ];
        let untracked = self.delivery.sockets.proxies.iter().filter_map(SocketProxy::poll_interest);
        fds.extend(untracked.map(|(end, interest)| PollFd::from_borrowed_fd(end, interest)));
        let polled = poll(&mut fds, timeout.as_ref());
        let [has_call, has_message] = [0, 1].map(|at| !fds[at].revents().is_empty());
        let has_hung_up = fds[2..].iter().any(|fd| fd.revents().contains(PollFlags::HUP));
        match polled {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Input::Signal),
            Err(error) => return Err(error.into()),
        }
        if has_hung_up {
            self.delivery.sockets.remove_closed();
        }
        if has_call {
            match self.delivery.listener.receive() {
                Ok(notification) => return Ok(Input::Call(notification)),
                // The task that made the call has ended, or all tasks have.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if has_message { Input::Message } else { Input::Nothing })
    }

    /// Handles one call and replies to it.
    fn handle<W: ReplayWorld>(&mut self, world: &mut W, notification: Notification) -> ServeResult<W> {
        self.delivery.remove_calls_of(notification.pid);
        self.delivery.note_call();
        if let Some(clock) = &mut self.clock {
            self.delivery.observe_native(world)?;
            clock.begin_call(notification.pid, world.processes().clocks().unwrap_or_default());
        }
        let reply = match self.delivery.listener.take_undelivered(&notification) {
            Some(result) => Reply::Return(result),
            None => self.execute(world, notification).inspect_err(|_| self.retry = Some(notification))?,
        };
        self.delivery.deliver_caused(world)?;
        self.delivery.listener.reply(&notification, reply)?;
        if let Some(clock) = &mut self.clock {
            clock.finish_call();
        }
        self.delivery.finish_call(world)
    }

    /// Handles a message from the new processes.
    fn receive_message(&mut self) -> Result<Served, InterposeError> {
        match receive_message(&self.launched.control) {
            ChildMessage::Failed(error) => return Err(error),
            ChildMessage::Exited(status) => self.state = TraceeState::FirstExited(status),
            ChildMessage::ProcMounted(..) | ChildMessage::Listener(_) => {}
            ChildMessage::Closed => {
                self.state = TraceeState::AllExited(match self.state {
                    TraceeState::FirstExited(status) | TraceeState::AllExited(status) => status,
                    // `init` was killed, and with it all processes.
                    TraceeState::Running => libc::SIGKILL,
                });
            }
        }
        let sockets = &mut self.delivery.sockets;
        sockets.remove_closed();
        Ok(match self.state {
            TraceeState::AllExited(status) => Served::Ended(status),
            // A program may fork into the background: a process with a socket, or one that may
            // still open a socket, continues.
            TraceeState::FirstExited(status) if sockets.opened > 0 && sockets.proxies.is_empty() => {
                Served::Ended(status)
            }
            _ => Served::Calls,
        })
    }

    /// Returns whether the program has ever opened a proc connector socket.
    pub fn has_opened_socket(&self) -> bool {
        self.delivery.sockets.opened > 0
    }

    /// Returns what the program has done with its proc connector sockets, and what it has received.
    pub fn sockets(&self) -> SocketSummary {
        self.delivery.sockets.summary()
    }

    /// Returns whether a task with a foreign ABI, such as a 32-bit program, has tried to open a
    /// proc connector socket; this was refused.
    pub fn has_foreign_abi(&self) -> bool {
        self.delivery.sockets.has_refused_foreign_abi
    }

    /// Returns the kind of the program's sockets.
    pub fn socket_kind(&self) -> SocketKind {
        self.socket_kind
    }

    /// Sends a signal to the program: to its processes with a proc connector socket and the
    /// processes that forked them, or to all processes if none has a socket. A shell around the
    /// program, or a process that reads its output, gets no signal.
    ///
    /// # Errors
    /// When no process can be reached.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let all = self.tracee.pids();
        let sockets = &self.delivery.sockets;
        let mut targets: Vec<u32> = all.iter().copied().filter(|&pid| sockets.is_open_in(pid)).collect();
        let mut at = 0;
        while let Some(&pid) = targets.get(at) {
            let parent = fork_parent(pid).filter(|parent| all.contains(parent) && !targets.contains(parent));
            targets.extend(parent);
            at += 1;
        }
        // A parent that restarts an ended child must get the signal first.
        targets.reverse();
        self.tracee.signal(signal, if targets.is_empty() { all } else { targets })
    }

    /// Sends a signal to all processes of the program.
    ///
    /// # Errors
    /// When no process can be reached.
    pub fn signal_all(&self, signal: Signal) -> Result<(), Errno> {
        self.tracee.signal(signal, self.tracee.pids())
    }

    /// Kills all processes of the program.
    pub fn kill(&self) {
        self.launched.kill();
    }
}
