//! The end of `--help`: examples, details and exit codes.

use std::collections::BTreeMap;

/// An exit code and its meaning.
pub(super) type ExitCode = (u8, &'static str);

/// Exit codes of every verb.
const COMMON: [ExitCode; 5] = [
    (0, "success"),
    (1, "internal error"),
    (2, "wrong usage"),
    (6, "no permission, no kernel support, or an unreadable input"),
    (7, "the output cannot be written, or exists already"),
];
/// Further exit codes of the verbs that read a recording.
const READING: [ExitCode; 2] = [
    (4, "the input is damaged; its intact part was used"),
    (5, "the input is not a capture, or its format is too new"),
];
/// Exit codes of single verbs, for the help of the whole command.
const OF_VERBS: [ExitCode; 5] = [
    (1, "internal error; `prove`: such a process ran"),
    (3, "incomplete: `verify`, `record --strict`; other output: `replay --expect`"),
    (8, "`diff`: the captures differ, or comparing them was given up"),
    (9, "`replay --expect`: the run tested nothing, or a fault never fired"),
    (10, "`replay --limit`, `sql --timeout`: the limit was reached"),
];

/// The exit code of the verbs that run a command.
pub(super) const STATUS_OF_COMMAND: &str = "\
Status: `record -- CMD` and `replay -- PROGRAM` exit with the status of the
command: 128+N if signal N killed it, 127 if it was not found, 126 if it could
not be run, 130 if a third Ctrl-C left it running.";

/// Returns the end of the help of the whole command.
pub(super) fn of_command(sections: &[&str]) -> String {
    of_reader(sections, &OF_VERBS)
}

/// Returns the end of the help of a verb that reads a recording. `own` are its other exit codes,
/// and those with another meaning.
pub(super) fn of_reader(sections: &[&str], own: &[ExitCode]) -> String {
    text(sections, COMMON.iter().chain(&READING).chain(own))
}

/// As [`of_reader`], of a verb without the exit codes for a damaged or foreign recording.
pub(super) fn of_other(sections: &[&str], own: &[ExitCode]) -> String {
    text(sections, COMMON.iter().chain(own))
}

fn text<'a>(sections: &[&str], codes: impl Iterator<Item = &'a ExitCode>) -> String {
    let codes: BTreeMap<_, _> = codes.copied().collect();
    let codes = codes.iter().map(|(code, meaning)| format!("\n  {code:<3}{meaning}"));
    let sections = sections.iter().map(|section| section.trim_end().to_owned() + "\n\n");
    sections.chain(["Exit codes:".to_owned()]).chain(codes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_a_verb_replace_those_of_all_verbs() {
        let text = of_other(&["Examples:\n  a\n", "Details.\n"], &[(3, "c"), (0, "a"), (10, "d")]);
        let (sections, codes) = text.split_once("Exit codes:\n").expect("exit codes");
        assert_eq!(sections, "Examples:\n  a\n\nDetails.\n\n");
        let codes: Vec<_> = codes.lines().collect();
        assert_eq!((codes[0], codes[3], codes.len()), ("  0  a", "  3  c", 7));
        assert_eq!(codes[6], "  10 d");
    }
}
