//! Fault scripts: the rules that decide which faults are injected, and when.

use std::fmt;

use pmon_core::Cpu;

use super::amount::Amount;
use super::errno_names;
use super::place::EventPlace;

/// The maximum number of events of one burst, which all happen before the next call of a consumer.
pub(crate) const MAX_BURST: u32 = 1_000_000;

/// A fault script: which faults to inject, and before which events.
///
/// The rules are independent of each other. Before an event, all rules that are due are applied in
/// the order of the script.
///
/// As a file, a script is TOML with one `[[fault]]` table per rule. `docs/fake-kernel.md` describes
/// each key in detail. Exactly one key says when. PLACE is a table such as
/// `{ kind = "fork", pid = 5071 }`; see [`EventPlace`]:
///
/// | key | before which events |
/// | --- | --- |
/// | `at = N` | event number N; the first event is 0 |
/// | `at = PLACE` | the first event, or the `nth`, that matches |
/// | `every = N` | every Nth event, starting with event `from = N` (default 0) |
/// | `chance = P` | each event, with probability P |
///
/// With `of = PLACE`, `every`, `from` and `chance` concern only the events that match. Exactly one
/// key says what. AMOUNT is a number, or a range such as `"1..50"` (both ends included) from which
/// the seed selects:
///
/// | key | effect |
/// | --- | --- |
/// | `lose = AMOUNT` | the next events happen and are dropped: gap, drop count, `ENOBUFS` |
/// | `lose_until = PLACE` | events are dropped up to, not including, the one that matches |
/// | `overrun = AMOUNT` | more events happen and are dropped: gap, drop count, `ENOBUFS` |
/// | `no_memory = AMOUNT` | events have no datagram: gap in the sequence numbers only |
/// | `burst = AMOUNT` | as many additional events happen at once |
/// | `eintr = AMOUNT` | as many receive calls fail with `EINTR` |
/// | `eagain = AMOUNT` | as many receive calls fail with `EAGAIN` |
/// | `truncate = AMOUNT` | the next datagram is truncated to as many bytes |
/// | `foreign_ack = true` | another listener subscribes |
/// | `forge = true` | user space sends a datagram that looks like an event |
/// | `noop = true` | an `NLMSG_NOOP` message |
/// | `error = ERRNO` | an `NLMSG_ERROR` message; a number, or a name such as `"EINTR"` |
/// | `overflow = true` | an `NLMSG_OVERRUN` message |
/// | `unknown = WHAT` | an event of an unknown kind |
/// | `hold = AMOUNT` | the CPU's next event is delivered after as many later events of other CPUs |
/// | `step = AMOUNT` | the clock advances by as many ns, or by a duration such as `"10ms"` |
/// | `blind = AMOUNT` | as many events are not emitted, without a gap |
/// | `end = true` | end of file |
///
/// `cpu = N` selects the CPU of the fault; the default is the CPU of the event that is about to
/// happen.
///
/// ```
/// use pmon_core::wire::EventKind;
/// use pmon_fake::{EventPlace, Fault, FaultScript, Trigger};
///
/// let script: FaultScript = r#"
///     [[fault]]
///     at = { kind = "fork", pid = 5071 }
///     lose = 1
///
///     [[fault]]
///     chance = 0.01
///     eintr = "1..3"
///     cpu = 1
/// "#.parse()?;
/// assert_eq!(script.rules().len(), 2);
/// let fork = EventPlace::kind(EventKind::Fork).pid(5071);
/// let same = FaultScript::new()
///     .with(Trigger::Place(fork), Fault::Lose(1.into()), None)
///     .with(Trigger::chance(0.01), Fault::Eintr((1..=3).into()), Some(1));
/// assert_eq!(script, same);
/// assert_eq!(script.rules()[0].to_string(), "at = { kind = \"fork\", pid = 5071 }, lose = 1");
/// assert_eq!(script.line(0), Some(2));
///
/// let invalid = "[[fault]]\nat = 3\noverrun = 1\ncpu = 99999\n";
/// let error = invalid.parse::<FaultScript>().unwrap_err();
/// assert_eq!(error.line(), Some(4));
/// # Ok::<(), pmon_fake::FaultScriptError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FaultScript {
    rules: Vec<FaultRule>,
    /// The lines of the rules, if the script was parsed.
    lines: Vec<usize>,
}

/// Two scripts are equal if their rules are, wherever these were written.
impl PartialEq for FaultScript {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for FaultScript {}

/// One rule of a [`FaultScript`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRule {
    /// Before which events the fault is injected.
    pub trigger: Trigger,
    /// The fault.
    pub fault: Fault,
    /// The CPU of the fault; `None` is the CPU of the event that is about to happen.
    pub cpu: Option<Cpu>,
}

/// Before which events a fault is injected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// Before the event with this number; the first event is 0.
    At(u64),
    /// Before every `events`th event.
    Every {
        /// The distance from one injection to the next, at least 1.
        events: u64,
        /// Number of the event before the first injection.
        from: u64,
    },
    /// Before each event, with this probability in units of 2^-32.
    Chance(u32),
    /// Before the event that the place names.
    Place(EventPlace),
    /// Before every `events`th of the events that match `of`.
    EveryOf {
        /// The distance from one injection to the next, at least 1, in matching events.
        events: u64,
        /// Number of the matching event before the first injection; the first one is 0.
        from: u64,
        /// The conditions on the events; its number is ignored.
        of: EventPlace,
    },
    /// Before each event that matches `of`, with a probability.
    ChanceOf {
        /// The probability in units of 2^-32.
        probability: u32,
        /// The conditions on the events; its number is ignored.
        of: EventPlace,
    },
}

/// A fault; [`FaultScript`] describes each variant under the key of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "FaultScript documents the variants in a table")]
pub enum Fault {
    Lose(Amount),
    LoseUntil(EventPlace),
    Overrun(Amount),
    NoMemory(Amount),
    Burst(Amount),
    Eintr(Amount),
    Eagain(Amount),
    Truncate(Amount),
    ForeignAck,
    Forge,
    Noop,
    Error(i32),
    Overflow,
    Unknown(u32),
    Hold(Amount),
    Step(Amount),
    Blind(Amount),
    End,
}

/// How often a rule of the current script has fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCount {
    /// The number of times that the fault was injected.
    pub fired: u64,
    /// The number of injections that had an effect: a socket was there to receive events.
    pub effective: u64,
    /// Whether a [`Fault::LoseUntil`] still waits for the event that ends it.
    pub is_losing: bool,
}

impl Trigger {
    /// Creates a trigger that fires before each event with `probability`, which is clamped to 0 to
    /// 1.
    pub fn chance(probability: f64) -> Self {
        Self::Chance(in_units(probability))
    }

    /// Creates a trigger that fires before each event that matches `of` with `probability`, which
    /// is clamped to 0 to 1.
    pub fn chance_of(probability: f64, of: EventPlace) -> Self {
        Self::ChanceOf { probability: in_units(probability), of }
    }

    /// Returns the conditions on the events before which the trigger may fire, if it has any.
    pub fn place(&self) -> Option<&EventPlace> {
        match self {
            Self::Place(place) | Self::EveryOf { of: place, .. } | Self::ChanceOf { of: place, .. } => {
                Some(place)
            }
            Self::At(_) | Self::Every { .. } | Self::Chance(_) => None,
        }
    }
}

/// Returns a probability in units of 2^-32.
fn in_units(probability: f64) -> u32 {
    (probability.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32
}

impl FaultScript {
    /// Creates a script without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a script from rules and their lines.
    pub(super) fn from_lines(rules: Vec<(FaultRule, usize)>) -> Self {
        let (rules, lines) = rules.into_iter().unzip();
        Self { rules, lines }
    }

    /// Adds a rule.
    #[must_use]
    pub fn with(mut self, trigger: Trigger, fault: Fault, cpu: Option<u32>) -> Self {
        self.rules.push(FaultRule { trigger, fault, cpu: cpu.map(Cpu) });
        self
    }

    /// Returns the rules in the order of the script.
    pub fn rules(&self) -> &[FaultRule] {
        &self.rules
    }

    /// Returns the line at which the rule with this index begins in the text of the script, counted
    /// from 1; `None` if the rule was not parsed.
    pub fn line(&self, rule: usize) -> Option<usize> {
        self.lines.get(rule).copied()
    }

    /// Returns whether a rule depends on the names of processes.
    pub fn uses_comm(&self) -> bool {
        self.places().any(EventPlace::uses_comm)
    }

    /// Returns whether a rule depends on the command lines of processes.
    pub fn uses_args(&self) -> bool {
        self.places().any(EventPlace::uses_args)
    }

    fn places(&self) -> impl Iterator<Item = &EventPlace> {
        self.rules.iter().flat_map(|rule| {
            let until = match &rule.fault {
                Fault::LoseUntil(place) => Some(place),
                _ => None,
            };
            rule.trigger.place().into_iter().chain(until)
        })
    }
}

/// Writes the rule on one line, with the keys of a fault script:
/// `at = { kind = "fork", pid = 5071 }, lose = 1`.
impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trigger, fault, cpu } = self;
        write!(f, "{trigger}, {fault}")?;
        cpu.map_or(Ok(()), |cpu| write!(f, ", cpu = {}", cpu.0))
    }
}

/// Writes the trigger with the keys of a fault script.
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => write!(f, "at = {at}"),
            Self::Place(place) => write!(f, "at = {place}"),
            Self::Every { events, from } | Self::EveryOf { events, from, .. } => {
                write!(f, "every = {events}")?;
                if *from > 0 { write!(f, ", from = {from}") } else { Ok(()) }
            }
            Self::Chance(probability) | Self::ChanceOf { probability, .. } => {
                write!(f, "chance = {}", decimal(*probability))
            }
        }?;
        match self {
            Self::EveryOf { of, .. } | Self::ChanceOf { of, .. } => write!(f, ", of = {of}"),
            _ => Ok(()),
        }
    }
}

/// Returns the shortest decimal number for a probability in units of 2^-32.
fn decimal(probability: u32) -> String {
    let exact = (f64::from(probability) + 0.5) / f64::from(u32::MAX);
    let decimals = (0..12).map(|digits| format!("{exact:.digits$}"));
    let is_same = |text: &String| text.parse().is_ok_and(|number| in_units(number) == probability);
    let mut shortest = decimals.into_iter().filter(is_same);
    shortest.next().unwrap_or_else(|| exact.to_string())
}

/// Writes the fault with the key of a fault script.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lose(amount) => write!(f, "lose = {amount}"),
            Self::LoseUntil(place) => write!(f, "lose_until = {place}"),
            Self::Overrun(amount) => write!(f, "overrun = {amount}"),
            Self::NoMemory(amount) => write!(f, "no_memory = {amount}"),
            Self::Burst(amount) => write!(f, "burst = {amount}"),
            Self::Eintr(amount) => write!(f, "eintr = {amount}"),
            Self::Eagain(amount) => write!(f, "eagain = {amount}"),
            Self::Truncate(amount) => write!(f, "truncate = {amount}"),
            Self::ForeignAck => f.write_str("foreign_ack = true"),
            Self::Forge => f.write_str("forge = true"),
            Self::Noop => f.write_str("noop = true"),
            Self::Error(errno) => match errno_names::name_of(*errno) {
                Some(name) => write!(f, "error = \"{name}\""),
                None => write!(f, "error = {errno}"),
            },
            Self::Overflow => f.write_str("overflow = true"),
            Self::Unknown(what) => write!(f, "unknown = {what:#x}"),
            Self::Hold(amount) => write!(f, "hold = {amount}"),
            Self::Step(time) => write!(f, "step = {}", time.written("ns")),
            Self::Blind(amount) => write!(f, "blind = {amount}"),
            Self::End => f.write_str("end = true"),
        }
    }
}
