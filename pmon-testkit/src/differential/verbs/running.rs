//! Performs a case by system calls of real tasks.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use pmon_core::wire::{ByteOrder, CN_IDX_PROC, Event, EventBody};
use rustix::fd::OwnedFd;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use rustix::thread::gettid;

use super::names::TaskNames;
use super::sys::TaskTree;
use super::{TaskAction, VerbCase};
use crate::differential::table::request::{IGNORE, LISTEN, RawRequest};

/// Maximum time to wait for an event.
const MAX_WAIT: Duration = Duration::from_secs(2);
const BUFFER: usize = 8 << 20;

/// A listener that receives the events of a tree of tasks.
struct TreeListener {
    socket: OwnedFd,
    names: TaskNames,
    /// The thread that starts the tree.
    own: u32,
    /// The tree's tasks.
    tasks: HashSet<u32>,
    /// The tasks that have not exited, with their processes.
    alive: HashMap<u32, u32>,
}

/// Returns the events of the first task's start, and of each step. `expected` is the number of
/// events to wait for; additional ones are attributed to the next step, or to the last.
pub(crate) fn perform(case: &VerbCase, expected: &[usize]) -> io::Result<Vec<Vec<String>>> {
    let mut listener = TreeListener::new()?;
    let dir = tempfile::tempdir()?;
    let tree = TaskTree::new(case.steps, &CString::new(dir.path().as_os_str().as_bytes())?)?;
    let received = listener.receive_all(&tree, case, expected);
    tree.end(listener.alive.values().copied());
    received
}

impl Drop for TreeListener {
    fn drop(&mut self) {
        // If this fails, the kernel emits events although no process listens, which only costs
        // time.
        let _ = send(&self.socket, &RawRequest::new(IGNORE).bytes(), SendFlags::empty());
    }
}

impl TreeListener {
    fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))?;
        bind(&socket, &SocketAddrNetlink::new(0, CN_IDX_PROC))?;
        set_socket_recv_buffer_size_force(&socket, BUFFER)?;
        send(&socket, &RawRequest::new(LISTEN).bytes(), SendFlags::empty())?;
        let own = gettid().as_raw_nonzero().get() as u32;
        let mut names = TaskNames::default();
        // If a parent exits, init becomes the parent, or a subreaper (`PR_SET_CHILD_SUBREAPER`).
        names.name(1, "init");
        let mut ancestor = std::process::id();
        while let Some(parent) = parent(ancestor)? {
            names.name(parent, "init");
            ancestor = parent;
        }
        names.name(std::process::id(), "own");
        names.name(own, "own");
        Ok(Self { socket, names, own, tasks: HashSet::new(), alive: HashMap::new() })
    }

    fn receive_all(
        &mut self,
        tree: &TaskTree,
        case: &VerbCase,
        expected: &[usize],
    ) -> io::Result<Vec<Vec<String>>> {
        let mut received = vec![self.receive(expected[0])?];
        let mut made = 1;
        for (number, step) in case.steps.iter().enumerate() {
            tree.command(step.0, number, made)?;
            made += usize::from(matches!(step.1, TaskAction::Fork | TaskAction::Vfork | TaskAction::Thread));
            received.push(self.receive(expected[number + 1])?);
            let needs_no_reply = matches!(
                step.1,
                TaskAction::Vfork
                    | TaskAction::Exec
                    | TaskAction::Exit(_)
                    | TaskAction::ExitGroup(_)
                    | TaskAction::Die(..)
            );
            let began = Instant::now();
            while !needs_no_reply && tree.done(MAX_WAIT.as_millis() as i32) != Some(number) {
                if began.elapsed() > MAX_WAIT {
                    let why = format!("{}, step {number} is not finished", case.name);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
            }
        }
        if let Some(last) = received.last_mut() {
            last.extend(self.receive(0)?);
        }
        Ok(received)
    }

    /// Waits for `count` events of the tree, and receives all that have arrived.
    fn receive(&mut self, count: usize) -> io::Result<Vec<String>> {
        let began = Instant::now();
        let mut texts = Vec::new();
        let mut bytes = [0; 128];
        loop {
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    let Ok(event) = Event::decode(&bytes[..len], ByteOrder::NATIVE) else { continue };
                    if self.is_of_tree(&event) {
                        texts.push(self.names.event(&event));
                    }
                }
                Err(rustix::io::Errno::AGAIN) if texts.len() >= count || began.elapsed() > MAX_WAIT => {
                    return Ok(texts);
                }
                Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_micros(50)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_of_tree(&mut self, event: &Event) -> bool {
        let Some(task) = event.task() else { return false };
        let (tid, tgid) = (task.tid.0, task.tgid.0);
        let is_of_tree = match event.body {
            EventBody::Fork { parent, .. } if self.tasks.is_empty() => {
                parent.tid.0 == self.own && tid == tgid
            }
            EventBody::Fork { parent, .. } => {
                self.tasks.contains(&parent.tid.0) || self.tasks.contains(&tgid)
            }
            _ => self.tasks.contains(&tid),
        };
        if is_of_tree {
            match event.body {
                EventBody::Fork { .. } => {
                    self.tasks.insert(tid);
                    self.alive.insert(tid, tgid);
                }
                EventBody::Exec { .. } => {
                    self.alive.retain(|_, of| *of != tgid);
                    self.alive.insert(tid, tgid);
                }
                EventBody::Exit { .. } => drop(self.alive.remove(&tid)),
                _ => {}
            }
        }
        is_of_tree
    }
}

/// Returns the parent of a process, according to `/proc`.
fn parent(process: u32) -> io::Result<Option<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    Ok(parent.filter(|&parent| parent != 0))
}
