//! The TOML syntax of fault scripts.

use pmon_core::Cpu;
use pmon_core::accounting::MAX_CPUS;
use pmon_core::wire::EventKind;
use serde::Deserialize;
use toml::Spanned;

use super::amount::Amount;
use super::place::{EventPlace, MAX_COMM};
use super::script::{Fault, FaultRule, FaultScript, MAX_BURST, Trigger};
use super::script_error::FaultScriptError;
use super::toml_values::{AtSyntax, ErrorNumber, Parsed, PlaceTable, TimeAmount, True};

/// The highest CPU number.
const MAX_CPU: u32 = MAX_CPUS - 1;

impl std::str::FromStr for FaultScript {
    type Err = FaultScriptError;

    fn from_str(text: &str) -> Result<Self, FaultScriptError> {
        let line_of = |at: usize| 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        let file: ScriptFile = toml::from_str(text).map_err(|error| {
            let start = error.span().map(|span| span.start);
            let key = start.and_then(|start| key_before(text, start));
            let key = key.map_or_else(String::new, |key| format!("`{key}`: "));
            FaultScriptError::new(start.map(line_of), &format!("{key}{}", error.message()))
        })?;
        let rule = |table: &Spanned<FaultTable>| {
            let start = table.span().start;
            let error = |(at, message): ErrorAt| FaultScriptError::new(Some(line_of(at)), &message);
            table.get_ref().rule(start).map(|rule| (rule, line_of(start))).map_err(error)
        };
        file.fault.iter().map(rule).collect::<Result<_, _>>().map(Self::from_lines)
    }
}

impl std::str::FromStr for EventPlace {
    type Err = FaultScriptError;

    /// Parses a place as in a script: `{ kind = "fork", pid = 5071 }`.
    fn from_str(text: &str) -> Result<Self, FaultScriptError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct PlaceFile {
            place: Parsed<PlaceTable>,
        }

        let error = |message: &str| FaultScriptError::new(None, message);
        let file: PlaceFile =
            toml::from_str(&format!("place = {text}")).map_err(|invalid| error(invalid.message()))?;
        file.place.0.place("place", 0).map_err(|(_, message)| error(&message))
    }
}

/// Returns the key whose value begins at a byte offset of a text.
fn key_before(text: &str, offset: usize) -> Option<&str> {
    let before = text.get(..offset)?.trim_end().strip_suffix('=')?.trim_end();
    let start = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
    Some(&before[start..]).filter(|key| !key.is_empty())
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
    at: Option<Spanned<Parsed<AtSyntax>>>,
    every: Option<Spanned<Parsed<u64>>>,
    from: Option<Spanned<Parsed<u64>>>,
    chance: Option<Spanned<Parsed<f64>>>,
    of: Option<Spanned<Parsed<PlaceTable>>>,
    cpu: Option<Spanned<Parsed<u32>>>,
    lose: Option<Parsed<Amount>>,
    lose_until: Option<Spanned<Parsed<PlaceTable>>>,
    overrun: Option<Parsed<Amount>>,
    no_memory: Option<Parsed<Amount>>,
    burst: Option<Parsed<Amount>>,
    eintr: Option<Parsed<Amount>>,
    eagain: Option<Parsed<Amount>>,
    truncate: Option<Parsed<Amount>>,
    foreign_ack: Option<Parsed<True>>,
    forge: Option<Parsed<True>>,
    noop: Option<Parsed<True>>,
    error: Option<Parsed<ErrorNumber>>,
    overflow: Option<Parsed<True>>,
    unknown: Option<Parsed<u32>>,
    hold: Option<Parsed<Amount>>,
    step: Option<Parsed<TimeAmount>>,
    blind: Option<Parsed<Amount>>,
    end: Option<Parsed<True>>,
}

/// The byte offset of an error in the text, and its message.
type ErrorAt = (usize, String);

impl FaultTable {
    /// Checks the table, which starts at byte offset `start`.
    fn rule(&self, start: usize) -> Result<FaultRule, ErrorAt> {
        let cpu = self.cpu.as_ref().map(at_offset);
        if let Some((cpu, at)) = cpu
            && *cpu > MAX_CPU
        {
            return Err((at, format!("`cpu` must be at most {MAX_CPU}")));
        }
        let cpu = cpu.map(|(cpu, _)| Cpu(*cpu));
        Ok(FaultRule { trigger: self.trigger(start)?, fault: self.fault(start)?, cpu })
    }

    fn trigger(&self, start: usize) -> Result<Trigger, ErrorAt> {
        let from = self.from.as_ref().map(at_offset);
        if let (Some((_, at)), None) = (from, &self.every) {
            return Err((at, "`from` requires `every`".into()));
        }
        let of = self.of.as_ref().map(at_offset);
        if let (Some((_, at)), None, None) = (of, &self.every, &self.chance) {
            return Err((at, "`of` requires `every` or `chance`; write the conditions of `at` there".into()));
        }
        let of = of.map(|(table, at)| table.conditions("of", at)).transpose()?;
        let [at, every, chance] = [self.at.is_some(), self.every.is_some(), self.chance.is_some()];
        if u8::from(at) + u8::from(every) + u8::from(chance) != 1 {
            return Err((start, "the fault needs exactly one of `at`, `every` and `chance`".into()));
        }
        if let Some((at, offset)) = self.at.as_ref().map(at_offset) {
            return Ok(match at {
                AtSyntax::Number(number) => Trigger::At(*number),
                AtSyntax::Place(place) => Trigger::Place(place.place("at", offset)?),
            });
        }
        if let Some((&events, at)) = self.every.as_ref().map(at_offset) {
            let from = from.map_or(0, |(from, _)| *from);
            return match of {
                _ if events == 0 => Err((at, "`every` must be at least 1".into())),
                Some(of) => Ok(Trigger::EveryOf { events, from, of }),
                None => Ok(Trigger::Every { events, from }),
            };
        }
        let (&chance, at) = self.chance.as_ref().map_or((&f64::NAN, start), at_offset);
        match of {
            _ if !(0.0..=1.0).contains(&chance) => {
                Err((at, "`chance` must be a probability from 0 to 1".into()))
            }
            Some(of) => Ok(Trigger::chance_of(chance, of)),
            None => Ok(Trigger::chance(chance)),
        }
    }

    fn fault(&self, start: usize) -> Result<Fault, ErrorAt> {
        let until = self.lose_until.as_ref().map(at_offset);
        let until = until.map(|(table, at)| table.place("lose_until", at)).transpose()?;
        let amount =
            |amount: Option<Parsed<Amount>>, fault: fn(Amount) -> Fault| amount.map(|Parsed(of)| fault(of));
        let faults = [
            amount(self.lose, Fault::Lose),
            until.map(Fault::LoseUntil),
            amount(self.overrun, Fault::Overrun),
            amount(self.no_memory, Fault::NoMemory),
            amount(self.burst, Fault::Burst),
            amount(self.eintr, Fault::Eintr),
            amount(self.eagain, Fault::Eagain),
            amount(self.truncate, Fault::Truncate),
            self.foreign_ack.map(|_| Fault::ForeignAck),
            self.forge.map(|_| Fault::Forge),
            self.noop.map(|_| Fault::Noop),
            self.error.map(|Parsed(ErrorNumber(errno))| Fault::Error(errno)),
            self.overflow.map(|_| Fault::Overflow),
            self.unknown.map(|Parsed(what)| Fault::Unknown(what)),
            amount(self.hold, Fault::Hold),
            self.step.map(|Parsed(TimeAmount(time))| Fault::Step(time)),
            amount(self.blind, Fault::Blind),
            self.end.map(|_| Fault::End),
        ];
        if self.burst.is_some_and(|Parsed(burst)| burst.max() > MAX_BURST.into()) {
            return Err((start, format!("`burst` must be at most {MAX_BURST}")));
        }
        let mut faults = faults.into_iter().flatten();
        match (faults.next(), faults.next()) {
            (Some(fault), None) => Ok(fault),
            (None, _) => Err((start, "the fault has no action; add one, for example `lose = 1`".into())),
            (Some(_), Some(_)) => {
                Err((start, "the fault has several actions; write a [[fault]] for each".into()))
            }
        }
    }
}

impl PlaceTable {
    /// Checks the table, which is the value of `key` at byte offset `start`.
    fn place(&self, key: &str, start: usize) -> Result<EventPlace, ErrorAt> {
        let Self { kind, pid, tid, parent, comm, args, nth } = self;
        let has_condition = kind.is_some()
            || [pid, tid, parent].into_iter().any(Option::is_some)
            || comm.is_some()
            || args.is_some();
        if !has_condition {
            let keys = "`kind`, `pid`, `tid`, `parent`, `comm` and `args`";
            return Err((start, format!("`{key}` names no events; add at least one of {keys}")));
        }
        let mut place = match kind.as_ref().map(at_offset) {
            Some((&kind, at)) => {
                self.check_kind(kind, at)?;
                EventPlace::kind(kind)
            }
            None => EventPlace::any(),
        };
        if let Some(Parsed(pid)) = *pid {
            place = place.pid(pid);
        }
        if let Some(Parsed(tid)) = *tid {
            place = place.tid(tid);
        }
        if let Some(Parsed(parent)) = *parent {
            place = place.parent(parent);
        }
        if let Some((comm, at)) = comm.as_ref().map(at_offset) {
            if comm.len() > MAX_COMM {
                let kept = &comm[..comm.floor_char_boundary(MAX_COMM)];
                return Err((
                    at,
                    format!(
                        "`comm` must have at most {MAX_COMM} bytes, as in the kernel: `comm = \"{kept}\"`"
                    ),
                ));
            }
            place = place.comm(comm);
        }
        if let Some((args, at)) = args.as_ref().map(at_offset) {
            place = place.args(args).map_err(|error| (at, error.message))?;
        }
        match nth.as_ref().map(at_offset) {
            Some((0, at)) => Err((at, "`nth` must be at least 1".into())),
            Some((&nth, _)) => Ok(place.nth(nth)),
            None => Ok(place),
        }
    }

    /// Checks the table as conditions on several events.
    fn conditions(&self, key: &str, start: usize) -> Result<EventPlace, ErrorAt> {
        match &self.nth {
            Some(nth) => {
                Err((nth.span().start, "`nth` is for `at` and `lose_until`; use `from` with `every`".into()))
            }
            None => self.place(key, start),
        }
    }

    /// Checks that events of a kind have the properties that the other keys name.
    fn check_kind(&self, kind: EventKind, at: usize) -> Result<(), ErrorAt> {
        let has_process = !matches!(kind, EventKind::Ack | EventKind::Unknown);
        let names_parent = matches!(kind, EventKind::Fork | EventKind::Exit | EventKind::Coredump);
        let of_process = [
            ("pid", self.pid.is_some()),
            ("tid", self.tid.is_some()),
            ("comm", self.comm.is_some()),
            ("args", self.args.is_some()),
        ];
        match of_process.into_iter().find(|&(_, is_given)| is_given && !has_process) {
            Some((key, _)) => {
                Err((at, format!("events of the kind `{kind}` have no process; remove `{key}`")))
            }
            None if self.parent.is_some() && !names_parent => Err((
                at,
                format!(
                    "events of the kind `{kind}` name no parent; `parent` is for fork, exit and coredump"
                ),
            )),
            None => Ok(()),
        }
    }
}

/// Returns a value and its byte offset in the text.
fn at_offset<T>(value: &Spanned<Parsed<T>>) -> (&T, usize) {
    (&value.get_ref().0, value.span().start)
}
