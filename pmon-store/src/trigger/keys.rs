//! The keys of a `[[trigger]]` in a configuration file.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use pmon_analysis::filter::{EventCondition, Glob};
use pmon_analysis::wait_status::signal_name;
use pmon_core::wire::EventKind;
use regex::bytes::{Regex, RegexBuilder};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::window::{MAX_COUNT, Rate};
use crate::clip::{ClipName, MAX_AFTER};

/// Maximum size of a compiled regular expression, in bytes.
const MAX_REGEX: usize = 1 << 20;
/// Maximum number of values of a key.
const MAX_VALUES: usize = 256;
/// Maximum number of clips that a limit allows.
const MAX_LIMIT: u32 = 10_000;
const SECOND: u64 = 1_000_000_000;

/// A condition on events that requests a clip: one `[[trigger]]` of a configuration file.
///
/// | key | value | condition |
/// | --- | --- | --- |
/// | `name` | a [`ClipName`] | required; becomes part of the clip's name |
/// | `kind` | kind, or list of kinds | the event is of this kind; a fork or an exit is that of a process |
/// | `signal` | name or number, or list | the signal killed the process |
/// | `exit_code` | number, or list | the process returned the code |
/// | `longer_than` | duration | the process ran at least as long |
/// | `comm` | string | the name of the process |
/// | `exe` | pattern ([`Glob`]) | the path of the executable |
/// | `args` | regular expression | the command line, joined by spaces |
/// | `uid` | number, or list | the real or effective user id |
/// | `cgroup` | path | the cgroup, or one below it |
/// | `count`, `within` | number, duration | as many events matched within the duration; times are those of the events |
/// | `before`, `after` | duration | span of the clip around the event; 30 s and 10 s by default |
/// | `limit` | number per time, such as `6/h` | maximum number of clips; `6/h` by default |
#[derive(Clone, Debug)]
pub struct Trigger {
    pub(super) name: ClipName,
    pub(super) condition: EventCondition,
    pub(super) rate: Option<Rate>,
    pub(super) before: Duration,
    pub(super) after: Duration,
    pub(super) limit: Rate,
}

impl Trigger {
    /// Returns the name, which becomes a part of the names of its clips.
    pub fn name(&self) -> &ClipName {
        &self.name
    }

    /// Returns the longest spans of time before and after an event that a clip covers.
    pub fn span(&self) -> (Duration, Duration) {
        (self.before, self.after)
    }
}

impl<'de> Deserialize<'de> for Trigger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Keys::deserialize(deserializer)?;
        Self::new(keys).map_err(de::Error::custom)
    }
}

/// The keys as they are written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    name: Name,
    #[serde(default)]
    kind: OneOrMany<Kind>,
    #[serde(default)]
    signal: OneOrMany<SignalNumber>,
    #[serde(default)]
    exit_code: OneOrMany<u8>,
    longer_than: Option<Span>,
    comm: Option<String>,
    exe: Option<Pattern>,
    args: Option<Expression>,
    #[serde(default)]
    uid: OneOrMany<u32>,
    cgroup: Option<CgroupPath>,
    count: Option<Count>,
    within: Option<Span>,
    before: Option<Span>,
    after: Option<After>,
    limit: Option<Limit>,
}

impl Trigger {
    fn new(keys: Keys) -> Result<Self, String> {
        let name = keys.name.0;
        let condition = EventCondition {
            kinds: keys.kind.0.into_iter().map(|kind| kind.0).collect(),
            signals: keys.signal.0.into_iter().map(|signal| signal.0).collect(),
            exit_codes: keys.exit_code.0,
            longer_than_ns: keys.longer_than.map(|span| span.0),
            comm: keys.comm.map(String::into_bytes),
            exe: keys.exe.map(|pattern| pattern.0),
            args: keys.args.map(|expression| expression.0),
            uids: keys.uid.0,
            cgroup: keys.cgroup.map(|path| path.0),
        };
        if condition.kind_mask() == 0 {
            return Err(format!(
                "trigger {name}: signal, exit_code and longer_than match only exits; add \"exit\" to kind"
            ));
        }
        let rate = match (keys.count, keys.within) {
            (None, None) => None,
            (Some(Count(count)), Some(Span(within_ns))) if within_ns > 0 => Some(Rate { count, within_ns }),
            (Some(_), Some(_)) => return Err(format!("trigger {name}: within must be longer than 0")),
            (Some(_), None) => return Err(format!("trigger {name}: count needs within, for example \"1s\"")),
            (None, Some(_)) => return Err(format!("trigger {name}: within needs count, for example 500")),
        };
        if condition.kinds.is_empty() && !condition.needs_exit() && !condition.needs_process() {
            return Err(format!("trigger {name} matches every event; add a condition, for example kind"));
        }
        let span = |span: Option<Span>, default| Duration::from_nanos(span.map_or(default, |span| span.0));
        Ok(Self {
            name,
            condition,
            rate,
            before: span(keys.before, 30 * SECOND),
            after: span(keys.after.map(|after| after.0), 10 * SECOND),
            limit: keys.limit.map_or(Rate { count: 6, within_ns: 3600 * SECOND }, |limit| limit.0),
        })
    }
}

/// One value, or a list.
struct OneOrMany<T>(Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Vec<T>, E> {
                T::deserialize(de::value::StrDeserializer::new(value)).map(|value| vec![value])
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Vec<T>, E> {
                T::deserialize(de::value::I64Deserializer::new(value)).map(|value| vec![value])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Vec<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(value) = values.next_element()? {
                    all.push(value);
                    if all.len() > MAX_VALUES {
                        return Err(de::Error::custom(format_args!(
                            "the list has more than {MAX_VALUES} values"
                        )));
                    }
                }
                match all.is_empty() {
                    true => Err(de::Error::custom("the list is empty; remove the key, or add a value")),
                    false => Ok(all),
                }
            }
        }

        deserializer.deserialize_any(Values(PhantomData)).map(Self)
    }
}

/// Implements `Deserialize` for a type that is parsed from a string.
macro_rules! parsed {
    ($name:ident($inner:ty), $parse:expr) => {
        struct $name($inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(&text).map(Self).map_err(de::Error::custom)
            }
        }
    };
}

parsed!(Name(ClipName), ClipName::new);

parsed!(Kind(EventKind), |text| {
    // Acknowledgements are of no process, and match no trigger.
    let is_allowed = |kind: &EventKind| kind.what().is_some() && *kind != EventKind::Ack;
    EventKind::from_name(text).filter(is_allowed).ok_or_else(|| {
        let names: Vec<_> =
            EventKind::ALL.iter().filter(|kind| is_allowed(kind)).map(|kind| kind.name()).collect();
        format!("{text:?} is no event kind; use one of {}", names.join(", "))
    })
});

parsed!(Span(u64), parse_duration);

parsed!(After(Span), |text| match parse_duration(text)? {
    ns if u128::from(ns) <= MAX_AFTER.as_nanos() => Ok(Span(ns)),
    _ => Err(format!("{text:?} is too long; a clip ends at most 1h after its event")),
});

parsed!(Pattern(Glob), |text| Glob::new(text).map_err(|error| error.to_string()));

parsed!(Expression(Regex), |text| {
    let regex = RegexBuilder::new(text).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build();
    regex.map_err(|error| format!("{text:?} is no regular expression: {error}"))
});

parsed!(CgroupPath(Vec<u8>), |text| match text.starts_with('/') {
    true => Ok(text.into()),
    false => Err(format!("{text:?} is no path of a cgroup; it begins with /, as in /proc/PID/cgroup")),
});

parsed!(Limit(Rate), |text| {
    let error = || format!("{text:?} is no limit; give a number per time, for example 6/h or 1/30s");
    let (count, unit) = text.split_once('/').ok_or_else(error)?;
    let count: u32 =
        count.trim().parse().ok().filter(|count| (1..=MAX_LIMIT).contains(count)).ok_or_else(error)?;
    let unit = unit.trim();
    let has_number = unit.starts_with(|c: char| c.is_ascii_digit());
    let within_ns = parse_duration(&if has_number { unit.into() } else { format!("1{unit}") });
    match within_ns {
        Ok(within_ns) if within_ns > 0 => Ok(Rate { count, within_ns }),
        _ => Err(error()),
    }
});

/// A signal, by name or number.
struct SignalNumber(u8);

impl<'de> Deserialize<'de> for SignalNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrNumber;

        impl Visitor<'_> for NameOrNumber {
            type Value = u8;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name or number of a signal")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<u8, E> {
                if let Ok(number) = name.parse() {
                    return self.visit_i64(number);
                }
                let upper = name.to_ascii_uppercase();
                let short = upper.strip_prefix("SIG").unwrap_or(&upper);
                let is_named =
                    |&number: &u8| signal_name(number).and_then(|of| of.strip_prefix("SIG")) == Some(short);
                let found = (1..=64).find(is_named);
                found.ok_or_else(|| {
                    E::custom(format_args!("{name:?} is no signal; use a name such as SIGSEGV, or a number"))
                })
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<u8, E> {
                let number = u8::try_from(number).ok().filter(|number| (1..=64).contains(number));
                number.ok_or_else(|| E::custom("a signal has a number from 1 to 64"))
            }
        }

        deserializer.deserialize_any(NameOrNumber).map(Self)
    }
}

/// A number of events.
struct Count(u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = i64::deserialize(deserializer)?;
        let count = u32::try_from(count).ok().filter(|count| (1..=MAX_COUNT).contains(count));
        let error = || de::Error::custom(format_args!("count must be from 1 to {MAX_COUNT}"));
        count.map(Self).ok_or_else(error)
    }
}

/// Parses a duration such as `30s`, `1.5h` or `500ms` to ns.
fn parse_duration(text: &str) -> Result<u64, String> {
    let error =
        || format!("{text:?} is no duration; give a number and a unit, for example 500ms, 30s, 5m, 1h or 7d");
    let text_of_number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[text_of_number.len()..] {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3_600e9,
        "d" => 86_400e9,
        _ => return Err(error()),
    };
    let is_number = text_of_number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = text_of_number.parse().ok().filter(|_| is_number).ok_or_else(error)?;
    let ns = number * unit;
    // 100 years.
    if ns > 3.2e18 { Err(error()) } else { Ok(ns as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct File {
        trigger: Vec<Trigger>,
    }

    fn parse(keys: &str) -> Result<Trigger, String> {
        let text = format!("[[trigger]]\nname = \"t\"\n{keys}\n");
        let file: File = toml::from_str(&text).map_err(|error| error.to_string())?;
        Ok(file.trigger.into_iter().next().unwrap())
    }

    #[test]
    fn each_key_is_read() {
        let trigger = parse(
            "kind = 'exit'\nsignal = ['SIGSEGV', 'abrt', 9]\nexit_code = 3\nlonger_than = '1.5s'\ncomm = 'nginx'\n\
             exe = '/usr/*/nginx'\nargs = '-c .*'\nuid = [0, 33]\ncgroup = '/system.slice'\ncount = 500\n\
             within = '1s'\nbefore = '2m'\nafter = '500ms'\nlimit = '4/30s'",
        )
        .unwrap();
        let condition = &trigger.condition;
        assert_eq!((&condition.kinds[..], &condition.signals[..]), (&[EventKind::Exit][..], &[11, 6, 9][..]));
        assert_eq!((&condition.exit_codes[..], condition.longer_than_ns), (&[3][..], Some(1_500_000_000)));
        assert_eq!((condition.comm.as_deref(), &condition.uids[..]), (Some(&b"nginx"[..]), &[0, 33][..]));
        assert_eq!(condition.exe.as_ref().unwrap().pattern(), "/usr/*/nginx");
        assert_eq!(condition.args.as_ref().unwrap().as_str(), "-c .*");
        assert_eq!(condition.cgroup.as_deref(), Some(&b"/system.slice"[..]));
        assert_eq!(trigger.rate, Some(Rate { count: 500, within_ns: SECOND }));
        assert_eq!(trigger.span(), (Duration::from_secs(120), Duration::from_millis(500)));
        assert_eq!(trigger.limit, Rate { count: 4, within_ns: 30 * SECOND });
    }

    #[test]
    fn defaults_are_30_s_before_10_s_after_and_6_clips_per_hour() {
        let trigger = parse("kind = ['exec', 'fork']").unwrap();
        assert_eq!(trigger.span(), (Duration::from_secs(30), Duration::from_secs(10)));
        assert_eq!((trigger.rate, trigger.limit), (None, Rate { count: 6, within_ns: 3600 * SECOND }));
    }

    #[test]
    fn wrong_keys_and_values_are_refused_with_line_and_reason() {
        for (keys, reason) in [
            ("", "matches every event"),
            ("kind = 'exot'", "\"exot\" is no event kind; use one of"),
            ("kind = 'ack'", "\"ack\" is no event kind; use one of fork"),
            ("kind = []", "the list is empty"),
            ("kind = 'exec'\nsignal = 'SEGV'", "match only exits"),
            ("signal = 'SIGFOO'", "\"SIGFOO\" is no signal"),
            ("signal = 65", "from 1 to 64"),
            ("exit_code = 256", "invalid value: integer `256`"),
            ("uid = -1", "invalid value: integer `-1`"),
            ("longer_than = '5'", "\"5\" is no duration"),
            ("longer_than = '-5s'", "is no duration"),
            ("longer_than = 'infs'", "is no duration"),
            ("exe = '[a'", "a [ without a ]"),
            ("args = '('", "is no regular expression"),
            ("args = '(?:a{1000}){1000}'", "is no regular expression"),
            ("cgroup = 'x'", "is no path of a cgroup"),
            ("kind = 'fork'\ncount = 5", "count needs within"),
            ("kind = 'fork'\nwithin = '1s'", "within needs count"),
            ("kind = 'fork'\ncount = 0\nwithin = '1s'", "count must be from 1"),
            ("kind = 'fork'\ncount = 5\nwithin = '0s'", "within must be longer than 0"),
            ("kind = 'fork'\nlimit = '6'", "\"6\" is no limit"),
            ("kind = 'fork'\nlimit = '0/h'", "is no limit"),
            ("kind = 'fork'\nrun = 'rm'", "unknown field `run`"),
            ("kind = 'fork'\nafter = '61m'", "at most 1h after its event"),
            ("kind = 'fork'\nbefore = 30", "invalid type: integer `30`, expected a string"),
        ] {
            let error = parse(keys).unwrap_err();
            assert!(error.contains(reason), "{keys}: {error}");
            assert!(error.contains("line "), "{keys}: {error}");
        }
        for name in ["", "a/b", "../x", "-x", "ü", &"x".repeat(65)] {
            let error =
                toml::from_str::<File>(&format!("[[trigger]]\nname = {name:?}\nkind = 'exit'")).unwrap_err();
            assert_eq!(error.span().map(|span| span.start), Some(19), "{error}");
        }
    }
}
