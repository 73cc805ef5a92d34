//! Redaction of secrets: replaces each match of a pattern in every text of a capture.

use std::borrow::Cow;
use std::ops::Range;

use pmon_core::capture::Details;
use pmon_core::wire::{ByteOrder, Comm, EventKind, layout};
use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

use crate::transport::ring::entry::MAX_ARGS_BYTES;

/// The text that replaces a secret.
const PLACEHOLDER: &[u8] = b"[redacted]";
/// The byte that replaces each byte of a secret in a text of fixed length.
const BLANK: u8 = b'*';

/// Maximum bytes of a text after redaction. A placeholder can be longer than the secret.
const MAX_TEXT: usize = MAX_ARGS_BYTES;
/// Maximum bytes of a name after redaction, if it was not longer before (`TASK_COMM_LEN` without
/// the zero byte).
const MAX_NAME: usize = 15;
/// Maximum bytes scanned for all matches in one text. Beyond it, the rest of the text is redacted.
///
/// A pattern with alternatives can scan to the end of the text before each match. Without a limit,
/// the time would be quadratic in the length of the text.
const MAX_SCANNED: usize = 256 << 10;
/// Maximum number of passes over a text. A placeholder can complete a match with adjacent text.
const MAX_PASSES: usize = 4;

/// Maximum bytes of memory of one compiled pattern.
const MAX_COMPILED: usize = 2 << 20;
/// Maximum bytes of memory of the search states that each searching thread caches.
const MAX_CACHE: usize = 1 << 20;

/// Matches the argument of `--redact`, even in a command line that is quoted for a shell.
const OPTION: &str = r#"(?s-u)--redact[= ]+((?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"\\])+)"#;

/// A pattern for secrets in command lines, paths, names and cgroups.
///
/// The pattern is matched against a whole command line, with a space between two arguments. A
/// pattern with anchors (`^`, `$`) is also matched against each argument. If the pattern has
/// groups, only their matches are redacted. Each argument that is touched keeps its position.
///
/// A text consists of bytes, so the pattern is compiled twice, and matches of both are redacted.
/// With Unicode, a byte that is not UTF-8 counts as the character U+FFFD. Without it, `.`, `\w` and
/// `\xff` match bytes.
///
/// The pattern's own text and the argument of an option `--redact` are redacted too. Both are in
/// the recorder's own command line, and in those of the shells that started it.
#[derive(Clone, Debug)]
pub struct Redact {
    /// The pattern with Unicode.
    unicode: Regex,
    /// The pattern without Unicode; `None` if it needs Unicode, such as `\p{Greek}`.
    bytes: Option<Regex>,
    /// Matches the pattern's own text.
    literal: Regex,
    /// Matches the argument of `--redact`.
    option: Regex,
    has_anchors: bool,
}

/// Why a pattern is rejected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedactError {
    /// An empty pattern would redact nothing.
    #[error("the pattern is empty: it would redact nothing")]
    Empty,
    /// The compiled pattern takes too much memory, and thus too much time for each command line.
    #[error(
        "the pattern takes more than {} MiB of memory: use smaller repetitions, or begin it with `(?-u)`, so that \
         \\w and . are bytes and not Unicode", MAX_COMPILED >> 20
    )]
    TooLarge,
    /// The pattern is not in the syntax of the `regex` crate.
    #[error(transparent)]
    Syntax(regex::Error),
}

impl Redact {
    /// Compiles a pattern in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// When the pattern is empty, too large, or invalid.
    pub fn new(pattern: &str) -> Result<Self, RedactError> {
        if pattern.is_empty() {
            return Err(RedactError::Empty);
        }
        let compile = |pattern: &str, unicode| {
            let mut builder = RegexBuilder::new(pattern);
            builder.unicode(unicode).size_limit(MAX_COMPILED).dfa_size_limit(MAX_CACHE).build()
        };
        let refused = |error| match error {
            regex::Error::CompiledTooBig(_) => RedactError::TooLarge,
            error => RedactError::Syntax(error),
        };
        Ok(Self {
            unicode: compile(pattern, true).map_err(refused)?,
            bytes: compile(pattern, false).ok(),
            literal: compile(&regex::escape(pattern), true).map_err(refused)?,
            option: compile(OPTION, false).map_err(refused)?,
            has_anchors: has_anchors(pattern),
        })
    }

    /// Redacts all texts of a process, of whose arguments at most `read` bytes were read.
    pub(crate) fn details(&self, details: &mut Details, read: usize) {
        self.redact_truncated_name(details);
        self.args(details, read);
        let Details { comm, exe, filename, cwd, cgroup, container, .. } = details;
        if let Some(names) = container {
            let mut parts: Vec<_> = names.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
            for name in &mut parts {
                self.redact_text(name, MAX_TEXT);
            }
            *names = parts.join(&0);
        }
        for text in [exe, filename, cwd, cgroup].into_iter().flatten() {
            self.redact_text(text, MAX_TEXT);
        }
        if let Some(name) = comm {
            let max_len = name.len().max(MAX_NAME);
            self.redact_text(name, max_len);
        }
    }

    /// Redacts the arguments of a process, of which at most `read` bytes were read. The last
    /// argument of a truncated command line is always replaced: it may be the beginning of a
    /// secret, which the pattern does not match.
    pub(crate) fn args(&self, details: &mut Details, read: usize) {
        let Some(args) = &mut details.args else { return };
        if details.args_len.is_some() && args.len() >= read {
            let last = args.iter().rposition(|&byte| byte == 0).map_or(0, |end| end + 1);
            if last < args.len() {
                args.truncate(last);
                args.extend_from_slice(PLACEHOLDER);
            }
        }
        self.redact_line(args);
    }

    /// Redacts a list of arguments.
    pub(crate) fn arguments(&self, arguments: &mut Vec<Vec<u8>>) {
        if arguments.is_empty() {
            return;
        }
        let mut text = arguments.join(&0);
        self.redact_line(&mut text);
        *arguments = text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    }

    /// Redacts a string that is shown to users.
    pub(crate) fn string(&self, text: &mut String) {
        let mut bytes = std::mem::take(text).into_bytes();
        self.redact_text(&mut bytes, MAX_TEXT);
        *text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    }

    /// Redacts the thread name in a comm event.
    pub(crate) fn comm(&self, comm: &mut Comm) {
        let len = comm.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let mut name = comm.0[..len].to_vec();
        if self.redact_text(&mut name, MAX_NAME) {
            *comm = Comm::default();
            comm.0[..name.len()].copy_from_slice(&name);
        }
    }

    /// Redacts the possible texts in a datagram of unknown form. The length and the numbers stay.
    pub(crate) fn datagram(&self, bytes: &mut [u8], order: ByteOrder) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let number = |field: Range<usize>| {
                let &bytes = rest.get(field)?.first_chunk()?;
                let is_big = order == ByteOrder::Big;
                Some(if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
            };
            let len = number(layout::NLMSG_LEN).map(|len| len as usize);
            let len = len.filter(|len| (layout::NLMSGHDR_LEN..=rest.len()).contains(len));
            let head = match number(layout::WHAT) {
                // The bytes are not a message.
                _ if len.is_none() => 0,
                what if what == EventKind::Comm.what() => layout::COMM.start,
                Some(what) if EventKind::ALL.iter().any(|kind| kind.what() == Some(what)) => {
                    layout::EVENT_DATAGRAM_LEN
                }
                _ => layout::EVENT_DATA,
            };
            let len = len.unwrap_or(rest.len());
            let text = &mut rest[head.min(len)..len];
            for secret in self.secrets(text, false) {
                text[secret].fill(BLANK);
            }
            let next = len.next_multiple_of(4).min(rest.len());
            rest = &mut rest[next..];
        }
    }

    /// Redacts a name that is the beginning of a secret in the program's file name. The kernel
    /// truncates names to 15 bytes, so the pattern may not match the name itself.
    fn redact_truncated_name(&self, details: &mut Details) {
        let Details { comm: Some(comm), exe, filename, .. } = details else { return };
        if comm.len() < MAX_NAME {
            return;
        }
        let is_secret = [exe, filename].into_iter().flatten().any(|path| {
            let base = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let cut = base..base + comm.len();
            path[base..].starts_with(comm)
                && self
                    .secrets(path, false)
                    .iter()
                    .any(|secret| secret.start < cut.end && cut.end < secret.end)
        });
        if is_secret {
            *comm = PLACEHOLDER.to_vec();
        }
    }

    /// Redacts a command line: words separated by zero bytes.
    fn redact_line(&self, text: &mut Vec<u8>) {
        self.replace(text, MAX_TEXT, true);
    }

    /// Redacts a text and truncates it to `max_len` bytes. Returns whether the text has changed.
    fn redact_text(&self, text: &mut Vec<u8>, max_len: usize) -> bool {
        self.replace(text, max_len, false)
    }

    fn replace(&self, text: &mut Vec<u8>, max_len: usize, is_line: bool) -> bool {
        let mut has_changed = false;
        for _ in 0..MAX_PASSES {
            let secrets = self.secrets(text, is_line);
            let Some(out) = replaced(text, &secrets, max_len) else { break };
            *text = out;
            has_changed = true;
        }
        has_changed
    }

    /// Returns the positions of the secrets in a text, ordered and disjoint.
    fn secrets(&self, text: &[u8], is_line: bool) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let line: Cow<'_, [u8]> = match text.contains(&0) {
            true => text.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect(),
            false => text.into(),
        };
        let mut budget = MAX_SCANNED;
        self.search(&line, 0, &mut budget, &mut found);
        if self.has_anchors && line != text {
            let mut at = 0;
            for word in text.split(|&byte| byte == 0) {
                self.search(word, at, &mut budget, &mut found);
                at += word.len() + 1;
            }
        }
        find(&self.literal, &line, &mut budget, |secret| found.push(secret));
        if is_line {
            find(&self.option, &line, &mut budget, |secret| found.push(secret));
        }
        if found.is_empty() {
            return found;
        }
        merge(&mut found);
        // A match that overlaps a placeholder takes all of it. Otherwise a later pass would redact
        // its rest.
        let placeholders: Vec<_> = placeholders(text).filter(|range| overlaps(&found, range)).collect();
        found.extend(placeholders);
        merge(&mut found);
        found
    }

    /// Searches a text at offset `at` with each form of the pattern.
    fn search(&self, text: &[u8], at: usize, budget: &mut usize, found: &mut Vec<Range<usize>>) {
        let mut add = |secret: Range<usize>| found.push(secret.start + at..secret.end + at);
        find(&self.unicode, text, budget, &mut add);
        if let Some(bytes) = &self.bytes {
            find(bytes, text, budget, &mut add);
        }
        if str::from_utf8(text).is_err() {
            let (text, positions) = with_characters(text);
            find(&self.unicode, &text, budget, |secret| add(positions[secret.start]..positions[secret.end]));
        }
    }
}

/// Passes the redacted part of each match to `take`: its groups, or the whole match if the pattern
/// has none. Each match uses up `budget`. Once it is used up, the rest of the text is passed as
/// well.
fn find(pattern: &Regex, text: &[u8], budget: &mut usize, mut take: impl FnMut(Range<usize>)) {
    let mut is_last = |found: Range<usize>, take: &mut dyn FnMut(Range<usize>)| {
        *budget = budget.saturating_sub(text.len() - found.start);
        if *budget == 0 && found.end < text.len() {
            take(found.end..text.len());
        }
        *budget == 0
    };
    if pattern.captures_len() == 1 {
        for found in pattern.find_iter(text).map(|found| found.range()).filter(|found| !found.is_empty()) {
            take(found.clone());
            if is_last(found, &mut take) {
                return;
            }
        }
        return;
    }
    for found in pattern.captures_iter(text) {
        let groups = found.iter().skip(1).flatten().map(|group| group.range());
        groups.filter(|group| !group.is_empty()).for_each(&mut take);
        if let Some(whole) = found.get(0).map(|whole| whole.range())
            && is_last(whole, &mut take)
        {
            return;
        }
    }
}

/// Returns the text with the character U+FFFD for each byte that is not UTF-8, and for each byte of
/// the result and its end the position in `text`.
fn with_characters(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut positions) = (Vec::new(), Vec::new());
    let mut at = 0;
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        positions.extend(at..at + chunk.valid().len());
        at += chunk.valid().len();
        for _ in chunk.invalid() {
            let unknown = char::REPLACEMENT_CHARACTER;
            out.extend_from_slice(unknown.encode_utf8(&mut [0; 4]).as_bytes());
            positions.extend([at, at, at]);
            at += 1;
        }
    }
    positions.push(at);
    (out, positions)
}

/// Whether a match may depend on where the text begins or ends. `[^...]` is not an anchor.
fn has_anchors(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    let is_caret = |at: usize| bytes[at] == b'^' && (at == 0 || bytes[at - 1] != b'[');
    pattern.contains(['$'])
        || pattern.contains(r"\A")
        || pattern.contains(r"\z")
        || (0..bytes.len()).any(is_caret)
}

/// Sorts ranges, and merges those that overlap or touch.
fn merge(ranges: &mut Vec<Range<usize>>) {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let is_one = next.start <= before.end;
        before.end = if is_one { before.end.max(next.end) } else { before.end };
        is_one
    });
}

/// Returns the positions of placeholders in a text.
fn placeholders(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let positions = text.windows(PLACEHOLDER.len()).enumerate();
    positions.filter(|(_, window)| *window == PLACEHOLDER).map(|(at, _)| at..at + PLACEHOLDER.len())
}

/// Whether `one` overlaps any of the ranges, which are ordered and disjoint.
fn overlaps(ranges: &[Range<usize>], one: &Range<usize>) -> bool {
    let index = ranges.partition_point(|range| range.end <= one.start);
    ranges.get(index).is_some_and(|range| range.start < one.end)
}

/// Returns the text with a placeholder for each word of each secret, truncated to `max_len` bytes;
/// `None` if that changes nothing.
fn replaced(text: &[u8], secrets: &[Range<usize>], max_len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut from = 0;
    let mut has_changed = false;
    for secret in secrets {
        if out.len() >= max_len {
            break;
        }
        out.extend_from_slice(&text[from..secret.start]);
        for (n, word) in text[secret.clone()].split(|&byte| byte == 0).enumerate() {
            if n > 0 {
                out.push(0);
            }
            has_changed |= !word.is_empty() && word != PLACEHOLDER;
            if !word.is_empty() {
                out.extend_from_slice(PLACEHOLDER);
            }
        }
        from = secret.end;
    }
    if !has_changed {
        return None;
    }
    out.extend_from_slice(&text[from..]);
    out.truncate(max_len);
    Some(out)
}

#[cfg(test)]
mod tests;
