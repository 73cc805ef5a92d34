//! Conditions on one event and its process.

use pmon_core::capture::ContainerNames;
use pmon_core::wire::EventKind;
use regex::bytes::{Regex, RegexBuilder};

use super::end_condition::EndCondition;
use super::glob::Glob;
use super::process_view::{ProcessView, command_line};
use crate::cgroup::CgroupIdentity;
use crate::life::LifeEnd;
use crate::wait_status::WaitStatus;

/// Maximum size of a compiled regular expression, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// Compiles a regular expression for texts that need not be UTF-8.
///
/// # Errors
/// When the syntax is wrong, or when the compiled expression is larger than 1 MiB.
pub fn compile_regex(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build()
}

/// Conditions on a process. A process must satisfy all of them; an empty or `None` field is no
/// condition. A property that is unknown satisfies no condition on it.
#[derive(Clone, Debug, Default)]
pub struct ProcessCondition {
    /// Ends, one of which the process had.
    pub ends: Vec<EndCondition>,
    /// Minimum time from start to end, in ns.
    pub longer_than_ns: Option<u64>,
    /// Name of the first thread.
    pub comm: Option<Vec<u8>>,
    /// Pattern for the path of the executable.
    pub exe: Option<Glob>,
    /// Regular expression for the command line, whose arguments are separated by spaces. At most
    /// 128 KiB of it are searched.
    pub args: Option<Regex>,
    /// Real or effective user IDs.
    pub uids: Vec<u32>,
    /// Pattern for the unit of systemd, of the system's or the user's manager. The pattern may lack
    /// the suffix `.service`.
    pub unit: Option<Glob>,
    /// First bytes of the container's identifier, or its name.
    pub container: Option<Vec<u8>>,
    /// Path of a cgroup. Its descendants match as well.
    pub cgroup: Option<Vec<u8>>,
}

impl ProcessCondition {
    /// Returns whether there is no condition.
    pub fn is_empty(&self) -> bool {
        !self.needs_end() && !self.needs_properties()
    }

    /// Returns whether a condition is on the end of the process, and thus selects only exits.
    pub fn needs_end(&self) -> bool {
        !self.ends.is_empty() || self.longer_than_ns.is_some()
    }

    /// Returns whether a condition is on the properties of the process before its end.
    pub fn needs_properties(&self) -> bool {
        self.comm.is_some() || self.needs_program()
    }

    /// Returns whether a condition is on properties other than the name.
    fn needs_program(&self) -> bool {
        self.exe.is_some() || self.args.is_some() || !self.uids.is_empty() || self.needs_cgroup()
    }

    fn needs_cgroup(&self) -> bool {
        self.unit.is_some() || self.container.is_some() || self.cgroup.is_some()
    }

    /// Returns whether the conditions use what a [detailed](crate::ProcessTable::detailed) table
    /// has in addition to others.
    pub(super) fn needs_live_process(&self) -> bool {
        self.longer_than_ns.is_some() || self.needs_program()
    }

    /// Returns whether a process satisfies all conditions. `status` is `None` if it has not ended,
    /// or in an unknown way.
    pub fn matches(&self, process: &ProcessView<'_>, status: Option<WaitStatus>) -> bool {
        (self.ends.is_empty()
            || status.is_some_and(|status| self.has_end(status, process.oom_killed) == Some(true)))
            && self.longer_than_ns.is_none_or(|min| process.age_ns.is_some_and(|age| age >= min))
            && self.comm.as_deref().is_none_or(|comm| process.comm == Some(comm))
            && self.has_uid(process.uid)
            && (!self.needs_cgroup()
                || process.cgroup.is_some_and(|cgroup| self.has_cgroup(cgroup, process.container)))
            && self.exe.as_ref().is_none_or(|glob| process.exe.is_some_and(|exe| glob.matches(exe)))
            && self
                .args
                .as_ref()
                .is_none_or(|regex| process.args.is_some_and(|args| regex.is_match(&command_line(args))))
    }

    /// Returns whether a process satisfies all conditions; `None` if that depends on unknown
    /// properties.
    pub fn decide(&self, process: &ProcessView<'_>, end: Option<LifeEnd>) -> Option<bool> {
        let status = match end {
            Some(LifeEnd::Running) => Some(None),
            Some(LifeEnd::Ended { status, .. }) => status.map(Some),
            Some(LifeEnd::Unobserved { .. }) | None => None,
        };
        let has_end = |status: WaitStatus| self.has_end(status, process.oom_killed);
        let decisions = [
            (!self.ends.is_empty()).then(|| status.and_then(|status| status.map_or(Some(false), has_end))),
            self.longer_than_ns.map(|min| process.age_ns.map(|age| age >= min)),
            self.comm.as_deref().map(|comm| process.comm.map(|known| known == comm)),
            (!self.uids.is_empty()).then(|| process.uid.map(|uid| self.has_uid(Some(uid)))),
            self.needs_cgroup()
                .then(|| process.cgroup.map(|cgroup| self.has_cgroup(cgroup, process.container))),
            self.exe.as_ref().map(|glob| process.exe.map(|exe| glob.matches(exe))),
            self.args.as_ref().map(|regex| process.args.map(|args| regex.is_match(&command_line(args)))),
        ];
        let mut decisions = decisions.into_iter().flatten();
        if decisions.clone().any(|decision| decision == Some(false)) {
            return Some(false);
        }
        decisions.all(|decision| decision.is_some()).then_some(true)
    }

    /// Returns whether an end is one of `ends`; `None` if that is unknown.
    fn has_end(&self, status: WaitStatus, oom_killed: Option<bool>) -> Option<bool> {
        let mut decisions = self.ends.iter().map(|end| end.decide(status, oom_killed));
        match decisions.clone().any(|decision| decision == Some(true)) {
            true => Some(true),
            false => decisions.all(|decision| decision.is_some()).then_some(false),
        }
    }

    fn has_uid(&self, uid: Option<(u32, u32)>) -> bool {
        let is_selected = |(real, effective)| self.uids.contains(&real) || self.uids.contains(&effective);
        self.uids.is_empty() || uid.is_some_and(is_selected)
    }

    fn has_cgroup(&self, cgroup: &[u8], names: Option<&[u8]>) -> bool {
        if self.cgroup.as_deref().is_some_and(|path| !is_in_cgroup(cgroup, path)) {
            return false;
        }
        if self.unit.is_none() && self.container.is_none() {
            return true;
        }
        let CgroupIdentity { unit, user_unit, container_id, .. } = CgroupIdentity::of(cgroup);
        self.unit
            .as_ref()
            .is_none_or(|glob| [unit, user_unit].into_iter().flatten().any(|unit| is_unit(unit, glob)))
            && self
                .container
                .as_deref()
                .is_none_or(|of| container_id.is_some_and(|id| id.starts_with(of)) || is_named(of, names))
    }
}

/// What a condition examines: an event, and the process after the event (for an exit, before it).
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// Kind of the event.
    pub kind: EventKind,
    /// How the process ended, if the event is the exit that ended it.
    pub status: Option<WaitStatus>,
    /// The process.
    pub process: ProcessView<'a>,
}

/// Conditions on an event and its process. An event must satisfy all of them.
#[derive(Clone, Debug, Default)]
pub struct EventCondition {
    /// Event kinds; all if there are none.
    pub kinds: Vec<EventKind>,
    /// Conditions on the process. Those on its end select exits.
    pub process: ProcessCondition,
}

impl EventCondition {
    /// Returns a mask of the kinds that can match: bit `kind as u32` stands for a kind.
    pub fn kind_mask(&self) -> u32 {
        let all = EventKind::ALL.into_iter().filter(|kind| self.has_kind(*kind));
        all.map(|kind| 1 << kind as u32).sum()
    }

    /// Returns whether an event satisfies all conditions.
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        self.has_kind(event.kind) && self.process.matches(&event.process, event.status)
    }

    fn has_kind(&self, kind: EventKind) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (!self.process.needs_end() || kind == EventKind::Exit)
    }
}

/// Returns whether a pattern matches the name of a unit, with or without `.service`.
fn is_unit(unit: &[u8], pattern: &Glob) -> bool {
    pattern.matches(unit) || unit.strip_suffix(b".service").is_some_and(|name| pattern.matches(name))
}

/// Returns whether a container has this name.
fn is_named(name: &[u8], names: Option<&[u8]>) -> bool {
    names.is_some_and(|names| ContainerNames::parse(names).container == Some(name))
}

/// Returns whether `path` is the cgroup of a process, or an ancestor of it. `cgroup` has the form
/// `0::/path`, or is the path itself.
fn is_in_cgroup(cgroup: &[u8], path: &[u8]) -> bool {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    cgroup.split(|&byte| byte == b'\n').any(|line| {
        let own = line.strip_prefix(b"0::").unwrap_or(line);
        own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    })
}

#[cfg(test)]
mod tests {
    use pmon_core::MonoNs;

    use super::EndCondition::{Code, OomKilled, Signal};
    use super::*;

    const PROCESS: ProcessView<'static> = ProcessView {
        comm: Some(b"nginx"),
        exe: Some(b"/usr/sbin/nginx"),
        args: Some(b"nginx\0-c\0/etc/nginx.conf\0"),
        cgroup: Some(b"0::/system.slice/nginx.service"),
        container: None,
        uid: Some((33, 0)),
        age_ns: Some(500),
        oom_killed: None,
    };

    fn exit(raw: u32) -> EventView<'static> {
        EventView { kind: EventKind::Exit, status: Some(WaitStatus::from_raw(raw)), process: PROCESS }
    }

    fn regex(pattern: &str) -> Option<Regex> {
        Some(compile_regex(pattern).unwrap())
    }

    #[test]
    fn each_condition_decides_alone() {
        let any = ProcessCondition::default;
        let glob = |pattern| Some(Glob::new(pattern).unwrap());
        for (condition, event, is_match) in [
            (any(), exit(0), true),
            (ProcessCondition { ends: vec![Signal(6), Signal(11)], ..any() }, exit(11 | 0x80), true),
            (ProcessCondition { ends: vec![Signal(6), Signal(11)], ..any() }, exit(9), false),
            (ProcessCondition { ends: vec![Signal(6), Signal(11)], ..any() }, exit(11 << 8), false),
            (ProcessCondition { ends: vec![Code(1), Code(2)], ..any() }, exit(2 << 8), true),
            (ProcessCondition { ends: vec![Code(1), Code(2)], ..any() }, exit(2), false),
            (ProcessCondition { ends: vec![Code(1), Signal(9)], ..any() }, exit(9), true),
            (ProcessCondition { longer_than_ns: Some(500), ..any() }, exit(0), true),
            (ProcessCondition { longer_than_ns: Some(501), ..any() }, exit(0), false),
            (ProcessCondition { comm: Some(b"nginx".to_vec()), ..any() }, exit(0), true),
            (ProcessCondition { comm: Some(b"ngin".to_vec()), ..any() }, exit(0), false),
            (ProcessCondition { exe: glob("/usr/*/nginx"), ..any() }, exit(0), true),
            (ProcessCondition { exe: glob("/usr/nginx"), ..any() }, exit(0), false),
            (ProcessCondition { args: regex("^nginx -c /etc/[a-z.]+$"), ..any() }, exit(0), true),
            (ProcessCondition { args: regex("-d"), ..any() }, exit(0), false),
            (ProcessCondition { uids: vec![33], ..any() }, exit(0), true),
            (ProcessCondition { uids: vec![0], ..any() }, exit(0), true),
            (ProcessCondition { uids: vec![1], ..any() }, exit(0), false),
            (ProcessCondition { cgroup: Some(b"/system.slice".to_vec()), ..any() }, exit(0), true),
            (ProcessCondition { cgroup: Some(b"/system.slice/".to_vec()), ..any() }, exit(0), true),
            (ProcessCondition { cgroup: Some(b"/system".to_vec()), ..any() }, exit(0), false),
            (ProcessCondition { cgroup: Some(b"/".to_vec()), ..any() }, exit(0), true),
            (ProcessCondition { unit: glob("nginx.service"), ..any() }, exit(0), true),
            (ProcessCondition { unit: glob("nginx"), ..any() }, exit(0), true),
            (ProcessCondition { unit: glob("ngin?"), ..any() }, exit(0), true),
            (ProcessCondition { unit: glob("ngin"), ..any() }, exit(0), false),
            (ProcessCondition { unit: glob("system.slice"), ..any() }, exit(0), false),
            (ProcessCondition { container: Some(b"".to_vec()), ..any() }, exit(0), false),
        ] {
            assert_eq!(condition.matches(&event.process, event.status), is_match, "{condition:?}");
        }
    }

    #[test]
    fn containers_and_units_are_those_of_the_cgroup() {
        let id = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
        let cgroup =
            format!("0::/user.slice/user-1.slice/user@1.service/app.slice/web.service/docker-{id}.scope");
        let view = ProcessView { cgroup: Some(cgroup.as_bytes()), ..PROCESS };
        let any = ProcessCondition::default;
        let unit = |pattern| ProcessCondition { unit: Some(Glob::new(pattern).unwrap()), ..any() };
        let container = |id: &str| ProcessCondition { container: Some(id.into()), ..any() };
        assert!(unit("user@*").matches(&view, None) && unit("web").matches(&view, None));
        assert!(!unit("app").matches(&view, None));
        assert!(container(id).matches(&view, None) && container("4f79").matches(&view, None));
        assert!(!container("f79").matches(&view, None));
        let named = ProcessView { container: Some(b"web\0web-0\0\0\0"), ..view };
        assert!(container("web").matches(&named, None) && container("4f79").matches(&named, None));
        assert!(!container("we").matches(&named, None) && !container("web-0").matches(&named, None));
        assert!(!container("").matches(&ProcessView { container: Some(b"\0p\0\0\0"), ..PROCESS }, None));
        let both = ProcessCondition { container: Some(b"4f".to_vec()), ..unit("other") };
        assert!(!both.matches(&view, None));
        let below = |path: &str, unit| ProcessCondition { cgroup: Some(path.into()), ..unit };
        assert!(below("/user.slice", unit("web")).matches(&view, None));
        assert!(!below("/system.slice", unit("web")).matches(&view, None));
    }

    #[test]
    fn kinds_and_ends_decide_which_events_can_match() {
        let bit = |kind: EventKind| 1 << kind as u32;
        let (exec, exit_kind) = (EventKind::Exec, EventKind::Exit);
        let ended = ProcessCondition { ends: vec![Signal(11)], ..ProcessCondition::default() };
        let any = EventCondition::default();
        assert_eq!(any.kind_mask().count_ones() as usize, EventKind::ALL.len());
        assert!(any.matches(&exit(0)));
        let execs = EventCondition { kinds: vec![exec], ..any.clone() };
        assert_eq!(execs.kind_mask(), bit(exec));
        assert!(!execs.matches(&exit(0)));
        let ends = EventCondition { process: ended.clone(), ..any };
        assert_eq!(ends.kind_mask(), bit(exit_kind));
        assert!(ends.matches(&exit(11)) && !ends.matches(&exit(9)));
        assert!(!ends.matches(&EventView { kind: exec, ..exit(11) }));
        assert_eq!(EventCondition { kinds: vec![exec], process: ended }.kind_mask(), 0);
    }

    #[test]
    fn all_conditions_must_match() {
        let all = ProcessCondition {
            ends: vec![Signal(11)],
            comm: Some(b"nginx".to_vec()),
            uids: vec![33],
            ..ProcessCondition::default()
        };
        let matches = |condition: &ProcessCondition, raw| condition.matches(&PROCESS, exit(raw).status);
        assert!(matches(&all, 11));
        assert!(!matches(&ProcessCondition { uids: vec![34], ..all.clone() }, 11));
        assert!(!matches(&all, 6));
    }

    #[test]
    fn unknown_properties_satisfy_no_condition() {
        let unknown = EventView { kind: EventKind::Exit, status: None, process: ProcessView::default() };
        let any = ProcessCondition::default;
        assert!(any().matches(&unknown.process, None));
        for condition in [
            ProcessCondition { ends: vec![Signal(11)], ..any() },
            ProcessCondition { ends: vec![Code(0)], ..any() },
            ProcessCondition { longer_than_ns: Some(0), ..any() },
            ProcessCondition { comm: Some(Vec::new()), ..any() },
            ProcessCondition { exe: Some(Glob::new("**").unwrap()), ..any() },
            ProcessCondition { args: regex(""), ..any() },
            ProcessCondition { uids: vec![0], ..any() },
            ProcessCondition { cgroup: Some(b"/".to_vec()), ..any() },
            ProcessCondition { unit: Some(Glob::new("*").unwrap()), ..any() },
            ProcessCondition { container: Some(Vec::new()), ..any() },
        ] {
            assert!(!condition.matches(&unknown.process, None), "{condition:?}");
            assert!(!condition.is_empty());
        }
    }

    #[test]
    fn an_end_is_undecided_only_if_no_known_property_decides() {
        let killed = |oom_killed| ProcessView { oom_killed, ..PROCESS };
        let ended = |raw| Some(LifeEnd::Ended { time: MonoNs(1), status: Some(WaitStatus::from_raw(raw)) });
        let of =
            |ends: &[EndCondition]| ProcessCondition { ends: ends.to_vec(), ..ProcessCondition::default() };
        let (oom, oom_or_9) = (of(&[OomKilled]), of(&[OomKilled, Signal(9)]));
        for known in [None, Some(true), Some(false)] {
            assert_eq!(oom.decide(&killed(known), ended(9)), known);
            assert_eq!(oom.matches(&killed(known), exit(9).status), known == Some(true));
            assert_eq!(oom.decide(&killed(known), ended(0)), Some(false));
            assert_eq!(oom_or_9.decide(&killed(known), ended(9)), Some(true));
            assert!(oom_or_9.matches(&killed(known), exit(9).status));
        }
        let oom_or_11 = of(&[Signal(11), OomKilled]);
        assert_eq!(oom_or_11.decide(&killed(None), ended(9)), None);
        assert_eq!(oom_or_11.decide(&killed(Some(false)), ended(9)), Some(false));
        assert_eq!(oom.decide(&killed(None), Some(LifeEnd::Running)), Some(false));
        assert_eq!(oom.decide(&killed(None), None), None);
    }

    #[test]
    fn only_the_first_arguments_are_searched() {
        let mut args = vec![b'a'; 1 << 20];
        args.extend(b"needle\0");
        let view = ProcessView { args: Some(&args), ..PROCESS };
        let condition = |pattern| ProcessCondition { args: regex(pattern), ..ProcessCondition::default() };
        assert!(!condition("needle").matches(&view, None));
        // A pattern that makes backtracking engines take exponential time.
        assert!(!condition("^(a+)+$x").matches(&view, None));
        assert!(condition("^(a|aa)+$").matches(&view, None));
    }

    #[test]
    fn a_known_property_decides_and_an_unknown_one_does_not() {
        let any = ProcessCondition::default;
        let glob = |pattern| Some(Glob::new(pattern).unwrap());
        for (yes, no) in [
            (
                ProcessCondition { comm: Some(b"nginx".to_vec()), ..any() },
                ProcessCondition { comm: Some(b"sh".to_vec()), ..any() },
            ),
            (ProcessCondition { exe: glob("nginx"), ..any() }, ProcessCondition { exe: glob("sh"), ..any() }),
            (
                ProcessCondition { args: regex("conf"), ..any() },
                ProcessCondition { args: regex("-d"), ..any() },
            ),
            (ProcessCondition { uids: vec![33], ..any() }, ProcessCondition { uids: vec![1], ..any() }),
            (
                ProcessCondition { unit: glob("nginx"), ..any() },
                ProcessCondition { unit: glob("sh"), ..any() },
            ),
            (
                ProcessCondition { longer_than_ns: Some(500), ..any() },
                ProcessCondition { longer_than_ns: Some(501), ..any() },
            ),
        ] {
            let unknown = ProcessView::default();
            assert_eq!(
                [&yes, &no].map(|condition| condition.decide(&PROCESS, None)),
                [Some(true), Some(false)]
            );
            assert_eq!([&yes, &no].map(|condition| condition.decide(&unknown, None)), [None, None]);
            // A condition that is not satisfied decides, whatever is unknown.
            let both = ProcessCondition { ends: vec![Code(0)], ..no };
            assert_eq!(both.decide(&PROCESS, None), Some(false), "{both:?}");
        }
    }
}
