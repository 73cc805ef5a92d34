//! Tests that typical mistakes are answered with what failed, why, and what to do next.

use std::process::{Command, Stdio};

use crate::support::*;

/// Runs pmon in a directory with some files, and returns the exit code and standard error.
fn run_in(dir: &Dir, words: &[&str]) -> (Option<i32>, String) {
    let mut command = command(words);
    command.current_dir(dir.path("")).stdin(Stdio::null());
    let ran = RunOutput::new(command.output().expect("pmon runs"));
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    (ran.code, ran.err)
}

fn files() -> Dir {
    let dir = Dir::new();
    dir.file("x.pmon", &capture(&git_status_records(), 4));
    dir.file("text.txt", b"hello\n");
    dir.file("empty.pmon", b"");
    std::fs::create_dir(dir.path("empty")).expect("a directory");
    dir
}

const VERBS: &[&[&str]] = &[
    &["print"],
    &["ps"],
    &["tree"],
    &["why", "1"],
    &["find", "x"],
    &["stats"],
    &["top"],
    &["prove", "--never", "--exe", "x"],
    &["sql", "SELECT 1 FROM processes"],
    &["cut", "-o", "out.pmon"],
    &["info"],
    &["verify"],
    &["replay"],
];

#[test]
fn a_wrong_file_is_explained_by_every_verb() {
    let dir = files();
    let what_to_name = "name a file that `pmon record` wrote, or the directory of a store";
    for (file, code, why) in [
        ("none.pmon", 6, "cannot open none.pmon: No such file or directory"),
        ("text.txt", 5, "cannot read text.txt: not a pmon capture"),
        ("empty.pmon", 5, "cannot read empty.pmon: empty: not a pmon capture"),
        ("empty", 5, "cannot read empty: the directory is empty"),
    ] {
        for verb in VERBS {
            let words = [&[verb[0], file], &verb[1..]].concat();
            let (exit, err) = run_in(&dir, &words);
            assert_eq!(exit, Some(code), "{words:?}: {err}");
            assert!(err.starts_with("pmon: ") && err.lines().count() == 1, "{words:?}: {err}");
            assert!(err.contains(why) && err.contains(what_to_name), "{words:?}: {err}");
        }
    }
}

#[test]
fn mistakes_are_answered_in_one_line() {
    let dir = files();
    for (words, code, texts) in [
        (
            &["why", "x.pmon", "999999"][..],
            0,
            &["no process had the ID 999999; 4 processes ran in this time"][..],
        ),
        (&["tree", "x.pmon", "nosuch"], 0, &["no process matches; 4 processes ran in this time"]),
        (&["find", "x.pmon", "nosuch"], 0, &["no process matches; 4 processes ran in this time"]),
        (&["stats", "x.pmon", "--comm", "nosuch"], 0, &["no process matches; 4 processes ran in this time"]),
        (&["why", "x.pmon", "("], 2, &["`(` is no regular expression: unclosed group"]),
        (&["ps", "x.pmon", "--at", "2020-01-01"], 2, &["--at is before the recording", "give a later time"]),
        (
            &["sql", "SELECT pid FROM processes"],
            2,
            &["there is no capture; name it before the SQL: `pmon sql FILE"],
        ),
        (&["sql", "x.pmon"], 2, &["there is no SQL; pass it as an argument or on standard input"]),
        (&["sql", "none.pmon", "SELECT 1"], 6, &["cannot open none.pmon"]),
        (
            &["print", "--follow", "none.pmon"],
            6,
            &["cannot open none.pmon", "; name a file that `pmon record` wrote, or the directory of a store"],
        ),
        (&["prove", "x.pmon", "--never"], 2, &["add one, for example --exe nc"]),
        (&["ps", "x.pmon", "--exit", "1"], 2, &["use --since and --until, or `pmon find`"]),
    ] {
        let (exit, err) = run_in(&dir, words);
        assert_eq!(exit, Some(code), "{words:?}: {err}");
        assert!(texts.iter().all(|text| err.contains(text)), "{words:?}: {err}");
        let messages = err.lines().filter(|line| line.starts_with("pmon: "));
        assert_eq!(
            messages.count() + err.matches("incomplete: ").count(),
            err.lines().count(),
            "{words:?}: {err}"
        );
    }
}

#[test]
fn times_in_words_are_accepted_and_wrong_ones_explained() {
    let dir = files();
    for time in ["now", "today", "yesterday", "2 min ago", "1h 30m ago"] {
        let (exit, err) = run_in(&dir, &["ps", "x.pmon", "--at", time]);
        assert_eq!(exit, Some(0), "{time}: {err}");
        assert!(err.contains("incomplete: ") && err.contains("the recording ends at"), "{err}");
    }
    let (exit, err) = run_in(&dir, &["ps", "x.pmon", "--at", "25:00"]);
    assert!(exit == Some(2) && err.contains("`03:04:05`") && err.contains("`10 min ago`"), "{err}");
}

/// Runs a command on a terminal with this many columns.
fn on_terminal(dir: &Dir, columns: u32, words: &str) -> String {
    let pmon = env!("CARGO_BIN_EXE_pmon");
    let line = format!("stty cols {columns}; '{pmon}' {words}");
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .current_dir(dir.path(""))
        .env("TERM", "dumb")
        .env_remove("COLUMNS")
        .stdin(Stdio::null());
    String::from_utf8_lossy(&script.output().expect("script(1) runs").stdout).replace('\r', "")
}

#[test]
fn a_narrow_terminal_shows_what_matters_most() {
    let dir = files();
    let tree = on_terminal(&dir, 40, "tree x.pmon");
    assert!(tree.contains("     PID  DURATION  COMMAND\n") && tree.contains("/usr/bin/git s"), "{tree}");
    let stats = on_terminal(&dir, 40, "stats x.pmon");
    assert!(
        stats.contains(
            " COMM
"
        ) && stats.contains(
            " git
"
        ),
        "{stats}"
    );
    for words in ["print", "ps", "tree", "stats", "find x.pmon git", "why x.pmon 20"] {
        let file = if words.contains(' ') { "" } else { "x.pmon" };
        let out = on_terminal(&dir, 40, &format!("{words} {file} 2>/dev/null"));
        // Statements about losses are not cut.
        let mut lines = out.lines().filter(|line| !line.starts_with("-- "));
        assert!(lines.all(|line| line.chars().count() <= 40), "{words}: {out}");
        assert!(!out.contains('\u{1b}'), "{words}: {out}");
    }
}

#[test]
fn the_variable_columns_is_the_width_of_every_output() {
    let dir = files();
    for words in [&["print"][..], &["ps"], &["tree"], &["stats"], &["find", "git"], &["why", "20"]] {
        let line = [&[words[0], "x.pmon"], &words[1..]].concat();
        let shown = |columns: &str| {
            let mut command = command(&line);
            command.current_dir(dir.path("")).env("COLUMNS", columns);
            RunOutput::new(command.output().expect("pmon runs")).expect(0).out
        };
        let narrow = shown("30");
        assert!(
            narrow.lines().filter(|line| !line.starts_with("-- ")).all(|line| line.chars().count() <= 30),
            "{narrow}"
        );
        assert!(!narrow.is_empty());
        let all = shown("");
        assert!(all.lines().any(|line| line.chars().count() > 30), "{all}");
        for other in ["0", "-1", "wide", "1000"] {
            assert_eq!(shown(other), all, "{other}");
        }
    }
    let mut json = command(&["find", "x.pmon", "git", "--json"]);
    json.current_dir(dir.path("")).env("COLUMNS", "30");
    RunOutput::new(json.output().expect("pmon runs")).expect(0).json_lines();
}

#[test]
fn a_terminal_is_no_capture() {
    let dir = files();
    for words in ["print -", "why - 1", "stats -"] {
        let out = on_terminal(&dir, 80, words);
        assert!(out.contains("standard input is a terminal, and no capture; use a pipe"), "{words}: {out}");
    }
    // The copy of standard input has no name of its own.
    let ran = pmon_with_input(&["why", "-", "1"], b"").expect(5);
    assert!(ran.err.starts_with("pmon: cannot read standard input: empty"), "{}", ran.err);
}
