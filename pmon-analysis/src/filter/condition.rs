//! Conditions on one event and its process, for any source of processes.

use std::borrow::Cow;

use pmon_core::capture::Details;
use pmon_core::wire::EventKind;
use regex::bytes::Regex;

use super::glob::Glob;
use crate::process::LiveProcess;
use crate::wait_status::WaitStatus;

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
    /// Real and effective user ID.
    pub uid: Option<(u32, u32)>,
    /// Time since the start of the process, in ns.
    pub age_ns: Option<u64>,
}

impl<'a> From<&'a Details> for ProcessView<'a> {
    fn from(details: &'a Details) -> Self {
        Self {
            comm: details.comm.as_deref(),
            exe: details.exe.as_deref(),
            args: details.args.as_deref(),
            cgroup: details.cgroup.as_deref(),
            uid: details.ids.map(|ids| (ids.uid, ids.euid)),
            age_ns: None,
        }
    }
}

impl<'a> From<&'a LiveProcess> for ProcessView<'a> {
    fn from(process: &'a LiveProcess) -> Self {
        let details = process.details.as_deref().map(Self::from).unwrap_or_default();
        Self { comm: process.name.as_deref(), uid: process.uid.or(details.uid), ..details }
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

/// Conditions on an event and its process. An event must satisfy all of them; an empty or `None`
/// field is no condition. A property that is unknown satisfies no condition on it.
#[derive(Clone, Debug, Default)]
pub struct EventCondition {
    /// Event kinds.
    pub kinds: Vec<EventKind>,
    /// Signals, one of which killed the process. Selects exits.
    pub signals: Vec<u8>,
    /// Exit codes, one of which the process returned. Selects exits.
    pub exit_codes: Vec<u8>,
    /// Minimum time from start to exit, in ns. Selects exits.
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
    /// Path of a cgroup. Its descendants match as well.
    pub cgroup: Option<Vec<u8>>,
}

impl EventCondition {
    /// Returns a mask of the kinds that can match: bit `kind as u32` stands for a kind.
    pub fn kind_mask(&self) -> u32 {
        let all = EventKind::ALL.into_iter().filter(|kind| self.has_kind(*kind));
        all.map(|kind| 1 << kind as u32).sum()
    }

    /// Returns whether a condition selects only exits.
    pub fn needs_exit(&self) -> bool {
        !self.signals.is_empty() || !self.exit_codes.is_empty() || self.longer_than_ns.is_some()
    }

    /// Returns whether a condition uses the process.
    pub fn needs_process(&self) -> bool {
        self.comm.is_some()
            || self.exe.is_some()
            || self.args.is_some()
            || !self.uids.is_empty()
            || self.cgroup.is_some()
    }

    /// Returns whether an event satisfies all conditions.
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        let process = &event.process;
        self.has_kind(event.kind)
            && self.has_status(event.status)
            && self.longer_than_ns.is_none_or(|min| process.age_ns.is_some_and(|age| age >= min))
            && self.comm.as_deref().is_none_or(|comm| process.comm == Some(comm))
            && (self.uids.is_empty()
                || process.uid.is_some_and(|(real, effective)| {
                    self.uids.contains(&real) || self.uids.contains(&effective)
                }))
            && self
                .cgroup
                .as_deref()
                .is_none_or(|path| process.cgroup.is_some_and(|of| is_in_cgroup(of, path)))
            && self.exe.as_ref().is_none_or(|glob| process.exe.is_some_and(|exe| glob.matches(exe)))
            && self
                .args
                .as_ref()
                .is_none_or(|regex| process.args.is_some_and(|args| regex.is_match(&command_line(args))))
    }

    fn has_kind(&self, kind: EventKind) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (!self.needs_exit() || kind == EventKind::Exit)
    }

    fn has_status(&self, status: Option<WaitStatus>) -> bool {
        if self.signals.is_empty() && self.exit_codes.is_empty() {
            return true;
        }
        match status {
            Some(WaitStatus::Killed { signal, .. }) => self.signals.contains(&signal),
            Some(WaitStatus::Exited(code)) => self.exit_codes.contains(&code),
            None => false,
        }
    }
}

/// Returns the arguments, separated by spaces.
fn command_line(args: &[u8]) -> Cow<'_, [u8]> {
    let args = &args[..args.len().min(MAX_ARGS)];
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    match args.contains(&0) {
        false => Cow::Borrowed(args),
        true => args.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect::<Vec<_>>().into(),
    }
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
    use super::*;

    const PROCESS: ProcessView<'static> = ProcessView {
        comm: Some(b"nginx"),
        exe: Some(b"/usr/sbin/nginx"),
        args: Some(b"nginx\0-c\0/etc/nginx.conf\0"),
        cgroup: Some(b"0::/system.slice/nginx.service"),
        uid: Some((33, 0)),
        age_ns: Some(500),
    };

    fn exit(raw: u32) -> EventView<'static> {
        EventView { kind: EventKind::Exit, status: Some(WaitStatus::from_raw(raw)), process: PROCESS }
    }

    fn regex(pattern: &str) -> Option<Regex> {
        Some(Regex::new(pattern).unwrap())
    }

    #[test]
    fn each_condition_decides_alone() {
        let any = EventCondition::default;
        let glob = |pattern| Some(Glob::new(pattern).unwrap());
        for (condition, event, is_match) in [
            (any(), exit(0), true),
            (EventCondition { kinds: vec![EventKind::Exit], ..any() }, exit(0), true),
            (EventCondition { kinds: vec![EventKind::Exec], ..any() }, exit(0), false),
            (EventCondition { signals: vec![6, 11], ..any() }, exit(11 | 0x80), true),
            (EventCondition { signals: vec![6, 11], ..any() }, exit(9), false),
            (EventCondition { signals: vec![6, 11], ..any() }, exit(11 << 8), false),
            (EventCondition { exit_codes: vec![1, 2], ..any() }, exit(2 << 8), true),
            (EventCondition { exit_codes: vec![1, 2], ..any() }, exit(2), false),
            (EventCondition { exit_codes: vec![1], signals: vec![9], ..any() }, exit(9), true),
            (EventCondition { longer_than_ns: Some(500), ..any() }, exit(0), true),
            (EventCondition { longer_than_ns: Some(501), ..any() }, exit(0), false),
            (EventCondition { comm: Some(b"nginx".to_vec()), ..any() }, exit(0), true),
            (EventCondition { comm: Some(b"ngin".to_vec()), ..any() }, exit(0), false),
            (EventCondition { exe: glob("/usr/*/nginx"), ..any() }, exit(0), true),
            (EventCondition { exe: glob("/usr/nginx"), ..any() }, exit(0), false),
            (EventCondition { args: regex("^nginx -c /etc/[a-z.]+$"), ..any() }, exit(0), true),
            (EventCondition { args: regex("-d"), ..any() }, exit(0), false),
            (EventCondition { uids: vec![33], ..any() }, exit(0), true),
            (EventCondition { uids: vec![0], ..any() }, exit(0), true),
            (EventCondition { uids: vec![1], ..any() }, exit(0), false),
            (EventCondition { cgroup: Some(b"/system.slice".to_vec()), ..any() }, exit(0), true),
            (EventCondition { cgroup: Some(b"/system.slice/".to_vec()), ..any() }, exit(0), true),
            (EventCondition { cgroup: Some(b"/system".to_vec()), ..any() }, exit(0), false),
            (EventCondition { cgroup: Some(b"/".to_vec()), ..any() }, exit(0), true),
        ] {
            assert_eq!(condition.matches(&event), is_match, "{condition:?}");
            assert_eq!(
                condition.kind_mask() >> EventKind::Exit as u32 & 1 == 1,
                condition.has_kind(EventKind::Exit)
            );
        }
    }

    #[test]
    fn all_conditions_must_match() {
        let all = EventCondition {
            signals: vec![11],
            comm: Some(b"nginx".to_vec()),
            uids: vec![33],
            ..EventCondition::default()
        };
        assert!(all.matches(&exit(11)));
        assert!(!EventCondition { uids: vec![34], ..all.clone() }.matches(&exit(11)));
        assert!(!all.matches(&exit(6)));
        assert_eq!(all.kind_mask(), 1 << EventKind::Exit as u32);
    }

    #[test]
    fn unknown_properties_satisfy_no_condition() {
        let unknown = EventView { kind: EventKind::Exit, status: None, process: ProcessView::default() };
        let any = EventCondition::default;
        assert!(any().matches(&unknown));
        for condition in [
            EventCondition { signals: vec![11], ..any() },
            EventCondition { exit_codes: vec![0], ..any() },
            EventCondition { longer_than_ns: Some(0), ..any() },
            EventCondition { comm: Some(Vec::new()), ..any() },
            EventCondition { exe: Some(Glob::new("**").unwrap()), ..any() },
            EventCondition { args: regex(""), ..any() },
            EventCondition { uids: vec![0], ..any() },
            EventCondition { cgroup: Some(b"/".to_vec()), ..any() },
        ] {
            assert!(!condition.matches(&unknown), "{condition:?}");
        }
    }

    #[test]
    fn only_the_first_arguments_are_searched() {
        let mut args = vec![b'a'; 1 << 20];
        args.extend(b"needle\0");
        let event = EventView { process: ProcessView { args: Some(&args), ..PROCESS }, ..exit(0) };
        let condition = |pattern| EventCondition { args: regex(pattern), ..EventCondition::default() };
        assert!(!condition("needle").matches(&event));
        // A pattern that makes backtracking engines take exponential time.
        assert!(!condition("^(a+)+$x").matches(&event));
        assert!(condition("^(a|aa)+$").matches(&event));
    }
}
