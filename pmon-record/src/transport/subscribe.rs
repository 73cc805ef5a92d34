//! Subscribes to process events.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pmon_core::MonoNs;
use pmon_core::capture::{ClockAnchor, FencePosition, Header, SignalTracing, TransportInfo};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use rustix::process::{Resource, getrlimit};

use crate::clock::Clock;
use crate::details::exec::Exec;
use crate::details::redact::Redact;
use crate::handover::{Descriptors, Role};
use crate::liveness::checkpoint::Checkpoint;
use crate::liveness::fence;
use crate::liveness::heartbeat::HeartbeatHandle;
use crate::liveness::resubscribe::ListenerSocket;
use crate::machine;
use crate::options::RecordOptions;
use crate::pipeline::queue;
use crate::pipeline::receive::{ChunkOutput, ReceiveStatus, Receiver};
use crate::transport::live_source::LiveSource;
use crate::transport::netlink::NetlinkSocket;
use crate::transport::ring::{self, Ring, entry};
use crate::transport::select::{RING, RING_DETAILS, select};
use crate::transport::subscribe_error::{MIN_OPEN_FILES, SubscribeError};

/// Bytes of socket buffer that the kernel charges for an event: the message and its `sk_buff`.
const SOCKET_BYTES_PER_EVENT: u64 = 832;
/// Bytes of the ring that an event takes, including the ring's 8-byte header.
const RING_BYTES_PER_EVENT: u64 = 88;
/// Maximum wait for the first acknowledgement, which the kernel sends at once.
const FIRST_ACK_TIMEOUT: Duration = Duration::from_millis(250);
/// Maximum wait for the kernel to acknowledge the subscription, attempts to add listeners included.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum wait for a kernel that is known to have process events.
const LONG_ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum duration of the first fence.
const FENCE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of times that the first fence is repeated because of a loss.
const MAX_RESTARTS: u32 = 3;

/// An acknowledged subscription, in which an event of every CPU has been received. From its start
/// on, every event is received or counted as lost.
pub struct Subscription {
    /// The receiver. It holds the datagrams received so far: the acknowledgement and the first
    /// event of each CPU.
    pub(crate) receiver: Receiver<LiveSource>,
    pub(crate) output: ChunkOutput,
    pub(crate) heartbeat: HeartbeatHandle,
    pub(crate) checkpoints: mpsc::Receiver<(u64, Checkpoint)>,
    /// Number of datagrams that the socket dropped before the recording began.
    pub(crate) drops_before: u64,
    transport: TransportInfo,
    signals: SignalTracing,
    args_max: usize,
    redact: Option<Redact>,
    socket_buffer: u64,
    /// Number of events that can wait before one is lost or goes to the socket instead of the ring.
    pub(crate) capacity: u64,
    added_listeners: u64,
    /// The clocks when the subscription began, or was continued.
    pub(crate) start: ClockAnchor,
    /// Time before which no event belongs to the recording.
    pub(crate) since: MonoNs,
    /// Whether an event of every CPU is still to be received, by the drain thread.
    pub(crate) is_fence_due: bool,
    /// Copies of the ring's descriptors for the next recorder, until they are taken.
    copies: Vec<(Role, OwnedFd)>,
    /// The descriptors with which this subscription continues an earlier one, until they are taken.
    adopted: Option<Descriptors>,
}

impl Subscription {
    /// Opens the socket, subscribes, and waits for the kernel's acknowledgement and an event of
    /// every CPU.
    ///
    /// # Errors
    /// The [`SubscribeError`] that names the cause.
    pub fn open(options: &RecordOptions) -> Result<Self, SubscribeError> {
        let cgroup = options.scope.resolve()?;
        check_open_files()?;
        check_memory(options, 0)?;
        let mut socket = NetlinkSocket::open().map_err(|source| match source.raw_os_error() {
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => SubscribeError::NoConnector { source },
            _ => SubscribeError::Socket { action: "open", source },
        })?;
        let failed = |action| move |source| SubscribeError::Socket { action, source };
        let refused = |action| move |source| SubscribeError::refused(action, source);
        let tree_failed = |source| SubscribeError::Tree { source };
        let socket_buffer = configure(&socket, options)?;
        let (mut ring, transport) =
            select(options, |details| Ring::attach(&socket, options, cgroup, details))?;
        socket.bind().map_err(refused("bind"))?;
        let (heartbeat, checkpoints) =
            HeartbeatHandle::start(options.heartbeat, options.nice).map_err(failed("start a thread for"))?;
        if let Some(ring) = &mut ring {
            ring.begin_tree().map_err(tree_failed)?;
        }
        let start = Clock::new().anchor();
        let nonce = u32::from_ne_bytes(machine::random());
        socket.listen(nonce).map_err(refused("subscribe on"))?;
        let parts = (socket, ring, transport);
        let mut this = Self::new(options, parts, (heartbeat, checkpoints), socket_buffer, start)?;
        this.wait_for_ack(nonce.wrapping_add(1))?;
        if this.receiver.source_mut().complete_tree().map_err(tree_failed)? {
            // Events from before all processes were marked are not recorded, so the recording
            // begins here.
            (this.drops_before, this.start) =
                restart(&mut this.receiver, &mut this.output).map_err(failed("receive from"))?;
        }
        this.wait_for_cpus().map_err(failed("receive from"))?;
        this.since = this.start.mono;
        Ok(this)
    }

    /// Continues the subscription of an earlier recorder. The events that wait in the ring and in
    /// the socket's queue belong to the recording; none is discarded.
    ///
    /// The caller knows from the earlier recording which event of each CPU is the next one. No
    /// other request is sent to the kernel: if it no longer counts a listener, the first heartbeat
    /// reveals that.
    ///
    /// # Errors
    /// [`SubscribeError::Handover`] if the recorder cannot continue with these descriptors. The
    /// caller then uses [`Subscription::open`].
    pub fn adopt(options: &RecordOptions, descriptors: Descriptors) -> Result<Self, SubscribeError> {
        if let Err(error) = descriptors.check(options) {
            descriptors.discard();
            return Err(error.into());
        }
        check_open_files()?;
        let failed = |action| move |source| SubscribeError::Socket { action, source };
        let socket = NetlinkSocket::adopt(descriptors.copy(Role::Socket)?);
        let socket_buffer = configure(&socket, options)?;
        let ring = descriptors.descriptor(Role::Ring).map(|_| Ring::adopt(&descriptors)).transpose()?;
        let heartbeat =
            HeartbeatHandle::start(options.heartbeat, options.nice).map_err(failed("start a thread for"))?;
        let parts = (socket, ring, descriptors.transport());
        let mut this = Self::new(options, parts, heartbeat, socket_buffer, Clock::new().anchor())?;
        (this.is_fence_due, this.adopted) = (true, Some(descriptors));
        Ok(this)
    }

    fn new(
        options: &RecordOptions,
        (socket, mut ring, transport): (NetlinkSocket, Option<Ring>, TransportInfo),
        (heartbeat, checkpoints): (HeartbeatHandle, mpsc::Receiver<(u64, Checkpoint)>),
        socket_buffer: u64,
        start: ClockAnchor,
    ) -> Result<Self, SubscribeError> {
        let socket_capacity = socket_buffer / SOCKET_BYTES_PER_EVENT;
        let ring_capacity = options.ring as u64 / RING_BYTES_PER_EVENT;
        let largest_metadata = match transport.name.as_str() {
            RING_DETAILS => entry::MAX_METADATA_BYTES + options.args_read(),
            RING => size_of::<u32>(),
            _ => 0,
        };
        check_memory(options, largest_metadata)?;
        let capacity = if ring.is_some() { ring_capacity } else { socket_capacity };
        let no_ring = || SignalTracing::Off { why: ring::NO_DETAILS.into() };
        let signals = ring.as_ref().map_or_else(no_ring, Ring::signals);
        let copies = ring.as_mut().map(Ring::take_copies).transpose();
        let copies =
            copies.map_err(|source| SubscribeError::Socket { action: "copy the descriptors of", source })?;
        let source = LiveSource::new(socket, ring, socket_capacity);
        let (receiver, output) = Receiver::new(source, options.buffer, largest_metadata);
        Ok(Self {
            receiver,
            output,
            heartbeat,
            checkpoints,
            drops_before: 0,
            transport,
            signals,
            args_max: options.args_max,
            redact: options.redact.clone(),
            socket_buffer,
            capacity,
            added_listeners: 0,
            start,
            since: MonoNs(0),
            is_fence_due: false,
            copies: copies.unwrap_or_default(),
            adopted: None,
        })
    }

    /// Returns the descriptors that outlive this recorder, for the next one. `options` are those of
    /// this subscription. They can be taken once, before the recording starts.
    ///
    /// End the recording by [`Stopper::detach`](crate::Stopper::detach) if another recorder
    /// continues.
    ///
    /// # Errors
    /// When the descriptors cannot be copied or described.
    pub fn descriptors(&mut self, options: &RecordOptions) -> io::Result<Descriptors> {
        if let Some(descriptors) = self.adopted.take() {
            return Ok(descriptors);
        }
        let socket = self.receiver.source_mut().socket_mut().as_fd().try_clone_to_owned()?;
        let mut copies = vec![(Role::Socket, socket)];
        copies.append(&mut self.copies);
        Descriptors::new(copies, options, &self.transport, &self.signals)
    }

    /// Returns the header of a capture of this subscription. `command` is the recorded command, or
    /// empty.
    pub fn header(&self, command: &[OsString]) -> Header {
        let kept = if self.args_max == 0 { command.len().min(1) } else { command.len() };
        let mut command: Vec<_> = command[..kept].iter().map(|word| word.as_bytes().to_vec()).collect();
        if let Some(redact) = &self.redact {
            // Before truncation, because the rest of a secret may not match.
            redact.arguments(&mut command);
        }
        let mut header =
            machine::header(command, (&self.transport, &self.signals), self.socket_buffer, self.start);
        if let Some(redact) = &self.redact {
            redact.string(&mut header.meta.host);
            redact.string(&mut header.meta.transport.why);
            if let SignalTracing::Off { why } = &mut header.meta.signals {
                redact.string(why);
            }
        }
        header
    }

    /// Whether details come with the events.
    pub(crate) fn has_details(&self) -> bool {
        self.transport.name == RING_DETAILS
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
            let received = self.receiver.receive().map_err(failed)?;
            match self.find_ack(ack) {
                Some(0) => return Ok(()),
                Some(errno) => {
                    let source = io::Error::from_raw_os_error(errno as i32);
                    return Err(SubscribeError::refused("subscribe on", source));
                }
                None => {}
            }
            hand_over_full(&mut self.receiver, received).map_err(failed)?;
            let left = FIRST_ACK_TIMEOUT.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            self.receiver.source_mut().wait(left).map_err(failed)?;
        }
        match namespace_error() {
            Some(error) => Err(error),
            None => self.add_listeners(began),
        }
    }

    /// Adds listeners, because the kernel sent no acknowledgement and may count no listener.
    fn add_listeners(&mut self, began: Instant) -> Result<(), SubscribeError> {
        let failed = |source| SubscribeError::Socket { action: "add a listener by", source };
        let mut socket = ListenerSocket::open().map_err(failed)?;
        let has_events = machine::has_process_events();
        let timeout = if has_events == Some(true) { LONG_ACK_TIMEOUT } else { ACK_TIMEOUT };
        while let left = timeout.saturating_sub(began.elapsed())
            && !left.is_zero()
        {
            let result = socket.add_listeners(left.min(FIRST_ACK_TIMEOUT), || false).map_err(failed)?;
            self.added_listeners += result.added;
            if result.emits {
                return Ok(());
            }
        }
        Err(SubscribeError::NoAck { timeout, added: self.added_listeners, has_events })
    }

    /// Returns the error number of the kernel's acknowledgement with this number, if it has been
    /// received; 0 is success.
    fn find_ack(&mut self, ack: u32) -> Option<u32> {
        let mut datagrams = self.receiver.current()?.batch.datagrams();
        datagrams.find_map(|datagram| match Event::decode(datagram.bytes, ByteOrder::NATIVE).ok()?.body {
            EventBody::Ack { ack: found, err } if datagram.arrival.sender == 0 && found == ack => Some(err),
            _ => None,
        })
    }

    /// Receives an event of every CPU. If events are lost meanwhile, the recording begins again.
    fn wait_for_cpus(&mut self) -> io::Result<()> {
        let Self { receiver, output, heartbeat, drops_before, start, .. } = self;
        let source = (&*heartbeat, Clock::new());
        let mut restarts = 0;
        let on_loss = |receiver: &mut Receiver<LiveSource>| {
            if restarts == MAX_RESTARTS {
                return Ok(false);
            }
            restarts += 1;
            // A loss before the first event of a CPU cannot be counted, so the recording begins
            // here, with another fence.
            (*drops_before, *start) = restart(receiver, output)?;
            Ok(true)
        };
        let fence =
            fence::run(FencePosition::Start, receiver, source, FENCE_TIMEOUT, hand_over_full, on_loss)?;
        self.receiver.set_fence(fence);
        Ok(())
    }
}

/// Begins the recording now. Returns the number of drops before, and the clocks.
fn restart(receiver: &mut Receiver<LiveSource>, output: &mut ChunkOutput) -> io::Result<(u64, ClockAnchor)> {
    receiver.source_mut().restart()?;
    receiver.source_mut().drops_now()?;
    let drops_before = receiver.restart(output)?.unwrap_or(0);
    Ok((drops_before, Clock::new().anchor()))
}

/// Hands over a full chunk. Details of its execs are not read, because the recording has not begun.
fn hand_over_full(receiver: &mut Receiver<LiveSource>, received: ReceiveStatus) -> io::Result<()> {
    if received == ReceiveStatus::Full {
        receiver.scan(|datagram| Exec::without_details(datagram).is_some());
        receiver.hand_over()?;
    }
    Ok(())
}

/// Sets the options of a socket. Returns the effective bytes of its buffer.
fn configure(socket: &NetlinkSocket, options: &RecordOptions) -> Result<u64, SubscribeError> {
    let failed = |action| move |source| SubscribeError::Socket { action, source };
    let effective = socket.set_buffer(options.socket_buffer).map_err(failed("enlarge the buffer of"))?;
    let required = options.require_buffer as u64;
    if effective < required {
        return Err(SubscribeError::Buffer { effective, required });
    }
    if options.no_enobufs {
        socket.set_no_enobufs().map_err(failed("set NETLINK_NO_ENOBUFS on"))?;
    }
    Ok(effective)
}

fn check_memory(options: &RecordOptions, largest_metadata: usize) -> Result<(), SubscribeError> {
    let bytes = options.buffer;
    let is_available = queue::is_memory_available(bytes, largest_metadata);
    if is_available { Ok(()) } else { Err(SubscribeError::Memory { bytes }) }
}

/// Checks the limit on open files. Below it, a recording could start and fail later.
fn check_open_files() -> Result<(), SubscribeError> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < MIN_OPEN_FILES => Err(SubscribeError::Files { limit }),
        _ => Ok(()),
    }
}

/// Returns the error of a missing acknowledgement if this process is in another than the initial
/// user or PID namespace: the kernel ignores requests from there (`drivers/connector/cn_proc.c`,
/// `cn_proc_mcast_ctl`).
fn namespace_error() -> Option<SubscribeError> {
    let kinds = [("PID", "pid", "--pid=host"), ("user", "user", "--userns=host")];
    let (kind, _, hint) = kinds.into_iter().find(|(_, name, _)| !machine::is_initial_namespace(name))?;
    Some(SubscribeError::Namespace { kind, hint })
}
