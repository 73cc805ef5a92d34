//! Follows the processes of a recording from their starts to their ends.

mod scans;
mod signals;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use pmon_core::capture::{Details, DetailsSubject, FatalSignal, Header, Junction, Record, Usage};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{MonoNs, Task, Tgid};

use self::scans::is_found_early;
use super::awaited::AwaitedPrograms;
use super::id::IdentityScope;
use super::signal::{EndedProcess, RecentlyEnded};
use super::state::LifeState;
use super::texts::SharedTexts;
use super::{Ancestor, Life, LifeRef, ProcessId, ProcessProgram, ProcessStart};
use crate::process::{ProcessExit, ProcessFacts, ProcessModel, ProcessRef, Slot};

/// Maximum number of rows that wait for the details of their programs.
const MAX_PENDING: usize = 1 << 14;

/// Follows the processes of a recording.
///
/// Apply every record of the continuous recording in order, and take the rows of the processes that
/// have ended with [`LifeTracker::pop`]. After the last record, [`LifeTracker::finish`] adds the
/// processes that are still running.
///
/// The order is that of the ends. A row waits until the details of its program have arrived, at
/// most one second of event time, and at the start of a recording for the scan, if one is expected.
#[derive(Debug)]
pub struct LifeTracker {
    scope: IdentityScope,
    /// Whether processes that have ended become rows.
    makes_rows: bool,
    /// Whether `model` has the texts of programs, which `states` has in any case.
    has_texts: bool,
    model: ProcessModel,
    /// By slot of the model.
    states: Vec<LifeState>,
    awaited: AwaitedPrograms,
    texts: SharedTexts,
    /// Processes that the current scan has found.
    scanned: Vec<Slot>,
    ended: VecDeque<Life>,
    recently_ended: RecentlyEnded,
    /// Items that earlier models dropped for lack of memory.
    dropped: u64,
    /// Start times in clock ticks that the scan at the start of the recording will find.
    scan: HashMap<Tgid, u64>,
    /// Whether the OOM killer killed the process that the last record ended, if that is known.
    last_oom_kill: Option<bool>,
}

impl LifeTracker {
    /// Creates a tracker for a recording that begins with this header.
    pub fn new(header: &Header) -> Self {
        Self {
            scope: IdentityScope::new(&header.meta),
            makes_rows: true,
            has_texts: true,
            model: model(header.byte_order, header, true),
            states: Vec::new(),
            awaited: AwaitedPrograms::default(),
            texts: SharedTexts::default(),
            scanned: Vec::new(),
            ended: VecDeque::new(),
            recently_ended: RecentlyEnded::default(),
            dropped: 0,
            scan: HashMap::new(),
            last_oom_kill: None,
        }
    }

    /// Makes no rows from now on, which saves time if the caller only needs the processes as of the
    /// last record. [`LifeTracker::pop`] then returns `None`.
    pub fn omit_rows(&mut self) {
        self.makes_rows = false;
    }

    /// Keeps the texts of programs only once, which saves time. [`LifeTracker::last_process`] and
    /// [`ProcessLookup`](crate::filter::ProcessLookup) then lack them.
    pub fn without_model_texts(mut self) -> Self {
        self.has_texts = false;
        self.model.omit_texts();
        self
    }

    /// Sets the start times in clock ticks that the scan at the start of the recording will find. A
    /// process that has events before the scan is then identified by its start time, as it is in
    /// every excerpt that begins later.
    pub fn expect_scan(&mut self, starts: HashMap<Tgid, u64>) {
        self.scan = starts;
    }

    /// Continues with the next capture of the recording.
    pub fn begin_segment(&mut self, header: Option<&Header>, junction: Junction) {
        if let Some(span) = junction.unobserved {
            self.apply(&Record::Unobserved(span));
        }
        if let (true, Some(header)) = (junction.is_reboot, header) {
            self.end_all(Some(self.model.now()));
            self.dropped += self.model.incomplete();
            self.scope = IdentityScope::new(&header.meta);
            self.model = model(header.byte_order, header, self.has_texts);
            self.states.clear();
            self.scanned.clear();
            self.recently_ended = RecentlyEnded::default();
        }
        self.scan.clear();
    }

    /// Applies the next record.
    pub fn apply(&mut self, record: &Record<'_>) {
        self.last_oom_kill = None;
        self.model.apply(record);
        match record {
            Record::Event(datagram, usage) => {
                let applied = datagram.with_event(self.model.order(), |event| {
                    self.collect_removed(None, Some(event));
                    self.identify_found();
                    self.apply_event(event, usage.as_deref());
                });
                if applied.is_none() {
                    self.collect_removed(None, None);
                    self.identify_found();
                }
            }
            Record::Details(details) => match details.subject {
                DetailsSubject::Exec { tgid, time } => self.exec_details(tgid, time, details),
                DetailsSubject::Snapshot { tgid } => {
                    self.collect_removed(None, None);
                    self.identify_found();
                    self.scanned_details(tgid, details);
                }
            },
            Record::Snapshot(_) => {
                self.collect_removed(None, None);
                self.link_scanned();
                // After the scan, its process IDs can be those of other processes.
                self.scan.clear();
            }
            _ => {}
        }
    }

    /// Returns the next process that has ended.
    pub fn pop(&mut self) -> Option<Life> {
        let front = self.ended.front()?;
        // Until the scan, the ancestors may lack their own parents.
        let is_incomplete = front.program.is_awaited() || !self.scan.is_empty();
        let waits = is_incomplete && self.ended.len() <= MAX_PENDING;
        if waits { None } else { self.ended.pop_front() }
    }

    /// Adds the processes that are still running, in the order of their IDs: the recording has
    /// ended. Afterwards, call [`LifeTracker::pop`] until it returns `None`.
    pub fn finish(&mut self) {
        self.end_all(None);
        self.scan.clear();
    }

    /// Returns the processes that are running after the last record, in the order of their IDs.
    pub fn running(&mut self) -> Vec<Life> {
        let mut running: Vec<_> =
            self.model.slots().filter(|&(_, is_zombie)| !is_zombie).map(|(slot, _)| slot).collect();
        running.sort_by_key(|&slot| self.model.facts(slot).pid);
        running.into_iter().map(|slot| self.life(slot, true)).collect()
    }

    /// Returns the process that has this ID after the last record, unless it has ended.
    pub fn get(&mut self, pid: Tgid) -> Option<Life> {
        let slot = self.model.slot(pid)?;
        let is_running = self.model.slots().any(|known| known == (slot, false));
        is_running.then(|| self.life(slot, true))
    }

    /// Returns the process that has this ID after the last record, without its execs. This is fast,
    /// and also returns a process that the last record has ended.
    pub fn last_known(&mut self, pid: Tgid) -> Option<Life> {
        let slot = self.model.slot(pid)?;
        Some(self.life(slot, false))
    }

    /// Notes the identity and the parent of the process that [`LifeTracker::last_life`] returns.
    pub fn note(&mut self, pid: Tgid) {
        if let Some(slot) = self.model.slot(pid) {
            self.note_slot(slot);
        }
    }

    /// Returns the process that [`LifeTracker::last_known`] returns, if it was
    /// [noted](LifeTracker::note) after the last record. This copies nothing.
    pub fn last_life(&self, pid: Tgid) -> Option<LifeRef<'_>> {
        let slot = self.model.slot(pid)?;
        let state = self.states.get(slot as usize)?;
        let (id, origin) = state.identity?;
        Some(LifeRef {
            id,
            origin,
            start: start_of(&self.model, origin, self.model.start_ticks(slot)),
            end: state.end_time(),
            parent: state.parent.as_deref(),
            ppid: self.model.ppid(slot),
            is_parent_assumed: self.model.is_parent_assumed(slot),
            parent_id: state.parent_id,
            name: self.model.name(slot),
            signal: state.signal.as_deref(),
            program: state.program.get(),
        })
    }

    /// Returns the identity of the process that has this ID, as of [`LifeTracker::last_known`].
    pub fn process_id(&mut self, pid: Tgid) -> Option<ProcessId> {
        let slot = self.model.slot(pid)?;
        self.touch(slot, self.model.now());
        Some(self.identity(slot).0)
    }

    /// Returns the process that [`LifeTracker::last_known`] returns, as the model has it.
    pub fn last_process(&self, pid: Tgid) -> Option<ProcessRef<'_>> {
        self.model.last_process(pid)
    }

    /// Returns the effect of the last record on its process, if it was an exit.
    pub fn last_exit(&self) -> Option<ProcessExit> {
        self.model.last_exit()
    }

    /// Returns whether the OOM killer killed the process that the last record ended, if that is
    /// known.
    pub fn last_oom_kill(&self) -> Option<bool> {
        self.last_oom_kill
    }

    /// Notes that no event happened between the latest one and `time`.
    pub fn advance_to(&mut self, time: MonoNs) {
        self.model.advance_to(time);
    }

    /// Returns whether details may still arrive for an exec that was applied.
    pub fn awaits_details(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Returns the byte order of the recording's datagrams.
    pub fn order(&self) -> ByteOrder {
        self.model.order()
    }

    /// Returns the time of the latest event.
    pub fn now(&self) -> MonoNs {
        self.model.now()
    }

    /// Returns how many processes, threads and texts were dropped for lack of memory.
    pub fn incomplete(&self) -> u64 {
        self.dropped + self.model.incomplete()
    }

    fn apply_event(&mut self, event: &Event, usage: Option<&Usage>) {
        self.awaited.expire(event.time);
        match event.body {
            EventBody::Fork { parent, child } if child.is_leader() => {
                self.fork(event.time, parent, child.tgid)
            }
            EventBody::Fork { child, .. } => {
                if let Some(state) = self.state_of(child.tgid, event.time) {
                    state.threads = state.threads.saturating_add(1);
                }
            }
            EventBody::Exec { task } => {
                let Some(state) = self.state_of(task.tgid, event.time) else { return };
                let program = ProcessProgram::awaited(state.program.get().preserved());
                state.exec(event.time, program.clone());
                self.awaited.insert(task.tgid, event.time, program);
            }
            EventBody::Exit { task, .. } => self.exit(event.time, task, usage),
            _ => {}
        }
    }

    fn fork(&mut self, time: MonoNs, parent: Task, child: Tgid) {
        let Some(slot) = self.model.slot(child) else { return };
        let mut state = LifeState::default();
        state.first = Some(time);
        if let Some(parent) = self.model.slot(parent.tgid).filter(|&parent| parent != slot) {
            let children = &mut self.touch(parent, time).children;
            *children = children.saturating_add(1);
            state.parent = Some(self.ancestor(parent));
            state.program = self.states[parent as usize].program.clone();
        }
        state.identity = Some(self.identify(child.0, ProcessStart::Forked(time)));
        *self.touch(slot, time) = state;
    }

    fn exit(&mut self, time: MonoNs, task: Task, usage: Option<&Usage>) {
        let (exit, makes_rows) = (self.model.last_exit(), self.makes_rows);
        self.last_oom_kill = ProcessExit::is_oom_kill(exit, usage);
        let Some(state) = self.state_of(task.tgid, time) else { return };
        let has_ended = matches!(exit, Some(ProcessExit::Ended { .. }));
        // A process can still run when its first thread has exited.
        let is_needed = if has_ended { makes_rows } else { task.is_leader() };
        if let Some(usage) = usage.filter(|_| is_needed) {
            state.add_usage(usage, task.is_leader());
        }
        match exit {
            Some(ProcessExit::Ended { status }) => {
                state.end(time, Some(status));
                if let Some(usage) = usage.filter(|usage| usage.fatal_signal != FatalSignal::default()) {
                    self.note_signal(task.tgid, usage.fatal_signal);
                }
            }
            Some(ProcessExit::Unknown) if task.is_leader() => state.end(time, None),
            _ => return,
        }
        if let Some(slot) = self.model.slot(task.tgid) {
            self.note_parent(slot);
        }
    }

    /// Notes the identity of the current parent.
    fn note_parent(&mut self, slot: Slot) {
        let now = self.model.now();
        let id = match self.model.parent_slot(slot) {
            Some(parent) => {
                self.touch(parent, now);
                self.identity(parent).0
            }
            None => {
                let Some(ppid) = self.model.ppid(slot) else { return };
                let Some(start) = self.expected_start(ppid, now) else { return };
                self.identify(ppid, start).0
            }
        };
        self.touch(slot, now).parent_id = Some(id);
    }

    /// Returns the start of a process that exists at `time`, if the scan at the start of the
    /// recording will find it.
    fn expected_start(&self, pid: u32, time: MonoNs) -> Option<ProcessStart> {
        let ticks = *self.scan.get(&Tgid(pid))?;
        (self.model.mono_of_ticks(ticks)? <= time).then_some(ProcessStart::Ticks(ticks))
    }

    fn exec_details(&mut self, pid: Tgid, time: MonoNs, details: &Details) {
        if let Some(program) = self.awaited.take(pid, time) {
            program.set(details, &mut self.texts);
        }
        // The details can show that the exec was of another process, whose fork was lost.
        self.collect_removed(Some(time), None);
        self.identify_found();
    }

    /// Returns a process as the parent of one that it forks now.
    fn ancestor(&mut self, slot: Slot) -> Arc<Ancestor> {
        let (id, origin) = self.identity(slot);
        let (model, state) = (&self.model, &mut self.states[slot as usize]);
        if let Some(known) = state.known_as_parent(model.uid(slot), model.name(slot)) {
            return known;
        }
        let facts = model.facts(slot);
        let start = start_of(model, origin, facts.start_ticks);
        state.as_new_parent(facts, id, start)
    }

    /// Returns the identity of a process, which does not change once it was needed.
    fn identity(&mut self, slot: Slot) -> (ProcessId, ProcessStart) {
        if let Some(identity) = self.states[slot as usize].identity {
            return identity;
        }
        let facts = self.model.facts(slot);
        let identity = self.identity_of(&facts, self.states[slot as usize].first);
        self.states[slot as usize].identity = Some(identity);
        identity
    }

    /// Identifies the processes without a fork event that the latest record has named first. Their
    /// numbers do not depend on what later records show, nor on when a caller needs them.
    fn identify_found(&mut self) {
        while let Some(slot) = self.model.take_found() {
            self.touch(slot, self.model.now());
            self.identity(slot);
        }
    }

    fn identity_of(&self, facts: &ProcessFacts, first: Option<MonoNs>) -> (ProcessId, ProcessStart) {
        let start = match (facts.forked, facts.start_ticks) {
            (Some(time), _) => ProcessStart::Forked(time),
            (None, Some(ticks)) => ProcessStart::Ticks(ticks),
            (None, None) => {
                let first = first.unwrap_or(facts.last_event);
                self.expected_start(facts.pid, first).unwrap_or(ProcessStart::Seen(first))
            }
        };
        self.identify(facts.pid, start)
    }

    fn identify(&self, pid: u32, start: ProcessStart) -> (ProcessId, ProcessStart) {
        (self.scope.id(pid, start), start)
    }

    /// Returns the state of a process that a record names.
    fn state_of(&mut self, pid: Tgid, time: MonoNs) -> Option<&mut LifeState> {
        let slot = self.model.slot(pid)?;
        Some(self.touch(slot, time))
    }

    fn touch(&mut self, slot: Slot, time: MonoNs) -> &mut LifeState {
        let at = slot as usize;
        if at >= self.states.len() {
            self.states.resize_with(at + 1, LifeState::default);
        }
        let state = &mut self.states[at];
        state.first.get_or_insert(time);
        state
    }

    /// Notes the identity of a process, and that of its current parent.
    fn note_slot(&mut self, slot: Slot) -> (ProcessId, ProcessStart) {
        self.touch(slot, self.model.now());
        self.note_parent(slot);
        self.identity(slot)
    }

    fn life(&mut self, slot: Slot, has_execs: bool) -> Life {
        let identity = self.note_slot(slot);
        let facts = self.model.facts(slot);
        let start = start_of(&self.model, identity.1, facts.start_ticks);
        self.states[slot as usize].life(facts, identity, start, has_execs)
    }

    /// Makes rows of the processes that the model has removed. `exec` is the time of an exec that
    /// was of another process than the one that had its ID, and `event` the latest event.
    fn collect_removed(&mut self, exec: Option<MonoNs>, event: Option<&Event>) {
        while let Some((slot, facts)) = self.model.take_removed() {
            let mut state = match self.states.get_mut(slot as usize) {
                Some(state) => std::mem::take(state),
                None => LifeState::default(),
            };
            if is_found_early(&self.model, &facts, event) {
                continue;
            }
            let moved = exec.and_then(|time| Some((time, state.take_exec(time)?)));
            let pid = Tgid(facts.pid);
            let identity = state.identity.unwrap_or_else(|| self.identity_of(&facts, state.first));
            let (forked, start_ticks) = (facts.forked, facts.start_ticks);
            self.recently_ended.add(EndedProcess { pid: facts.pid, forked, start_ticks, id: identity.0 });
            if self.makes_rows {
                let start = start_of(&self.model, identity.1, facts.start_ticks);
                self.ended.push_back(state.into_life(facts, identity, start, Some(self.model.now())));
            }
            if let Some((time, program)) = moved
                && let Some(state) = self.state_of(pid, time)
            {
                state.exec(time, program);
            }
        }
    }

    /// Makes rows of all processes. Those that have not ended are still running, or gone at a time.
    fn end_all(&mut self, gone_at: Option<MonoNs>) {
        self.awaited.clear();
        if !self.makes_rows {
            return;
        }
        let mut slots: Vec<_> =
            self.model.slots().map(|(slot, is_zombie)| (!is_zombie, self.model.facts(slot), slot)).collect();
        slots.sort_by_key(|(is_running, facts, _)| (*is_running, facts.pid));
        for (_, _, slot) in &slots {
            self.touch(*slot, self.model.now());
            self.note_parent(*slot);
        }
        for (_, facts, slot) in slots {
            let identity = self.identity(slot);
            let start = start_of(&self.model, identity.1, facts.start_ticks);
            let state = std::mem::take(&mut self.states[slot as usize]);
            self.ended.push_back(state.into_life(facts, identity, start, gone_at));
        }
    }
}

fn model(order: ByteOrder, header: &Header, has_texts: bool) -> ProcessModel {
    let mut model = ProcessModel::new(order, header.meta.ticks_per_second, header.meta.start);
    model.keep_removed();
    if !has_texts {
        model.omit_texts();
    }
    model
}

/// Returns the start of a process. `start_ticks` is its start time in clock ticks, if the kernel
/// has reported it.
fn start_of(model: &ProcessModel, origin: ProcessStart, start_ticks: Option<u64>) -> Option<MonoNs> {
    match origin {
        ProcessStart::Forked(time) => Some(time),
        ProcessStart::Ticks(ticks) => model.mono_of_ticks(ticks),
        // A scan may have found the process since.
        ProcessStart::Seen(_) => start_ticks.and_then(|ticks| model.mono_of_ticks(ticks)),
    }
}
