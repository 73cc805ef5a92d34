//! What must not reach the disk: parts of command lines that match a pattern.

use pmon_core::capture::Details;
use regex::bytes::{Captures, Regex};

/// What stands in place of what was redacted.
const INSTEAD: &[u8] = b"[redacted]";

/// A pattern of what is secret in command lines, paths and file names.
///
/// A command line is matched as a whole, with a space between two arguments. Where the pattern has groups, what they match is
/// redacted, else all that it matches; each argument that is touched keeps its place.
#[derive(Clone, Debug)]
pub struct Redact(Regex);

impl Redact {
    /// A pattern in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        Regex::new(pattern).map(Self)
    }

    /// Redacts what the details tell of a command.
    pub(crate) fn details(&self, details: &mut Details) {
        let texts = [&mut details.exe, &mut details.filename, &mut details.cwd, &mut details.args];
        for text in texts.into_iter().flatten() {
            self.text(text);
        }
    }

    /// Redacts arguments.
    pub(crate) fn arguments(&self, arguments: &mut Vec<Vec<u8>>) {
        let mut text = arguments.join(&0);
        self.text(&mut text);
        *arguments = text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    }

    /// Redacts a text of words with zero bytes between.
    fn text(&self, text: &mut Vec<u8>) {
        let line: Vec<u8> = text.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect();
        let mut out = Vec::with_capacity(text.len());
        let mut from = 0;
        for found in self.0.captures_iter(&line) {
            for (start, end) in secrets(&found) {
                if start < from {
                    continue;
                }
                out.extend_from_slice(&text[from..start]);
                for (n, word) in text[start..end].split(|&byte| byte == 0).enumerate() {
                    if n > 0 {
                        out.push(0);
                    }
                    if !word.is_empty() {
                        out.extend_from_slice(INSTEAD);
                    }
                }
                from = end;
            }
        }
        if from > 0 {
            out.extend_from_slice(&text[from..]);
            *text = out;
        }
    }
}

/// Where the groups of a match are; where it is as a whole if it has none.
fn secrets<'a>(found: &'a Captures<'_>) -> impl Iterator<Item = (usize, usize)> + 'a {
    let from = usize::from(found.len() > 1);
    found
        .iter()
        .skip(from)
        .flatten()
        .map(|part| (part.start(), part.end()))
        .filter(|(start, end)| start < end)
}

impl PartialEq for Redact {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Redact {}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(pattern: &str, args: &str) -> String {
        let mut text = args.replace(' ', "\0").into_bytes();
        Redact::new(pattern).unwrap().text(&mut text);
        String::from_utf8(text).unwrap().replace('\0', " ")
    }

    #[test]
    fn what_matches_goes_and_the_arguments_keep_their_places() {
        assert_eq!(redacted("token=[^ ]+", "curl -H token=abc url"), "curl -H [redacted] url");
        assert_eq!(redacted("--password[= ][^ ]+", "x --password secret y"), "x [redacted] [redacted] y");
        assert_eq!(redacted("--password[= ]([^ ]+)", "x --password secret --password=two"), {
            "x --password [redacted] --password=[redacted]"
        });
        assert_eq!(redacted("nothing", "x y"), "x y");
        assert_eq!(redacted(".*", "x  y"), "[redacted]  [redacted]");
        assert_eq!(redacted("(a)(b)?", "ab a"), "[redacted][redacted] [redacted]");
        assert_eq!(redacted("x*", "yy"), "yy");
    }

    #[test]
    fn a_secret_need_not_be_utf8() {
        let mut text = b"x\0key=\xff\xfe\0y".to_vec();
        Redact::new("(?-u)key=[^ ]+").unwrap().text(&mut text);
        assert_eq!(text, b"x\0[redacted]\0y");
        let mut text = b"x\0key=\xff\xfe\0y".to_vec();
        Redact::new("key=(?-u:[^ ]+)").unwrap().text(&mut text);
        assert_eq!(text, b"x\0[redacted]\0y");
    }
}
