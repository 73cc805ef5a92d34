//! The properties of a process that conditions examine, for any source of processes.

use std::borrow::Cow;

use pmon_core::capture::Details;
use pmon_core::{MonoNs, Tgid};

use crate::life::{Life, LifeTracker};
use crate::process::{LiveProcess, ProcessExit, ProcessRef, ProcessTable};

/// Maximum number of bytes of a command line that are searched. pmon records at most as many.
const MAX_ARGS: usize = 128 << 10;

/// What is known of a process. Unknown properties are `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessView<'a> {
    /// Name of the first thread.
    pub comm: Option<&'a [u8]>,
    /// Path of the executable.
    pub exe: Option<&'a [u8]>,
    /// Arguments, each of which ends with a zero byte.
    pub args: Option<&'a [u8]>,
    /// Content of `/proc/<pid>/cgroup`, or the path of the cgroup.
    pub cgroup: Option<&'a [u8]>,
    /// Names of the container, as in [`Details::container`].
    pub container: Option<&'a [u8]>,
    /// Real and effective user ID.
    pub uid: Option<(u32, u32)>,
    /// Time since the start of the process, in ns.
    pub age_ns: Option<u64>,
    /// Whether the OOM killer killed the process; unknown before its end.
    pub oom_killed: Option<bool>,
}

impl<'a> From<&'a Details> for ProcessView<'a> {
    fn from(details: &'a Details) -> Self {
        Self {
            comm: details.comm.as_deref(),
            exe: details.exe.as_deref(),
            args: details.args.as_deref(),
            cgroup: details.cgroup.as_deref(),
            container: details.container.as_deref(),
            uid: details.ids.map(|ids| (ids.uid, ids.euid)),
            age_ns: None,
            oom_killed: None,
        }
    }
}

impl<'a> From<&'a LiveProcess> for ProcessView<'a> {
    fn from(process: &'a LiveProcess) -> Self {
        let details = process.details.as_deref().map(Self::from).unwrap_or_default();
        Self { comm: process.name.as_deref(), uid: process.uid.or(details.uid), ..details }
    }
}

impl<'a> ProcessView<'a> {
    /// Returns the properties of a process at `time`.
    pub fn of_model(process: ProcessRef<'a>, time: MonoNs) -> Self {
        Self {
            comm: process.comm(),
            exe: process.exe(),
            args: process.args(),
            cgroup: process.cgroup(),
            container: process.container(),
            uid: process.uid(),
            age_ns: process.age_at(time),
            oom_killed: None,
        }
    }

    /// Returns the properties of a process at its end, or at `now`, the end of the recording.
    pub fn of_life(life: &'a Life, now: MonoNs) -> Self {
        let program = life.program.get();
        Self {
            comm: life.comm(),
            exe: program.exe.as_deref(),
            args: program.args.as_deref(),
            cgroup: program.cgroup.as_deref(),
            container: program.container.as_deref(),
            uid: life.uid,
            age_ns: life.observed_ns(now),
            oom_killed: life.oom_killed(),
        }
    }
}

/// The processes at the record that a [`Filter`](super::Filter) examines.
pub trait ProcessLookup {
    /// Returns the effect of the record on its process, if it is an exit.
    fn last_exit(&self) -> Option<ProcessExit>;
    /// Returns what is known of the process that has this ID. For the record of its exit, this is
    /// the process that has ended.
    fn view(&self, pid: Tgid, time: MonoNs) -> ProcessView<'_>;
}

impl ProcessLookup for ProcessTable {
    fn last_exit(&self) -> Option<ProcessExit> {
        self.last_exit()
    }

    fn view(&self, pid: Tgid, time: MonoNs) -> ProcessView<'_> {
        let live = self.live_process(pid);
        ProcessView {
            comm: self.name(pid),
            age_ns: live.and_then(|live| self.age_ns(live, time)),
            oom_killed: self.last_oom_kill(),
            ..live.map(ProcessView::from).unwrap_or_default()
        }
    }
}

impl ProcessLookup for LifeTracker {
    fn last_exit(&self) -> Option<ProcessExit> {
        self.last_exit()
    }

    fn view(&self, pid: Tgid, time: MonoNs) -> ProcessView<'_> {
        let view = self.last_process(pid).map(|process| ProcessView::of_model(process, time));
        ProcessView { oom_killed: self.last_oom_kill(), ..view.unwrap_or_default() }
    }
}

/// Without processes, nothing is known of any.
impl<P: ProcessLookup> ProcessLookup for Option<P> {
    fn last_exit(&self) -> Option<ProcessExit> {
        self.as_ref()?.last_exit()
    }

    fn view(&self, pid: Tgid, time: MonoNs) -> ProcessView<'_> {
        self.as_ref().map(|processes| processes.view(pid, time)).unwrap_or_default()
    }
}

/// Returns the arguments, separated by spaces, as conditions search them: at most the first 128
/// KiB.
pub fn command_line(args: &[u8]) -> Cow<'_, [u8]> {
    let args = &args[..args.len().min(MAX_ARGS)];
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    match args.contains(&0) {
        false => Cow::Borrowed(args),
        true => args.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect::<Vec<_>>().into(),
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::{
        Credentials, DetailsSubject, Header, Meta, MissReason, Record, RecordedDatagram,
    };
    use pmon_core::wire::{ByteOrder, Event, EventBody};
    use pmon_core::{Cpu, Seq, Task};

    use super::*;
    use crate::timeline::{OwnedRecord, TimelineItem};

    fn details(uid: Option<u32>) -> Details {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        Details {
            comm: text("web"),
            exe: text("/bin/web"),
            args: text("web\0"),
            cgroup: text("0::/a"),
            container: text("pod"),
            ids: uid.map(|uid| Credentials { uid, euid: 6, gid: 7, egid: 8 }),
            ..Details::missed(DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(2) }, MissReason::Gone)
        }
    }

    fn event(time: u64, body: EventBody, details: Option<Details>) -> OwnedRecord {
        let event = Some(Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body });
        OwnedRecord::Event(TimelineItem { event, raw: None, details: details.map(Box::new), usage: None })
    }

    /// Compares all fields.
    fn assert_view(view: ProcessView<'_>, expected: ProcessView<'_>) {
        assert_eq!(format!("{view:?}"), format!("{expected:?}"));
    }

    const WEB: ProcessView<'static> = ProcessView {
        comm: Some(b"web"),
        exe: Some(b"/bin/web"),
        args: Some(b"web\0"),
        cgroup: Some(b"0::/a"),
        container: Some(b"pod"),
        uid: Some((5, 6)),
        age_ns: None,
        oom_killed: None,
    };

    #[test]
    fn details_have_all_properties_but_age_and_end() {
        assert_view(ProcessView::from(&details(Some(5))), WEB);
    }

    #[test]
    fn a_table_has_the_properties_of_a_process_at_its_last_record() {
        let mut table = ProcessTable::detailed(&Meta::default());
        let fork = EventBody::Fork { parent: Task::new(1, 1), child: Task::new(20, 20) };
        let task = Task::new(20, 20);
        let exit = EventBody::Exit { task, code: 9 << 8, signal: 17, parent: None };
        table.apply(&event(1, fork, None));
        table.apply(&event(2, EventBody::Exec { task }, Some(details(Some(5)))));
        let aged = ProcessView { age_ns: Some(4), ..WEB };
        assert_view(table.view(Tgid(20), MonoNs(5)), aged);
        // Events after the exec change what its details say.
        table.apply(&event(3, EventBody::Uid { task, real: 0, effective: 1 }, None));
        table.apply(&event(3, EventBody::Comm { task, comm: Default::default() }, None));
        let changed = ProcessView { comm: Some(b""), uid: Some((0, 1)), ..aged };
        assert_view(table.view(Tgid(20), MonoNs(5)), changed);
        let live = table.live_process(Tgid(20)).unwrap();
        assert_view(ProcessView::from(live), ProcessView { age_ns: None, ..changed });
        table.apply(&event(5, exit, None));
        let ended = ProcessView { oom_killed: Some(false), ..changed };
        assert_view(table.view(Tgid(20), MonoNs(5)), ended);
        let status = ProcessExit::Ended { status: 9 << 8 };
        assert_eq!(ProcessLookup::last_exit(&table), Some(status));
        // Without processes, nothing is known.
        let (some, none) = (Some(table), None::<ProcessTable>);
        assert_eq!((some.last_exit(), none.last_exit()), (Some(status), None));
        assert_view(some.view(Tgid(20), MonoNs(5)), ended);
        assert_view(none.view(Tgid(20), MonoNs(5)), ProcessView::default());
    }

    #[test]
    fn a_table_without_details_has_names_and_ends() {
        let (task, mut table) = (Task::new(20, 20), ProcessTable::new());
        table.apply(&event(2, EventBody::Exec { task }, Some(details(Some(5)))));
        let named = ProcessView { comm: Some(b"web"), ..ProcessView::default() };
        assert_view(table.view(Tgid(20), MonoNs(5)), named);
    }

    #[test]
    fn a_life_tracker_has_the_properties_of_a_process_at_its_last_record() {
        let meta = Meta { ticks_per_second: 100, ..Meta::default() };
        let header = Header { uuid: [1; 16], byte_order: ByteOrder::Little, meta };
        let mut tracker = LifeTracker::new(&header);
        let task = Task::new(20, 20);
        for (time, body) in
            [(1, EventBody::Fork { parent: Task::new(1, 1), child: task }), (2, EventBody::Exec { task })]
        {
            let event = Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body };
            tracker.apply(&Record::Event(RecordedDatagram::Event(event), None));
        }
        tracker.apply(&Record::Details(Box::new(details(Some(5)))));
        let aged = ProcessView { age_ns: Some(4), ..WEB };
        assert_view(tracker.view(Tgid(20), MonoNs(5)), aged);
        assert_eq!(ProcessLookup::last_exit(&tracker), None);
        let body = EventBody::Exit { task, code: 9 << 8, signal: 17, parent: None };
        let event = Event { time: MonoNs(5), seq: Seq(0), cpu: Cpu(0), body };
        tracker.apply(&Record::Event(RecordedDatagram::Event(event), None));
        let ended = ProcessView { oom_killed: Some(false), ..aged };
        assert_view(tracker.view(Tgid(20), MonoNs(5)), ended);
        assert_eq!(ProcessLookup::last_exit(&tracker), Some(ProcessExit::Ended { status: 9 << 8 }));
        assert_view(
            tracker.view(Tgid(21), MonoNs(5)),
            ProcessView { oom_killed: Some(false), ..ProcessView::default() },
        );
    }
}
