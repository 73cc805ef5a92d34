//! Applies details of processes to the model: those of execs, and those of scans.

use pmon_core::capture::{Details, Snapshot};
use pmon_core::{MonoNs, Tgid};

use super::ProcessModel;
use super::name::Name;
use super::table::{Changed, NONE, Process, Slot};

impl ProcessModel {
    /// Applies the details of an exec that was applied before.
    ///
    /// The result is the same as if the details had been known at the exec: they replace what the
    /// process had before it, and what happened since replaces them.
    pub(super) fn exec_details(&mut self, pid: Tgid, time: MonoNs, details: &Details) {
        // A descendant that has the same id since inherited the time of the exec.
        let runs_it = |&slot: &Slot| {
            let process = self.table.get(slot);
            process.exec == Some(time) && process.fork.is_none_or(|(forked, _)| forked <= time)
        };
        let Some(mut slot) = self.table.find(pid.0).filter(runs_it) else {
            return self.table.images.set_awaited(pid.0, time, details);
        };
        if self.differs_from_start(self.table.get(slot), details.start_ticks) {
            // The exec was of another process, whose fork was lost, and so is the name since.
            let name = std::mem::take(&mut self.table.get_mut(slot).name);
            self.remove(slot);
            slot = self.exec(time, pid.0);
            if slot == NONE {
                return;
            }
            self.table.get_mut(slot).name = name;
        }
        self.table.images.set_details(self.table.get(slot).image, details);
        let process = self.table.get_mut(slot);
        let Changed { uid, gid, session, parent } = process.changed;
        if let Some(ids) = details.ids {
            process.uid = process.uid.filter(|_| uid).or(Some((ids.uid, ids.euid)));
            process.gid = process.gid.filter(|_| gid).or(Some((ids.gid, ids.egid)));
        }
        if let Some(context) = details.context {
            process.session = process.session.filter(|_| session).or(Some(context.session));
            process.group = process.group.filter(|_| session).or(Some(context.group));
            process.namespace_pid = Some(context.pid).filter(|&pid| pid != 0);
        }
        process.start_ticks = process.start_ticks.or(details.start_ticks);
        if let Some(ppid) = details.ppid.filter(|_| !parent) {
            self.table.set_parent(slot, ppid);
        }
    }

    pub(super) fn scanned_details(&mut self, pid: Tgid, details: &Details) {
        self.scanned += 1;
        if let Some(slot) = self.table.find(pid.0)
            && self.differs_from_start(self.table.get(slot), details.start_ticks)
        {
            self.remove(slot);
        }
        let is_new = self.table.find(pid.0).is_none();
        if is_new && self.recent_exits.contains(pid, details, self.ticks_per_second) {
            return;
        }
        let slot = self.get_or_insert(pid.0);
        if slot == NONE {
            return;
        }
        let (scan, era) = (self.scan, self.era);
        let forked = details.forked.map(|time| (time, self.boot_ns(time)));
        let process = self.table.get_mut(slot);
        process.is_only_scanned |= is_new;
        process.last_scan = scan;
        if process.exit.is_some() {
            return;
        }
        if details.threads == Some(1) {
            process.exits.mark_single_threaded(era, process.forked_threads as usize);
        }
        process.uid = process.uid.or(details.ids.map(|ids| (ids.uid, ids.euid)));
        process.gid = process.gid.or(details.ids.map(|ids| (ids.gid, ids.egid)));
        process.session = process.session.or(details.context.map(|of| of.session));
        process.group = process.group.or(details.context.map(|of| of.group));
        process.namespace_pid =
            process.namespace_pid.or(details.context.map(|of| of.pid).filter(|&pid| pid != 0));
        process.start_ticks = process.start_ticks.or(details.start_ticks);
        process.fork = process.fork.or(forked);
        if self.name(slot).is_unknown() {
            self.table.get_mut(slot).name = Name::of_details(details);
        }
        let image = self.table.images.fill(self.table.get(slot).image, details);
        self.table.get_mut(slot).image = image;
        if let (None, Some(ppid)) = (self.table.ppid(slot), details.ppid) {
            self.table.set_parent(slot, ppid);
            // The opening of a segment does not name the start of a parent that is assumed.
            self.table.get_mut(slot).is_parent_assumed =
                ppid == 1 && details.forked.is_some() && details.parent_start_ticks.is_none();
        }
    }

    /// Completes a scan: removes processes that the scan did not find and that have no later event.
    /// Their exits are missing from the recording.
    pub(super) fn finish_scan(&mut self, snapshot: &Snapshot) {
        let (scan, scanned) = (self.scan, std::mem::take(&mut self.scanned));
        self.scan += 1;
        if scanned != snapshot.processes {
            return;
        }
        let Some(credit) = self.credit.checked_sub(self.table.slots()) else {
            self.table.dropped += 1;
            return;
        };
        self.credit = credit;
        let gone: Vec<Slot> = self
            .table
            .iter()
            .filter(|(_, process)| process.last_scan != scan && process.last_event < snapshot.started)
            .map(|(slot, _)| slot)
            .filter(|&slot| slot != self.zombie)
            .collect();
        gone.into_iter().for_each(|slot| self.remove(slot));
    }

    /// Returns whether a process with this start time from the kernel is a different process.
    pub(super) fn differs_from_start(&self, process: &Process, start_ticks: Option<u64>) -> bool {
        let Some(ticks) = start_ticks else { return false };
        match (process.start_ticks, process.fork) {
            // The opening of a segment has the times of fork events, which are slightly later.
            (Some(known), _) => known.abs_diff(ticks) > 1,
            (None, Some((_, boot_ns))) => {
                self.boot_ticks(boot_ns).is_some_and(|known| ticks.saturating_sub(known) > 1)
            }
            (None, None) => false,
        }
    }
}
