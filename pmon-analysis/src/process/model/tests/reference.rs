//! The process table of `process`, and comparisons of the model with it.

use super::*;

/// The table of `process`, which gets the details of an exec together with its event.
pub(super) struct Reference {
    joiner: DetailsJoiner,
    pub(super) table: ProcessTable,
    /// Number of execs whose details have not been pushed.
    pub(super) awaited: usize,
}

impl Reference {
    pub(super) fn new() -> Self {
        let meta = Meta { ticks_per_second: TICKS, start: START, ..Meta::default() };
        Self { joiner: DetailsJoiner::new(ORDER), table: ProcessTable::detailed(&meta), awaited: 0 }
    }

    pub(super) fn apply(&mut self, record: &Record<'static>) {
        match record {
            Record::Event(RecordedDatagram::Event(event), _)
                if matches!(event.body, EventBody::Exec { .. }) =>
            {
                self.awaited += 1;
            }
            Record::Details(details) if matches!(details.subject, DetailsSubject::Exec { .. }) => {
                self.awaited -= 1
            }
            _ => {}
        }
        self.joiner.push(record.clone());
        while let Some(record) = self.joiner.pop() {
            self.table.apply(&record);
        }
    }

    pub(super) fn processes(&self) -> BTreeMap<u32, String> {
        let running = self.table.live_processes().filter(|process| process.state() != RunState::Zombie);
        running.map(|process| (process.pid.0, describe(process))).collect()
    }
}

fn describe(process: &LiveProcess) -> String {
    let details = process.details.as_deref();
    format!(
        "{:?}",
        (
            process.ppid,
            process.start_ticks,
            process.exec,
            process.name.as_deref(),
            (details.and_then(|of| of.exe.as_deref()), details.and_then(|of| of.args.as_deref())),
            (details.and_then(|of| of.cwd.as_deref()), details.and_then(|of| of.cgroup.as_deref())),
            (process.uid, process.gid, process.session, process.group),
        )
    )
}

pub(super) fn of_model(model: &ProcessModel) -> BTreeMap<u32, String> {
    let describe = |process: ProcessRef<'_>| {
        let found = model.table.get(process.slot);
        format!(
            "{:?}",
            (
                process.ppid(),
                process.start_ticks(),
                process.exec_at(),
                process.comm(),
                (process.exe(), process.args()),
                (process.cwd(), process.cgroup()),
                (process.uid(), process.gid(), found.session, found.group),
            )
        )
    };
    let pids = model.processes().map(|details| details.subject.tgid());
    pids.map(|pid| (pid.0, describe(model.get(pid).unwrap()))).collect()
}

/// Describes the processes that differ.
pub(super) fn difference(model: &BTreeMap<u32, String>, reference: &BTreeMap<u32, String>) -> String {
    let pids: BTreeSet<_> = model.keys().chain(reference.keys()).collect();
    let differing = pids.into_iter().filter(|pid| model.get(pid) != reference.get(pid));
    differing
        .map(|pid| {
            format!("\n{pid}: model     {:?}\n{pid}: reference {:?}", model.get(pid), reference.get(pid))
        })
        .collect()
}

/// Applies records to a model and compares it with the reference after each.
pub(super) fn compare(records: &[Record<'static>]) -> Result<(), TestCaseError> {
    let (mut model, mut reference) = (model(), Reference::new());
    let mut began = false;
    for (index, record) in records.iter().enumerate() {
        let effect = match record {
            Record::Event(RecordedDatagram::Event(event), usage) => match event.body {
                EventBody::Exit { task, code, .. } => {
                    // An exit of an unknown thread has no effect.
                    let is_known = task.is_leader() || model.table.find(task.tgid.0).is_some();
                    is_known.then(|| model.exit_effect(task, code, event.time, usage.as_deref()))
                }
                _ => None,
            },
            _ => None,
        };
        model.apply(record);
        // A process that has ended is gone with the next event.
        let is_gone = model.last_exit().is_none();
        prop_assert!(effect.is_none() || is_gone || effect == model.last_exit(), "{:?}", record);
        reference.apply(record);
        began |= matches!(record, Record::Snapshot(_));
        if began && reference.awaited == 0 {
            let difference = difference(&of_model(&model), &reference.processes());
            prop_assert!(difference.is_empty(), "after {}: {:?}: {}", index, record, difference);
        }
        if index.is_multiple_of(16) || index + 1 == records.len() {
            check_links(&model)?;
        }
    }
    Ok(())
}

/// Checks that the links between the processes of a model are consistent.
pub(super) fn check_links(model: &ProcessModel) -> Result<(), TestCaseError> {
    let table = &model.table;
    let all = 0..table.slots() as Slot;
    let mut users: BTreeMap<_, u32> = BTreeMap::new();
    table.images.awaited().for_each(|id| *users.entry(id).or_default() += 1);
    let (mut children, mut parents) = (0, 0);
    for slot in all {
        let process = table.get(slot);
        children += usize::from(process.parent != NONE);
        let parent = |slot: &Slot| Some(table.get(*slot).parent).filter(|&parent| parent != NONE);
        let depth = std::iter::successors(Some(slot), parent).take(table.slots() as usize + 1).count();
        prop_assert!(depth <= table.slots() as usize, "{} descends from itself", process.pid);
        let mut child = process.first_child;
        while child != NONE {
            prop_assert_eq!(table.get(child).parent, slot);
            (parents, child) = (parents + 1, table.get(child).siblings.1);
        }
    }
    prop_assert_eq!(children, parents);
    for (slot, process) in table.iter() {
        prop_assert_eq!(table.find(process.pid), Some(slot));
        prop_assert!(!process.is_zombie() || model.zombie == slot, "{} is a zombie", process.pid);
        *users.entry(process.image).or_default() += 1;
        let mut thread = process.first_thread;
        let mut forked = 0;
        while thread != NONE {
            let found = table.thread(thread);
            prop_assert!(matches!(table.id(found.tid), Some(Id::Thread(slot)) if slot == thread));
            prop_assert_eq!(found.process, slot);
            forked += u32::from(found.is_forked);
            thread = found.links.1;
        }
        prop_assert_eq!(forked, process.forked_threads);
    }
    prop_assert!(model.zombie == NONE || table.get(model.zombie).is_zombie());
    users.remove(&image::NO_IMAGE);
    prop_assert_eq!(users, table.images.users());
    Ok(())
}
