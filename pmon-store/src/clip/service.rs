//! The thread that makes clips.

use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;
use pmon_record::monotonic_now;

use super::make::{make, remove_unfinished};
use super::queue::{ClipQueue, ReplySender};
use super::request::{Clip, ClipError, ClipRequest};
use crate::StoreHandle;
use crate::disk::Filesystem;

/// Maximum number of requests that the thread has not received.
const MAX_REQUESTS: usize = 256;
/// Maximum time until a requested rotation has ended the segment: a fence, late details, a sync.
const ROTATION_TIMEOUT: Duration = Duration::from_secs(20);
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
    /// Reads the clocks.
    pub clock: fn() -> ClockAnchor,
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
    /// Waits for the result, for at most `timeout`; `None` if it is not there yet.
    pub fn wait(&self, timeout: Duration) -> Option<Result<Clip, ClipError>> {
        match self.0.recv_timeout(timeout) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(ClipError::Ended)),
        }
    }
}

enum Message {
    Request(ClipRequest, ReplySender),
    /// The recording has ended.
    Finish,
}

/// Accepts requests for clips, from any thread. A call does not wait.
#[derive(Clone)]
pub struct ClipHandle(SyncSender<Message>);

impl ClipHandle {
    /// Requests a clip. The result of a request that cannot be accepted is an error.
    pub fn request(&self, request: ClipRequest) -> ClipTicket {
        let (reply, ticket) = mpsc::channel();
        if let Err(TrySendError::Full(Message::Request(_, reply))) =
            self.0.try_send(Message::Request(request, reply))
        {
            // The ticket exists, so the message arrives.
            let _ = reply.send(Err(ClipError::Busy { pending: MAX_REQUESTS }));
        }
        ClipTicket(ticket)
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
    /// Starts the thread. Removes unfinished clips of an earlier recorder, which the caller's lock
    /// of the store permits.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(config: ClipConfig) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(MAX_REQUESTS);
        let thread = Builder::new().name("pmon-clip".into()).spawn(move || run(&config, &receiver))?;
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

fn run(config: &ClipConfig, requests: &Receiver<Message>) {
    remove_unfinished(&*config.output);
    let mut queue = ClipQueue::default();
    'requests: loop {
        let now = (config.clock)();
        let wait = queue.next_due().map_or(MAX_WAIT, |due| until(now.mono, due).min(MAX_WAIT));
        match requests.recv_timeout(wait) {
            Ok(Message::Request(request, reply)) => queue.add(&request, reply),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => break,
        }
        // Requests that have arrived meanwhile can extend a clip that is due.
        while let Ok(message) = requests.try_recv() {
            match message {
                Message::Request(request, reply) => queue.add(&request, reply),
                Message::Finish => break 'requests,
            }
        }
        let now = (config.clock)().mono;
        let due: Vec<_> = iter::from_fn(|| queue.take_due(now)).collect();
        if due.is_empty() {
            continue;
        }
        config.store.rotate(ROTATION_TIMEOUT);
        for clip in due {
            let made = make(config, &clip, (config.clock)());
            clip.answer(&made);
        }
    }
    while let Ok(Message::Request(request, reply)) = requests.try_recv() {
        queue.add(&request, reply);
    }
    while let Some(clip) = queue.take_any() {
        let made = make(config, &clip, (config.clock)());
        clip.answer(&made);
    }
}

/// Returns the time from `now` until just after `due`.
fn until(now: MonoNs, due: MonoNs) -> Duration {
    Duration::from_nanos(due.0.saturating_sub(now.0)) + Duration::from_millis(1)
}
