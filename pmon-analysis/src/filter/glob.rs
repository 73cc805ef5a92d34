//! Patterns for paths, as in a shell.

use std::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

/// Maximum length of a pattern, in bytes.
const MAX_PATTERN: usize = 4096;

/// A pattern for paths.
///
/// `*` matches any bytes except `/`, and `?` one such byte. `**` matches any bytes. `[abc]`,
/// `[a-z]` and `[!a-z]` match one byte. `\` makes the next character literal. A pattern without `/`
/// matches the last component of a path.
#[derive(Clone, Debug)]
pub struct Glob {
    pattern: String,
    regex: Regex,
}

/// Why a pattern is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GlobError {
    /// A `[` has no `]`.
    #[error("the pattern has a [ without a ]; write \\[ for the character itself")]
    Unclosed,
    /// A range in brackets is empty or reversed.
    #[error("the pattern has an invalid range in brackets: {0}")]
    Range(String),
    /// The pattern is longer than 4,096 bytes.
    #[error("the pattern is longer than {MAX_PATTERN} bytes")]
    TooLong,
}

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When the pattern is too long, or when brackets are wrong.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        if pattern.len() > MAX_PATTERN {
            return Err(GlobError::TooLong);
        }
        let regex = RegexBuilder::new(&translated(pattern)?)
            .unicode(false)
            .dot_matches_new_line(true)
            .build()
            .map_err(|error| GlobError::Range(error.to_string()))?;
        Ok(Self { pattern: pattern.to_owned(), regex })
    }

    /// Returns whether the pattern matches the path.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.regex.is_match(path)
    }

    /// Returns the pattern as it was given.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// Translates a pattern to a regular expression.
fn translated(pattern: &str) -> Result<String, GlobError> {
    let mut regex = String::from(if pattern.contains('/') { "^" } else { "(?:^|/)" });
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '*' if rest.starts_with('*') => {
                rest = rest.trim_start_matches('*');
                regex.push_str(".*");
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => {
                // A `]` that comes first is literal.
                let start = usize::from(rest.starts_with('!'));
                let skip = start + usize::from(rest[start..].starts_with(']'));
                let end = rest[skip..].find(']').ok_or(GlobError::Unclosed)? + skip;
                regex.push_str(if start == 1 { "[^/" } else { "[" });
                for byte in rest[start..end].bytes() {
                    push_byte(&mut regex, byte, byte == b'-');
                }
                regex.push(']');
                rest = &rest[end + 1..];
            }
            '\\' if !rest.is_empty() => {
                let literal = rest.chars().next().map_or(0, char::len_utf8);
                rest[..literal].bytes().for_each(|byte| push_byte(&mut regex, byte, false));
                rest = &rest[literal..];
            }
            literal => {
                let mut bytes = [0; 4];
                literal.encode_utf8(&mut bytes).bytes().for_each(|byte| push_byte(&mut regex, byte, false));
            }
        }
    }
    regex.push('$');
    Ok(regex)
}

/// Appends a byte, as an operator or as itself.
fn push_byte(regex: &mut String, byte: u8, is_operator: bool) {
    if is_operator || byte.is_ascii_alphanumeric() {
        regex.push(char::from(byte));
    } else {
        // Writing to a string cannot fail.
        let _ = write!(regex, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, path, is_match) in [
            ("/usr/bin/*", "/usr/bin/ls", true),
            ("/usr/bin/*", "/usr/bin/a/ls", false),
            ("/usr/**/ls", "/usr/bin/a/ls", true),
            ("/usr/bin/ls", "/x/usr/bin/ls", false),
            ("nginx", "/usr/sbin/nginx", true),
            ("nginx", "/usr/sbin/nginx2", false),
            ("nginx", "nginx", true),
            ("python3.?", "/usr/bin/python3.1", true),
            ("python3.?", "/usr/bin/python3x1", false),
            ("[a-c]*", "/bin/cat", true),
            ("[!a-c]*", "/bin/cat", false),
            ("[]]", "/bin/]", true),
            ("\\*", "/bin/*", true),
            ("\\*", "/bin/ls", false),
            ("a\\", "/bin/a\\", true),
            ("a\\", "/bin/a", false),
            ("*.sh (deleted)", "/x/a.sh (deleted)", true),
            ("ü*", "/bin/über", true),
            ("a*b", "/bin/a\nb", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(path.as_bytes()), is_match, "{pattern} {path}");
        }
        assert!(Glob::new("*").unwrap().matches(b"/bin/\xff\x00"));
        assert_eq!(Glob::new("[a-c]*").unwrap().pattern(), "[a-c]*");
    }

    #[test]
    fn invalid_patterns_are_refused() {
        assert_eq!(Glob::new("[a").unwrap_err(), GlobError::Unclosed);
        assert!(matches!(Glob::new("[z-a]").unwrap_err(), GlobError::Range(_)));
        assert_eq!(Glob::new(&"a".repeat(MAX_PATTERN + 1)).unwrap_err(), GlobError::TooLong);
    }
}
