//! The interactive shell.

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use pmon_sql::FUNCTIONS;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};

use super::schema::{columns, markdown, table_markdown};
use super::{OutputFormat, OutputSink, SqlRecording};
use crate::exit::{self, Failure};
use crate::terminal;

/// Maximum number of statements in the history.
const HISTORY: usize = 1000;

const HELP: &str = "\
.tables         list the tables and views
.schema [NAME]  describe the tables, or one
.mode FORMAT    set the format: table, csv, json, line
.help           show this help
.quit           end the shell, as Ctrl-D
A statement ends with a semicolon. Ctrl-C ends the running one.
";

/// SQL keywords that are completed.
const KEYWORDS: &str = "SELECT FROM WHERE GROUP BY ORDER LIMIT HAVING JOIN LEFT USING DISTINCT COUNT SUM MIN MAX \
    AVG LIKE GLOB REGEXP BETWEEN NULL AND NOT WITH CASE WHEN THEN ELSE END DESC";

/// A shell that reads statements from a terminal.
pub(crate) struct Shell {
    editor: Editor<SqlHelper, FileHistory>,
    history: Option<PathBuf>,
    recording: Arc<SqlRecording>,
}

/// What the user has entered.
enum Entry<'a> {
    Command(&'a str, &'a str),
    Sql(&'a str),
}

impl Shell {
    /// Creates a shell for a recording.
    pub(crate) fn new(recording: Arc<SqlRecording>) -> Result<Self, Failure> {
        let failed =
            |error| Failure::new(exit::ENVIRONMENT, format_args!("cannot use the terminal: {error}"));
        let config = Config::builder().max_history_size(HISTORY).map_err(failed)?;
        let config = config.auto_add_history(true).build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(SqlHelper { words: words(&recording), tables: tables(&recording) }));
        let history = history_file();
        if let Some(history) = &history {
            // The first shell has no history yet.
            let _ = editor.load_history(history);
        }
        Ok(Self { editor, history, recording })
    }

    /// Runs statements with `run` until the end.
    pub(crate) fn run<W: Write>(
        &mut self,
        sink: &mut OutputSink<W>,
        mut run: impl FnMut(&str, &mut OutputSink<W>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let line = match self.editor.readline("pmon> ") {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => return self.save(),
                Err(error) => {
                    let why = format!("cannot read from the terminal: {error}");
                    return Err(Failure::new(exit::ENVIRONMENT, why));
                }
            };
            match parse(&line) {
                Entry::Sql(sql) => match run(sql, sink) {
                    Ok(()) => {}
                    // Standard output is gone.
                    Err(failure) if failure.error.is_none() => return Err(failure),
                    Err(failure) => failure.print(),
                },
                Entry::Command("quit" | "exit", _) => return self.save(),
                Entry::Command("help", _) => terminal::print(HELP)?,
                Entry::Command("tables", _) => {
                    let names: String =
                        columns(&self.recording).iter().map(|(name, _)| format!("{name}\n")).collect();
                    terminal::print(&names)?;
                }
                Entry::Command("schema", name) => terminal::print(&schema(&self.recording, name))?,
                Entry::Command("mode", format) => {
                    match <OutputFormat as clap::ValueEnum>::from_str(format, false) {
                        Ok(format) => sink.set_format(format),
                        Err(_) => terminal::eprintln("the formats are: table, csv, json, line"),
                    }
                }
                Entry::Command(name, _) => {
                    terminal::eprintln(format_args!("there is no .{name:?}; .help lists the commands"));
                }
            }
        }
    }

    /// Saves the history. The directory may be read-only, which is no failure.
    fn save(&mut self) -> Result<(), Failure> {
        if let Some(history) = &self.history {
            let _ = history.parent().map(std::fs::create_dir_all);
            let _ = self.editor.save_history(history);
        }
        Ok(())
    }
}

fn parse(line: &str) -> Entry<'_> {
    match line.trim().strip_prefix('.') {
        Some(command) => {
            let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
            Entry::Command(name, rest.trim().trim_end_matches(';'))
        }
        None => Entry::Sql(line),
    }
}

/// Returns the reference of a table, or of all if `name` is empty.
fn schema(recording: &Arc<SqlRecording>, name: &str) -> String {
    match name {
        "" => markdown(recording),
        name => table_markdown(recording, name)
            .unwrap_or_else(|| format!("there is no table {name:?}; .tables lists them\n")),
    }
}

fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    Some(state.or_else(home)?.join("pmon/sql_history"))
}

/// Returns what can be completed.
fn words(recording: &Arc<SqlRecording>) -> Vec<String> {
    let tables = columns(recording);
    let names = tables.iter().map(|(name, _)| *name);
    let columns = tables.iter().flat_map(|(_, columns)| columns.iter().copied());
    let functions = FUNCTIONS.iter().filter_map(|(function, _)| function.split('(').next());
    let commands = [".tables", ".schema", ".mode", ".help", ".quit"];
    let words = names.chain(columns).chain(functions).chain(commands).chain(KEYWORDS.split_whitespace());
    let mut words: Vec<_> = words.map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Returns the names of the tables and views.
fn tables(recording: &Arc<SqlRecording>) -> Vec<String> {
    columns(recording).iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Completes and validates what the user enters.
struct SqlHelper {
    words: Vec<String>,
    /// Words that can follow `FROM` and `JOIN`.
    tables: Vec<String>,
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(complete(&self.words, &self.tables, line, pos))
    }
}

fn complete(words: &[String], tables: &[String], line: &str, pos: usize) -> (usize, Vec<Pair>) {
    let before = &line[..pos];
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut start = before
        .rfind(|c| !is_part(c))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    if before.trim_start().starts_with('.') && before[..start].trim() == "." {
        start = start.saturating_sub(1);
    }
    let prefix = before[start..].to_ascii_lowercase();
    let last = before[..start].split_whitespace().next_back().unwrap_or_default().to_ascii_lowercase();
    let words = if matches!(&*last, "from" | "join" | ".schema") { tables } else { words };
    let matches =
        words.iter().filter(|word| !prefix.is_empty() && word.to_ascii_lowercase().starts_with(&prefix));
    (start, matches.map(|word| Pair { display: word.clone(), replacement: word.clone() }).collect())
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input().trim();
        let is_whole = input.is_empty() || input.starts_with('.') || input.ends_with(';');
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Highlighter for SqlHelper {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Borrowed(hint)
    }
}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Helper for SqlHelper {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed() {
        let words: Vec<String> =
            ["SELECT", "processes", "process_id", ".schema", ".quit"].map(Into::into).into();
        let of = |line: &str| {
            let (start, found) = complete(&words, &["processes".into()], line, line.len());
            (start, found.into_iter().map(|pair| pair.replacement).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of("sel"), (0, "SELECT".into()));
        assert_eq!(of("select p.proc"), (9, "processes process_id".into()));
        assert_eq!(of("select 'größe' || process_i"), (20, "process_id".into()));
        assert_eq!(of("select pid from\nproc"), (16, "processes".into()));
        assert_eq!(of("select pid FROM execs JOIN proc"), (27, "processes".into()));
        assert_eq!(of(".sch"), (0, ".schema".into()));
        assert_eq!(of(".schema proc"), (8, "processes".into()));
        assert_eq!(of("select "), (7, String::new()));
        assert_eq!(of("größe"), (6, String::new()));
    }
}
