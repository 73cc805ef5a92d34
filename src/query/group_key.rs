//! What the processes of a group have in common, as text and as JSON.

use pmon_analysis::groups::{GroupBy, GroupKey, GroupSums};
use pmon_analysis::life::Ancestor;
use serde_json::{Map, Value};

use super::command_line;
use crate::output::{printable, shell_words};
use crate::users::UserNames;

/// Length of an identifier of a container after its name.
const SHORT_ID: usize = 12;

/// Returns the key of a group as text.
pub(crate) fn group_text(key: &GroupKey, sums: &GroupSums, by: GroupBy, users: &UserNames) -> String {
    let ancestor = sums.ancestor.as_deref();
    match key {
        GroupKey::Text(id) if let Some(name) = &sums.container => {
            format!("{} {}", printable(name), printable(&id[..id.len().min(SHORT_ID)]))
        }
        GroupKey::Text(text) if by == GroupBy::Args => match text.is_empty() {
            true => "''".into(),
            false => shell_words(argv(text)),
        },
        GroupKey::Text(text) => printable(text),
        GroupKey::User(user) => users.text(*user),
        GroupKey::Process(_) => {
            let text = |of: &Ancestor| format!("{} {}", of.pid, command_line(of.program.get(), of.comm()));
            ancestor.map_or_else(|| "-".into(), text)
        }
        GroupKey::None => "-".into(),
        GroupKey::Other => "(other)".into(),
    }
}

/// Returns the fields of a JSON object that identify a group.
pub(crate) fn group_json(key: &GroupKey, sums: &GroupSums, by: GroupBy) -> Map<String, Value> {
    let ancestor = sums.ancestor.as_deref();
    let value = match key {
        GroupKey::Text(text) if by == GroupBy::Args => {
            argv(text).map(String::from_utf8_lossy).collect::<Value>()
        }
        GroupKey::Text(text) => String::from_utf8_lossy(text).into(),
        GroupKey::User(user) => (*user).into(),
        GroupKey::Process(id) => id.0.into(),
        GroupKey::None | GroupKey::Other => Value::Null,
    };
    let program = ancestor.map(|of| of.program.get()).filter(|program| program.args.is_some());
    let args = program.map(|program| program.argv().map(String::from_utf8_lossy).collect::<Value>());
    let fields = [
        ("kind", "group".into()),
        ("by", by.name().into()),
        ("key", value),
        ("other", (*key == GroupKey::Other).into()),
        ("pid", ancestor.map(|of| of.pid).into()),
        ("comm", ancestor.and_then(Ancestor::comm).map(String::from_utf8_lossy).into()),
        ("args", args.unwrap_or(Value::Null)),
        ("container", sums.container.as_deref().map(String::from_utf8_lossy).into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns the parts of a key that decide the order of groups that are equal otherwise.
pub(crate) fn group_order(key: &GroupKey) -> (u8, u64, &[u8]) {
    match key {
        GroupKey::Text(text) => (0, 0, text),
        GroupKey::User(user) => (0, u64::from(*user), b""),
        GroupKey::Process(id) => (0, id.0, b""),
        GroupKey::None | GroupKey::Other => (1, 0, b""),
    }
}

/// Returns the arguments of a command line, each of which ends with a zero byte.
fn argv(args: &[u8]) -> impl Iterator<Item = &[u8]> {
    let args = Some(args).filter(|args| !args.is_empty());
    let args = args.map(|args| args.strip_suffix(b"\0").unwrap_or(args));
    args.into_iter().flat_map(|args| args.split(|&byte| byte == 0))
}
