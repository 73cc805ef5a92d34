//! `pmon tree`: shows the processes of a range of time below their parents.

mod json;
mod text;

use pmon_analysis::WallClock;
use pmon_analysis::life::{Branch, ForestRow, Life, LifeForest};
use pmon_core::MonoNs;

use crate::args::TreeArgs;
use crate::exit::Failure;
use crate::query::{ProcessSelector, Query, QueryOutcome, QueryTarget, RunningProcesses, report_no_match};
use crate::terminal;

/// The trees, and what their output needs.
struct Trees {
    branches: Vec<Branch>,
    /// The clock of each boot.
    clocks: Vec<WallClock>,
    host: String,
}

/// Runs the verb.
pub(crate) fn run(args: &TreeArgs) -> Result<u8, Failure> {
    let target = args.target.as_deref().map(QueryTarget::parse).transpose()?;
    let mut forest = LifeForest::new(if args.fold == 0 { usize::MAX } else { args.fold });
    let mut selector = ProcessSelector::new(&args.process);
    if args.at.is_some() {
        args.process.check_running()?;
    }
    let (mut examined, mut has_ended, mut has_usage) = (0, false, false);
    let mut add = |life: Life, boot: usize, now: MonoNs| {
        let lasted_ns = life.observed_ns(now);
        examined += 1;
        let has_failed = life.status().is_some_and(|status| !status.is_success());
        let is_long = args.min_duration.is_none_or(|least| lasted_ns.is_some_and(|lasted| lasted >= least));
        has_ended |= is_long && life.status().is_some();
        has_usage |= life.usage.is_some();
        let is_selected = target.as_ref().is_some_and(|target| target.matches(&life));
        let is_kept = is_long && (has_failed || !args.failed) && selector.selects(&life, now);
        forest.add(ForestRow { life, boot, lasted_ns, is_selected, is_kept });
    };
    let (host, clocks, mut outcome) = if args.at.is_some() {
        let query = Query::at(&args.source, args.at)?;
        args.process.check_users(query.header())?;
        let RunningProcesses { lives, wall, at, host, outcome } = query.running()?;
        lives.into_iter().for_each(|life| add(life, 0, at));
        (host, vec![wall], outcome)
    } else {
        let query = Query::over(&args.source, &args.time)?;
        args.process.check_users(query.header())?;
        let host = query.host();
        let outcome = query.lives(|item| {
            add(item.life, item.boot, item.now);
            Ok(())
        })?;
        (host, outcome.clocks.clone(), outcome)
    };
    selector.note(&mut outcome);
    let (branches, _) = forest.finish(target.is_some());
    let is_empty = branches.is_empty();
    print(Trees { branches, clocks, host }, (target.as_ref(), examined), args, &outcome)?;
    if has_ended && !has_usage && !args.json && !is_empty {
        outcome.report_without_usage();
    }
    outcome.report();
    Ok(outcome.exit_code())
}

fn print(
    trees: Trees,
    (target, examined): (Option<&QueryTarget>, u64),
    args: &TreeArgs,
    outcome: &QueryOutcome,
) -> Result<(), Failure> {
    let is_empty = trees.branches.is_empty();
    let depth = args.depth.map_or(usize::MAX, |depth| depth as usize);
    if args.json {
        let mut out = json::lines(trees, depth);
        out.extend_from_slice(outcome.json().as_bytes());
        terminal::print(&out)?;
    } else {
        terminal::print(&text::lines(trees, depth))?;
    }
    if is_empty {
        report_no_match(target, examined);
    }
    Ok(())
}
