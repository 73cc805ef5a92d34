//! Triggers: conditions on events that request a clip of the recording around the event.
//!
//! [`Triggers`] observes the records of a store on the writer thread, and sends a [`TriggerFired`]
//! for each clip that begins or is extended. It never waits: requests that do not fit into the
//! channel are counted.

mod file;
mod keys;
mod requested;
mod window;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pmon_analysis::filter::{EventCondition, EventView, ProcessView};
use pmon_analysis::process::{ProcessExit, ProcessModel};
use pmon_analysis::wait_status::WaitStatus;
use pmon_core::capture::{Details, DetailsSubject, Record, SelfGenerated, Usage};
use pmon_core::wire::{Event, EventBody, EventKind};
use pmon_core::{MonoNs, Tgid};

use self::requested::{Admission, ClipSpan, RequestedClips};
use self::window::Window;
use crate::clip::ClipName;
use crate::writer::RecordObserver;

pub use self::file::{TriggerError, parse_triggers};
pub use self::keys::Trigger;

/// Number of requests that wait for the clip service; more are dropped and counted.
const MAX_WAITING: usize = 64;

/// A request for a clip by a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerFired {
    /// Name of the trigger, which becomes a part of the clip's name.
    pub name: ClipName,
    /// Time of the event.
    pub at: MonoNs,
    /// Time span before the event that the clip shall cover.
    pub before: Duration,
    /// Time span after the event that the clip shall cover.
    pub after: Duration,
    /// Whether the request extends a clip that the trigger has requested before.
    pub is_extension: bool,
    /// The process of the event.
    pub process: Option<ProcessSummary>,
}

/// The process of an event that fired a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSummary {
    /// Process ID.
    pub pid: Tgid,
    /// Parent of the process.
    pub ppid: Option<Tgid>,
    /// Name of the first thread.
    pub comm: Option<Vec<u8>>,
    /// Path of the executable.
    pub exe: Option<Vec<u8>>,
    /// Raw wait status, if the event is the exit of the process.
    pub status: Option<u32>,
}

/// How often a trigger fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerCounts {
    /// Name of the trigger.
    pub name: String,
    /// Number of requested clips.
    pub fired: u64,
    /// Number of further firings that these clips contain.
    pub merged: u64,
    /// Number of firings whose clip the trigger's limit suppressed.
    pub suppressed: u64,
    /// Number of firings whose request was dropped because too many waited.
    pub dropped: u64,
}

/// Matches the records of a store on its writer thread.
pub struct Triggers {
    active: Vec<ActiveTrigger>,
    /// Kinds that any trigger can match: see [`EventCondition::kind_mask`].
    mask: u32,
    /// Version of the shared state that was read last.
    version: u64,
    shared: Arc<Shared>,
    requests: SyncSender<TriggerFired>,
    /// Called after each request.
    notify: Box<dyn Fn() + Send>,
    /// Process ID of the recorder, whose self-generated events fire no trigger.
    recorder: Option<Tgid>,
}

/// Replaces the triggers of a running recorder, and reads their counts.
#[derive(Clone, Debug)]
pub struct TriggersHandle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Number of replacements so far.
    version: AtomicU64,
    state: Mutex<SharedState>,
}

#[derive(Debug, Default)]
struct SharedState {
    /// Triggers that replace the present ones.
    next: Option<Vec<Trigger>>,
    /// Requests that were sent and then refused, by the name of the trigger and the time of the
    /// event.
    refused: Vec<(ClipName, MonoNs)>,
    counts: Vec<TriggerCounts>,
}

impl Shared {
    /// Calls `access` with the state. Both threads hold the lock for a moment only.
    fn with<R>(&self, access: impl FnOnce(&mut SharedState) -> R) -> R {
        access(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct ActiveTrigger {
    trigger: Trigger,
    mask: u32,
    /// Events that count towards the rate.
    events: Window,
    clips: RequestedClips,
}

impl TriggersHandle {
    /// Replaces all triggers. A trigger that keeps its name keeps its counts and the use of its
    /// limit.
    pub fn replace(&self, triggers: Vec<Trigger>) {
        self.shared.with(|state| state.next = Some(triggers));
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// Gives the place in the limit back of a clip whose request was refused. `at` is the time of
    /// its event.
    pub fn refuse(&self, name: ClipName, at: MonoNs) {
        self.shared.with(|state| state.refused.push((name, at)));
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// Returns the counts of each trigger.
    pub fn counts(&self) -> Vec<TriggerCounts> {
        self.shared.with(|state| state.counts.clone())
    }
}

impl Triggers {
    /// Creates an observer with these triggers, its handle, and the receiver of the requests.
    /// `recorder` is the process ID of the recorder. The observer calls `notify` after each
    /// request, on the writer thread.
    pub fn new(
        triggers: Vec<Trigger>,
        recorder: Option<Tgid>,
        notify: impl Fn() + Send + 'static,
    ) -> (Self, TriggersHandle, Receiver<TriggerFired>) {
        let (requests, receiver) = sync_channel(MAX_WAITING);
        let shared = Arc::new(Shared::default());
        let handle = TriggersHandle { shared: Arc::clone(&shared) };
        let notify = Box::new(notify);
        let mut observer =
            Self { active: Vec::new(), mask: 0, version: 0, shared, requests, notify, recorder };
        observer.activate(triggers);
        (observer, handle, receiver)
    }

    fn activate(&mut self, triggers: Vec<Trigger>) {
        let mut before = std::mem::take(&mut self.active);
        self.active = triggers
            .into_iter()
            .map(|trigger| {
                let mask = trigger.condition.kind_mask();
                let known = before.iter().position(|active| active.trigger.name == trigger.name);
                let clips = known.map(|at| before.swap_remove(at).clips).unwrap_or_default();
                ActiveTrigger { trigger, mask, events: Window::default(), clips }
            })
            .collect();
        self.mask = self.active.iter().fold(0, |mask, active| mask | active.mask);
        self.shared.with(|state| {
            let before = std::mem::take(&mut state.counts);
            let counts = |active: &ActiveTrigger| {
                let name = active.trigger.name.as_str();
                let known = before.iter().find(|counts| counts.name == name).cloned();
                known.unwrap_or_else(|| TriggerCounts { name: name.into(), ..TriggerCounts::default() })
            };
            state.counts = self.active.iter().map(counts).collect();
        });
    }

    /// Makes clips whose requests were refused count for nothing.
    fn give_back(&mut self) {
        for (name, at) in self.shared.with(|state| std::mem::take(&mut state.refused)) {
            let index = self.active.iter().position(|active| active.trigger.name == name);
            let Some(index) = index.filter(|&index| self.active[index].clips.refuse(at)) else { continue };
            self.shared.with(|state| {
                if let Some(counts) = state.counts.get_mut(index) {
                    counts.fired = counts.fired.saturating_sub(1);
                    counts.dropped += 1;
                }
            });
        }
    }

    fn observe_event(&mut self, event: &Event, usage: Option<&Usage>, model: &ProcessModel) {
        let Some(task) = event.task() else { return };
        let mut status = None;
        match event.body {
            EventBody::Fork { child, .. } if !child.is_leader() => return,
            EventBody::Exit { task, code, .. } => {
                status = match model.exit_effect(task, code, event.time, usage) {
                    ProcessExit::Ended { status } => Some(status),
                    ProcessExit::Unknown if task.is_leader() => Some(code),
                    ProcessExit::Unknown | ProcessExit::GoesOn => return,
                }
            }
            EventBody::Comm { .. }
                if self.recorder.is_some_and(|pid| SelfGenerated::of(event, pid).is_some()) =>
            {
                return;
            }
            _ => {}
        }
        let view = model.get(task.tgid).map(|process| ProcessView::of_model(process, event.time));
        let ended = status.map(WaitStatus::from_raw);
        let signal = usage.map(|usage| &usage.fatal_signal);
        let oom_killed = ended.and_then(|status| status.is_oom_kill(signal));
        let view = EventView {
            kind: event.kind(),
            status: ended,
            process: ProcessView { oom_killed, ..view.unwrap_or_default() },
        };
        let summary = |process: &ProcessView<'_>| ProcessSummary {
            pid: task.tgid,
            ppid: model.get(task.tgid).and_then(|process| process.ppid()),
            comm: process.comm.map(<[u8]>::to_vec),
            exe: process.exe.map(<[u8]>::to_vec),
            status,
        };
        // The program of an exec is known once its details are.
        let is_due = |condition: &EventCondition| {
            view.kind != EventKind::Exec || !condition.process.needs_properties()
        };
        self.match_view(&view, event.time, is_due, summary);
    }

    fn observe_exec(&mut self, time: MonoNs, details: &Details, model: &ProcessModel) {
        let pid = details.subject.tgid();
        // What the details lack, the process had before the exec, if it still runs the program.
        let process = model.get(pid).filter(|process| process.exec_at() == Some(time));
        let known = process.map(|process| ProcessView::of_model(process, time)).unwrap_or_default();
        let read = ProcessView::from(details);
        let view = EventView {
            kind: EventKind::Exec,
            status: None,
            process: ProcessView {
                comm: read.comm.or(known.comm),
                exe: read.exe.or(known.exe),
                args: read.args.or(known.args),
                cgroup: read.cgroup.or(known.cgroup),
                container: read.container.or(known.container),
                uid: read.uid.or(known.uid),
                age_ns: known.age_ns,
                oom_killed: None,
            },
        };
        let summary = |process: &ProcessView<'_>| ProcessSummary {
            pid,
            ppid: details.ppid.map(Tgid),
            comm: process.comm.map(<[u8]>::to_vec),
            exe: process.exe.map(<[u8]>::to_vec),
            status: None,
        };
        let is_due = |condition: &EventCondition| condition.process.needs_properties();
        self.match_view(&view, time, is_due, summary);
    }

    /// Fires the triggers that match.
    fn match_view(
        &mut self,
        view: &EventView<'_>,
        time: MonoNs,
        is_due: impl Fn(&EventCondition) -> bool,
        summary: impl Fn(&ProcessView<'_>) -> ProcessSummary,
    ) {
        for (index, active) in self.active.iter_mut().enumerate() {
            let Trigger { name, condition, rate, before, after, limit } = &active.trigger;
            if active.mask >> view.kind as u32 & 1 == 0 || !is_due(condition) || !condition.matches(view) {
                continue;
            }
            if let Some(rate) = *rate {
                if !active.events.add(time.0, rate) {
                    continue;
                }
                active.events.clear();
            }
            let firing = ClipSpan { at: time, before: *before, after: *after };
            let admission = active.clips.admit(firing, *limit);
            let request = |span: ClipSpan, is_extension| TriggerFired {
                name: name.clone(),
                at: span.at,
                before: span.before,
                after: span.after,
                is_extension,
                process: Some(summary(&view.process)),
            };
            let request = match admission {
                Admission::Begin(span) => Some(request(span, false)),
                Admission::Extend(span) => Some(request(span, true)),
                Admission::Covered | Admission::Suppressed => None,
            };
            let is_sent = request.map(|request| self.requests.try_send(request).is_ok());
            if is_sent == Some(true) {
                active.clips.confirm(admission);
                (self.notify)();
            }
            self.shared.with(|state| {
                let Some(counts) = state.counts.get_mut(index) else { return };
                let count = match admission {
                    _ if is_sent == Some(false) => &mut counts.dropped,
                    Admission::Begin(_) => &mut counts.fired,
                    Admission::Extend(_) | Admission::Covered => &mut counts.merged,
                    Admission::Suppressed => &mut counts.suppressed,
                };
                *count += 1;
            });
        }
    }
}

impl RecordObserver for Triggers {
    fn is_interested(&mut self) -> bool {
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            if let Some(triggers) = self.shared.with(|state| state.next.take()) {
                self.activate(triggers);
            }
            self.give_back();
        }
        self.mask != 0
    }

    fn observe(&mut self, record: &Record<'_>, model: &ProcessModel) {
        match record {
            Record::Event(datagram, usage) => {
                datagram.with_event(model.order(), |event| {
                    if self.mask >> event.kind() as u32 & 1 == 1 {
                        self.observe_event(event, usage.as_deref(), model);
                    }
                });
            }
            Record::Details(details) if self.mask >> EventKind::Exec as u32 & 1 == 1 => {
                if let DetailsSubject::Exec { time, .. } = details.subject {
                    self.observe_exec(time, details, model);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
