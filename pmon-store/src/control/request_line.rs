//! Parses the line of a request. The errors are for people who write requests by hand.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::protocol::{PROTOCOL_VERSION, Request, RequestError, SnapshotRequest};

/// Maximum number of characters of a value in an error.
const MAX_SHOWN: usize = 40;
/// Maximum number of fields. Requests of later versions may have more than those of this one.
const MAX_FIELDS: usize = 32;
/// What a request looks like.
const EXAMPLE: &str = r#"send one JSON object in a line, for example {"request":"status"}"#;

/// Parses a line.
pub(super) fn parse(line: &[u8]) -> Result<Request, RequestError> {
    let malformed = |why: String| Err(RequestError::Malformed(why));
    let Ok(text) = std::str::from_utf8(line) else { return malformed("it is not UTF-8".into()) };
    if text.trim().is_empty() {
        return malformed(format!("the line is empty; {EXAMPLE}"));
    }
    let Fields(fields) = match serde_json::from_str(text) {
        Ok(fields) => fields,
        Err(error) if error.is_data() => return malformed(without_position(&error)),
        Err(error) => return malformed(format!("it is not JSON: {error}; {EXAMPLE}")),
    };
    // A later version may have other fields, so the version is checked first.
    if let Some((_, version)) = fields.iter().find(|(key, _)| key == "version")
        && version.as_u64() != Some(PROTOCOL_VERSION)
    {
        return Err(RequestError::Version(shown(version)));
    }
    let (mut request, mut snapshot) = (None, SnapshotRequest::default());
    for (key, value) in fields {
        match key.as_str() {
            "version" => {}
            "request" => request = Some(value),
            "name" => snapshot.name = string(&key, value)?,
            "before_ns" => snapshot.before_ns = nanoseconds(&key, &value)?,
            "after_ns" => snapshot.after_ns = nanoseconds(&key, &value)?,
            _ => {
                let key = shown(&Value::String(key));
                return malformed(format!(
                    "there is no field {key}; use request, version, and for snapshot name, before_ns and after_ns"
                ));
            }
        }
    }
    let Some(request) = request else {
        return malformed(format!("the field `request` is missing; {EXAMPLE}"));
    };
    let request = match request.as_str() {
        Some("snapshot") => return Ok(Request::Snapshot(snapshot)),
        Some("status") => Request::Status,
        Some("rotate") => Request::Rotate,
        Some("reload") => Request::Reload,
        Some("upgrade") => Request::Upgrade,
        _ => return Err(RequestError::Unknown(shown(&request))),
    };
    if snapshot != SnapshotRequest::default() {
        return malformed(format!("`{}` has none of the fields name, before_ns, after_ns", request.name()));
    }
    Ok(request)
}

fn string(key: &str, value: Value) -> Result<Option<String>, RequestError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        value => Err(RequestError::Malformed(format!("`{key}` must be a string, and not {}", shown(&value)))),
    }
}

fn nanoseconds(key: &str, value: &Value) -> Result<Option<u64>, RequestError> {
    match value {
        Value::Null => Ok(None),
        value => value.as_u64().map(Some).ok_or_else(|| {
            RequestError::Malformed(format!(
                "`{key}` must be a whole number of nanoseconds from 0 to {}, and not {}",
                u64::MAX,
                shown(value)
            ))
        }),
    }
}

/// Returns a value as JSON, truncated.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// Returns the message of an error without its position, which is always in line 1.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned()
}

/// The fields of an object, each of which is given once.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object such as {\"request\":\"status\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Value)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if fields.iter().any(|(other, _)| *other == key) {
                        let key = shown(&Value::String(key));
                        return Err(de::Error::custom(format_args!("the field {key} is given twice")));
                    }
                    if fields.len() >= MAX_FIELDS {
                        return Err(de::Error::custom(format_args!("it has more than {MAX_FIELDS} fields")));
                    }
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
