//! The SQL functions that SQLite lacks.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use pmon_analysis::wait_status;
use regex::bytes::{Regex, RegexBuilder};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Error, Result};

use crate::value::iso;

/// Maximum size of a compiled regular expression in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// The functions, each with its meaning.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("iso(ns)", "Time in RFC 3339 and UTC, of a number of ns since 1970."),
    ("ago(span)", "Time before now in ns since 1970, for a span such as `2 days` or `1h 30m`."),
    ("signal_name(n)", "Name of a signal, such as `SIGKILL`; null if it has none."),
    ("basename(path)", "Part of a path after the last `/`."),
    ("cmdline(args)", "Arguments of a JSON array, separated by spaces."),
    (
        "regexp(pattern, text)",
        "Whether a regular expression matches a part of the text; also `text REGEXP pattern`.",
    ),
    (
        "regex_match(text, pattern, group)",
        "What a group of the first match of a regular expression matches, as in osquery; group 0 is the whole match; null without a match.",
    ),
    (
        "split(text, separators, index)",
        "Part of a text between characters of `separators`, as in osquery: without empty parts, counted from 0, without spaces around it; null if there is no such part.",
    ),
];

/// Adds the functions. `now` is the current time in ns since 1970.
pub(crate) fn register(connection: &Connection, now: Arc<AtomicI64>) -> Result<()> {
    let flags = FunctionFlags::from_iter([
        FunctionFlags::SQLITE_UTF8,
        FunctionFlags::SQLITE_DETERMINISTIC,
        FunctionFlags::SQLITE_INNOCUOUS,
    ]);
    connection.create_scalar_function("iso", 1, flags, |ctx| Ok(integer(ctx.get_raw(0)).map(iso)))?;
    connection.create_scalar_function("ago", 1, flags, move |ctx| ago(ctx, now.load(Ordering::Relaxed)))?;
    connection.create_scalar_function("signal_name", 1, flags, |ctx| {
        let number = integer(ctx.get_raw(0)).and_then(|number| u8::try_from(number).ok());
        Ok(number.and_then(wait_status::signal_name))
    })?;
    connection.create_scalar_function("basename", 1, flags, |ctx| {
        let Some(path) = text(ctx.get_raw(0)) else { return Ok(ToSqlOutput::Owned(Value::Null)) };
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        // The name is a part of the argument, which need not be UTF-8.
        Ok(match std::str::from_utf8(name) {
            Ok(name) => ToSqlOutput::Owned(Value::Text(name.to_owned())),
            Err(_) => ToSqlOutput::Owned(Value::Text(String::from_utf8_lossy(name).into_owned())),
        })
    })?;
    connection.create_scalar_function("cmdline", 1, flags, |ctx| {
        let args = text(ctx.get_raw(0)).and_then(|args| serde_json::from_slice::<Vec<String>>(args).ok());
        Ok(args.map(|args| args.join(" ")))
    })?;
    connection.create_scalar_function("regexp", 2, flags, |ctx| {
        let regex: Arc<Option<Regex>> = ctx.get_or_create_aux(0, compile)?;
        let Some(regex) = &*regex else { return Ok(None) };
        Ok(match ctx.get_raw(1) {
            ValueRef::Null => None,
            ValueRef::Text(text) | ValueRef::Blob(text) => Some(regex.is_match(text)),
            ValueRef::Integer(number) => Some(regex.is_match(number.to_string().as_bytes())),
            ValueRef::Real(number) => Some(regex.is_match(number.to_string().as_bytes())),
        })
    })?;
    connection.create_scalar_function("regex_match", 3, flags, |ctx| {
        let regex: Arc<Option<Regex>> = ctx.get_or_create_aux(1, compile)?;
        let (Some(regex), Some(text), Some(group)) = (&*regex, text(ctx.get_raw(0)), index(ctx.get_raw(2)))
        else {
            return Ok(None);
        };
        let part = regex.captures(text).and_then(|captures| Some(captures.get(group)?.as_bytes().to_vec()));
        Ok(part.map(into_text))
    })?;
    connection.create_scalar_function("split", 3, flags, |ctx| {
        let (Some(text), Some(separators)) = (text(ctx.get_raw(0)), text(ctx.get_raw(1))) else {
            return Ok(None);
        };
        let parts = text.split(|byte| separators.contains(byte)).filter(|part| !part.is_empty());
        let part = index(ctx.get_raw(2)).and_then(|index| parts.into_iter().nth(index));
        Ok(part.map(|part| into_text(part.trim_ascii().to_vec())))
    })
}

/// Compiles a regular expression; `None` if it is null.
fn compile(pattern: ValueRef<'_>) -> std::result::Result<Option<Regex>, String> {
    let pattern = match pattern {
        ValueRef::Null => return Ok(None),
        ValueRef::Text(text) | ValueRef::Blob(text) => Cow::Borrowed(text),
        ValueRef::Integer(number) => Cow::Owned(number.to_string().into_bytes()),
        ValueRef::Real(number) => Cow::Owned(number.to_string().into_bytes()),
    };
    let pattern = std::str::from_utf8(&pattern).map_err(|error| format!("no regular expression: {error}"))?;
    let built = RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build();
    built.map(Some).map_err(|error| {
        // The last line of an error of syntax has the reason; those before show the pattern.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default();
        format!("no regular expression: {}", reason.trim_start_matches("error: "))
    })
}

/// Returns a text as UTF-8, with U+FFFD in place of other bytes.
fn into_text(text: Vec<u8>) -> String {
    String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn index(value: ValueRef<'_>) -> Option<usize> {
    usize::try_from(integer(value)?).ok()
}

fn ago(ctx: &Context<'_>, now: i64) -> Result<Option<i64>> {
    let Some(span) = text(ctx.get_raw(0)) else { return Ok(None) };
    let span = String::from_utf8_lossy(span);
    let wrong = |why: &dyn Display| {
        Error::UserFunctionError(format!("ago({span:?}): {why}; an example is ago('2 days')").into())
    };
    let parsed: Span = span.parse().map_err(|error| wrong(&error))?;
    let now = Timestamp::from_nanosecond(now.into()).map_err(|error| wrong(&error))?;
    let then = now.to_zoned(TimeZone::UTC).checked_sub(parsed).map_err(|error| wrong(&error))?;
    let then = i64::try_from(then.timestamp().as_nanosecond()).map_err(|error| wrong(&error))?;
    Ok(Some(then))
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        ValueRef::Real(number) => Some(number as i64),
        _ => None,
    }
}

fn text(value: ValueRef<'_>) -> Option<&[u8]> {
    match value {
        ValueRef::Text(text) => Some(text),
        _ => None,
    }
}
