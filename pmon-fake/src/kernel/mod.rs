//! The fake kernel: processes that do things, and sockets that hear of it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pmon_core::batch::Batch;
use pmon_core::wire::{Comm, EVENT_DATAGRAM_LEN, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid, Tid};

use crate::faults::injector::FaultInjector;
use crate::faults::script::FaultScript;
use crate::fd_socket::FdSocket;
use crate::kernel::task_table::{Ids, PID_MAX, TaskTable};
use crate::netlink::connector::Connector;
use crate::netlink::socket::{Socket, lock};

mod id_map;
mod task_table;

pub use task_table::FakeProcess;

/// `SIGCHLD`, and what a thread has instead.
const SIGCHLD: u32 = 17;
const NO_SIGNAL: u32 = u32::MAX;
/// Whose the sockets are, unless it is said.
const OUTSIDE: Tgid = Tgid(PID_MAX);
/// In a wait status: a core was dumped.
const WCOREFLAG: u32 = 0x80;

/// A kernel with a proc connector, as Linux 6.18 has it, and nothing else: processes begin, change and end as it is told, and its
/// [sockets](Socket) hear of it. It has no threads and no clock of its own: time goes on by a microsecond an event, or as told.
///
/// Each verb is what one system call of a process does, on the [current CPU](Kernel::run_on), with the events that it causes. A verb
/// on a task that does not exist panics: that is a mistake of the test.
///
/// ```
/// use pmon_core::batch::Batch;
/// use pmon_core::source::{Received, Source};
/// use pmon_core::wire::{ByteOrder, Event, Kind};
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
/// assert_eq!(socket.receive(&mut batch)?, Received::Frames(4));
/// let kinds: Vec<_> = batch.frames().map(|frame| Event::decode(frame.bytes, ByteOrder::NATIVE).unwrap().kind()).collect();
/// assert_eq!(kinds, [Kind::Ack, Kind::Fork, Kind::Exec, Kind::Exit]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Kernel {
    connector: Arc<Mutex<Connector>>,
    processes: TaskTable,
    forks: u64,
}

impl Kernel {
    /// A kernel with so many CPUs, at least 1, on which only process 1, `init`, runs.
    pub fn new(cpus: u32) -> Self {
        Self { connector: Arc::new(Mutex::new(Connector::new(cpus))), processes: TaskTable::new(), forks: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Connector> {
        lock(&self.connector)
    }

    /// A new socket, of a process with all privileges that is not in the model.
    pub fn socket(&self) -> Socket {
        self.socket_of(OUTSIDE)
    }

    /// A new socket of that process, with all privileges.
    pub fn socket_of(&self, tgid: Tgid) -> Socket {
        Socket::open(&self.connector, tgid, true)
    }

    /// A new socket of a process without privileges, which is not in the model.
    pub fn unprivileged_socket(&self) -> Socket {
        self.unprivileged_socket_of(OUTSIDE)
    }

    /// A new socket of that process, without privileges.
    pub fn unprivileged_socket_of(&self, tgid: Tgid) -> Socket {
        Socket::open(&self.connector, tgid, false)
    }

    /// A new socket that a program can have as a file descriptor, bound to the group.
    ///
    /// # Errors
    /// When this host has no file descriptor left.
    pub fn fd_socket(&self) -> io::Result<FdSocket> {
        FdSocket::open(self.socket(), false)
    }

    /// The same, of which no call blocks: as with `SOCK_NONBLOCK`.
    ///
    /// # Errors
    /// As [`Kernel::fd_socket`].
    pub fn nonblocking_fd_socket(&self) -> io::Result<FdSocket> {
        FdSocket::open(self.socket(), true)
    }

    /// The same over a connection that somebody else has made, of type `SOCK_SEQPACKET`, whose other end is the consumer's.
    ///
    /// # Errors
    /// When it is no such connection.
    pub fn fd_socket_over(&self, end: OwnedFd) -> io::Result<FdSocket> {
        FdSocket::over(self.socket(), end)
    }

    /// Things go wrong from now on as `script` says, and no longer as an earlier one did. Its events are counted from the first that
    /// ever happened; see [`Kernel::events_happened`].
    pub fn inject(&mut self, script: FaultScript, seed: u64) {
        self.lock().set_faults(FaultInjector::new(script, seed));
    }

    /// How many events have happened, by verb or by frame, whoever heard of them.
    pub fn events_happened(&self) -> u64 {
        self.lock().happened
    }
}

/// Time and place.
impl Kernel {
    /// What happens next happens on that CPU.
    ///
    /// # Panics
    /// If there is no such CPU.
    pub fn run_on(&mut self, cpu: Cpu) {
        let mut connector = self.lock();
        assert!(cpu.0 < connector.numbers.cpus(), "no CPU {cpu}: there are {}", connector.numbers.cpus());
        connector.cpu = cpu;
    }

    /// How many CPUs there are.
    pub fn cpus(&self) -> u32 {
        self.lock().numbers.cpus()
    }

    /// `CLOCK_MONOTONIC`.
    pub fn now(&self) -> MonoNs {
        self.lock().now()
    }

    /// Time passes.
    pub fn advance(&mut self, by: Duration) {
        let mut connector = self.lock();
        let then = connector.now().0.saturating_add(by.as_nanos() as u64);
        connector.at(MonoNs(then));
    }

    /// From now on, so much time passes with each event; 1 µs at first.
    pub fn set_time_per_event(&mut self, event: Duration) {
        self.lock().pace = event.as_nanos() as u64;
    }

    /// The next event of that CPU has this number. Without it, a CPU begins with 0.
    pub fn set_next_seq(&mut self, cpu: Cpu, next: Seq) {
        self.lock().numbers.set_next(cpu, next);
    }

    /// The number of the next event of that CPU.
    ///
    /// # Panics
    /// If there is no such CPU.
    pub fn next_seq(&self, cpu: Cpu) -> Seq {
        self.lock().numbers.next(cpu).unwrap_or_else(|| panic!("no CPU {cpu}"))
    }

    /// `net.core.rmem_max`, which bounds [`Socket::set_rcvbuf`]; 4 MiB at first.
    pub fn set_rmem_max(&mut self, bytes: u32) {
        self.lock().rmem_max = bytes;
    }

    /// The kernel's count of listeners, which is not always that of the sockets that listen: one that is closed stays in it.
    /// Below 1, nothing is emitted, and no number used.
    pub fn listeners(&self) -> i32 {
        self.lock().listeners
    }

    /// Sets that count: what others have done to it.
    pub fn set_listeners(&mut self, count: i32) {
        self.lock().listeners = count;
    }
}

/// What processes do.
impl Kernel {
    /// A process that has been there from before, a child of `init`: no event.
    pub fn add_process(&mut self, comm: &str) -> Task {
        self.processes.boot(comm)
    }

    /// `fork`: a new process.
    pub fn fork(&mut self, parent: Task) -> Task {
        let child = self.processes.fork(parent);
        self.forks += 1;
        self.happen(EventBody::Fork { parent, child });
        child
    }

    /// `clone(CLONE_THREAD)`: a new thread of a process. Its event names the process's parent (a thread: the one that forked it), not its creator.
    pub fn clone_thread(&mut self, of: Task) -> Task {
        let child = self.processes.thread(of);
        self.forks += 1;
        let parent = self.processes.of(of).real_parent();
        self.happen(EventBody::Fork { parent, child });
        child
    }

    /// Returns the number of processes and threads started so far, including those without a fork
    /// event: `processes` in `/proc/stat`.
    pub fn forks(&self) -> u64 {
        self.forks
    }

    /// `execve`, by any thread: the others end, with code 0, the first thread last. Returns the task that goes on, the process's only one.
    pub fn exec(&mut self, task: Task, path: &str, args: &[&str]) -> Task {
        let process = self.processes.of(task);
        let parent = process.real_parent();
        let others: Vec<_> = process.threads().filter(|&tid| tid != task.tid).collect();
        let (first, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|tid| tid.0 == task.tgid.0);
        for tid in others.into_iter().chain(first) {
            let other = Task { tid, tgid: task.tgid };
            // The first thread ends as if the process did, though that lives on.
            let (signal, parent) = told(other, parent);
            self.happen(EventBody::Exit { task: other, code: 0, signal, parent: Some(parent) });
        }
        self.processes.exec(task, path, args);
        let task = leader(task.tgid);
        self.happen(EventBody::Exec { task });
        task
    }

    /// `pthread_exit`, or `exit` of a process with one thread: that thread ends. With the last one ends the process, with `code` as its
    /// exit code.
    pub fn exit(&mut self, task: Task, code: u8) {
        self.end(task, u32::from(code) << 8);
    }

    /// `exit_group`: the process ends, all its threads with it, the first one first.
    pub fn exit_group(&mut self, tgid: Tgid, code: u8) {
        self.end_all(tgid, u32::from(code) << 8);
    }

    /// A signal that ends the process. With one that dumps core (`SIGABRT`, `SIGSEGV` and the like) the event of that comes in any case;
    /// `core` says whether a core was written, which the exit code tells.
    pub fn kill(&mut self, tgid: Tgid, signal: u8, core: bool) {
        let code = u32::from(signal);
        let mut threads = self.threads(tgid);
        // Whoever takes the signal: the first thread, or the one that has been there longest.
        let task = Task { tid: threads[0], tgid };
        if is_core(signal) {
            let parent = self.processes.of(task).real_parent();
            self.happen(EventBody::Coredump { task, parent: Some(parent) });
        }
        if core && is_core(signal) {
            // The others end before it is written, and know nothing of it.
            threads.drain(1..).for_each(|tid| self.end(Task { tid, tgid }, code));
            self.end(task, code | WCOREFLAG);
        } else {
            self.end_all(tgid, code);
        }
    }

    /// `prctl(PR_SET_NAME)`: the thread calls itself so; 15 bytes are kept.
    pub fn rename(&mut self, task: Task, comm: &str) {
        let comm = self.processes.rename(task, comm);
        self.happen(EventBody::Comm { task, comm });
    }

    /// `setresuid` of the real and the effective user id, of that thread alone. Without a change there is no event.
    pub fn setuid(&mut self, task: Task, real: u32, effective: u32) {
        let uid = (real, effective);
        if self.set_ids(task, |ids| Ids { uid, ..ids }) {
            self.happen(EventBody::Uid { task, real, effective });
        }
    }

    /// `setresgid`; as [`Kernel::setuid`].
    pub fn setgid(&mut self, task: Task, real: u32, effective: u32) {
        let gid = (real, effective);
        if self.set_ids(task, |ids| Ids { gid, ..ids }) {
            self.happen(EventBody::Gid { task, real, effective });
        }
    }

    /// Whether there was something to change.
    fn set_ids(&mut self, task: Task, change: impl FnOnce(Ids) -> Ids) -> bool {
        let process = self.processes.of_mut(task);
        let before = process.ids(task.tid);
        let ids = change(before);
        if ids != before {
            process.set_ids(task, ids);
        }
        ids != before
    }

    /// `setsid`: the process leads a new session. One that leads a session already is refused, and nothing happens.
    pub fn setsid(&mut self, task: Task) {
        let before = std::mem::replace(&mut self.processes.of_mut(task).session, task.tgid);
        if before != task.tgid {
            self.happen(EventBody::Sid { task: leader(task.tgid) });
        }
    }

    /// `ptrace(PTRACE_ATTACH)`.
    pub fn ptrace_attach(&mut self, tracer: Task, task: Task) {
        self.processes.of(task);
        self.happen(EventBody::Ptrace { task, tracer });
    }

    /// `ptrace(PTRACE_DETACH)`.
    pub fn ptrace_detach(&mut self, task: Task) {
        self.processes.of(task);
        self.happen(EventBody::Ptrace { task, tracer: Task::default() });
    }

    /// A living process.
    pub fn process(&self, tgid: Tgid) -> Option<&FakeProcess> {
        self.processes.get(tgid)
    }

    /// The living processes, by their ids.
    pub fn processes(&self) -> impl Iterator<Item = (Tgid, &FakeProcess)> {
        self.processes.iter()
    }

    fn end(&mut self, task: Task, code: u32) {
        let (signal, parent) = told(task, self.processes.of(task).real_parent());
        self.processes.end(task);
        self.happen(EventBody::Exit { task, code, signal, parent: Some(parent) });
    }

    /// All threads of a process end, the first one first.
    fn end_all(&mut self, tgid: Tgid, code: u32) {
        self.threads(tgid).into_iter().for_each(|tid| self.end(Task { tid, tgid }, code));
    }

    fn threads(&self, tgid: Tgid) -> Vec<Tid> {
        let process = self.processes.get(tgid).unwrap_or_else(|| panic!("no such process: {tgid}"));
        process.threads().collect()
    }

    fn happen(&mut self, body: EventBody) {
        self.lock().happen(body);
    }
}

/// Events from elsewhere, and what is lost of them.
impl Kernel {
    /// All that is fed until the feed is dropped is one thing: nobody sees a part of it.
    pub fn feed(&mut self) -> EventFeed<'_> {
        EventFeed(self.lock())
    }

    /// So many events of that CPU happen and are dropped for want of room, whatever the room: their numbers are missing, each listener
    /// counts them as dropped, and has `ENOBUFS`.
    pub fn overrun(&mut self, cpu: Cpu, events: u64) {
        self.lock().overrun(cpu, events);
    }

    /// So many events of that CPU happen for which the kernel has no memory: their numbers are missing, and nobody says so.
    pub fn no_memory(&mut self, cpu: Cpu, events: u64) {
        self.lock().skip(cpu, events);
    }

    /// Nothing comes any more: behind what is queued, each socket is at its end.
    pub fn end_of_file(&mut self) {
        self.lock().end();
    }

    /// What a script holds back comes now.
    pub fn release_delayed(&mut self) {
        self.lock().settle();
    }
}

/// See [`Kernel::feed`].
#[derive(Debug)]
pub struct EventFeed<'a>(MutexGuard<'a, Connector>);

impl EventFeed<'_> {
    /// An event with its time, CPU and number as they were elsewhere. The numbers of a CPU's events keep their distances; they are
    /// moved by those that this kernel gave to events of its own there. `false` if nobody is told of it.
    #[inline]
    pub fn emit(&mut self, event: &Event) -> bool {
        self.0.frame(event)
    }

    /// The same of an event as [`Event::encode`] gives it, for the kernel's only socket, which receives it at once: into `batch`, which is
    /// not full. `false` if it is queued instead; then [`Source::receive`](pmon_core::source::Source::receive) is next.
    #[inline]
    pub fn emit_into(&mut self, frame: &[u8; EVENT_DATAGRAM_LEN], batch: &mut Batch) -> bool {
        self.0.frame_into(frame, batch)
    }

    /// The same of a datagram in any form, from the kernel.
    pub fn emit_datagram(&mut self, bytes: &[u8]) {
        self.0.raw_frame(bytes);
    }

    /// So many events that this kernel is not told of: the numbers behind them move up.
    pub fn omit(&mut self, cpu: Cpu, events: u32) {
        self.0.numbers.leave_out(cpu, events);
    }

    /// So many events whose numbers will be missing anyhow are dropped for want of room.
    pub fn drop_datagrams(&mut self, events: u64) {
        self.0.lose(events);
    }

    /// What this kernel says next of itself, it says on that CPU, with that number.
    pub fn start_at(&mut self, cpu: Cpu, next: Seq) {
        self.0.cpu = cpu;
        self.0.numbers.set_next(cpu, next);
    }

    /// Time passes, up to that.
    pub fn advance_to(&mut self, time: MonoNs) {
        self.0.at(time);
    }
}

fn leader(tgid: Tgid) -> Task {
    Task::new(tgid.0, tgid.0)
}

/// A thread's name as the kernel keeps it.
pub(crate) fn comm(name: &str) -> Comm {
    let mut comm = Comm::default();
    let name = name.split('\0').next().unwrap_or(name);
    let kept = name.len().min(comm.0.len() - 1);
    comm.0[..kept].copy_from_slice(&name.as_bytes()[..kept]);
    comm
}

/// What an exit says of signal and parent. Threads but a process's first have no signal, and since Linux 6.18 no parent either.
fn told(task: Task, parent: Task) -> (u32, Task) {
    if task.tid.0 == task.tgid.0 { (SIGCHLD, parent) } else { (NO_SIGNAL, Task::default()) }
}

/// Whether a process that this signal ends dumps core, if it may: the event comes in any case.
fn is_core(signal: u8) -> bool {
    // QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS.
    matches!(signal, 3..=8 | 11 | 24 | 25 | 31)
}
