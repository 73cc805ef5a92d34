//! The types of the values in the TOML of a fault script, with their errors.

use std::fmt;
use std::marker::PhantomData;

use pmon_core::wire::EventKind;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use toml::Spanned;

use super::amount::{Amount, parse_range, parse_time};
use super::errno_names;
use super::nearest::nearest;

/// A type of values.
pub(super) trait Value: Sized {
    /// What a value of this type can be.
    const EXPECTED: &str;

    fn from_integer(_: i64) -> Option<Self> {
        None
    }

    fn from_float(_: f64) -> Option<Self> {
        None
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    /// Converts a text, or returns the error.
    fn from_text(_: &str) -> Option<Result<Self, String>> {
        None
    }

    fn from_table<'de, A: MapAccess<'de>>(_: A) -> Option<Result<Self, A::Error>> {
        None
    }
}

/// A value of the script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed<T>(pub(super) T);

impl<'de, T: Value> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor(PhantomData)).map(Self)
    }
}

struct ValueVisitor<T>(PhantomData<T>);

impl<'de, T: Value> Visitor<'de> for ValueVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::from_integer(number).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let value = i64::try_from(number).ok().and_then(T::from_integer);
        value.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::from_float(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        T::from_bool(value).ok_or_else(|| E::invalid_value(Unexpected::Bool(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        match T::from_text(text) {
            Some(value) => value.map_err(E::custom),
            None => Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<T, A::Error> {
        match T::from_table(table) {
            Some(value) => value,
            None => Err(A::Error::invalid_type(Unexpected::Map, &self)),
        }
    }
}

/// The number of an event, or of events.
impl Value for u64 {
    const EXPECTED: &str = "an integer from 0";

    fn from_integer(number: i64) -> Option<Self> {
        number.try_into().ok()
    }
}

/// The id of a process or of a CPU, or another number of the kernel.
impl Value for u32 {
    const EXPECTED: &str = "an integer from 0 to 4294967295";

    fn from_integer(number: i64) -> Option<Self> {
        number.try_into().ok()
    }
}

/// A probability; its range is checked later.
impl Value for f64 {
    const EXPECTED: &str = "a probability from 0 to 1";

    fn from_integer(number: i64) -> Option<Self> {
        Some(number as Self)
    }

    fn from_float(number: f64) -> Option<Self> {
        Some(number)
    }
}

/// The name of a process, or a pattern.
impl Value for String {
    const EXPECTED: &str = "a text in quotation marks";

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        Some(Ok(text.to_owned()))
    }
}

impl Value for Amount {
    const EXPECTED: &str = "a number from 0 to 4294967295, or a range such as \"1..50\"";

    fn from_integer(number: i64) -> Option<Self> {
        Some(u32::try_from(number).ok()?.into())
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        Some(parse_range(text).ok_or_else(|| format!("\"{text}\" is not a range such as \"1..50\"")))
    }
}

/// An amount of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeAmount(pub(super) Amount);

impl Value for TimeAmount {
    const EXPECTED: &str =
        "a number of ns from 0 to 4294967295, a duration such as \"10ms\", or a range such as \"1ms..5ms\"";

    fn from_integer(number: i64) -> Option<Self> {
        Amount::from_integer(number).map(Self)
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        let wrong = || {
            format!(
                "\"{text}\" is neither a duration such as \"10ms\" (units ns, us, ms, s, m, h) nor a range such as \
                 \"1ms..5ms\""
            )
        };
        Some(parse_time(text).map(Self).ok_or_else(wrong))
    }
}

/// The value `true`, the only one of a key without an amount.
#[derive(Clone, Copy, Debug)]
pub(super) struct True;

impl Value for True {
    const EXPECTED: &str = "`true`";

    fn from_bool(value: bool) -> Option<Self> {
        value.then_some(Self)
    }
}

/// An error number, or its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorNumber(pub(super) i32);

impl Value for ErrorNumber {
    const EXPECTED: &str = "the name of an error such as \"EINTR\", or its number";

    fn from_integer(number: i64) -> Option<Self> {
        number.try_into().ok().map(Self)
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        let errno = errno_names::from_name(text).map(|errno| Self(errno.raw_os_error()));
        Some(errno.ok_or_else(|| match nearest(text, errno_names::names()) {
            Some(name) => format!("no error of Linux has the name \"{text}\"; did you mean \"{name}\"?"),
            None => format!(
                "no error of Linux has the name \"{text}\"; use a name such as \"EINTR\", or a number"
            ),
        }))
    }
}

/// A kind of events.
impl Value for EventKind {
    const EXPECTED: &str = "the name of a kind of events, such as \"fork\"";

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        Some(Self::from_name(text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.into_iter().map(Self::name).collect();
            let hint = nearest(text, names.iter().copied());
            let hint = hint.map_or_else(String::new, |name| format!("did you mean \"{name}\"? "));
            format!("no events have the kind \"{text}\"; {hint}The kinds are {}", names.join(", "))
        }))
    }
}

/// The value of `at`.
#[derive(Debug)]
pub(super) enum AtSyntax {
    Number(u64),
    Place(PlaceTable),
}

impl Value for AtSyntax {
    const EXPECTED: &str = "the number of an event, or a place such as { kind = \"fork\", pid = 5071 }";

    fn from_integer(number: i64) -> Option<Self> {
        number.try_into().ok().map(Self::Number)
    }

    fn from_table<'de, A: MapAccess<'de>>(table: A) -> Option<Result<Self, A::Error>> {
        Some(PlaceTable::deserialize(MapAccessDeserializer::new(table)).map(Self::Place))
    }
}

/// A place as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PlaceTable {
    pub(super) kind: Option<Spanned<Parsed<EventKind>>>,
    pub(super) pid: Option<Parsed<u32>>,
    pub(super) tid: Option<Parsed<u32>>,
    pub(super) parent: Option<Parsed<u32>>,
    pub(super) comm: Option<Spanned<Parsed<String>>>,
    pub(super) args: Option<Spanned<Parsed<String>>>,
    pub(super) nth: Option<Spanned<Parsed<u64>>>,
}

impl Value for PlaceTable {
    const EXPECTED: &str = "a place such as { kind = \"fork\", pid = 5071 }";

    fn from_table<'de, A: MapAccess<'de>>(table: A) -> Option<Result<Self, A::Error>> {
        Some(Self::deserialize(MapAccessDeserializer::new(table)))
    }
}
