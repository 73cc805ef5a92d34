//! Escapes bytes from untrusted sources for a terminal.

use std::fmt::Write as _;

use serde_json::Value;

/// Escapes control characters, characters that change the direction of writing, bytes that are not
/// UTF-8, and backslashes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    push_printable(&mut out, bytes);
    out
}

/// Appends the text that [`printable`] returns.
pub(super) fn push_printable(out: &mut String, bytes: &[u8]) {
    if let (true, Ok(text)) = (is_plain_ascii(bytes, [b'\\']), std::str::from_utf8(bytes)) {
        return out.push_str(text);
    }
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

/// Returns whether all bytes are printable ASCII characters, and none is a `special` one. Most
/// texts need no escapes, which this finds out for eight bytes at a time.
#[inline]
pub(super) fn is_plain_ascii<const N: usize>(bytes: &[u8], special: [u8; N]) -> bool {
    /// Each byte is 1.
    const ONES: u64 = u64::MAX / 255;
    let is_plain = |word: u64| {
        let zero_in = |word: u64| word.wrapping_sub(ONES) & !word;
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let above_tilde = word | word.wrapping_add(ONES);
        let found = special.iter().map(|&byte| zero_in(word ^ (ONES * u64::from(byte))));
        (found.fold(below_space | above_tilde, |all, found| all | found) & ONES << 7) == 0
    };
    let Some(last) = bytes.last_chunk::<8>() else {
        return is_plain(u64::from_ne_bytes(short_word(bytes)));
    };
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().all(|&word| is_plain(u64::from_ne_bytes(word))) && is_plain(u64::from_ne_bytes(*last))
}

/// Returns eight bytes with all bytes of a text of less than eight, some of them twice. A copy of
/// the text would cost a function call.
#[inline]
fn short_word(bytes: &[u8]) -> [u8; 8] {
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>(), bytes) {
        (Some(&[a, b, c, d]), Some(&[e, f, g, h]), _) => [a, b, c, d, e, f, g, h],
        (.., &[a, b, c]) => [a, b, c, c, c, c, c, c],
        (.., &[a, b]) => [a, b, b, b, b, b, b, b],
        (.., &[a]) => [a; 8],
        _ => [b'x'; 8],
    }
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
    push_shell_words(&mut out, args);
    out
}

/// Returns a word that bash takes for this argument.
pub(crate) fn shell_word(arg: &[u8]) -> String {
    shell_words(std::iter::once(arg))
}

/// Appends the text that [`shell_words`] returns.
pub(super) fn push_shell_words<'a>(out: &mut String, args: impl Iterator<Item = &'a [u8]>) {
    for (n, arg) in args.enumerate() {
        if n > 0 {
            out.push(' ');
        }
        push_shell_word(out, arg);
    }
}

fn push_shell_word(out: &mut String, arg: &[u8]) {
    let is_plain = arg.iter().all(|&byte| IS_PLAIN[usize::from(byte)]);
    if let (true, false, Ok(text)) = (is_plain, arg.is_empty(), std::str::from_utf8(arg)) {
        return out.push_str(text);
    }
    out.push_str(&match std::str::from_utf8(arg) {
        Ok(text) if !text.is_empty() && text.chars().all(is_plain_char) => text.to_owned(),
        Ok(text) if !text.chars().any(is_harmful) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{}'", printable(arg).replace('\'', r"\'")),
    });
}

/// Characters without a special meaning in a shell, besides letters and digits.
const PLAIN: &[u8] = b"_@%+=:,./-";

/// Whether each byte is an ASCII letter or digit, or among [`PLAIN`].
const IS_PLAIN: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < PLAIN.len() {
        table[PLAIN[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether a character has no special meaning in a shell.
fn is_plain_char(c: char) -> bool {
    c.is_alphanumeric() || u8::try_from(c).is_ok_and(|byte| PLAIN.contains(&byte))
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
