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
    let mut out = String::new();
    for (n, arg) in args.enumerate() {
        if n > 0 {
            out.push(' ');
        }
        push_shell_word(&mut out, arg);
    }
    out
}

fn push_shell_word(out: &mut String, arg: &[u8]) {
    match std::str::from_utf8(arg) {
        Ok(text) if !text.is_empty() && text.chars().all(is_plain) => out.push_str(text),
        Ok(text) if !text.chars().any(is_harmful) => {
            let _ = write!(out, "'{}'", text.replace('\'', r"'\''"));
        }
        _ => {
            let _ = write!(out, "$'{}'", printable(arg).replace('\'', r"\'"));
        }
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
    let mut out = String::new();
    // Line feeds are between the values only. In strings, they are escaped already.
    for c in format!("{value:#}").chars() {
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
mod tests {
    use super::*;

    #[test]
    fn characters_that_control_the_terminal_are_escaped() {
        assert_eq!(printable(b"\x1b[2Jevil\n"), r"\x1b[2Jevil\n");
        assert_eq!(printable("\u{9b}2J\u{202e}".as_bytes()), r"\u009b2J\u202e");
        assert_eq!(printable(b"a\xffb\\"), r"a\xffb\\");
        assert_eq!(printable("größe".as_bytes()), "größe");
    }

    #[test]
    fn json_differs_from_serde_only_in_characters_that_control_the_terminal() {
        let plain =
            serde_json::json!({ "a": ["größe\"\\\n", 1, null, {}, []], "b": { "c": -1.5, "d": true } });
        assert_eq!(json_text(&plain), format!("{plain:#}"));
        let hostile = serde_json::json!({ "k\u{7f}": "\u{7f}\u{9b}2J\u{202e}\u{2066}\u{200f}\u{61c}\u{85}" });
        let text = json_text(&hostile);
        assert!(!text.chars().any(|c| c != '\n' && is_harmful(c)), "{text:?}");
        assert!(text.contains(r"\u009b2J\u202e"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(hostile));
    }

    #[test]
    fn words_are_quoted_where_needed() {
        let words = |args: &[&[u8]]| shell_words(args.iter().copied());
        assert_eq!(words(&[b"/usr/bin/git", b"status"]), "/usr/bin/git status");
        assert_eq!(words(&[b"sh", b"-c", b"echo $HOME", b""]), "sh -c 'echo $HOME' ''");
        assert_eq!(words(&[b"it's"]), r"'it'\''s'");
        assert_eq!(words(&[b"a'\x1b\xff"]), r"$'a\'\x1b\xff'");
    }
}
