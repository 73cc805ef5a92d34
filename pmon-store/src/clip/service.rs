//! The thread that makes clips.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;
use pmon_record::monotonic_now;

use super::maker::ClipMaker;
use super::queue::{Recipient, ReplySender};
use super::request::{Clip, ClipError, ClipRequest};
use crate::StoreHandle;
use crate::disk::Filesystem;

/// Maximum number of requests that the thread has not received.
const MAX_REQUESTS: usize = 256;
/// Maximum time until a requested rotation has ended the segment: a fence, late details, a sync.
pub(crate) const ROTATION_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two checks of the clock while a clip is pending. A suspended machine's monotonic
/// clock stands still.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The store that clips are taken from.
pub trait ClipStore: Send + Sync {
    /// Returns the directory of the segments.
    fn filesystem(&self) -> Arc<dyn Filesystem>;

    /// Ends the current segment, so that all events so far are in ended segments. Waits for at most
    /// `timeout`.
    fn rotate(&self, timeout: Duration);
}

impl ClipStore for StoreHandle {
    fn filesystem(&self) -> Arc<dyn Filesystem> {
        StoreHandle::filesystem(self)
    }

    fn rotate(&self, timeout: Duration) {
        let count = self.request_rotation();
        // After a timeout, the clip states what it lacks.
        self.wait_ended(count, timeout);
    }
}

/// What a [`ClipService`] works with.
pub struct ClipConfig {
    /// The store that is being recorded, on disk or in memory.
    pub store: Arc<dyn ClipStore>,
    /// The directory of the clips.
    pub output: Arc<dyn Filesystem>,
    /// Host name, which begins the name of each clip.
    pub host: String,
    /// Name and version of the program.
    pub tool: String,
}

/// Reads the monotonic clock and the wall clock.
pub fn read_clock() -> ClockAnchor {
    let mono = monotonic_now();
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let real_ns = i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX);
    ClockAnchor { mono, boot_ns: mono.0, real_ns }
}

/// The result of a request, once it is there.
#[derive(Debug)]
pub struct ClipTicket(Receiver<Result<Clip, ClipError>>);

impl ClipTicket {
    pub(crate) fn new() -> (ReplySender, Self) {
        let (reply, ticket) = mpsc::channel();
        (reply, Self(ticket))
    }

    /// Waits for the result, for at most `timeout`; `None` if it is not there yet.
    pub fn wait(&self, timeout: Duration) -> Option<Result<Clip, ClipError>> {
        match self.0.recv_timeout(timeout) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(ClipError::Ended)),
        }
    }
}

/// The results of requests that no process waits for: one result for each clip, however many of
/// these requests it answers.
#[derive(Debug)]
pub struct ClipReports {
    sender: ReplySender,
    receiver: Receiver<Result<Clip, ClipError>>,
}

impl Default for ClipReports {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { sender, receiver }
    }
}

impl ClipReports {
    /// Returns the next result; `None` if none has arrived.
    pub fn try_next(&self) -> Option<Result<Clip, ClipError>> {
        self.receiver.try_recv().ok()
    }
}

enum Message {
    Request(ClipRequest, Recipient),
    /// The recording has ended.
    Finish,
}

/// Accepts requests for clips, from any thread. A call does not wait.
#[derive(Clone)]
pub struct ClipHandle(SyncSender<Message>);

impl ClipHandle {
    /// Requests a clip. The result of a request that cannot be accepted is an error.
    pub fn request(&self, request: ClipRequest) -> ClipTicket {
        let (reply, ticket) = ClipTicket::new();
        self.send(request, Recipient::Ticket(reply));
        ticket
    }

    /// Requests a clip that no process waits for. `reports` receives the result of the clip, or
    /// the error of a request that cannot be accepted. All calls must have the same `reports`.
    pub fn request_report(&self, request: ClipRequest, reports: &ClipReports) {
        self.send(request, Recipient::Reports(reports.sender.clone()));
    }

    fn send(&self, request: ClipRequest, recipient: Recipient) {
        if let Err(TrySendError::Full(Message::Request(request, recipient))) =
            self.0.try_send(Message::Request(request, recipient))
        {
            let (Recipient::Ticket(reply) | Recipient::Reports(reply)) = recipient;
            // The receiver exists, so the message arrives.
            let _ = reply.send(Err(ClipError::Busy { pending: MAX_REQUESTS, request: Box::new(request) }));
        }
    }
}

/// The thread `pmon-clip`, which makes the clips of one store.
///
/// The thread reads only ended segments and runs at normal priority, so the recorder does not wait
/// for it.
pub struct ClipService {
    handle: ClipHandle,
    thread: Option<JoinHandle<()>>,
}

impl ClipService {
    /// Starts the thread, which reads the clocks with `clock`. Removes unfinished clips of an
    /// earlier recorder, which the caller's lock of the store permits.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(config: ClipConfig, clock: fn() -> ClockAnchor) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(MAX_REQUESTS);
        let thread = Builder::new().name("pmon-clip".into()).spawn(move || run(config, clock, &receiver))?;
        Ok(Self { handle: ClipHandle(sender), thread: Some(thread) })
    }

    /// Returns a handle for requests.
    pub fn handle(&self) -> ClipHandle {
        self.handle.clone()
    }

    /// Makes the pending clips and ends the thread. Call this after the store has been completed:
    /// the clips then contain what was recorded, and state what is missing.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            // If the thread has panicked, there is nothing to finish.
            let _ = self.handle.0.send(Message::Finish);
            let _ = thread.join();
        }
    }
}

impl Drop for ClipService {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(config: ClipConfig, clock: fn() -> ClockAnchor, requests: &Receiver<Message>) {
    let store = config.store.clone();
    let mut maker = ClipMaker::new(config);
    loop {
        let wait = maker.next_due().map_or(MAX_WAIT, |due| until(clock().mono, due).min(MAX_WAIT));
        match requests.recv_timeout(wait) {
            Ok(Message::Request(request, recipient)) => maker.add(&request, recipient),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => break,
        }
        // Requests that have arrived meanwhile can extend a clip that is due.
        if receive_all(&mut maker, requests).is_break() {
            break;
        }
        let now = clock().mono;
        if !maker.is_due(now) {
            continue;
        }
        store.rotate(ROTATION_TIMEOUT);
        // The rotation has waited until the events so far were observed. A trigger that has fired
        // by one of them extends its clip.
        if receive_all(&mut maker, requests).is_break() {
            break;
        }
        while let Some(clip) = maker.take_due(now) {
            maker.make(clip, clock());
        }
    }
    while let Ok(Message::Request(request, recipient)) = requests.try_recv() {
        maker.add(&request, recipient);
    }
    while let Some(clip) = maker.take_any() {
        maker.make(clip, clock());
    }
}

/// Adds the requests that have arrived. Returns a break if the recording has ended.
fn receive_all(maker: &mut ClipMaker, requests: &Receiver<Message>) -> ControlFlow<()> {
    while let Ok(message) = requests.try_recv() {
        match message {
            Message::Request(request, recipient) => maker.add(&request, recipient),
            Message::Finish => return ControlFlow::Break(()),
        }
    }
    ControlFlow::Continue(())
}

/// Returns the time from `now` until just after `due`.
fn until(now: MonoNs, due: MonoNs) -> Duration {
    Duration::from_nanos(due.0.saturating_sub(now.0)) + Duration::from_millis(1)
}
