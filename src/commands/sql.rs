//! `pmon sql`: runs SQL on a recording.

use std::io::{BufWriter, IsTerminal as _, Read as _, Write, stdin};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use pmon_record::{Signals, WakeReason};
use pmon_sql::{Database, Interruption, QueryError, StopReason, Table};

use crate::args::{QuerySourceArgs, SqlArgs};
use crate::exit::{self, Failure, OrFail as _};
use crate::input::{is_stdio, shown};
use crate::sql::{OutputFormat, OutputSink, Shell, SqlRecording, VIEWS, markdown, table_names, tables};
use crate::terminal;

/// Maximum size in bytes of the statements on standard input.
const MAX_SQL: u64 = 1 << 20;

/// Runs the verb.
pub(crate) fn run(args: &SqlArgs) -> Result<u8, Failure> {
    let source = QuerySourceArgs { file: args.file.clone().unwrap_or_default(), host: args.host.clone() };
    let recording = Arc::new(SqlRecording::new(source, args.time.clone(), args.osquery));
    if args.schema {
        terminal::print(&markdown(&recording))?;
        return Ok(exit::DONE);
    }
    let is_shell = args.sql.is_none() && stdin().is_terminal();
    let sql = match &args.sql {
        Some(sql) => sql.clone(),
        None if is_shell => String::new(),
        None => statements(args)?,
    };
    if !is_shell && sql.trim().is_empty() {
        return Err(no_statement(args));
    }
    // A wrong name of a file is reported before a statement is entered or run.
    if !args.file.as_deref().is_some_and(is_stdio) {
        drop(recording.open(None, None));
        recording.take_failure().map_or(Ok(()), Err)?;
    }
    let tables = tables(&recording).into_iter().map(|table| Box::new(table) as Box<dyn Table>).collect();
    let database = Database::open(tables, VIEWS, Arc::clone(&recording.interruption));
    let database = database.or_fail(exit::INTERNAL, "cannot create the tables")?;
    // A read from a pipe cannot be interrupted, but the signal ends pmon.
    if !args.file.as_deref().is_some_and(is_stdio) {
        end_on_signals(&recording.interruption)?;
    }
    let screen = terminal::output_width();
    let mut sink = OutputSink::new(BufWriter::new(terminal::output()?), args.format, screen);
    let mut code = exit::DONE;
    let mut run = |sql: &str, sink: &mut OutputSink<_>| {
        code = execute(&database, &recording, args, sql, sink)?;
        Ok(())
    };
    if is_shell {
        Shell::new(Arc::clone(&recording))?.run(&mut sink, run)?;
        return Ok(exit::DONE);
    }
    run(&sql, &mut sink)?;
    if sink.rows() == 0 && args.format == OutputFormat::Table {
        terminal::eprintln("pmon: no row matches");
    }
    Ok(code)
}

/// Explains that there is no statement. The first argument may be one.
fn no_statement(args: &SqlArgs) -> Failure {
    let file = args.file.as_deref().filter(|file| args.sql.is_none() && !file.exists());
    let why = match file.map(shown).filter(|name| name.contains(' ')) {
        Some(sql) => format!("there is no capture; name it before the SQL: `pmon sql FILE '{sql}'`"),
        None => "there is no SQL; pass it as an argument or on standard input".into(),
    };
    Failure::new(exit::USAGE, why)
}

/// Reads statements from standard input.
fn statements(args: &SqlArgs) -> Result<String, Failure> {
    if args.file.as_deref().is_some_and(is_stdio) {
        let why = "standard input is the capture; pass the SQL as an argument";
        return Err(Failure::new(exit::USAGE, why));
    }
    let mut sql = String::new();
    let read = stdin().lock().take(MAX_SQL + 1).read_to_string(&mut sql);
    read.or_fail(exit::USAGE, "cannot read SQL from standard input")?;
    if sql.len() as u64 > MAX_SQL {
        return Err(Failure::new(exit::USAGE, "standard input has more than 1 MiB of SQL"));
    }
    Ok(sql)
}

/// Runs statements, and returns the exit code.
fn execute<W: Write>(
    database: &Database,
    recording: &SqlRecording,
    args: &SqlArgs,
    sql: &str,
    sink: &mut OutputSink<W>,
) -> Result<u8, Failure> {
    recording.interruption.reset(args.timeout.map(|timeout| Instant::now() + timeout));
    let result = database.run(sql, sink);
    let failure = recording.take_failure();
    let outcome = recording.take_outcome();
    match result {
        Ok(()) => {}
        Err(QueryError::Sink(failure)) => return Err(failure),
        Err(QueryError::Stopped(reason)) => {
            return Err(match (reason, args.timeout) {
                (StopReason::Deadline, Some(timeout)) => Failure::new(
                    exit::LIMIT,
                    format_args!("the statement was ended after --timeout, {timeout:?}"),
                ),
                _ => Failure::new(exit::INTERRUPTED, "interrupted"),
            });
        }
        Err(QueryError::Sql { message, position }) => {
            return Err(
                failure.unwrap_or_else(|| Failure::new(exit::USAGE, mistake(sql, &message, position)))
            );
        }
    }
    let Some(outcome) = outcome else { return Ok(exit::DONE) };
    outcome.report();
    Ok(outcome.exit_code())
}

/// Describes a mistake in a statement, with its place.
fn mistake(sql: &str, message: &str, position: Option<usize>) -> String {
    let tables;
    let message = match message.strip_prefix("no such table: ") {
        Some(_) => {
            tables = format!("{message}; the tables are {}", table_names().join(", "));
            &tables
        }
        None => message,
    };
    let Some((position, before)) = position.and_then(|at| Some((at, sql.get(..at)?))) else {
        return format!("SQL: {message}");
    };
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = sql[start..position].chars().count() + 1;
    let near: String = sql[position..].chars().take_while(|&c| c != '\n').take(30).collect();
    format!("SQL, line {line}, column {column}: {message}, at: {near}")
}

/// Ends the running statement on Ctrl-C, and pmon on `SIGTERM`, for which the shell cannot wait.
fn end_on_signals(interruption: &Arc<Interruption>) -> Result<(), Failure> {
    let unavailable = "cannot handle signals";
    let mut signals = Signals::new().or_fail(exit::ENVIRONMENT, unavailable)?;
    let interruption = Arc::clone(interruption);
    let wait = move || {
        while let Ok(reason) = signals.wait(None) {
            match reason {
                WakeReason::Interrupt => interruption.request(),
                WakeReason::Terminate => end(),
                _ => {}
            }
        }
    };
    let thread = thread::Builder::new().name("pmon-signals".into()).spawn(wait);
    thread.map(drop).or_fail(exit::ENVIRONMENT, unavailable)
}

#[allow(clippy::exit, reason = "another thread waits for the terminal, and nothing is being written")]
fn end() -> ! {
    std::process::exit(128 + 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_has_its_line_and_column() {
        let sql = "SELECT 1;\nSELECT 'größe', x";
        assert_eq!(
            mistake(sql, "no such column: x", sql.find('x')),
            "SQL, line 2, column 17: no such column: x, at: x"
        );
        assert_eq!(mistake(sql, "too big", None), "SQL: too big");
        // A position within a character is none.
        assert_eq!(mistake(sql, "odd", sql.find('ß').map(|at| at + 1)), "SQL: odd");
    }
}
