//! Fault scripts: the rules that decide which faults are injected, and when.

use std::ops::RangeInclusive;

use oorandom::Rand32;
use pmon_core::Cpu;

/// The maximum number of events of one burst, which all happen before the next call of a consumer.
pub(crate) const MAX_BURST: u32 = 1_000_000;

/// A fault script: which faults to inject, and before which events.
///
/// The rules are independent of each other. Before an event, all rules that are due are applied in
/// the order of the script.
///
/// As a file, a script is TOML with one `[[fault]]` table per rule. `docs/fake-kernel.md` describes
/// each key in detail. Exactly one key says when:
///
/// | key | before which events |
/// | --- | --- |
/// | `at = N` | event number N; the first event is 0 |
/// | `every = N` | every Nth event, starting with event `from = N` (default 0) |
/// | `chance = P` | each event, with probability P |
///
/// Exactly one key says what. AMOUNT is a number, or a range such as `"1..50"` (both ends included)
/// from which the seed selects:
///
/// | key | effect |
/// | --- | --- |
/// | `overrun = AMOUNT` | events are dropped: gap in the sequence numbers, drop count, `ENOBUFS` |
/// | `no_memory = AMOUNT` | events have no datagram: gap in the sequence numbers only |
/// | `burst = AMOUNT` | as many additional events happen at once |
/// | `eintr = AMOUNT` | as many receive calls fail with `EINTR` |
/// | `eagain = AMOUNT` | as many receive calls fail with `EAGAIN` |
/// | `truncate = AMOUNT` | the next datagram is truncated to as many bytes |
/// | `foreign_ack = true` | another listener subscribes |
/// | `forge = true` | user space sends a datagram that looks like an event |
/// | `noop = true` | an `NLMSG_NOOP` message |
/// | `error = ERRNO` | an `NLMSG_ERROR` message |
/// | `overflow = true` | an `NLMSG_OVERRUN` message |
/// | `unknown = WHAT` | an event of an unknown kind |
/// | `hold = AMOUNT` | the CPU's next event is delivered after as many later events of other CPUs |
/// | `step = AMOUNT` | the clock advances by as many ns |
/// | `blind = AMOUNT` | as many events are not emitted, without a gap |
/// | `end = true` | end of file |
///
/// `cpu = N` selects the CPU of the fault; the default is the CPU of the event that is about to
/// happen.
///
/// ```
/// use pmon_fake::{Fault, FaultScript, Trigger};
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
/// let same = FaultScript::new()
///     .with(Trigger::At(1000), Fault::Overrun(12.into()), Some(1))
///     .with(Trigger::chance(0.01), Fault::Eintr((1..=3).into()), None);
/// assert_eq!(script, same);
///
/// let invalid = "[[fault]]\nat = 3\noverrun = 1\ncpu = 99999\n";
/// let error = invalid.parse::<FaultScript>().unwrap_err();
/// assert_eq!(error.line(), Some(4));
/// # Ok::<(), pmon_fake::FaultScriptError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultScript(pub(super) Vec<FaultRule>);

/// One rule of a [`FaultScript`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRule {
    /// Before which events the fault is injected.
    pub trigger: Trigger,
    /// The fault.
    pub fault: Fault,
    /// The CPU of the fault; `None` is the CPU of the event that is about to happen.
    pub cpu: Option<Cpu>,
}

/// Before which events a fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// A fault; [`FaultScript`] describes each variant under the key of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "FaultScript documents the variants in a table")]
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

/// A number, or a range from which a number is drawn each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    from: u32,
    pub(super) to: u32,
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
    /// Creates a range from `from` to `to`, both included; if `from` is greater, the range contains
    /// `to` only.
    pub const fn new(from: u32, to: u32) -> Self {
        Self { from: if from < to { from } else { to }, to }
    }

    pub(super) fn draw(self, random: &mut Rand32) -> u64 {
        match self.to - self.from {
            0 => self.from.into(),
            u32::MAX => random.rand_u32().into(),
            width => (self.from + random.rand_range(0..width + 1)).into(),
        }
    }
}

impl Trigger {
    /// Creates a trigger that fires before each event with `probability`, which is clamped to 0 to
    /// 1.
    pub fn chance(probability: f64) -> Self {
        Self::Chance((probability.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32)
    }
}

impl FaultScript {
    /// Creates a script without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule.
    #[must_use]
    pub fn with(mut self, trigger: Trigger, fault: Fault, cpu: Option<u32>) -> Self {
        self.0.push(FaultRule { trigger, fault, cpu: cpu.map(Cpu) });
        self
    }

    /// Returns the rules in the order of the script.
    pub fn rules(&self) -> &[FaultRule] {
        &self.0
    }
}
