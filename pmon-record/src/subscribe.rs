//! Subscribing to process events, and saying why where it does not work.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use pmon_core::capture::{ClockAnchor, Header};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{Body, ByteOrder, Event, Operation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use crate::chunk::Chunk;
use crate::clock::Clock;
use crate::netlink::Socket;
use crate::options::Options;
use crate::{host, namespaces};

/// Datagrams of one chunk: 64 KiB.
pub(crate) const CHUNK: usize = 512;

/// A subscription that the kernel has acknowledged: from now on no event is missed.
pub struct Subscription {
    pub(crate) socket: Socket,
    /// What arrived while waiting for the acknowledgement, which is among it.
    pub(crate) early: Vec<Chunk>,
    socket_buffer: u64,
    /// The clocks before the first event.
    start: ClockAnchor,
}

impl Subscription {
    /// Opens the socket, subscribes, and waits until the kernel says that it has.
    ///
    /// # Errors
    /// The [`SubscribeError`] that names the cause.
    pub fn open(options: &Options) -> Result<Self, SubscribeError> {
        let socket = Socket::open().map_err(|source| match source.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => SubscribeError::NoConnector { source },
            _ => SubscribeError::Socket { action: "open", source },
        })?;
        let socket_buffer = socket
            .enlarge(options.socket_buffer)
            .map_err(|source| SubscribeError::Socket { action: "enlarge the buffer of", source })?;
        socket.bind().map_err(|source| refused("bind", source))?;
        let start = Clock::new().anchor();
        let nonce = u32::from_ne_bytes(host::random());
        socket.request(Operation::Listen, nonce).map_err(|source| refused("subscribe on", source))?;
        let mut this = Self { socket, early: Vec::new(), socket_buffer, start };
        this.wait_for_ack(nonce.wrapping_add(1), options.ack_timeout)?;
        Ok(this)
    }

    /// The header of a capture of this subscription, which records `command` (or nothing special).
    pub fn header(&self, command: &[OsString]) -> Header {
        host::header(command, self.socket_buffer, self.start)
    }

    fn wait_for_ack(&mut self, ack: u32, timeout: Duration) -> Result<(), SubscribeError> {
        let failed = |source| SubscribeError::Socket { action: "receive from", source };
        let deadline = Instant::now() + timeout;
        let mut chunk = Chunk::with_capacity(CHUNK);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(silence(timeout));
            }
            let seen = chunk.batch.len();
            match self.socket.receive(&mut chunk.batch).map_err(failed)? {
                Received::Frames(_) => {
                    let answer = chunk.batch.frames().skip(seen).find_map(|frame| {
                        let event = Event::decode(frame.bytes, ByteOrder::NATIVE).ok()?;
                        match event.body {
                            Body::Ack { ack: found, err } if frame.arrival.sender == 0 && found == ack => {
                                Some(err)
                            }
                            _ => None,
                        }
                    });
                    match answer {
                        None => {}
                        Some(0) => {
                            self.early.push(chunk);
                            return Ok(());
                        }
                        Some(errno) => {
                            return Err(refused("subscribe on", io::Error::from_raw_os_error(errno as i32)));
                        }
                    }
                }
                Received::Overrun => chunk.overruns += 1,
                Received::Empty | Received::Closed => wait_readable(&self.socket, left).map_err(failed)?,
            }
            if chunk.batch.is_full() {
                self.early.push(std::mem::replace(&mut chunk, Chunk::with_capacity(CHUNK)));
            }
        }
    }
}

fn wait_readable(socket: &Socket, timeout: Duration) -> io::Result<()> {
    let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Why there are no process events to be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The kernel knows no connector.
    #[error(
        "this kernel has no process events (socket: {source}): it was built without CONFIG_CONNECTOR; \
         use a kernel with CONFIG_CONNECTOR=y and CONFIG_PROC_EVENTS=y"
    )]
    NoConnector {
        /// What the kernel said.
        source: io::Error,
    },
    /// The caller may not.
    #[error(
        "no permission to {action} the proc connector: before Linux 6.6 that takes CAP_NET_ADMIN; run as root, \
         or `setcap cap_net_admin+ep` the program"
    )]
    Permission {
        /// What was refused.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// In a network namespace in which the kernel does not listen, or without a listener in the kernel.
    #[error(
        "nobody answers on the proc connector ({source}): it exists only in the host's first network namespace; \
         run on the host, or a container with --network=host; on the host itself, the kernel lacks CONFIG_PROC_EVENTS"
    )]
    NetNamespace {
        /// What the kernel said.
        source: io::Error,
    },
    /// In a namespace whose processes the kernel does not answer.
    #[error(
        "the kernel ignores subscriptions from this {kind} namespace: run on the host, or a container with \
         {hint}"
    )]
    Namespace {
        /// `user` or `PID`.
        kind: &'static str,
        /// The option that makes a container share the host's.
        hint: &'static str,
    },
    /// No answer, for no reason that can be told.
    #[error(
        "the kernel did not acknowledge the subscription within {} ms: is it built with CONFIG_PROC_EVENTS=y? \
         (zgrep PROC_EVENTS /proc/config.gz)", timeout.as_millis()
    )]
    NoAck {
        /// How long was waited.
        timeout: Duration,
    },
    /// Anything else.
    #[error("cannot {action} a proc connector socket: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn refused(action: &'static str, source: io::Error) -> SubscribeError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => SubscribeError::Permission { action, source },
        Some(libc::ECONNREFUSED) => SubscribeError::NetNamespace { source },
        _ => SubscribeError::Socket { action, source },
    }
}

/// The cause of a missing answer: the kernel drops requests from other than the initial user and PID namespaces
/// (`drivers/connector/cn_proc.c`, `cn_proc_mcast_ctl`).
fn silence(timeout: Duration) -> SubscribeError {
    if !namespaces::is_initial("pid") {
        SubscribeError::Namespace { kind: "PID", hint: "--pid=host" }
    } else if !namespaces::is_initial("user") {
        SubscribeError::Namespace { kind: "user", hint: "--userns=host" }
    } else {
        SubscribeError::NoAck { timeout }
    }
}
