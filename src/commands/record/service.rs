//! Handles requests to the recorder of a store, by signals and by its control socket.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use pmon_record::{Counters, WakeReason, monotonic_now};
use pmon_store::clip::{Clip, ClipError, ClipHandle, ClipName, ClipRequest, ClipTicket, MAX_AFTER};
use pmon_store::control::{
    ErrorCode, IncomingRequest, Limits, LostEvents, Reply, ReplyHandle, Request, RotateReply, SnapshotReply,
    SnapshotRequest, Status, TriggerStatus, UpgradeReply,
};
use pmon_store::{StoreHandle, TriggerCounts, TriggerFired, TriggersHandle};

use super::listener::ControlListener;
use super::reload;
use super::summary::recorded_and_lost;
use crate::config::RecordConfig;
use crate::control::{ProgressDisplay, RecorderService};
use crate::input::shown;
use crate::output::{harmless, printable};
use crate::terminal::counted;

/// Time between two looks at the store's state.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks at requested clips.
const CLIP_INTERVAL: Duration = Duration::from_millis(50);
/// Length of a clip before its request, unless the request states another one.
const DEFAULT_BEFORE: Duration = Duration::from_secs(30);
/// Length of a clip after its request, unless the request states another one.
const DEFAULT_AFTER: Duration = Duration::from_secs(10);
/// Name of a clip, unless the request states another one.
const DEFAULT_NAME: &str = "snapshot";
/// Maximum number of requested clips at a time.
const MAX_PENDING: usize = 256;

/// What the recorder states about itself.
pub(super) struct RecorderFacts {
    pub(super) tool: String,
    pub(super) started_ns: i64,
    pub(super) store: PathBuf,
    pub(super) is_flight: bool,
    pub(super) transport: String,
}

/// The requests to a recorder, and the state that they change.
pub(super) struct StoreService<'a> {
    pub(super) facts: RecorderFacts,
    /// Why the recorder cannot be replaced by another program, if it cannot.
    pub(super) upgrade: Result<(), String>,
    /// The command line, for reloads.
    pub(super) line: &'a [OsString],
    pub(super) config: &'a mut RecordConfig,
    pub(super) handle: StoreHandle,
    pub(super) clips: Option<ClipHandle>,
    pub(super) triggers: TriggersHandle,
    /// Clips that triggers request.
    pub(super) fired: Receiver<TriggerFired>,
    pub(super) listener: ControlListener,
    pub(super) state: ServiceState,
}

/// What a [`StoreService`] keeps between two wake-ups.
#[derive(Default)]
pub(super) struct ServiceState {
    pending: VecDeque<RequestedClip>,
    storage_error: Option<String>,
    unsynced_directory: Option<String>,
    upgrade_requested: bool,
    upgrade_error: Option<String>,
}

impl ServiceState {
    /// Creates the state of a recorder that could not be replaced for this reason, if there is one.
    pub(super) fn after(upgrade_error: Option<String>) -> Self {
        Self { upgrade_error, ..Self::default() }
    }
}

/// A requested clip, and the client that waits for it; `None` if a signal requested it.
struct RequestedClip {
    ticket: ClipTicket,
    client: Option<ReplyHandle>,
}

impl RecorderService for StoreService<'_> {
    fn handle(&mut self, wakeup: WakeReason, counters: &Counters, display: &ProgressDisplay<'_>) -> Instant {
        match wakeup {
            WakeReason::Reload => match self.reload() {
                Ok(reply) => display.print(reload::text(&reply)),
                Err(message) => display.print(message),
            },
            WakeReason::Snapshot => match self.snapshot(&SnapshotRequest::default()) {
                Ok(ticket) => self.state.pending.push_back(RequestedClip { ticket, client: None }),
                Err(error) => display.print(format_args!("no clip: {error}")),
            },
            _ => {}
        }
        while let Some(IncomingRequest { request, reply }) = self.listener.next() {
            self.answer(&request, reply, counters, display);
        }
        self.request_clips_of_triggers(display);
        self.finish_clips(&|message| display.print(message));
        self.report_storage(display);
        self.listener.restore();
        let interval = if self.state.pending.is_empty() { CHECK_INTERVAL } else { CLIP_INTERVAL };
        Instant::now() + interval
    }

    fn is_handover_requested(&self) -> bool {
        self.state.upgrade_requested
    }
}

impl StoreService<'_> {
    fn answer(
        &mut self,
        request: &Request,
        client: ReplyHandle,
        counters: &Counters,
        display: &ProgressDisplay<'_>,
    ) {
        let reply = match request {
            Request::Status => Reply::Status(Box::new(self.status(counters))),
            Request::Snapshot(snapshot) => match self.snapshot(snapshot) {
                Ok(ticket) => {
                    let client = Some(client);
                    return self.state.pending.push_back(RequestedClip { ticket, client });
                }
                Err(error) => Reply::error(ErrorCode::BadRequest, error),
            },
            Request::Rotate => {
                self.handle.request_rotation();
                Reply::Rotate(RotateReply { ending: self.handle.status().current })
            }
            Request::Reload => match self.reload() {
                Ok(reply) => {
                    display.print(reload::text(&reply));
                    Reply::Reload(reply)
                }
                Err(message) => {
                    display.print(&message);
                    Reply::error(ErrorCode::Failed, message)
                }
            },
            Request::Upgrade => self.request_upgrade(),
            _ => Reply::error(ErrorCode::BadRequest, "this recorder does not support the request"),
        };
        client.send(reply);
    }

    /// Returns the recorder's state.
    fn status(&self, counters: &Counters) -> Status {
        let store = self.handle.status();
        let options = self.handle.options();
        let (events, lost) = recorded_and_lost(counters, &store);
        let causes = lost.by_cause().filter(|(_, lost)| *lost > 0);
        let by_cause = causes.map(|(cause, lost)| (cause.name().to_owned(), lost)).collect();
        Status {
            tool: self.facts.tool.clone(),
            pid: std::process::id(),
            started_ns: self.facts.started_ns,
            store: self.facts.store.to_string_lossy().into_owned(),
            mode: if self.facts.is_flight { "flight" } else { "store" }.to_owned(),
            transport: self.facts.transport.clone(),
            events,
            lost: LostEvents { total: lost.total(), by_cause },
            blind: counters.blind,
            blind_periods: counters.blind_periods,
            queue_fill: counters.queue_fill,
            lag_ns: counters.lag_ns,
            used_bytes: store.used,
            segments: store.segments as u64,
            oldest: store.oldest,
            current: store.current,
            current_bytes: store.current_bytes,
            limits: Limits {
                rotate_size_bytes: options.rotate_size,
                rotate_every_ns: options.rotate_every.as_nanos() as u64,
                max_use_bytes: options.max_use,
                max_age_ns: options.max_age.map(|age| age.as_nanos() as u64),
                keep_free_bytes: options.keep_free,
            },
            triggers: self.triggers.counts().into_iter().map(trigger_status).collect(),
            storage_error: store.last_error,
            upgrade_error: self.state.upgrade_error.clone(),
        }
    }

    /// Requests a clip.
    fn snapshot(&self, request: &SnapshotRequest) -> Result<ClipTicket, String> {
        let span = |ns: Option<u64>, default: Duration| ns.map_or(default, Duration::from_nanos);
        let (before, after) =
            (span(request.before_ns, DEFAULT_BEFORE), span(request.after_ns, DEFAULT_AFTER));
        if after > MAX_AFTER {
            return Err("a clip ends at most 1h after its request".into());
        }
        let name = ClipName::new(request.name.as_deref().unwrap_or(DEFAULT_NAME))?;
        self.request_clip(ClipRequest { name, at: monotonic_now(), before, after })
    }

    fn request_clip(&self, request: ClipRequest) -> Result<ClipTicket, String> {
        let clips = self.clips.as_ref().ok_or("this recorder makes no clips; see its messages")?;
        if self.state.pending.len() >= MAX_PENDING {
            return Err(format!("{MAX_PENDING} clips are pending already; try again later"));
        }
        Ok(clips.request(request))
    }

    /// Requests the clips of triggers that have fired.
    fn request_clips_of_triggers(&mut self, display: &ProgressDisplay<'_>) {
        while let Ok(fired) = self.fired.try_recv() {
            display.print(fired_text(&fired));
            let TriggerFired { name, at, before, after, .. } = fired;
            match self.request_clip(ClipRequest { name, at, before, after }) {
                Ok(ticket) => self.state.pending.push_back(RequestedClip { ticket, client: None }),
                Err(error) => display.print(format_args!("no clip: {error}")),
            }
        }
    }

    /// Sends the replies for finished clips.
    pub(super) fn finish_clips(&mut self, print: &dyn Fn(String)) {
        for _ in 0..self.state.pending.len() {
            let Some(RequestedClip { ticket, client }) = self.state.pending.pop_front() else { return };
            match (ticket.wait(Duration::ZERO), client) {
                (None, client) => self.state.pending.push_back(RequestedClip { ticket, client }),
                (Some(result), Some(client)) => client.send(clip_reply(result)),
                (Some(Ok(clip)), None) => print(clip_text(&clip)),
                (Some(Err(error)), None) => print(format!("no clip: {error}")),
            }
        }
    }

    /// Reads the configuration again, and applies what can change while the recorder runs. After an
    /// error, the old settings stay in force.
    fn reload(&mut self) -> Result<pmon_store::control::ReloadReply, String> {
        reload::reload(self.line, self.config, &self.handle, &self.triggers).map_err(|failure| {
            format!("the configuration was not reloaded, the old one stays in force: {}", failure.message())
        })
    }

    fn request_upgrade(&mut self) -> Reply {
        if let Err(why) = &self.upgrade {
            return Reply::error(ErrorCode::Failed, why);
        }
        let config = RecordConfig::read(self.line).and_then(|config| super::options(&config.args).map(drop));
        if let Err(failure) = config {
            let why = format!("the next recorder would not start: {}", failure.message());
            return Reply::error(ErrorCode::Failed, why);
        }
        let store = self.handle.status();
        if store.current.is_none() {
            let error = store.last_error.unwrap_or_default();
            let why = format!("the store cannot be written at the moment, try again later: {error}");
            return Reply::error(ErrorCode::Failed, why);
        }
        self.state.upgrade_requested = true;
        Reply::Upgrade(UpgradeReply {})
    }

    /// Reports changes of the store's state.
    fn report_storage(&mut self, display: &ProgressDisplay<'_>) {
        let store = self.handle.status();
        if store.last_error != self.state.storage_error {
            match &store.last_error {
                Some(error) => display.print(format_args!(
                    "{}; the recording goes on, and counts the events that it cannot write",
                    harmless(error)
                )),
                None => display.print("the store can be written again"),
            }
            self.state.storage_error = store.last_error;
        }
        if store.unsynced_directory != self.state.unsynced_directory {
            if let Some(error) = &store.unsynced_directory {
                display.print(format_args!(
                    "cannot sync the directory of the store: {}; after a power loss, the newest segments may have \
                     other names",
                    harmless(error)
                ));
            }
            self.state.unsynced_directory = store.unsynced_directory;
        }
    }
}

fn clip_reply(result: Result<Clip, ClipError>) -> Reply {
    match result {
        Ok(clip) => Reply::Snapshot(SnapshotReply {
            path: clip.path.to_string_lossy().into_owned(),
            verdict: clip.verdict.name().to_owned(),
            events: clip.events,
            bytes: clip.bytes,
            missing: clip.missing,
        }),
        Err(error @ ClipError::Busy { .. }) => Reply::error(ErrorCode::Busy, error),
        Err(error) => Reply::error(ErrorCode::Failed, error),
    }
}

fn trigger_status(counts: TriggerCounts) -> TriggerStatus {
    let TriggerCounts { name, fired, suppressed, dropped } = counts;
    TriggerStatus { name, fired, suppressed, dropped }
}

/// Describes why a clip is made.
fn fired_text(fired: &TriggerFired) -> String {
    let process = fired.process.as_ref().map(|process| {
        let comm = process.comm.as_deref().map(|comm| format!(" ({})", printable(comm))).unwrap_or_default();
        format!(" by process {}{comm}", process.pid.0)
    });
    format!("trigger {} fired{}", fired.name, process.unwrap_or_default())
}

fn clip_text(clip: &Clip) -> String {
    let events = counted(clip.events, "event");
    let missing = if clip.missing.is_empty() { String::new() } else { format!(": {}", clip.missing) };
    format!("clip {}: {events}, {}{missing}", shown(&clip.path), clip.verdict.name())
}
