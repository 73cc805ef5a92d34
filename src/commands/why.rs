//! `pmon why`: explains why a process was running.

mod json;
mod text;

use std::io::{BufWriter, Write};

use pmon_analysis::WallClock;
use pmon_analysis::life::Life;

use crate::args::WhyArgs;
use crate::exit::{self, Failure};
use crate::query::{
    Causes, FollowedLife, ProcessSelector, Query, QueryOutcome, QueryTarget, RereadableSource, TargetMatches,
    report_no_match,
};
use crate::terminal;
use crate::users::UserNames;

/// The processes to explain, and what their explanation needs.
struct Explanation {
    /// The matching processes, the newest first.
    matches: Vec<FollowedLife>,
    /// Number of all matching processes.
    count: u64,
    /// Number of processes to explain.
    explained: usize,
    causes: Causes,
    /// The clock of each boot.
    clocks: Vec<WallClock>,
    host: String,
    users: UserNames,
}

/// Runs the verb.
pub(crate) fn run(args: &WhyArgs) -> Result<u8, Failure> {
    if args.target.is_none() && args.process.is_all() {
        let why = "no process is named; give its ID, a regular expression over its command line, or an option \
                   such as --exe";
        return Err(Failure::new(exit::USAGE, why));
    }
    if args.time.at.is_some() {
        args.process.check_running()?;
    }
    let target = args.target.as_deref().map(QueryTarget::parse).transpose()?;
    let matches = TargetMatches::new(target, ProcessSelector::new(&args.process));
    let source = RereadableSource::new(&args.source)?;
    let (found, first) = find(matches, args, &source)?;
    let examined = found.examined();
    let (matches, count) = found.finish();
    let explained = if args.all { matches.len() } else { matches.len().min(1) };
    let causes = Causes::of(matches[..explained].iter().map(|of| &of.life));
    let undecided = first.undecided;
    let (causes, (host, users), mut outcome) = match matches.is_empty() {
        true => (causes, Default::default(), first),
        false => follow(causes, args, &source)?,
    };
    outcome.undecided = undecided;
    let clocks = outcome.clocks.clone();
    let explanation = Explanation { matches, count, explained, causes, clocks, host, users };
    if args.json {
        let mut out = BufWriter::new(terminal::output()?.lock());
        json::write(&explanation, &mut out)
            .and_then(|()| out.write_all(outcome.json().as_bytes()))
            .and_then(|()| out.flush())
            .or_else(Failure::unless_closed)?;
    } else {
        terminal::print(&text::lines(&explanation))?;
    }
    if explanation.matches.is_empty() {
        report_no_match(args.target.as_deref().map(QueryTarget::parse).transpose()?.as_ref(), examined);
    }
    outcome.report();
    Ok(outcome.exit_code())
}

/// Finds the matching processes.
fn find(
    mut matches: TargetMatches,
    args: &WhyArgs,
    source: &RereadableSource,
) -> Result<(TargetMatches, QueryOutcome), Failure> {
    let (mut outcome, _) = Query::visit(&source.args, &args.time, &args.process, |life| matches.add(life))?;
    matches.note(&mut outcome);
    Ok((matches, outcome))
}

/// Finds out what the ancestors did, also after the moment of the question.
fn follow(
    mut causes: Causes,
    args: &WhyArgs,
    source: &RereadableSource,
) -> Result<(Causes, (String, UserNames), QueryOutcome), Failure> {
    let query = match args.time.at {
        Some(_) => Query::around(&source.args, args.time.at)?,
        None => Query::over(&source.args, &args.time.range)?,
    };
    let machine = (query.host(), UserNames::of(query.header()));
    let outcome = query.lives_at_once(|item| {
        causes.add(FollowedLife { life: item.life, boot: item.boot, now: item.now });
        Ok(())
    })?;
    Ok((causes, machine, outcome))
}

impl Explanation {
    /// Returns the processes to explain.
    fn explained(&self) -> impl Iterator<Item = &FollowedLife> {
        self.matches[..self.explained].iter()
    }

    /// Returns the latest state of a process.
    fn latest<'a>(&'a self, of: &'a FollowedLife) -> &'a FollowedLife {
        let cause = self.causes.get(of.life.id);
        cause.and_then(|cause| cause.life.as_ref()).unwrap_or(of)
    }

    fn clock(&self, boot: usize) -> Option<&WallClock> {
        self.clocks.get(boot)
    }
}

/// Returns the parent of the oldest known ancestor of a process if it is unknown: its ID, or `?`.
/// The first process and `kthreadd` have none.
fn unknown_parent(oldest: Option<&Life>) -> Option<String> {
    match oldest?.ppid {
        Some(0) => None,
        Some(ppid) => Some(ppid.to_string()),
        None => (oldest?.pid > 2).then(|| "?".into()),
    }
}
