//! Places between events, named by the event that follows.

use std::fmt;

use pmon_core::wire::{Event, EventBody, EventKind};
use pmon_core::{Task, Tgid};
use regex::bytes::Regex;

use super::script_error::FaultScriptError;

/// Maximum length of a thread's name in bytes.
pub(super) const MAX_COMM: usize = 15;

/// A place between events: right before the [`nth`](EventPlace::nth) event that satisfies all
/// conditions.
///
/// `docs/fake-kernel.md` lists for each kind of event which process the conditions refer to.
///
/// ```
/// use pmon_core::wire::EventKind;
/// use pmon_fake::EventPlace;
///
/// let place = EventPlace::kind(EventKind::Fork).pid(5071);
/// assert_eq!(place.to_string(), "{ kind = \"fork\", pid = 5071 }");
/// let place = EventPlace::any().comm("make").args(r"-j\s*[0-9]+")?.nth(3);
/// assert_eq!(place.to_string(), "{ comm = \"make\", args = \"-j\\\\s*[0-9]+\", nth = 3 }");
/// # Ok::<(), pmon_fake::FaultScriptError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct EventPlace {
    kind: Option<EventKind>,
    pid: Option<u32>,
    tid: Option<u32>,
    parent: Option<u32>,
    comm: Option<Box<[u8]>>,
    args: Option<ArgsPattern>,
    nth: u64,
}

/// A pattern for command lines. Two patterns are equal if their texts are.
#[derive(Clone)]
struct ArgsPattern(Regex);

impl PartialEq for ArgsPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for ArgsPattern {}

/// What is known about the process of an event, beyond the event itself. `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventProcess<'a> {
    /// The name of the process, which is that of its first thread, after the event.
    pub comm: Option<&'a [u8]>,
    /// The command line after the event, each argument followed by a zero byte, as in
    /// `/proc/<pid>/cmdline`.
    pub args: Option<&'a [u8]>,
}

/// An event that is about to happen, as places see it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ComingEvent<'a> {
    /// The event; `None` for a datagram without a readable one.
    pub(crate) event: Option<Event>,
    pub(crate) process: EventProcess<'a>,
}

impl EventPlace {
    /// Creates a place before the first event of any kind.
    pub fn any() -> Self {
        Self { kind: None, pid: None, tid: None, parent: None, comm: None, args: None, nth: 1 }
    }

    /// Creates a place before the first event of this kind.
    pub fn kind(kind: EventKind) -> Self {
        Self { kind: Some(kind), ..Self::any() }
    }

    /// Selects events of this process; for a fork, of the child.
    ///
    /// The fork of a thread is an event of its process; [`EventPlace::tid`] selects one of several
    /// forks.
    #[must_use]
    pub fn pid(self, pid: u32) -> Self {
        Self { pid: Some(pid), ..self }
    }

    /// Selects events of this thread; for a fork, of the new thread.
    #[must_use]
    pub fn tid(self, tid: u32) -> Self {
        Self { tid: Some(tid), ..self }
    }

    /// Selects events that name this process as the parent: forks, exits and core dumps.
    #[must_use]
    pub fn parent(self, parent: u32) -> Self {
        Self { parent: Some(parent), ..self }
    }

    /// Selects events of processes with exactly this name, as of after the event. A name has at
    /// most 15 bytes.
    #[must_use]
    pub fn comm(self, comm: impl AsRef<[u8]>) -> Self {
        Self { comm: Some(comm.as_ref().into()), ..self }
    }

    /// Selects events of processes whose command line, as of after the event and joined by spaces,
    /// contains a match of a regular expression.
    ///
    /// # Errors
    /// Returns an error if `pattern` is not a valid regular expression.
    pub fn args(self, pattern: &str) -> Result<Self, FaultScriptError> {
        match Regex::new(pattern) {
            Ok(regex) => Ok(Self { args: Some(ArgsPattern(regex)), ..self }),
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let message = format!("`args` is not a valid regular expression: {why}");
                Err(FaultScriptError::new(None, &message))
            }
        }
    }

    /// Selects the `nth` event that satisfies the conditions; the first is 1, which is the default.
    #[must_use]
    pub fn nth(self, nth: u64) -> Self {
        Self { nth: nth.max(1), ..self }
    }

    pub(crate) fn number(&self) -> u64 {
        self.nth
    }

    /// Returns whether a condition refers to the name of a process.
    pub(crate) fn uses_comm(&self) -> bool {
        self.comm.is_some()
    }

    /// Returns whether a condition refers to the command line of a process.
    pub(crate) fn uses_args(&self) -> bool {
        self.args.is_some()
    }

    /// Returns whether an event satisfies the conditions, whatever its number.
    pub(crate) fn matches(&self, event: &ComingEvent<'_>) -> bool {
        let Self { kind, pid, tid, parent, comm, args, nth: _ } = self;
        let event_kind = event.event.as_ref().map_or(EventKind::Unknown, Event::kind);
        let task = event.event.as_ref().and_then(Event::task);
        kind.is_none_or(|kind| kind == event_kind)
            && pid.is_none_or(|pid| task.is_some_and(|task| task.tgid.0 == pid))
            && tid.is_none_or(|tid| task.is_some_and(|task| task.tid.0 == tid))
            && parent.is_none_or(|parent| event.event.and_then(parent_in) == Some(Tgid(parent)))
            && comm.as_ref().is_none_or(|comm| event.process.comm == Some(comm))
            && args.as_ref().is_none_or(|ArgsPattern(regex)| {
                event.process.args.is_some_and(|args| regex.is_match(&joined(args)))
            })
    }
}

/// Returns the parent process that an event names.
fn parent_in(event: Event) -> Option<Tgid> {
    let parent: Option<Task> = match event.body {
        EventBody::Fork { parent, .. } => Some(parent),
        EventBody::Exit { parent, .. } | EventBody::Coredump { parent, .. } => parent,
        _ => None,
    };
    parent.map(|parent| parent.tgid)
}

/// Returns a command line with spaces between the arguments.
fn joined(args: &[u8]) -> Vec<u8> {
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    args.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect()
}

/// Writes the place as in a fault script.
impl fmt::Display for EventPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, pid, tid, parent, comm, args, nth } = self;
        let comm = comm.as_ref().map(|comm| String::from_utf8_lossy(comm));
        let keys = [
            kind.map(|kind| format!("kind = \"{kind}\"")),
            pid.map(|pid| format!("pid = {pid}")),
            tid.map(|tid| format!("tid = {tid}")),
            parent.map(|parent| format!("parent = {parent}")),
            comm.map(|comm| format!("comm = {}", quoted(&comm))),
            args.as_ref().map(|ArgsPattern(regex)| format!("args = {}", quoted(regex.as_str()))),
            (*nth != 1).then(|| format!("nth = {nth}")),
        ];
        let keys: Vec<_> = keys.into_iter().flatten().collect();
        if keys.is_empty() { f.write_str("{ nth = 1 }") } else { write!(f, "{{ {} }}", keys.join(", ")) }
    }
}

impl fmt::Debug for EventPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns a text as a basic string of TOML, on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
