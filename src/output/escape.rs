//! Escapes bytes from untrusted sources for a terminal.

use std::fmt::Write as _;

use serde_json::Value;

/// Escapes control characters, characters that change the direction of writing, bytes that are not
/// UTF-8, and backslashes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if is_harmful(c) => push_escape(&mut out, c),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Escapes the characters of a message that could control the terminal.
pub(crate) fn harmless(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for c in message.chars() {
        if is_harmful(c) { push_escape(&mut out, c) } else { out.push(c) }
    }
    out
}

/// Returns a command line that bash splits into these arguments.
pub(crate) fn shell_words<'a>(args: impl Iterator<Item = &'a [u8]>) -> String {
    args.map(shell_word).collect::<Vec<_>>().join(" ")
}

/// Returns a word that bash takes for this argument.
pub(crate) fn shell_word(arg: &[u8]) -> String {
    match std::str::from_utf8(arg) {
        Ok(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Ok(text) if !text.chars().any(is_harmful) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{}'", printable(arg).replace('\'', r"\'")),
    }
}

/// Whether a character has no special meaning in a shell.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "_@%+=:,./-".contains(c)
}

/// Whether a character may control the terminal.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Appends the text of a JSON string, and escapes characters that could control a terminal.
pub(super) fn push_json(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if is_harmful(c) => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Returns JSON on several lines, like `{:#}` of the value, with characters escaped that could
/// control the terminal.
pub(crate) fn json_text(value: &Value) -> String {
    harmless_json(&format!("{value:#}"))
}

/// Returns JSON on one line, with characters escaped that could control the terminal.
pub(crate) fn json_line(value: &Value) -> String {
    harmless_json(&value.to_string())
}

fn harmless_json(json: &str) -> String {
    let mut out = String::new();
    // Line feeds are between the values only. In strings, they are escaped already.
    for c in json.chars() {
        match c {
            c if c != '\n' && is_harmful(c) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn push_escape(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c.is_ascii() => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
    }
}

#[cfg(test)]
mod tests;
