//! The values of the keys, as they are written.

use std::fmt;
use std::marker::PhantomData;

use pmon_analysis::filter::{Glob, Regex, compile_regex};
use pmon_analysis::wait_status::signal_number;
use pmon_core::wire::EventKind;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};

use crate::clip::{ClipName, MAX_AFTER};
use crate::trigger::window::{MAX_COUNT, Rate};

/// Maximum number of values of a key.
const MAX_VALUES: usize = 256;
/// Maximum number of clips that a limit allows.
const MAX_LIMIT: u32 = 10_000;
/// Maximum length of the name of a process in bytes: `TASK_COMM_LEN` of the kernel without the
/// final zero. Only the name of a kernel thread in `/proc` can be longer.
const MAX_COMM: usize = 15;

/// One value, or a list.
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

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
    ($name:ident($inner:ty), $expected:literal, $parse:expr) => {
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $inner;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$inner, E> {
                        let parse: fn(&str) -> Result<$inner, String> = $parse;
                        parse(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text).map(Self)
            }
        }
    };
}

/// Implements `Deserialize` for a number in a range.
macro_rules! number {
    ($name:ident($inner:ty), $range:expr, $expected:expr) => {
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct InRange;

                impl Visitor<'_> for InRange {
                    type Value = $inner;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "{} from {} to {}", $expected, $range.start(), $range.end())
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$inner, E> {
                        let in_range =
                            <$inner>::try_from(number).ok().filter(|number| $range.contains(number));
                        in_range.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
                    }
                }

                deserializer.deserialize_i64(InRange).map(Self)
            }
        }
    };
}

number!(ExitCode(u8), (0..=u8::MAX), "an exit code");
// The largest number is no user.
number!(UserId(u32), (0..=u32::MAX - 1), "a user id");
number!(Count(u32), (1..=MAX_COUNT), "a number");

parsed!(Name(ClipName), "a name, for example \"nginx-crash\"", ClipName::new);

parsed!(Kind(EventKind), "the name of an event kind, for example \"exit\"", |text| {
    // Acknowledgements are of no process, and match no trigger.
    let is_allowed = |kind: &EventKind| kind.what().is_some() && *kind != EventKind::Ack;
    EventKind::from_name(text).filter(is_allowed).ok_or_else(|| {
        let names: Vec<_> =
            EventKind::ALL.iter().filter(|kind| is_allowed(kind)).map(|kind| kind.name()).collect();
        format!("{text:?} is no event kind; use one of {}", names.join(", "))
    })
});

parsed!(Span(u64), "a duration, for example \"30s\"", parse_duration);

parsed!(After(Span), "a duration, for example \"10s\"", |text| match parse_duration(text)? {
    ns if u128::from(ns) <= MAX_AFTER.as_nanos() => Ok(Span(ns)),
    _ => Err(format!("{text:?} is too long; a clip ends at most 1h after its event")),
});

parsed!(ProcessName(Vec<u8>), "the name of a process, for example \"nginx\"", |text| match text.len() {
    1..=MAX_COMM => Ok(text.into()),
    0 => Err("comm is empty; remove the key, or give a name".into()),
    len => Err(format!(
        "{text:?} has {len} bytes and matches no process, because the kernel truncates names to {MAX_COMM} \
         bytes; give the truncated name, or use exe"
    )),
});

parsed!(Pattern(Glob), "a pattern, for example \"/usr/*/nginx\"", |text| match text {
    "" => Err("the pattern is empty and matches nothing; remove the key, or give one".into()),
    text => Glob::new(text).map_err(|error| error.to_string()),
});

parsed!(ContainerId(Vec<u8>), "the first characters of a container's identifier", |text| match text {
    "" =>
        Err("the identifier is empty and matches every container; remove the key, or give its begin".into()),
    text => Ok(text.into()),
});

parsed!(Expression(Regex), "a regular expression", |text| {
    if text.is_empty() {
        return Err(
            "the expression is empty and matches every command line; remove the key, or give one".into()
        );
    }
    compile_regex(text).map_err(|error| format!("{text:?} is no regular expression: {error}"))
});

parsed!(CgroupPath(Vec<u8>), "a path, for example \"/system.slice\"", |text| match text.starts_with('/') {
    true => Ok(text.into()),
    false => Err(format!("{text:?} is no path of a cgroup; it begins with /, as in /proc/PID/cgroup")),
});

parsed!(Limit(Rate), "a limit, for example \"6/h\"", |text| {
    let error = || {
        format!(
            "{text:?} is no limit; give a number of clips, from 1 to {MAX_LIMIT}, per time, for example 6/h or 1/30s"
        )
    };
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
pub(super) struct SignalNumber(pub(super) u8);

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
                signal_number(name).ok_or_else(|| {
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
    if ns > 3.2e18 { Err(format!("{text:?} is too long; the maximum is 100 years")) } else { Ok(ns as u64) }
}
