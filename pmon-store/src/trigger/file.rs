//! The triggers of a configuration file.

use std::collections::HashSet;
use std::ops::Range;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Trigger;

/// Maximum number of triggers.
const MAX_TRIGGERS: usize = 256;

/// Why the triggers of a configuration file are invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct TriggerError {
    /// Position in the text, in bytes.
    pub span: Range<usize>,
    /// The key, what is wrong with its value, and what is allowed.
    pub message: String,
}

/// Reads every `[[trigger]]` of a TOML text. Other keys are ignored.
///
/// # Errors
/// When the text is no TOML, a key or a value is invalid, two triggers have the same name, or there
/// are more than 256.
pub fn parse_triggers(text: &str) -> Result<Vec<Trigger>, TriggerError> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        trigger: Vec<Spanned<Trigger>>,
    }

    let file: File = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let message = match key_of(text, span.start) {
            Some(key) if key == "trigger" => {
                "trigger: write each trigger as a table, below [[trigger]]".into()
            }
            Some(key) => format!("{key}: {}", error.message()),
            None => error.message().to_owned(),
        };
        TriggerError { message, span }
    })?;
    let mut names = HashSet::new();
    for (index, trigger) in file.trigger.iter().enumerate() {
        let name = trigger.get_ref().name();
        let message = match names.insert(name) {
            true if index < MAX_TRIGGERS => continue,
            true => format!("there are more than {MAX_TRIGGERS} triggers"),
            false => format!("two triggers have the name {name}; give each its own"),
        };
        return Err(TriggerError { span: trigger.span(), message });
    }
    Ok(file.trigger.into_iter().map(Spanned::into_inner).collect())
}

/// Returns the key whose value has a position: that of a trigger, or `trigger` if it is no list of
/// tables.
fn key_of(text: &str, at: usize) -> Option<String> {
    let table = DeTable::parse(text).ok()?.into_inner();
    let DeValue::Array(triggers) = table.get("trigger")?.get_ref() else { return Some("trigger".into()) };
    let is_at = |value: &&Spanned<DeValue<'_>>| value.span().contains(&at);
    if triggers.iter().find(is_at).is_some_and(|trigger| !matches!(trigger.get_ref(), DeValue::Table(_))) {
        return Some("trigger".into());
    }
    let keys = triggers.iter().filter_map(|trigger| match trigger.get_ref() {
        DeValue::Table(keys) => Some(keys),
        _ => None,
    });
    let found = keys.flatten().find(|(_, value)| value.span().contains(&at));
    found.map(|(key, _)| key.get_ref().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (usize, String) {
        let error = parse_triggers(text).unwrap_err();
        (text[..error.span.start].matches('\n').count() + 1, error.message)
    }

    #[test]
    fn triggers_are_read_beside_other_keys() {
        let text =
            "max-use = '1G'\n[[trigger]]\nname = 'a'\nkind = 'exit'\n[[trigger]]\nname = 'b'\nsignal = 9\n";
        let names: Vec<_> =
            parse_triggers(text).unwrap().iter().map(|trigger| trigger.name().to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(parse_triggers("store = '/x'").unwrap().is_empty());
    }

    #[test]
    fn errors_name_line_and_key() {
        let first = "[[trigger]]\nname = 'a'\n";
        let (line, message) = error(&format!("{first}signal = 'SIGFOO'\n"));
        assert_eq!((line, &message[..28]), (3, "signal: \"SIGFOO\" is no signal"[..28].into()));
        let (line, message) = error(&format!("{first}kind = [\n  'exit',\n  'a=b',\n]\n"));
        assert!(line == 5 && message.starts_with("kind: \"a=b\" is no event kind"), "{line} {message}");
        let (line, message) = error(&format!("{first}kind = 'exit'\nrun = 'x'\n"));
        assert!(line == 4 && message.contains("unknown field `run`"), "{line} {message}");
        let twice = format!("{first}kind = 'exit'\n{first}kind = 'exit'\n");
        assert!(error(&twice).1.contains("two triggers have the name a"));
        let many: String = (0..257).map(|n| format!("[[trigger]]\nname = 't{n}'\nkind = 'exit'\n")).collect();
        assert!(error(&many).1.contains("more than 256"));
        assert!(
            error("[trigger]\nname = 'a'\n").1.contains("write each trigger as a table, below [[trigger]]")
        );
        assert!(error("trigger = [1]").1.starts_with("trigger: write each trigger as a table"));
    }
}
