//! `pmon find`: searches the processes of a recording.

use std::io::Write as _;

use pmon_analysis::WallClock;
use pmon_analysis::filter::{Regex, command_line};
use pmon_analysis::life::{Life, LifeEnd, Program};

use crate::args::FindArgs;
use crate::exit::Failure;
use crate::query::{self, ProcessLines, ProcessSelector, Query, clock_time};
use crate::terminal::{self, PLAIN, RED};
use crate::time_spec::brief;

/// Runs the verb.
pub(crate) fn run(args: &FindArgs) -> Result<u8, Failure> {
    let query = Query::over(&args.source, &args.time)?;
    args.process.check_users(query.header())?;
    let mut lines = ProcessLines::new(query.host());
    let mut selector = ProcessSelector::new(&args.process);
    let (screen, colours) = (terminal::output_width(), terminal::colours());
    let mut out = std::io::BufWriter::new(terminal::output()?.lock());
    let (mut examined, mut found, mut line) = (0, 0u64, Vec::new());
    let mut outcome = query.lives(|item| {
        let life = &item.life;
        examined += 1;
        let is_match = args.pattern.as_ref().is_none_or(|pattern| is_match(pattern, life));
        if !is_match || !selector.selects(life, item.now) {
            return Ok(());
        }
        if found == 0 && !args.json {
            writeln!(out, "{}", terminal::cut(HEADER, screen)).map_err(Failure::output)?;
        }
        found += 1;
        line.clear();
        if args.json {
            lines.push(&mut line, life, item.wall, &[]);
        } else {
            let text = text(life, item.wall);
            let text = terminal::cut(&text, screen);
            let (begin, end) = if life.has_failed() && colours { (RED, PLAIN) } else { ("", "") };
            [begin, text, end, "\n"].iter().for_each(|part| line.extend_from_slice(part.as_bytes()));
        }
        out.write_all(&line).map_err(Failure::output)
    })?;
    selector.note(&mut outcome);
    if args.json {
        out.write_all(outcome.json().as_bytes()).map_err(Failure::output)?;
    }
    out.flush().map_err(Failure::output)?;
    if found == 0 && !args.json {
        query::report_no_match(None, examined);
    }
    outcome.report();
    Ok(outcome.exit_code())
}

/// Whether the pattern matches the name, or a program that the process ran.
fn is_match(pattern: &Regex, life: &Life) -> bool {
    let has = |program: &Program| {
        program.args.as_deref().is_some_and(|args| pattern.is_match(&command_line(args)))
            || [&program.exe, &program.cwd].into_iter().flatten().any(|text| pattern.is_match(text))
    };
    pattern.as_str().is_empty()
        || life.comm().is_some_and(|comm| pattern.is_match(comm))
        || has(life.program.get())
        || life.execs.iter().any(|exec| has(exec.program.get()))
}

const HEADER: &str = "STARTED                 PID  DURATION END          COMMAND";

/// Returns the line of a process.
fn text(life: &Life, wall: &WallClock) -> String {
    let started = life.start.and_then(|start| wall.at(start));
    let started = started.map_or_else(|| "-".into(), |at| clock_time(at, true));
    let duration = life.duration_ns().map_or_else(|| "-".into(), brief);
    let command = query::command_line(life.program.get(), life.comm());
    format!("{started:<19} {:>7} {duration:>9} {:<12} {command}", life.pid, end(life))
}

/// Describes how a process ended.
fn end(life: &Life) -> String {
    match life.end {
        LifeEnd::Running => "running".into(),
        LifeEnd::Ended { status: Some(status), .. } => status.short(),
        LifeEnd::Ended { status: None, .. } | LifeEnd::Unobserved { .. } => "unknown".into(),
    }
}
