//! The fake kernel: its sockets, its clock, its sequence numbers and its processes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pmon_core::{Cpu, MonoNs, Seq, Tgid};

use crate::faults::injector::FaultInjector;
use crate::faults::place::EventPlace;
use crate::faults::script::{FaultCount, FaultScript};
use crate::fd_socket::FdSocket;
use crate::native_socket::NativeSocketError;
use crate::netlink::connector::{Connector, lock};
use crate::netlink::socket::Socket;

mod event_feed;
mod id_map;
mod task_table;
mod verbs;

pub use event_feed::EventFeed;
pub use task_table::FakeProcess;
use task_table::{PID_MAX, TaskTable};

/// The owner of sockets that belong to no process of the model; its id is beyond all others.
const OUTSIDE_PROCESS: Tgid = Tgid(PID_MAX);

/// A model of a kernel with a proc connector, as Linux 6.18 has it.
///
/// Methods such as [`Kernel::fork`] are the system calls of the model's processes. Each emits the
/// events that the system call causes, on the [current CPU](Kernel::run_on), to all
/// [sockets](Socket). The model has no threads and no clock: time advances by 1 µs per event, and
/// by [`Kernel::advance`]. A method panics if its task does not exist.
///
/// ```
/// use pmon_core::batch::Batch;
/// use pmon_core::source::{Received, Source};
/// use pmon_core::wire::{ByteOrder, Event, EventKind};
/// use pmon_fake::Kernel;
///
/// let mut kernel = Kernel::new(2);
/// let mut socket = kernel.socket();
/// socket.listen()?;
///
/// let shell = kernel.add_process("sh");
/// let child = kernel.fork(shell);
/// kernel.exec(child, "/bin/true", &["true"]);
/// kernel.exit(child, 0);
///
/// let mut batch = Batch::with_capacity(16);
/// assert_eq!(socket.receive(&mut batch)?, Received::Datagrams(4));
/// let decode = |bytes| Event::decode(bytes, ByteOrder::NATIVE).unwrap();
/// let kinds: Vec<_> = batch.datagrams().map(|datagram| decode(datagram.bytes).kind()).collect();
/// assert_eq!(kinds, [EventKind::Ack, EventKind::Fork, EventKind::Exec, EventKind::Exit]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Kernel {
    connector: Arc<Mutex<Connector>>,
    tasks: TaskTable,
    forks: u64,
}

impl Kernel {
    /// Creates a kernel with `cpus` CPUs, at least 1, on which only process 1, `init`, runs.
    pub fn new(cpus: u32) -> Self {
        Self { connector: Arc::new(Mutex::new(Connector::new(cpus))), tasks: TaskTable::new(), forks: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Connector> {
        lock(&self.connector)
    }

    /// Opens a socket of a privileged process outside the model.
    pub fn socket(&self) -> Socket {
        self.socket_of(OUTSIDE_PROCESS)
    }

    /// Opens a privileged socket of the given process.
    pub fn socket_of(&self, tgid: Tgid) -> Socket {
        Socket::open(&self.connector, tgid, true)
    }

    /// Opens a socket of an unprivileged process outside the model.
    pub fn unprivileged_socket(&self) -> Socket {
        self.unprivileged_socket_of(OUTSIDE_PROCESS)
    }

    /// Opens an unprivileged socket of the given process.
    pub fn unprivileged_socket_of(&self, tgid: Tgid) -> Socket {
        Socket::open(&self.connector, tgid, false)
    }

    /// Opens a socket as a file descriptor, bound to the group of process events.
    ///
    /// # Errors
    /// Returns an error if this process has no file descriptor left.
    pub fn fd_socket(&self) -> io::Result<FdSocket> {
        FdSocket::open(self.socket(), false)
    }

    /// Opens a non-blocking socket as a file descriptor, as with `SOCK_NONBLOCK`.
    ///
    /// # Errors
    /// As [`Kernel::fd_socket`].
    pub fn nonblocking_fd_socket(&self) -> io::Result<FdSocket> {
        FdSocket::open(self.socket(), true)
    }

    /// Opens a native netlink socket as a file descriptor, bound to the group of process events, on
    /// which overruns return `ENOBUFS`.
    ///
    /// # Errors
    /// Returns an error if this system does not allow it: [`Kernel::fd_socket`] is the alternative.
    pub fn netlink_fd_socket(&self) -> Result<FdSocket, NativeSocketError> {
        FdSocket::open_netlink(self.socket())
    }

    /// Opens a socket for the consumer at the other end of an established `SOCK_SEQPACKET`
    /// connection.
    ///
    /// # Errors
    /// Returns an error if `end` is not such a connection.
    pub fn fd_socket_over(&self, end: OwnedFd) -> io::Result<FdSocket> {
        FdSocket::over(self.socket(), end)
    }

    /// Starts a fault script, which replaces the previous one; `seed` determines its random
    /// choices.
    ///
    /// The event numbers of the script count from the kernel's first event; see
    /// [`Kernel::events_happened`].
    pub fn inject(&mut self, script: FaultScript, seed: u64) {
        self.lock().set_faults(FaultInjector::new(script, seed));
    }

    /// Returns how often each rule of the current script has fired, in the order of
    /// [`FaultScript::rules`].
    pub fn fault_counts(&self) -> Vec<FaultCount> {
        self.lock().faults.counts()
    }

    /// Returns the number of events that happened so far, including those that were not emitted.
    pub fn events_happened(&self) -> u64 {
        self.lock().events
    }
}

/// The clock, CPUs, sequence numbers, and the listener count.
impl Kernel {
    /// Sets the CPU on which the next events happen.
    ///
    /// # Panics
    /// Panics if there is no such CPU.
    pub fn run_on(&mut self, cpu: Cpu) {
        let mut connector = self.lock();
        assert!(cpu.0 < connector.seq.cpus(), "no CPU {cpu}: there are {}", connector.seq.cpus());
        connector.current_cpu = cpu;
    }

    /// Returns the number of CPUs.
    pub fn cpus(&self) -> u32 {
        self.lock().seq.cpus()
    }

    /// Returns the time of `CLOCK_MONOTONIC`.
    pub fn now(&self) -> MonoNs {
        self.lock().now
    }

    /// Advances the clock.
    pub fn advance(&mut self, by: Duration) {
        let mut connector = self.lock();
        let then = connector.now.0.saturating_add(by.as_nanos() as u64);
        connector.advance_to(MonoNs(then));
    }

    /// Sets the time that passes with each event; the default is 1 µs.
    pub fn set_time_per_event(&mut self, time: Duration) {
        self.lock().event_ns = time.as_nanos() as u64;
    }

    /// Sets the sequence number of the CPU's next event; the default is 0.
    pub fn set_next_seq(&mut self, cpu: Cpu, next: Seq) {
        self.lock().seq.set_next(cpu, next);
    }

    /// Returns the sequence number of the CPU's next event.
    ///
    /// # Panics
    /// Panics if there is no such CPU.
    pub fn next_seq(&self, cpu: Cpu) -> Seq {
        self.lock().seq.next(cpu).unwrap_or_else(|| panic!("no CPU {cpu}"))
    }

    /// Sets `net.core.rmem_max` in bytes, which limits [`Socket::set_rcvbuf`]; the default is 4
    /// MiB.
    pub fn set_rmem_max(&mut self, bytes: u32) {
        self.lock().rmem_max = bytes;
    }

    /// Returns the kernel's count of listeners (`proc_event_num_listeners`).
    ///
    /// The count can differ from the number of listening sockets: closing a socket does not change
    /// it. While it is below 1, no event is emitted and no sequence number used.
    pub fn listeners(&self) -> i32 {
        self.lock().listeners
    }

    /// Sets the kernel's count of listeners, as other listeners on the machine would change it.
    pub fn set_listeners(&mut self, count: i32) {
        self.lock().listeners = count;
    }
}

/// External events, forced losses, and the end of the input.
impl Kernel {
    /// Starts feeding external events; sockets see none of them before the feed is dropped.
    pub fn feed(&mut self) -> EventFeed<'_> {
        EventFeed(self.lock())
    }

    /// Makes `events` events of a CPU happen and be dropped for lack of buffer space, however full
    /// the buffers are.
    ///
    /// Their sequence numbers are missing, and each listener counts the drops and receives
    /// `ENOBUFS`.
    pub fn overrun(&mut self, cpu: Cpu, events: u64) {
        self.lock().overrun(cpu, events);
    }

    /// Loses the next `events` events: they happen, and each socket drops them as if its buffer
    /// were full.
    ///
    /// Their sequence numbers are missing, and each listener counts the drops and receives
    /// `ENOBUFS`, once for all these events. As after any overrun, a socket then drops everything
    /// until a receive call leaves its queue empty, unless it has set `NETLINK_NO_ENOBUFS`.
    ///
    /// ```
    /// use pmon_fake::{Errno, Kernel, RecvFlags};
    ///
    /// let mut kernel = Kernel::new(1);
    /// let mut socket = kernel.socket();
    /// socket.listen()?;
    /// let shell = kernel.add_process("sh");
    /// # let mut buffer = [0; 128];
    /// # socket.recv(&mut buffer, RecvFlags::empty())?;
    ///
    /// kernel.lose(1);
    /// let child = kernel.fork(shell);
    /// assert_eq!(socket.recv(&mut buffer, RecvFlags::empty()), Err(Errno::NOBUFS));
    /// kernel.exit(child, 0); // The consumer has missed the fork, and receives the exit.
    /// # assert_eq!(socket.recv(&mut buffer, RecvFlags::empty()).map(|event| event.len), Ok(76));
    /// # assert_eq!(socket.memory().drops, 1);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn lose(&mut self, events: u64) {
        self.lock().lose_next(events);
    }

    /// Loses the next events, as [`Kernel::lose`], up to but not including the one that `place`
    /// names.
    ///
    /// ```
    /// use pmon_core::wire::EventKind;
    /// use pmon_fake::{Errno, EventPlace, Kernel, RecvFlags};
    ///
    /// let mut kernel = Kernel::new(1);
    /// let mut socket = kernel.socket();
    /// socket.listen()?;
    /// let shell = kernel.add_process("sh");
    /// kernel.lose_until(EventPlace::kind(EventKind::Exec).comm("make"));
    ///
    /// let child = kernel.fork(shell);
    /// kernel.exec(child, "/usr/bin/env", &["env", "make"]);
    /// assert_eq!(socket.memory().drops, 2);
    /// # socket.recv(&mut [], RecvFlags::empty()).unwrap_err();
    /// # socket.recv(&mut [], RecvFlags::empty())?;
    /// kernel.exec(child, "/usr/bin/make", &["make"]);
    /// assert_eq!(socket.memory().drops, 2);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn lose_until(&mut self, place: EventPlace) {
        self.lock().lose_until(place);
    }

    /// Makes `events` events of a CPU happen for which the kernel has no memory.
    ///
    /// Their sequence numbers are missing, and no drop is counted.
    pub fn no_memory(&mut self, cpu: Cpu, events: u64) {
        self.lock().skip_numbers(cpu, events);
    }

    /// Ends the input: after the datagrams already queued, each socket is at end of file.
    pub fn end_of_file(&mut self) {
        self.lock().end();
    }

    /// Delivers all datagrams that the fault [`Hold`](crate::Fault::Hold) delays.
    pub fn release_delayed(&mut self) {
        self.lock().release_all();
    }
}
