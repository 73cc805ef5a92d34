//! A case, by system calls of real tasks.

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

use super::names::Names;
use super::sys::Tree;
use super::{Case, Deed};
use crate::differential::table::request::{IGNORE, LISTEN, Raw};

/// How long an event is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const BUFFER: usize = 8 << 20;

/// Hears the events of a tree of tasks.
struct Listener {
    socket: OwnedFd,
    names: Names,
    /// Our thread, which makes the tree.
    own: u32,
    /// The tree's tasks, and the processes of those that have not ended.
    tasks: HashSet<u32>,
    alive: HashMap<u32, u32>,
}

/// The events of the first task's start, and of each step. `expected` says how many are waited for; those that come on top are the next
/// step's, or come behind the last.
pub(crate) fn play(case: &Case, expected: &[usize]) -> io::Result<Vec<Vec<String>>> {
    let mut listener = Listener::new()?;
    let dir = tempfile::tempdir()?;
    let tree = Tree::new(case.steps, &CString::new(dir.path().as_os_str().as_bytes())?)?;
    let heard = listener.hear_all(&tree, case, expected);
    tree.end(listener.alive.values().copied());
    heard
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If it fails, the kernel emits events to nobody, at some cost.
        let _ = send(&self.socket, &Raw::new(IGNORE).bytes(), SendFlags::empty());
    }
}

impl Listener {
    fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))?;
        bind(&socket, &SocketAddrNetlink::new(0, CN_IDX_PROC))?;
        set_socket_recv_buffer_size_force(&socket, BUFFER)?;
        send(&socket, &Raw::new(LISTEN).bytes(), SendFlags::empty())?;
        let own = gettid().as_raw_nonzero().get() as u32;
        let mut names = Names::default();
        // A process whose parent dies is init's, or that of whoever has taken its place (`PR_SET_CHILD_SUBREAPER`).
        names.name(1, "init");
        let mut ancestor = std::process::id();
        while let Some(parent) = parent(ancestor)? {
            names.name(parent, "init");
            ancestor = parent;
        }
        names.name(std::process::id(), "us");
        names.name(own, "us");
        Ok(Self { socket, names, own, tasks: HashSet::new(), alive: HashMap::new() })
    }

    fn hear_all(&mut self, tree: &Tree, case: &Case, expected: &[usize]) -> io::Result<Vec<Vec<String>>> {
        let mut heard = vec![self.hear(expected[0])?];
        let mut made = 1;
        for (number, step) in case.steps.iter().enumerate() {
            tree.tell(step.0, number, made)?;
            made += usize::from(matches!(step.1, Deed::Fork | Deed::Vfork | Deed::Thread));
            heard.push(self.hear(expected[number + 1])?);
            let is_left = matches!(
                step.1,
                Deed::Vfork | Deed::Exec | Deed::Exit(_) | Deed::ExitGroup(_) | Deed::Die(..)
            );
            let began = Instant::now();
            while !is_left && tree.done(PATIENCE.as_millis() as i32) != Some(number) {
                if began.elapsed() > PATIENCE {
                    let why = format!("{}, step {number} is not done", case.name);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
            }
        }
        if let Some(last) = heard.last_mut() {
            last.extend(self.hear(0)?);
        }
        Ok(heard)
    }

    /// Waits for so many events of the tree, and takes all that are there.
    fn hear(&mut self, count: usize) -> io::Result<Vec<String>> {
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
                Err(rustix::io::Errno::AGAIN) if texts.len() >= count || began.elapsed() > PATIENCE => {
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

/// The parent of a process, as /proc has it.
fn parent(process: u32) -> io::Result<Option<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    Ok(parent.filter(|&parent| parent != 0))
}
