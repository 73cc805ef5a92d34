//! A kernel and its sockets, behind one lock.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fake::{Errno, FdSocket, FdSocketFamily, PumpBlockedOn};
use pmon_core::{Cpu, Task, Tid};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::{read, write};

use crate::call_error::CallError;

/// The maximum number of times that a socket is pumped in one call.
const MAX_PUMPS: usize = 64;

/// What the callers and the pump thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// An `eventfd(2)` that wakes the pump thread.
    notifier: OwnedFd,
}

/// A kernel and its open sockets.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) kernel: fake::Kernel,
    sockets: Vec<OpenSocket>,
    /// Why the pump thread could not transfer something; the next call returns it.
    failure: Option<CallError>,
    pub(crate) stop: bool,
}

#[derive(Debug)]
struct OpenSocket {
    fd_socket: FdSocket,
    /// A copy of the kernel's end, which the pump thread polls without the lock.
    end: Arc<OwnedFd>,
    /// The conditions that the pump thread waits for.
    interest: PollFlags,
}

impl Shared {
    pub(crate) fn new(cpus: u32) -> Result<Self, CallError> {
        let notifier = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| CallError::new(errno, format!("cannot create an eventfd: {errno}")))?;
        let kernel = fake::Kernel::new(cpus);
        let state = State { kernel, sockets: Vec::new(), failure: None, stop: false };
        Ok(Self { state: Mutex::new(state), notifier })
    }

    /// Locks the state, also after a panic of another call, which returned an error.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles requests that programs have sent, performs `act`, and transfers its events.
    pub(crate) fn call<R>(
        &self,
        act: impl FnOnce(&mut State) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let mut state = self.lock();
        let interests = state.interests();
        state.pump()?;
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let result = act(&mut state)?;
        let pumped = state.pump();
        if state.interests() != interests {
            self.notify();
        }
        pumped?;
        Ok(result)
    }

    /// Wakes the pump thread.
    pub(crate) fn notify(&self) {
        // The write fails only when the counter is at its maximum; then the descriptor is readable
        // already.
        let _ = write(&self.notifier, &1_u64.to_ne_bytes());
    }

    pub(crate) fn clear_notification(&self) {
        // The read fails when the counter is 0; then the descriptor is not readable already.
        let _ = read(&self.notifier, &mut [0; 8]);
    }

    pub(crate) fn notifier(&self) -> &OwnedFd {
        &self.notifier
    }
}

impl State {
    /// Returns the task with an id.
    pub(crate) fn task(&self, tid: i32) -> Result<Task, CallError> {
        let task = u32::try_from(tid).ok().and_then(|tid| self.kernel.task(Tid(tid)));
        task.ok_or_else(|| CallError::new(Errno::SRCH, format!("no task {tid} runs in the fake kernel")))
    }

    /// Returns the CPU with a number.
    pub(crate) fn cpu(&self, cpu: u32) -> Result<Cpu, CallError> {
        let cpus = self.kernel.cpus();
        let exists = || format!("there is no CPU {cpu}: the fake kernel has {cpus}, from 0 on");
        if cpu < cpus { Ok(Cpu(cpu)) } else { Err(CallError::invalid(exists())) }
    }

    /// Serves a socket from now on; returns whether it is the first one.
    pub(crate) fn add(&mut self, fd_socket: FdSocket) -> Result<bool, CallError> {
        let end = fd_socket.as_fd().try_clone_to_owned();
        let end = end.map_err(|error| CallError::io("cannot duplicate a descriptor", &error))?;
        self.sockets.push(OpenSocket { fd_socket, end: Arc::new(end), interest: PollFlags::IN });
        Ok(self.sockets.len() == 1)
    }

    pub(crate) fn has_netlink_sockets(&self) -> bool {
        self.sockets.iter().any(|socket| socket.fd_socket.family() == FdSocketFamily::Netlink)
    }

    /// Transfers requests and datagrams of all sockets.
    pub(crate) fn pump(&mut self) -> Result<(), CallError> {
        let mut failure = None;
        self.sockets.retain_mut(|socket| match socket.pump() {
            Ok(is_open) => is_open,
            Err(error) => {
                failure = Some(error);
                true
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// Transfers for the pump thread: the next call returns a failure.
    pub(crate) fn pump_in_thread(&mut self) {
        if let Err(failure) = self.pump() {
            self.failure = Some(failure);
        }
    }

    /// Returns the descriptors that the pump thread polls, and for what.
    pub(crate) fn polled(&self) -> Vec<(Arc<OwnedFd>, PollFlags)> {
        let polled = self.sockets.iter().filter(|socket| !socket.interest.is_empty());
        polled.map(|socket| (socket.end.clone(), socket.interest)).collect()
    }

    fn interests(&self) -> Vec<PollFlags> {
        self.sockets.iter().map(|socket| socket.interest).collect()
    }
}

impl OpenSocket {
    /// Transfers what can be transferred; returns whether the program's end is open.
    fn pump(&mut self) -> Result<bool, CallError> {
        // After a failure, the socket is not polled until the next call.
        self.interest = PollFlags::empty();
        let mut blocked_on = PumpBlockedOn::NextPump;
        let mut pumps = 0;
        while blocked_on == PumpBlockedOn::NextPump && pumps < MAX_PUMPS {
            let result = self.fd_socket.pump();
            blocked_on =
                result.map_err(|error| CallError::io("an event cannot be delivered", &error))?.blocked_on;
            pumps += 1;
        }
        self.interest = match blocked_on {
            PumpBlockedOn::Kernel | PumpBlockedOn::ConsumerClose => PollFlags::IN,
            // With OUT, the pump thread continues at once if it is due to continue.
            PumpBlockedOn::Consumer | PumpBlockedOn::NextPump => PollFlags::IN | PollFlags::OUT,
            PumpBlockedOn::Closed => return Ok(false),
        };
        Ok(true)
    }
}
