//! Bytes that somebody else chose, made fit for a terminal.

use std::fmt::Write as _;

/// Text in which control characters, what changes the direction of writing, bytes that are not UTF-8, and the
/// backslash itself are escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    push_printable(&mut out, bytes);
    out
}

/// See [`printable`].
pub(crate) fn push_printable(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if is_harmful(c) => push_escape(out, c),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// A message, with escapes where a file's name in it would drive the terminal.
pub(crate) fn harmless(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for c in message.chars() {
        if is_harmful(c) { push_escape(&mut out, c) } else { out.push(c) }
    }
    out
}

/// A command line that bash would split into these arguments again.
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
            out.push('\'');
            out.push_str(&text.replace('\'', r"'\''"));
            out.push('\'');
        }
        _ => {
            out.push_str("$'");
            let start = out.len();
            push_printable(out, arg);
            let quoted = out.split_off(start).replace('\'', r"\'");
            out.push_str(&quoted);
            out.push('\'');
        }
    }
}

/// Whether no shell reads anything into it.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "_@%+=:,./-".contains(c)
}

/// Whether a terminal may do anything else than show it.
pub(super) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
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
    fn nothing_drives_the_terminal() {
        assert_eq!(printable(b"\x1b[2Jevil\n"), r"\x1b[2Jevil\n");
        assert_eq!(printable("\u{9b}2J\u{202e}".as_bytes()), r"\u009b2J\u202e");
        assert_eq!(printable(b"a\xffb\\"), r"a\xffb\\");
        assert_eq!(printable("größe".as_bytes()), "größe");
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
