//! Handles requests to the recorder of a store, by signals and by its control socket.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use pmon_record::{Counters, WakeReason, monotonic_now};
use pmon_store::clip::{
    Clip, ClipError, ClipHandle, ClipName, ClipReports, ClipRequest, ClipTicket, DEFAULT_AFTER,
    DEFAULT_BEFORE, MAX_AFTER,
};
use pmon_store::control::{
    ErrorCode, IncomingRequest, Limits, LostEvents, Reply, ReplyHandle, Request, RotateReply, SnapshotReply,
    SnapshotRequest, Status, TriggerStatus, UpgradeReply,
};
use pmon_store::{StoreHandle, TriggerCounts, TriggerFired, TriggersHandle};

use super::listener::ControlListener;
use super::reload;
use super::summary::recorded_and_lost;
use super::trial;
use crate::config::RecordConfig;
use crate::control::{ProgressDisplay, RecorderService};
use crate::input::shown;
use crate::output::{harmless, printable};
use crate::terminal::counted;

/// Time between two looks at the store's state.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks at requested clips.
const CLIP_INTERVAL: Duration = Duration::from_millis(50);
/// Name of a clip, unless the request states another one.
const DEFAULT_NAME: &str = "snapshot";
/// Why a clip cannot be requested.
const NO_CLIPS: &str = "this recorder makes no clips; see its messages";

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
    /// The file of the program that replaces the recorder on request.
    pub(super) program: &'a Path,
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
    /// Clips that clients wait for; the control socket limits their number.
    pending: VecDeque<RequestedClip>,
    /// Clips that triggers and signals have requested.
    reports: ClipReports,
    /// Number of merged firings that were printed, by the name of the trigger.
    printed_merged: BTreeMap<String, u64>,
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

/// A requested clip, and the client that waits for it.
struct RequestedClip {
    ticket: ClipTicket,
    client: ReplyHandle,
}

impl RecorderService for StoreService<'_> {
    fn handle(&mut self, wakeup: WakeReason, counters: &Counters, display: &ProgressDisplay<'_>) -> Instant {
        match wakeup {
            WakeReason::Reload => match self.reload() {
                Ok(reply) => display.print(reload::text(&reply)),
                Err(message) => display.print(message),
            },
            WakeReason::Snapshot => {
                let request = clip_request(&SnapshotRequest::default());
                self.request_report(request, &|message| display.print(message));
            }
            _ => {}
        }
        while let Some(IncomingRequest { request, reply }) = self.listener.next() {
            self.answer(&request, reply, counters, display);
        }
        self.request_clips_of_triggers(&|message| display.print(message));
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
            Request::Snapshot(snapshot) => match self.request_clip(snapshot) {
                Ok(ticket) => {
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
                max_use_bytes: options.limits.max_use,
                max_age_ns: options.limits.max_age.map(|age| age.as_nanos() as u64),
                keep_free_bytes: options.limits.keep_free,
            },
            triggers: self.triggers.counts().into_iter().map(trigger_status).collect(),
            storage_error: store.last_error,
            upgrade_error: self.state.upgrade_error.clone(),
        }
    }

    /// Requests a clip that a client waits for.
    fn request_clip(&self, request: &SnapshotRequest) -> Result<ClipTicket, String> {
        let request = clip_request(request)?;
        Ok(self.clips.as_ref().ok_or(NO_CLIPS)?.request(request))
    }

    /// Requests a clip that no client waits for.
    fn request_report(&self, request: Result<ClipRequest, String>, print: &dyn Fn(String)) {
        let clips = self.clips.as_ref().ok_or_else(|| NO_CLIPS.to_owned());
        match request.and_then(|request| Ok((clips?, request))) {
            Ok((clips, request)) => clips.request_report(request, &self.state.reports),
            Err(error) => print(format!("no clip: {error}")),
        }
    }

    /// Requests the clips of triggers that have fired, and prints what has fired each of them.
    pub(super) fn request_clips_of_triggers(&self, print: &dyn Fn(String)) {
        while let Ok(fired) = self.fired.try_recv() {
            if !fired.is_extension {
                print(fired_text(&fired));
            }
            let TriggerFired { name, at, before, after, .. } = fired;
            self.request_report(Ok(ClipRequest { name, at, before, after }), print);
        }
    }

    /// Describes how often triggers have fired within a clip after they had requested it.
    fn merged_text(&mut self, clip: &Clip) -> String {
        let mut text = String::new();
        for TriggerCounts { name, merged, .. } in self.triggers.counts() {
            if !clip.names.iter().any(|clip_name| clip_name.as_str() == name) {
                continue;
            }
            let printed = self.state.printed_merged.insert(name.clone(), merged).unwrap_or_default();
            if merged > printed {
                text += &format!("; {} of trigger {name}", counted(merged - printed, "more firing"));
            }
        }
        text
    }

    /// Sends the replies for finished clips, and prints those that no client waits for.
    pub(super) fn finish_clips(&mut self, print: &dyn Fn(String)) {
        for _ in 0..self.state.pending.len() {
            let Some(RequestedClip { ticket, client }) = self.state.pending.pop_front() else { break };
            match ticket.wait(Duration::ZERO) {
                None => self.state.pending.push_back(RequestedClip { ticket, client }),
                Some(result) => client.send(clip_reply(result)),
            }
        }
        while let Some(result) = self.state.reports.try_next() {
            match result {
                Ok(clip) => print(clip_text(&clip) + &self.merged_text(&clip)),
                Err(error) => {
                    print(format!("no clip: {error}"));
                    if let ClipError::Busy { request, .. } = error {
                        self.triggers.refuse(request.name, request.at);
                    }
                }
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
        let config = RecordConfig::read(self.line)
            .and_then(|config| super::options(&config.args).map(|_| config.file.map(|file| file.path)));
        let checked = config
            .map_err(|failure| failure.message())
            .and_then(|file| trial::check(self.program, self.line, file.as_deref()));
        if let Err(why) = checked {
            let why = format!("the next recorder would not start, and this one goes on: {why}");
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

fn clip_request(request: &SnapshotRequest) -> Result<ClipRequest, String> {
    let span = |ns: Option<u64>, default: Duration| ns.map_or(default, Duration::from_nanos);
    let (before, after) = (span(request.before_ns, DEFAULT_BEFORE), span(request.after_ns, DEFAULT_AFTER));
    if after > MAX_AFTER {
        return Err("a clip ends at most 1h after its request".into());
    }
    let name = ClipName::new(request.name.as_deref().unwrap_or(DEFAULT_NAME))?;
    Ok(ClipRequest { name, at: monotonic_now(), before, after })
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
    let TriggerCounts { name, fired, merged, suppressed, dropped } = counts;
    TriggerStatus { name, fired, merged, suppressed, dropped }
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
