//! Describes a selection, and explains why it matches no event of a capture.

use pmon_analysis::filter::{EventCondition, Filter, FilterDiagnosis, ProcessCondition};
use pmon_analysis::{TimeBound, WallClock};
use pmon_core::MonoNs;
use pmon_core::wire::{Event, EventBody};

use crate::args::SelectionArgs;
use crate::exit::{self, Failure};
use crate::output::printable;
use crate::time_spec::{brief, moment};

/// Maximum bytes of a name that a process can set (`TASK_COMM_LEN` without the zero byte). Only
/// kernel threads have longer names, in `/proc`.
const MAX_COMM: usize = 15;

/// The events seen so far, compared with a selection.
#[derive(Clone, Debug, Default)]
pub(crate) struct MatchTracker {
    /// Number of events that matched.
    pub(crate) matched: u64,
    /// The parts of the selection that some event matched, as long as none matched all of it.
    pub(crate) seen: FilterDiagnosis,
    /// The selected processes and threads that no event has concerned yet.
    absent: Vec<u32>,
}

impl MatchTracker {
    /// Creates an empty state for a selection.
    pub(crate) fn new(filter: &Filter) -> Self {
        Self { absent: filter.pids.clone(), ..Self::default() }
    }

    /// Removes the processes and threads that an event concerns from the absent ones, whether or
    /// not it matches.
    pub(crate) fn observe(&mut self, event: &Event) {
        if self.absent.is_empty() {
            return;
        }
        let parent = match event.body {
            EventBody::Fork { parent, .. } => Some(parent),
            _ => None,
        };
        for task in event.task().into_iter().chain(parent) {
            self.absent.retain(|&pid| pid != task.tid.0 && pid != task.tgid.0);
        }
    }

    /// Explains why the selection, or a part of it, matches no event; `None` if each part matches
    /// one. `scope` describes the scope of the recording, if it was limited.
    pub(crate) fn explain(&self, filter: &Filter, wall: &WallClock, scope: Option<&str>) -> Option<String> {
        if self.matched == 0 {
            return (self.seen.events > 0).then(|| {
                let why = why(filter, &self.seen, wall).join("; ");
                let scope =
                    scope.map(|scope| format!("; the recording has only {scope}")).unwrap_or_default();
                format!("no event matches: {why}{scope}")
            });
        }
        (!self.absent.is_empty()).then(|| format!("no event concerns {}", processes(&self.absent)))
    }
}

/// Refuses a selection that no event can match.
pub(crate) fn check(selection: &SelectionArgs) -> Result<(), Failure> {
    let condition = EventCondition { kinds: selection.kind.clone(), process: selection.process.condition() };
    if condition.kind_mask() == 0 {
        let why = "--exit and --longer-than select only exits, which --kind leaves out; add `exit` to --kind";
        return Err(Failure::new(exit::USAGE, why));
    }
    Ok(())
}

/// Describes the conditions on a process, one by one. Each text continues `a process`.
pub(crate) fn describe(condition: &ProcessCondition) -> Vec<String> {
    let ProcessCondition { ends, longer_than_ns, comm, exe, args, uids, unit, container, cgroup } = condition;
    let texts = [
        comm.as_ref().map(|comm| format!("named {}", printable(comm))),
        exe.as_ref().map(|exe| format!("with the executable {}", printable(exe.pattern().as_bytes()))),
        args.as_ref().map(|args| format!("with a command line like {}", printable(args.as_str().as_bytes()))),
        (!uids.is_empty()).then(|| format!("of user {}", alternatives(uids))),
        unit.as_ref().map(|unit| format!("of unit {}", printable(unit.pattern().as_bytes()))),
        container.as_ref().map(|id| format!("of container {}", printable(id))),
        cgroup.as_ref().map(|path| format!("in cgroup {}", printable(path))),
        (!ends.is_empty()).then(|| format!("with the end {}", alternatives(ends))),
        longer_than_ns.map(|ns| format!("of at least {}", brief(ns))),
    ];
    texts.into_iter().flatten().collect()
}

fn alternatives(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

fn why(filter: &Filter, seen: &FilterDiagnosis, wall: &WallClock) -> Vec<String> {
    let mut why = Vec::new();
    if let (false, Some((first, last))) = (seen.time, seen.span) {
        let at = |time: MonoNs| moment(wall, time);
        why.push(format!(
            "events are from {} to {}{}",
            at(first),
            at(last),
            beyond(filter, (first, last), wall)
        ));
    }
    if !seen.kind {
        let kinds: Vec<_> = filter.kinds.iter().map(|kind| kind.name()).collect();
        why.push(format!("there is none of kind {}", kinds.join(" or ")));
    }
    if !seen.pid {
        why.push(format!("none concerns {}", processes(&filter.pids)));
    }
    if let (false, Some(tree)) = (seen.tree, &filter.tree) {
        why.push(format!("none concerns process {} or a descendant of it", tree.root()));
    }
    if !seen.process {
        let too_long = filter.process.comm.as_deref().and_then(too_long);
        let too_long = too_long.map(|why| format!(": {why}")).unwrap_or_default();
        why.push(format!("none is of a process {}{too_long}", describe(&filter.process).join(", ")));
    }
    if seen.thread {
        why.push("only forks and exits of threads match, which --threads shows".into());
    }
    if seen.own {
        why.push("only events of the recorder itself match, which --own shows".into());
    }
    if why.is_empty() {
        why.push("each part of the selection matches an event, but none matches all of them".into());
    }
    why
}

/// States on which side of all events the range lies.
fn beyond(filter: &Filter, (first, last): (MonoNs, MonoNs), wall: &WallClock) -> &'static str {
    let is_after = |time: MonoNs, bound: TimeBound| match bound {
        TimeBound::Mono(bound) => time > bound,
        TimeBound::Wall(bound) => wall.at(time).is_some_and(|at| at > bound),
    };
    match (filter.since, filter.until) {
        (Some(since), _) if !is_after(last, since) => ", and the range starts after them",
        (_, Some(until)) if is_after(first, until) => ", and the range ends before them",
        _ => ", and none is in the range",
    }
}

fn processes(pids: &[u32]) -> String {
    format!("process or thread {}", alternatives(pids))
}

/// Explains why only a kernel thread can have such a long name.
pub(crate) fn too_long(name: &[u8]) -> Option<String> {
    (name.len() > MAX_COMM).then(|| {
        let truncated = printable(&name[..MAX_COMM]);
        format!("the kernel truncates names to {MAX_COMM} bytes, here to {truncated}")
    })
}
