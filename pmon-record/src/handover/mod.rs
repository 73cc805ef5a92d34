//! Descriptors that outlive a recorder, so that the next one continues without a gap.
//!
//! The kernel keeps the netlink socket, its BPF filter and the ring while any process holds their
//! descriptors. Without a recorder, events wait in the ring and then in the socket's queue. The
//! position up to which the ring has been read is in memory that the ring's descriptor maps. So the
//! next recorder receives the events that follow the last one that its predecessor received.
//!
//! The descriptors travel by a service manager that keeps them ([`ServiceManager`]), or by
//! replacing the program of the process ([`Program::exec`]). [`Descriptors::received`] takes them
//! at the next start. [`Subscription::adopt`](crate::Subscription::adopt) continues with them, if
//! they belong together and if the entries of the ring mean what this recorder expects.

mod inherit;
mod program;
mod service;
mod state;
#[allow(unsafe_code, reason = "descriptors by number, the environment and `execve` have no safe wrapper")]
mod sys;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pmon_core::wire::{ByteOrder, SubscribeOp, SubscribeRequest};
use rustix::net::netlink::CONNECTOR;
use rustix::net::{AddressFamily, SendFlags, send, sockopt};
use thiserror::Error;

pub use program::Program;
pub use service::ServiceManager;
use state::State;

use crate::options::RecordOptions;
use pmon_core::capture::{SignalTracing, TransportInfo};

/// What a kept descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The netlink socket.
    Socket,
    /// The map `RING`: the entries and the position up to which they have been read.
    Ring,
    /// The map `ASLEEP`.
    Asleep,
    /// The map `COUNTS`.
    Counts,
    /// The map `ROUND`.
    Round,
    /// The link of the program that stores the peak memory of each process.
    Peaks,
    /// The link of the program that observes the senders of signals.
    Signals,
    /// A sealed file in memory that describes the others.
    State,
}

impl Role {
    const ALL: [Self; 8] = [
        Self::Socket,
        Self::Ring,
        Self::Asleep,
        Self::Counts,
        Self::Round,
        Self::Peaks,
        Self::Signals,
        Self::State,
    ];

    /// Returns the name under which a service manager keeps the descriptor (`FDNAME`).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Socket => "pmon.socket",
            Self::Ring => "pmon.ring",
            Self::Asleep => "pmon.asleep",
            Self::Counts => "pmon.counts",
            Self::Round => "pmon.round",
            Self::Peaks => "pmon.peaks",
            Self::Signals => "pmon.signals",
            Self::State => "pmon.state",
        }
    }
}

/// Why a recorder cannot continue with kept descriptors. It then subscribes as if there were none,
/// and the time until then is unobserved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// A descriptor is missing.
    #[error("cannot continue the recording: the kept descriptors lack {name}; raise FileDescriptorStoreMax=")]
    Missing {
        /// Name of the descriptor.
        name: &'static str,
    },
    /// No descriptor of this name is the one that the recorder kept.
    #[error("cannot continue the recording: the kept descriptor {name} is {found} instead of {expected}")]
    Different {
        /// Name of the descriptor.
        name: &'static str,
        /// Description of the object that the last one refers to.
        found: String,
        /// Description of the object that the recorder kept.
        expected: String,
    },
    /// The description of the descriptors is not valid.
    #[error("cannot continue the recording: the kept description pmon.state {why}")]
    State {
        /// What is wrong with it.
        why: String,
    },
    /// The ring has another layout, or the filter another meaning.
    #[error("cannot continue the recording with kept descriptors: {what} was `{kept}` and is `{wanted}` now")]
    Incompatible {
        /// What has changed.
        what: String,
        /// Its value when the descriptors were created.
        kept: String,
        /// Its value in this recorder.
        wanted: String,
    },
    /// The recording has a scope that excludes events. How many of the missing events are excluded,
    /// and how many are lost, is unknown after a restart.
    #[error("cannot continue the recording of only a part of the events (--only, --uid, --cgroup, --tree)")]
    Partial,
    /// A kept descriptor cannot be used.
    #[error("cannot continue the recording: cannot use the kept descriptor {name}: {source}")]
    Unusable {
        /// Name of the descriptor.
        name: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// The descriptors of a subscription, which outlive it.
///
/// They belong together: each refers to the object that was created with the others.
#[derive(Debug)]
pub struct Descriptors {
    kept: Vec<(Role, OwnedFd)>,
    state: State,
    /// Whether this process received them, so that a service manager may keep them already.
    is_received: bool,
}

impl Descriptors {
    /// Describes the descriptors of a new subscription.
    ///
    /// # Errors
    /// When a descriptor cannot be created or described.
    pub(crate) fn new(
        mut kept: Vec<(Role, OwnedFd)>,
        options: &RecordOptions,
        transport: &TransportInfo,
        signals: &SignalTracing,
    ) -> io::Result<Self> {
        let identities = kept.iter().map(|(role, fd)| Ok((*role, identity(fd.as_fd())?)));
        let state = State::new(options, (transport, signals), &identities.collect::<io::Result<Vec<_>>>()?);
        kept.push((Role::State, state.to_file()?));
        Ok(Self { kept, state, is_received: false })
    }

    /// Takes the descriptors that this process received from its service manager or from its
    /// previous program. Returns `None` if there are none, or if they were taken before.
    ///
    /// Call this function at the start of the program, before it starts threads or other programs.
    /// The descriptors are not inherited by programs that this process starts.
    ///
    /// # Errors
    /// When they do not belong together. They are closed then.
    pub fn received() -> Option<Result<Self, HandoverError>> {
        let received: Vec<_> =
            inherit::take().into_iter().filter(|(name, _)| name.starts_with("pmon.")).collect();
        (!received.is_empty()).then(|| Self::from_named(received))
    }

    /// Finds the descriptors that belong together among those of these names. If there are several
    /// such sets, the newest one counts. The other descriptors are closed.
    ///
    /// # Errors
    /// When no set is complete.
    pub fn from_named(named: Vec<(String, OwnedFd)>) -> Result<Self, HandoverError> {
        let mut states = Vec::new();
        let mut error = HandoverError::Missing { name: Role::State.name() };
        for (index, (_, fd)) in named.iter().enumerate().filter(|(_, (name, _))| name == Role::State.name()) {
            match State::from_file(fd.as_fd()) {
                Ok(state) => states.push((index, state)),
                Err(why) => error = HandoverError::State { why },
            }
        }
        states.sort_by_key(|(_, state)| std::cmp::Reverse(state.created()));
        let mut candidates: Vec<_> = named.into_iter().map(Some).collect();
        for state in states {
            match Self::belonging_to(state, &mut candidates) {
                Ok(this) => return Ok(this),
                Err(why) => error = why,
            }
        }
        Err(error)
    }

    /// Takes the descriptors that a state describes, if all of them are there.
    fn belonging_to(
        (index, state): (usize, State),
        candidates: &mut [Option<(String, OwnedFd)>],
    ) -> Result<Self, HandoverError> {
        let mut found = vec![(Role::State, index)];
        for role in Role::ALL.into_iter().filter(|role| *role != Role::State) {
            let (name, Some(expected)) = (role.name(), state.identity(role)) else { continue };
            let mut last = None;
            let index = candidates.iter().position(|candidate| {
                let Some((_, fd)) = candidate.as_ref().filter(|(other, _)| other == name) else {
                    return false;
                };
                let identity = identity(fd.as_fd()).unwrap_or_else(|error| error.to_string());
                let is_it = identity == expected;
                last = Some(identity);
                is_it
            });
            match (index, last) {
                (Some(index), _) => found.push((role, index)),
                (None, None) => return Err(HandoverError::Missing { name }),
                (None, Some(found)) => {
                    return Err(HandoverError::Different { name, found, expected: expected.to_owned() });
                }
            }
        }
        let take = |(role, index): (Role, usize)| Some((role, candidates[index].take()?.1));
        let kept = found.into_iter().filter_map(take).collect();
        Ok(Self { kept, state, is_received: true })
    }

    /// Checks that a recorder with these options can continue: that its BPF program, and everything
    /// that gives the entries of the ring their meaning, is that of the kept one.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, options: &RecordOptions) -> Result<(), HandoverError> {
        if !options.scope.is_all() {
            return Err(HandoverError::Partial);
        }
        self.state.check(options)
    }

    /// Returns the identity of the socket. No other socket has had it since the machine started.
    pub fn socket_id(&self) -> &str {
        self.state.identity(Role::Socket).unwrap_or_default()
    }

    /// Returns each descriptor with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        self.kept.iter().map(|(role, fd)| (role.name(), fd.as_fd()))
    }

    /// Closes the descriptors, and makes the kernel count one listener less, as the end of a
    /// recording does. Other copies of the descriptors receive no more events.
    pub fn discard(self) {
        let Some(socket) = self.descriptor(Role::Socket) else { return };
        let request = SubscribeRequest::new(SubscribeOp::Ignore, 0);
        let request = request.encode(std::process::id(), ByteOrder::NATIVE);
        // If this fails, the kernel keeps emitting events without a listener, at some cost.
        let _ = send(socket, &request, SendFlags::empty());
    }

    /// Returns another set of descriptors of the same objects.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub fn try_clone(&self) -> io::Result<Self> {
        let kept = self.kept.iter().map(|(role, fd)| Ok((*role, fd.try_clone()?)));
        Ok(Self {
            kept: kept.collect::<io::Result<_>>()?,
            state: self.state.clone(),
            is_received: self.is_received,
        })
    }

    /// Returns the transport of the subscription.
    pub(crate) fn transport(&self) -> TransportInfo {
        self.state.transport()
    }

    /// Returns why the senders of signals are not observed, if there is no descriptor for them.
    pub(crate) fn no_signals(&self) -> &str {
        self.state.no_signals()
    }

    /// Returns the descriptor of a role.
    pub(crate) fn descriptor(&self, role: Role) -> Option<BorrowedFd<'_>> {
        self.kept.iter().find(|(other, _)| *other == role).map(|(_, fd)| fd.as_fd())
    }

    /// Returns a copy of the descriptor of a role.
    ///
    /// # Errors
    /// When the subscription has no such descriptor, or it cannot be copied.
    pub(crate) fn copy(&self, role: Role) -> Result<OwnedFd, HandoverError> {
        let name = role.name();
        let fd = self.descriptor(role).ok_or(HandoverError::Missing { name })?;
        fd.try_clone_to_owned().map_err(|source| HandoverError::Unusable { name, source })
    }
}

/// Returns a description of the object that a descriptor refers to, with its type, its sizes, and a
/// number that no other object has had since the machine started.
fn identity(fd: BorrowedFd<'_>) -> io::Result<String> {
    if let Ok(family) = sockopt::socket_domain(fd) {
        let is_connector =
            family == AddressFamily::NETLINK && sockopt::socket_protocol(fd)? == Some(CONNECTOR);
        let kind = if is_connector { "a proc connector socket" } else { "another socket" };
        return Ok(format!("{kind} #{}", sockopt::socket_cookie(fd)?));
    }
    // BPF maps and links have these lines.
    const LINES: [&str; 8] =
        ["map_type", "key_size", "value_size", "max_entries", "map_flags", "map_id", "link_type", "link_id"];
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let fields = fields.filter(|(name, _)| LINES.contains(name));
    let fields: Vec<_> = fields.map(|(name, value)| format!("{name} {}", value.trim())).collect();
    Ok(if fields.is_empty() { "no BPF object".into() } else { fields.join(" ") })
}
