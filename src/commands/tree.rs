//! `pmon tree`: shows the processes of a range of time below their parents.

mod json;
mod text;

use pmon_analysis::WallClock;
use pmon_analysis::life::{Branch, ForestRow, LifeForest};

use crate::args::TreeArgs;
use crate::exit::Failure;
use crate::query::{FollowedLife, ProcessSelector, Query, QueryOutcome, QueryTarget, report_no_match};
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
    if args.time.at.is_some() {
        args.process.check_running()?;
    }
    let (mut examined, mut has_ended, mut has_usage) = (0, false, false);
    let (mut outcome, host) = Query::visit(&args.source, &args.time, &args.process, |of| {
        let FollowedLife { life, boot, now } = of;
        let lasted_ns = life.observed_ns(now);
        examined += 1;
        let is_long = args.min_duration.is_none_or(|least| lasted_ns.is_some_and(|lasted| lasted >= least));
        has_ended |= is_long && life.status().is_some();
        has_usage |= life.usage.is_some();
        let is_selected = target.as_ref().is_some_and(|target| target.matches(&life));
        let is_kept = is_long && (life.has_failed() || !args.failed) && selector.selects(&life, now);
        forest.add(ForestRow { life, boot, lasted_ns, is_selected, is_kept });
    })?;
    selector.note(&mut outcome);
    let (branches, _) = forest.finish(target.is_some());
    let is_empty = branches.is_empty();
    print(
        Trees { branches, clocks: outcome.clocks.clone(), host },
        (target.as_ref(), examined),
        args,
        &outcome,
    )?;
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
