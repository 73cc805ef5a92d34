//! The TOML syntax of fault scripts.

use pmon_core::Cpu;
use pmon_core::accounting::MAX_CPUS;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use thiserror::Error;
use toml::Spanned;

use super::script::{Amount, Fault, FaultRule, FaultScript, MAX_BURST, Trigger};

/// The highest CPU number.
const MAX_CPU: u32 = MAX_CPUS - 1;

/// Why a text is not a valid [`FaultScript`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{message}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct FaultScriptError {
    line: Option<usize>,
    message: String,
}

impl FaultScriptError {
    /// Returns the line of the error, counted from 1, if it has one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl std::str::FromStr for FaultScript {
    type Err = FaultScriptError;

    fn from_str(text: &str) -> Result<Self, FaultScriptError> {
        let line_of = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
        let file: ScriptFile = toml::from_str(text).map_err(|error| FaultScriptError {
            line: error.span().map(|span| line_of(span.start)),
            message: error.message().trim_end().replace('\n', "; "),
        })?;
        let rule = |table: &Spanned<FaultTable>| {
            let error = |(at, message)| FaultScriptError { line: Some(line_of(at)), message };
            table.get_ref().rule(table.span().start).map_err(error)
        };
        file.fault.iter().map(rule).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptFile {
    #[serde(default)]
    fault: Vec<Spanned<FaultTable>>,
}

/// A `[[fault]]` table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FaultTable {
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
    foreign_ack: Option<True>,
    forge: Option<True>,
    noop: Option<True>,
    error: Option<i32>,
    overflow: Option<True>,
    unknown: Option<u32>,
    hold: Option<Amount>,
    step: Option<Amount>,
    blind: Option<Amount>,
    end: Option<True>,
}

/// The byte offset of an error in the text, and its message.
type ErrorAt = (usize, String);

impl FaultTable {
    /// Checks the table, which starts at byte offset `start`.
    fn rule(&self, start: usize) -> Result<FaultRule, ErrorAt> {
        let cpu = match &self.cpu {
            Some(cpu) if *cpu.get_ref() > MAX_CPU => {
                return Err((cpu.span().start, format!("`cpu` must be at most {MAX_CPU}")));
            }
            cpu => cpu.as_ref().map(|cpu| Cpu(*cpu.get_ref())),
        };
        Ok(FaultRule { trigger: self.trigger(start)?, fault: self.fault(start)?, cpu })
    }

    fn trigger(&self, start: usize) -> Result<Trigger, ErrorAt> {
        let from = self.from.as_ref();
        if let (Some(from), None) = (from, &self.every) {
            return Err((from.span().start, "`from` requires `every`".into()));
        }
        match (&self.at, &self.every, &self.chance) {
            (Some(at), None, None) => Ok(Trigger::At(*at.get_ref())),
            (None, Some(every), None) if *every.get_ref() == 0 => {
                Err((every.span().start, "`every` must be at least 1".into()))
            }
            (None, Some(every), None) => {
                Ok(Trigger::Every { events: *every.get_ref(), from: from.map_or(0, |from| *from.get_ref()) })
            }
            (None, None, Some(chance)) if !(0.0..=1.0).contains(chance.get_ref()) => {
                Err((chance.span().start, "`chance` must be a probability from 0 to 1".into()))
            }
            (None, None, Some(chance)) => Ok(Trigger::chance(*chance.get_ref())),
            _ => Err((start, "the fault needs exactly one of `at`, `every` and `chance`".into())),
        }
    }

    fn fault(&self, start: usize) -> Result<Fault, ErrorAt> {
        let faults = [
            self.overrun.map(Fault::Overrun),
            self.no_memory.map(Fault::NoMemory),
            self.burst.map(Fault::Burst),
            self.eintr.map(Fault::Eintr),
            self.eagain.map(Fault::Eagain),
            self.truncate.map(Fault::Truncate),
            self.foreign_ack.map(|True| Fault::ForeignAck),
            self.forge.map(|True| Fault::Forge),
            self.noop.map(|True| Fault::Noop),
            self.error.map(Fault::Error),
            self.overflow.map(|True| Fault::Overflow),
            self.unknown.map(Fault::Unknown),
            self.hold.map(Fault::Hold),
            self.step.map(Fault::Step),
            self.blind.map(Fault::Blind),
            self.end.map(|True| Fault::End),
        ];
        if self.burst.is_some_and(|burst| burst.to > MAX_BURST) {
            return Err((start, format!("`burst` must be at most {MAX_BURST}")));
        }
        let mut faults = faults.into_iter().flatten();
        match (faults.next(), faults.next()) {
            (Some(fault), None) => Ok(fault),
            (None, _) => Err((start, "the fault has no action; add one, for example `overrun = 5`".into())),
            (Some(_), Some(_)) => {
                Err((start, "the fault has several actions; write a [[fault]] for each".into()))
            }
        }
    }
}

/// The value `true`, the only one of a key without an amount.
#[derive(Clone, Copy, Debug)]
struct True;

impl<'de> Deserialize<'de> for True {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self),
            false => Err(D::Error::custom("the only valid value is `true`; remove the key instead")),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number, or a range such as \"1..50\"")]
        enum AmountSyntax {
            Number(u32),
            Range(String),
        }
        match AmountSyntax::deserialize(deserializer)? {
            AmountSyntax::Number(number) => Ok(number.into()),
            AmountSyntax::Range(range) => {
                let ends = range.split_once("..").and_then(|(min, max)| {
                    Some((min.trim().parse::<u32>().ok()?, max.trim().parse::<u32>().ok()?))
                });
                match ends {
                    Some((min, max)) if min <= max => Ok((min..=max).into()),
                    _ => Err(D::Error::custom(format!("\"{range}\" is not a range such as \"1..50\""))),
                }
            }
        }
    }
}
