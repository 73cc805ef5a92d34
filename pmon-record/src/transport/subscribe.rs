//! Subscribing to process events, and saying why where it does not work.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pmon_core::capture::{self, ClockAnchor, FencePosition, Header};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use rustix::process::{Resource, getrlimit};
use thiserror::Error;

use crate::clock::Clock;
use crate::details::exec::Exec;
use crate::details::redact::Redact;
use crate::liveness::checkpoint::Checkpoint;
use crate::liveness::fence;
use crate::liveness::heartbeat::HeartbeatHandle;
use crate::liveness::resubscribe::ListenerSocket;
use crate::options::{RecordOptions, TransportChoice};
use crate::pipeline::queue;
use crate::pipeline::receive::{ChunkOutput, ReceiveStatus, Receiver};
use crate::scope::{Scope, ScopeError};
use crate::transport::kallsyms::has_process_events;
use crate::transport::live_source::LiveSource;
use crate::transport::netlink::Socket;
use crate::transport::ring::{Ring, RingError, entry};
use crate::{machine, namespaces};

/// Minimum limit on open files (`ulimit -n`). A recorder opens about 30; the rest is a reserve.
const FILES: u64 = 48;
/// Bytes of socket buffer that the kernel charges for an event: the message and what manages it.
const CHARGE: u64 = 832;
/// The same of a ring: the frame and eight bytes before it.
const RING_CHARGE: u64 = 88;
/// Maximum wait for the first acknowledgement, which the kernel sends at once.
const FIRST_ACK_TIMEOUT: Duration = Duration::from_millis(250);
/// Maximum wait for the kernel to acknowledge the subscription, attempts to add listeners included.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum wait for a kernel that is known to have process events.
const LONG_ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum duration of the first fence.
const FENCE: Duration = Duration::from_secs(1);
/// Maximum number of times that the first fence is repeated because of a loss.
const RESTARTS: u32 = 3;

/// A subscription that the kernel has acknowledged, and in which an event of every CPU was
/// received. No event is missed from its start on.
pub struct Subscription {
    /// The socket, and the datagrams received so far: the acknowledgement and the first event of
    /// each CPU.
    pub(crate) receiver: Receiver<LiveSource>,
    pub(crate) output: ChunkOutput,
    pub(crate) heartbeat: HeartbeatHandle,
    pub(crate) checkpoints: mpsc::Receiver<(u64, Checkpoint)>,
    /// Number of datagrams that the socket dropped before the recording began.
    pub(crate) drops_before: u64,
    transport: capture::TransportInfo,
    args_max: usize,
    redact: Option<Redact>,
    socket_buffer: u64,
    /// Number of events that can wait before one is lost or goes to the socket instead of the ring.
    pub(crate) capacity: u64,
    /// Number of listeners that were added before the kernel emitted events.
    added_listeners: u64,
    /// The clocks before the first event.
    pub(crate) start: ClockAnchor,
}

impl Subscription {
    /// Opens the socket, subscribes, and waits for the kernel's acknowledgement and an event of
    /// every CPU.
    ///
    /// # Errors
    /// The [`SubscribeError`] that names the cause.
    pub fn open(options: &RecordOptions) -> Result<Self, SubscribeError> {
        let cgroup = options.scope.resolve()?;
        has_descriptors()?;
        has_memory(options, 0)?;
        let mut socket = Socket::open().map_err(|source| match source.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => SubscribeError::NoConnector { source },
            _ => SubscribeError::Socket { action: "open", source },
        })?;
        let failed = |action| move |source| SubscribeError::Socket { action, source };
        let socket_buffer = socket.enlarge(options.socket_buffer).map_err(failed("enlarge the buffer of"))?;
        let required = options.require_buffer as u64;
        if socket_buffer < required {
            return Err(SubscribeError::Buffer { effective: socket_buffer, required });
        }
        if options.no_enobufs {
            socket.no_enobufs().map_err(failed("set NETLINK_NO_ENOBUFS on"))?;
        }
        let (mut ring, transport) =
            climb(options, |details| Ring::attach(&socket, options, cgroup, details))?;
        socket.bind().map_err(|source| refused("bind", source))?;
        let (heartbeat, checkpoints) =
            HeartbeatHandle::start(options.heartbeat, options.nice).map_err(failed("start a thread for"))?;
        if let Some(ring) = &mut ring {
            ring.begin_tree().map_err(|source| SubscribeError::Tree { source })?;
        }
        let start = Clock::new().anchor();
        let nonce = u32::from_ne_bytes(machine::random());
        socket.listen(nonce).map_err(|source| refused("subscribe on", source))?;
        let in_queue = socket_buffer / CHARGE;
        let room = if ring.is_some() { options.ring as u64 / RING_CHARGE } else { in_queue };
        let largest_annex = match transport.name.as_str() {
            RING_DETAILS => entry::LARGEST + options.args_read(),
            RING => size_of::<u32>(),
            _ => 0,
        };
        has_memory(options, largest_annex)?;
        let feed = LiveSource::new(socket, ring, in_queue);
        let (receiver, output) = Receiver::new(feed, options.buffer, largest_annex);
        let mut this = Self {
            receiver,
            output,
            heartbeat,
            checkpoints,
            drops_before: 0,
            transport,
            args_max: options.args_max,
            redact: options.redact.clone(),
            socket_buffer,
            capacity: room,
            added_listeners: 0,
            start,
        };
        this.wait_for_ack(nonce.wrapping_add(1))?;
        if this.receiver.source_mut().complete_tree().map_err(|source| SubscribeError::Tree { source })? {
            // Events from before all processes were marked are not recorded, so the recording
            // begins here.
            this.begin_anew().map_err(failed("receive from"))?;
        }
        this.wait_for_cpus().map_err(failed("receive from"))?;
        Ok(this)
    }

    /// The header of a capture of this subscription, which records `command` (or nothing special).
    pub fn header(&self, command: &[OsString]) -> Header {
        let kept = if self.args_max == 0 { command.len().min(1) } else { command.len() };
        let mut command: Vec<_> = command[..kept].iter().map(|word| word.as_bytes().to_vec()).collect();
        if let Some(redact) = &self.redact {
            // Before truncation, because the rest of a secret may not match.
            redact.arguments(&mut command);
        }
        let mut header = machine::header(command, &self.transport, self.socket_buffer, self.start);
        if let Some(redact) = &self.redact {
            redact.string(&mut header.meta.host);
            redact.string(&mut header.meta.transport.why);
        }
        header
    }

    /// How events come from the kernel, and why this way.
    pub fn transport(&self) -> &capture::TransportInfo {
        &self.transport
    }

    /// Whether details come with the events.
    pub(crate) fn has_details(&self) -> bool {
        self.transport.name == RING_DETAILS
    }

    /// The socket's buffer as the kernel accounts for it, in bytes.
    pub fn socket_buffer(&self) -> u64 {
        self.socket_buffer
    }

    /// Returns how many listeners were added to the kernel's count before it emitted events,
    /// because another process had lowered the count. 0 if the count was correct.
    pub fn added_listeners(&self) -> u64 {
        self.added_listeners
    }

    fn wait_for_ack(&mut self, ack: u32) -> Result<(), SubscribeError> {
        let failed = |source| SubscribeError::Socket { action: "receive from", source };
        let began = Instant::now();
        loop {
            let look = self.receiver.receive().map_err(failed)?;
            match self.answer(ack) {
                Some(0) => return Ok(()),
                Some(errno) => {
                    return Err(refused("subscribe on", io::Error::from_raw_os_error(errno as i32)));
                }
                None => {}
            }
            pass_on(&mut self.receiver, look).map_err(failed)?;
            match FIRST_ACK_TIMEOUT.checked_sub(began.elapsed()) {
                Some(left) if !left.is_zero() => {
                    self.receiver.source_mut().wait(left).map_err(failed)?;
                }
                _ => break,
            }
        }
        match foreign() {
            Some(error) => Err(error),
            None => self.add_listeners(began),
        }
    }

    /// Adds listeners, because the kernel sent no acknowledgement and may count no listener.
    fn add_listeners(&mut self, began: Instant) -> Result<(), SubscribeError> {
        let failed = |source| SubscribeError::Socket { action: "add a listener by", source };
        let mut helper = ListenerSocket::open().map_err(failed)?;
        let has_events = has_process_events();
        // A kernel that is known to have process events is worth the time.
        let timeout = if has_events == Some(true) { LONG_ACK_TIMEOUT } else { ACK_TIMEOUT };
        while let left = timeout.saturating_sub(began.elapsed())
            && !left.is_zero()
        {
            let round = helper.round(left.min(FIRST_ACK_TIMEOUT), || false).map_err(failed)?;
            self.added_listeners += round.added;
            if round.emits {
                return Ok(());
            }
        }
        Err(SubscribeError::NoAck { timeout, added: self.added_listeners, has_events })
    }

    /// What the kernel says of the request: 0, or an errno.
    fn answer(&mut self, ack: u32) -> Option<u32> {
        let mut frames = self.receiver.current()?.batch.datagrams();
        frames.find_map(|frame| match Event::decode(frame.bytes, ByteOrder::NATIVE).ok()?.body {
            EventBody::Ack { ack: found, err } if frame.arrival.sender == 0 && found == ack => Some(err),
            _ => None,
        })
    }

    fn wait_for_cpus(&mut self) -> io::Result<()> {
        let Self { receiver, output, heartbeat, drops_before, start, .. } = self;
        let clock = Clock::new();
        let mut restarts = 0;
        let fence =
            fence::raise(FencePosition::Start, receiver, (heartbeat, clock), FENCE, pass_on, |receiver| {
                if restarts == RESTARTS {
                    return Ok(false);
                }
                restarts += 1;
                // What is lost before the first event of a CPU cannot be counted: the recording begins here, with a new round.
                (*drops_before, *start) = begin_anew(receiver, output)?;
                Ok(true)
            })?;
        self.receiver.set_fence(fence);
        Ok(())
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        (self.drops_before, self.start) = begin_anew(&mut self.receiver, &mut self.output)?;
        Ok(())
    }
}

/// Starts the recording now. Returns the drops that the socket had counted before, and the clocks.
fn begin_anew(
    receiver: &mut Receiver<LiveSource>,
    output: &mut ChunkOutput,
) -> io::Result<(u64, ClockAnchor)> {
    receiver.source_mut().restart()?;
    receiver.source_mut().drops_now()?;
    let drops_before = receiver.restart(output)?.unwrap_or(0);
    Ok((drops_before, Clock::new().anchor()))
}

fn has_memory(options: &RecordOptions, largest_annex: usize) -> Result<(), SubscribeError> {
    let bytes = options.buffer;
    if queue::is_memory_available(bytes, largest_annex) {
        Ok(())
    } else {
        Err(SubscribeError::Memory { bytes })
    }
}

/// The names of transports, from the best.
const RING_DETAILS: &str = "ring+details";
const RING: &str = "ring";
const RECVMMSG: &str = "recvmmsg";

/// The ring that is wanted and can be had, and how the capture names the transport: from one step to the next, each with the reason.
/// `attach` makes a ring, with details or without.
fn climb<R>(
    options: &RecordOptions,
    mut attach: impl FnMut(bool) -> Result<R, RingError>,
) -> Result<(Option<R>, capture::TransportInfo), SubscribeError> {
    let named = |name: &str, why: String| capture::TransportInfo { name: name.into(), why };
    let refused = |error: RingError| SubscribeError::Ring { why: error.to_string() };
    let asked_for = || "asked for".to_owned();
    match options.transport {
        TransportChoice::RingDetails => {
            Ok((Some(attach(true).map_err(refused)?), named(RING_DETAILS, asked_for())))
        }
        TransportChoice::Ring => Ok((Some(attach(false).map_err(refused)?), named(RING, asked_for()))),
        TransportChoice::Recvmmsg if options.scope.is_all() => Ok((None, named(RECVMMSG, asked_for()))),
        TransportChoice::Recvmmsg => {
            Err(SubscribeError::scope(&options.scope, "--transport recvmmsg has no ring".into()))
        }
        TransportChoice::Auto => {
            let no_details = match options.details.then(|| attach(true)) {
                Some(Ok(ring)) => return Ok((Some(ring), named(RING_DETAILS, String::new()))),
                Some(Err(error)) => format!("no details: {error}"),
                None => "no details were asked for".into(),
            };
            match attach(false) {
                Ok(ring) => Ok((Some(ring), named(RING, no_details))),
                Err(error) if !options.scope.is_all() => {
                    Err(SubscribeError::scope(&options.scope, error.to_string()))
                }
                Err(error) => Ok((None, named(RECVMMSG, format!("no ring: {error}")))),
            }
        }
    }
}

/// Hands over a full chunk. Details are not read yet.
fn pass_on(receiver: &mut Receiver<LiveSource>, look: ReceiveStatus) -> io::Result<()> {
    if look == ReceiveStatus::Full {
        receiver.scan(|frame| Exec::without_details(frame).is_some());
        receiver.hand_over()?;
    }
    Ok(())
}

/// Why a subscription failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The limit on open files is too low for a recorder.
    #[error(
        "cannot record with at most {limit} open files: a recorder needs {FILES}; raise the limit (ulimit -n)"
    )]
    Files {
        /// The limit.
        limit: u64,
    },
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
    /// The kernel sent no acknowledgement.
    #[error(
        "the kernel did not acknowledge the subscription within {} ms, though it was asked to count {added} listeners \
         more: {}", timeout.as_millis(), no_ack(*has_events)
    )]
    NoAck {
        /// How long was waited.
        timeout: Duration,
        /// Number of listeners that were added meanwhile.
        added: u64,
        /// Whether the kernel has process events; `None` if unknown.
        has_events: Option<bool>,
    },
    /// There can be no ring, and nothing else was allowed.
    #[error(
        "cannot put that ring in front of the socket: {why}; with `--transport auto`, it is recorded with the best that there is"
    )]
    Ring {
        /// Why not.
        why: String,
    },
    /// Not everything is wanted, and only a ring can leave events out and count them.
    #[error("cannot record a part of the events without a ring: {why}; record everything, and {instead}")]
    ScopeNeedsRing {
        /// Why there is no ring.
        why: String,
        /// How to select from a capture of everything.
        instead: &'static str,
    },
    /// The scope names something that does not exist or is of the wrong kind.
    #[error(transparent)]
    InvalidScope(#[from] ScopeError),
    /// The processes of the tree could not be marked.
    #[error("cannot find the processes of --tree: {source}; is /proc mounted?")]
    Tree {
        /// The error.
        source: io::Error,
    },
    /// There is no memory for the buffer between the threads.
    #[error(
        "cannot allocate the {bytes} bytes of --buffer: there is less memory, or the limit on address space is lower \
         (ulimit -v); use a smaller --buffer"
    )]
    Memory {
        /// Number of bytes requested.
        bytes: usize,
    },
    /// The socket's buffer is smaller than required.
    #[error(
        "the socket's buffer has only {effective} of the {required} bytes required: run as root or with \
         CAP_NET_ADMIN, raise net.core.rmem_max (sysctl), or require less"
    )]
    Buffer {
        /// Bytes that the kernel accounts with.
        effective: u64,
        /// Bytes that were required.
        required: u64,
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

impl SubscribeError {
    fn scope(scope: &Scope, why: String) -> Self {
        let instead = if scope.can_be_read_out() {
            "choose when reading (`pmon print --kind, --tree, ...`)"
        } else {
            "choose when reading (`pmon print --format json` has the user and the cgroup of each exec)"
        };
        Self::ScopeNeedsRing { why, instead }
    }
}

/// Returns the likely cause of a missing acknowledgement.
fn no_ack(has_events: Option<bool>) -> &'static str {
    match has_events {
        Some(true) => {
            "it has process events, but counts no listener, so no process receives any: another process has made it count \
             too few (by requests to the proc connector with an invalid operation), or is doing so; end that process, and \
             start again: the added listeners stay"
        }
        Some(false) => "it was built without CONFIG_PROC_EVENTS; use a kernel with CONFIG_PROC_EVENTS=y",
        None => {
            "either it was built without CONFIG_PROC_EVENTS (zgrep PROC_EVENTS /proc/config.gz), or another process has \
             made it count too few listeners (by requests to the proc connector with an invalid operation); in that case, \
             end that process, and start again: the added listeners stay"
        }
    }
}

/// Checks the limit on open files: below it, a recording could start and fail on the way.
fn has_descriptors() -> Result<(), SubscribeError> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FILES => Err(SubscribeError::Files { limit }),
        _ => Ok(()),
    }
}

fn refused(action: &'static str, source: io::Error) -> SubscribeError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => SubscribeError::Permission { action, source },
        Some(libc::ECONNREFUSED) => SubscribeError::NetNamespace { source },
        _ => SubscribeError::Socket { action, source },
    }
}

/// The cause of a missing answer, if it is this: the kernel drops requests from other than the initial user and PID
/// namespaces (`drivers/connector/cn_proc.c`, `cn_proc_mcast_ctl`).
fn foreign() -> Option<SubscribeError> {
    let kinds = [("PID", "pid", "--pid=host"), ("user", "user", "--userns=host")];
    let (kind, _, hint) = kinds.into_iter().find(|(_, name, _)| !namespaces::is_initial(name))?;
    Some(SubscribeError::Namespace { kind, hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transport's name and why, where the steps fail that are `None`.
    fn climbed(transport: TransportChoice, details: Option<()>, bare: Option<()>) -> Result<String, String> {
        let options = RecordOptions { transport, ..RecordOptions::default() };
        let climbed = climb(&options, |with| if with { details } else { bare }.ok_or(RingError::NoBtf));
        let (ring, named) = climbed.map_err(|error| error.to_string())?;
        assert_eq!(ring.is_some(), named.name.starts_with("ring"));
        Ok(format!("{} ({})", named.name, named.why))
    }

    #[test]
    fn each_step_down_has_its_reason() {
        let why = RingError::NoBtf.to_string();
        assert!(why.contains("/sys/kernel/btf/vmlinux"));
        assert_eq!(climbed(TransportChoice::Auto, Some(()), Some(())), Ok("ring+details ()".into()));
        assert_eq!(climbed(TransportChoice::Auto, None, Some(())), Ok(format!("ring (no details: {why})")));
        assert_eq!(climbed(TransportChoice::Auto, None, None), Ok(format!("recvmmsg (no ring: {why})")));
    }

    #[test]
    fn what_is_asked_for_is_had_or_refused() {
        for (transport, name) in
            [(TransportChoice::RingDetails, "ring+details"), (TransportChoice::Ring, "ring")]
        {
            assert_eq!(climbed(transport, Some(()), Some(())), Ok(format!("{name} (asked for)")));
            assert!(climbed(transport, None, None).unwrap_err().contains("does not describe its types"));
        }
        assert!(climbed(TransportChoice::RingDetails, None, Some(())).is_err());
        assert_eq!(climbed(TransportChoice::Recvmmsg, Some(()), Some(())), Ok("recvmmsg (asked for)".into()));
    }

    #[test]
    fn a_missing_answer_has_the_cause_that_the_symbols_tell() {
        let said = |has_events| {
            let timeout = Duration::from_secs(1);
            SubscribeError::NoAck { timeout, added: 7, has_events }.to_string()
        };
        assert!(
            said(Some(true)).contains("count 7 listeners more: it has process events"),
            "{}",
            said(Some(true))
        );
        assert!(!said(Some(true)).contains("CONFIG_PROC_EVENTS"));
        assert!(said(Some(false)).contains("built without CONFIG_PROC_EVENTS"));
        assert!(said(None).contains("CONFIG_PROC_EVENTS") && said(None).contains("another process"));
    }

    #[test]
    fn a_part_of_the_events_takes_a_ring() {
        let by_user = Scope { uids: vec![1], ..Scope::default() };
        let by_kind = Scope { kinds: vec![pmon_core::wire::EventKind::Exec], ..Scope::default() };
        for (scope, instead) in [(by_user, "--format json"), (by_kind, "print --kind")] {
            for (transport, ring) in [(TransportChoice::Auto, None), (TransportChoice::Recvmmsg, Some(()))] {
                let options = RecordOptions { transport, scope: scope.clone(), ..RecordOptions::default() };
                let error = climb(&options, |_| ring.ok_or(RingError::NoBtf)).err().unwrap();
                assert!(matches!(error, SubscribeError::ScopeNeedsRing { .. }));
                // The proposed options select the same events as the scope.
                assert!(error.to_string().contains(instead), "{error}");
            }
        }
    }
}
