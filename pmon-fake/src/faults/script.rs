//! The language of fault scripts.

use std::ops::RangeInclusive;

use oorandom::Rand32;
use pmon_core::Cpu;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use thiserror::Error;
use toml::Spanned;

/// No host has so many CPUs.
const MAX_CPU: u32 = 8191;
/// A burst has no more events: they happen one by one, and before the next call of anybody.
pub(crate) const MAX_BURST: u32 = 1_000_000;

/// What is to go wrong, and where: rules, each of which holds for itself, in the order in which
/// they are applied.
///
/// As a file it is TOML, a `[[fault]]` each. Where:
///
/// | key | |
/// | --- | --- |
/// | `at = N` | before event number N, of those that happen by verb or by replay; the first is 0 |
/// | `every = N` | before each Nth event, beginning with event `from` (default 0) |
/// | `chance = P` | before each event with that probability, as the seed has it |
///
/// What, one of these; a number may be a range, as `"1..50"` (both included), of which the seed
/// takes one:
///
/// | key | |
/// | --- | --- |
/// | `overrun = N` | N events are dropped for want of room: numbers are missing, drops counted, `ENOBUFS` |
/// | `no_memory = N` | the kernel has no memory for N events: numbers are missing, and nobody counts |
/// | `burst = N` | N more events happen at once, at most 1,000,000 |
/// | `eintr = N` | the next N calls are interrupted |
/// | `eagain = N` | the next N calls find nothing, whatever is there |
/// | `truncate = BYTES` | the next datagram ends after so many bytes |
/// | `foreign_ack = true` | another listener subscribes |
/// | `forge = true` | user space sends what looks like an event |
/// | `noop = true` | an `NLMSG_NOOP` comes |
/// | `error = ERRNO` | an `NLMSG_ERROR` comes |
/// | `overflow = true` | an `NLMSG_OVERRUN` comes |
/// | `unknown = WHAT` | an event of an unknown kind happens |
/// | `hold = N` | the CPU's next event comes after N later ones of other CPUs; of each CPU, one is held at a time |
/// | `step = NS` | the clock goes on by so many ns at once |
/// | `blind = N` | the next N events are not emitted, and have no numbers |
/// | `end = true` | nothing comes any more: end of file |
///
/// `cpu = N` says on which CPU; without it, it is that of the event that is about to happen.
///
/// ```
/// use pmon_fake::{Fault, Trigger, FaultScript};
///
/// let script: FaultScript = r#"
///     [[fault]]
///     at = 1000
///     overrun = 12
///     cpu = 1
///
///     [[fault]]
///     chance = 0.01
///     eintr = "1..3"
/// "#.parse()?;
/// assert_eq!(script.rules().len(), 2);
/// assert_eq!(script, FaultScript::new().with(Trigger::At(1000), Fault::Overrun(12.into()), Some(1))
///     .with(Trigger::chance(0.01), Fault::Eintr((1..=3).into()), None));
///
/// let wrong = "[[fault]]\nat = 3\noverrun = 1\ncpu = 99999\n".parse::<FaultScript>().unwrap_err();
/// assert_eq!(wrong.line(), Some(4));
/// # Ok::<(), pmon_fake::FaultScriptError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultScript(Vec<FaultRule>);

/// One fault of a [`FaultScript`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRule {
    /// Where.
    pub trigger: Trigger,
    /// What.
    pub fault: Fault,
    /// On which CPU; `None` is that of the event that is about to happen.
    pub cpu: Option<Cpu>,
}

/// Where a fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Before event number so-and-so; the first is 0.
    At(u64),
    /// Before each of so many events, at least 1, beginning with event number `from`.
    Every {
        /// From one to the next.
        events: u64,
        /// The first.
        from: u64,
    },
    /// Before each event, with a probability in 2^-32.
    Chance(u32),
}

/// What goes wrong. See [`FaultScript`] for what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "FaultScript documents them, as a table")]
pub enum Fault {
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

/// A number, or a range of which one is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    from: u32,
    to: u32,
}

impl From<u32> for Amount {
    fn from(number: u32) -> Self {
        Self::new(number, number)
    }
}

impl From<RangeInclusive<u32>> for Amount {
    fn from(range: RangeInclusive<u32>) -> Self {
        Self::new(*range.start(), *range.end())
    }
}

impl Amount {
    /// From `from` to `to`, both included; `to` alone if it is less.
    pub const fn new(from: u32, to: u32) -> Self {
        Self { from: if from < to { from } else { to }, to }
    }

    pub(crate) fn draw(self, random: &mut Rand32) -> u64 {
        match self.to - self.from {
            0 => self.from.into(),
            u32::MAX => random.rand_u32().into(),
            more => (self.from + random.rand_range(0..more + 1)).into(),
        }
    }
}

impl Trigger {
    /// Before each event with probability `p`, 0 to 1.
    pub fn chance(p: f64) -> Self {
        Self::Chance((p.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32)
    }
}

impl FaultScript {
    /// A script without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more rule.
    #[must_use]
    pub fn with(mut self, trigger: Trigger, fault: Fault, cpu: Option<u32>) -> Self {
        self.0.push(FaultRule { trigger, fault, cpu: cpu.map(Cpu) });
        self
    }

    /// Its rules.
    pub fn rules(&self) -> &[FaultRule] {
        &self.0
    }
}

/// Why a text is no fault script.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{why}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct FaultScriptError {
    line: Option<usize>,
    why: String,
}

impl FaultScriptError {
    /// Where it is, if it is anywhere; the first line is 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl std::str::FromStr for FaultScript {
    type Err = FaultScriptError;

    fn from_str(text: &str) -> Result<Self, FaultScriptError> {
        let line_of = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
        let file: File = toml::from_str(text).map_err(|error| FaultScriptError {
            line: error.span().map(|span| line_of(span.start)),
            why: error.message().trim_end().replace('\n', "; "),
        })?;
        let rule = |entry: &Spanned<Entry>| {
            let wrong = |(at, why)| FaultScriptError { line: Some(line_of(at)), why };
            entry.get_ref().rule(entry.span().start).map_err(wrong)
        };
        file.fault.iter().map(rule).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    fault: Vec<Spanned<Entry>>,
}

/// A rule as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    at: Option<Spanned<u64>>,
    every: Option<Spanned<u64>>,
    from: Option<Spanned<u64>>,
    chance: Option<Spanned<f64>>,
    cpu: Option<Spanned<u32>>,
    overrun: Option<Amount>,
    no_memory: Option<Amount>,
    burst: Option<Amount>,
    eintr: Option<Amount>,
    eagain: Option<Amount>,
    truncate: Option<Amount>,
    foreign_ack: Option<Yes>,
    forge: Option<Yes>,
    noop: Option<Yes>,
    error: Option<i32>,
    overflow: Option<Yes>,
    unknown: Option<u32>,
    hold: Option<Amount>,
    step: Option<Amount>,
    blind: Option<Amount>,
    end: Option<Yes>,
}

/// What is wrong, and where in the text.
type Wrong = (usize, String);

impl Entry {
    fn rule(&self, start: usize) -> Result<FaultRule, Wrong> {
        let cpu = match &self.cpu {
            Some(cpu) if *cpu.get_ref() > MAX_CPU => {
                return Err((cpu.span().start, format!("cpu is at most {MAX_CPU}")));
            }
            cpu => cpu.as_ref().map(|cpu| Cpu(*cpu.get_ref())),
        };
        Ok(FaultRule { trigger: self.trigger(start)?, fault: self.fault(start)?, cpu })
    }

    fn trigger(&self, start: usize) -> Result<Trigger, Wrong> {
        let from = self.from.as_ref();
        if let (Some(from), None) = (from, &self.every) {
            return Err((from.span().start, "`from` goes with `every` only".into()));
        }
        match (&self.at, &self.every, &self.chance) {
            (Some(at), None, None) => Ok(Trigger::At(*at.get_ref())),
            (None, Some(every), None) if *every.get_ref() == 0 => {
                Err((every.span().start, "every = 0 is no distance: it is at least 1".into()))
            }
            (None, Some(every), None) => {
                Ok(Trigger::Every { events: *every.get_ref(), from: from.map_or(0, |from| *from.get_ref()) })
            }
            (None, None, Some(chance)) if !(0.0..=1.0).contains(chance.get_ref()) => {
                Err((chance.span().start, "chance is a probability: 0 to 1".into()))
            }
            (None, None, Some(chance)) => Ok(Trigger::chance(*chance.get_ref())),
            _ => Err((start, "a fault has one of `at`, `every` and `chance`".into())),
        }
    }

    fn fault(&self, start: usize) -> Result<Fault, Wrong> {
        let faults = [
            self.overrun.map(Fault::Overrun),
            self.no_memory.map(Fault::NoMemory),
            self.burst.map(Fault::Burst),
            self.eintr.map(Fault::Eintr),
            self.eagain.map(Fault::Eagain),
            self.truncate.map(Fault::Truncate),
            self.foreign_ack.map(|Yes| Fault::ForeignAck),
            self.forge.map(|Yes| Fault::Forge),
            self.noop.map(|Yes| Fault::Noop),
            self.error.map(Fault::Error),
            self.overflow.map(|Yes| Fault::Overflow),
            self.unknown.map(Fault::Unknown),
            self.hold.map(Fault::Hold),
            self.step.map(Fault::Step),
            self.blind.map(Fault::Blind),
            self.end.map(|Yes| Fault::End),
        ];
        if self.burst.is_some_and(|burst| burst.to > MAX_BURST) {
            return Err((start, format!("burst is at most {MAX_BURST}")));
        }
        let mut faults = faults.into_iter().flatten();
        match (faults.next(), faults.next()) {
            (Some(fault), None) => Ok(fault),
            (None, _) => Err((start, "nothing goes wrong here: say what, as `overrun = 5`".into())),
            (Some(_), Some(_)) => {
                Err((start, "more than one thing goes wrong here: each has its own [[fault]]".into()))
            }
        }
    }
}

/// `true`, the only value of what has no amount.
#[derive(Clone, Copy, Debug)]
struct Yes;

impl<'de> Deserialize<'de> for Yes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self),
            false => Err(D::Error::custom("only `true` has a meaning here: leave it out instead")),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number, or a range as \"1..50\"")]
        enum Written {
            Number(u32),
            Range(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(number.into()),
            Written::Range(range) => {
                let ends = range.split_once("..").and_then(|(from, to)| {
                    Some((from.trim().parse::<u32>().ok()?, to.trim().parse::<u32>().ok()?))
                });
                match ends {
                    Some((from, to)) if from <= to => Ok((from..=to).into()),
                    _ => Err(D::Error::custom(format!("\"{range}\" is no range: write it as \"1..50\""))),
                }
            }
        }
    }
}
