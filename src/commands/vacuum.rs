//! `pmon vacuum`: removes the oldest segments of a store.

use jiff::Timestamp;
use pmon_store::{
    Directory, RetentionLimit, RetentionLimits, StoreMachine, UnmeetableLimit, VacuumReport, vacuum,
};
use serde_json::{Value, json};

use crate::args::VacuumArgs;
use crate::exit::{self, Failure, OrFail as _};
use crate::input::shown;
use crate::output::{harmless, json_text};
use crate::terminal::{self, counted, size};

/// Runs the verb.
pub(crate) fn run(args: &VacuumArgs) -> Result<u8, Failure> {
    let limits = RetentionLimits { max_use: args.max_use, keep_free: args.keep_free, max_age: args.max_age };
    let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let report = vacuum(&Directory::new(&args.store), limits, &StoreMachine::local(), now_ns, args.dry_run)
        .or_fail(exit::ENVIRONMENT, format_args!("cannot read the store {}", shown(&args.store)))?;
    if args.json {
        terminal::print(&(json_text(&json_report(args, &report)) + "\n"))?;
    } else {
        terminal::print(&text(args, &report))?;
    }
    for (name, error) in &report.failed {
        let path = shown(&args.store.join(name));
        terminal::eprintln(harmless(&format!("pmon: cannot remove {path}: {error}")));
    }
    for unmeetable in &report.unmeetable {
        terminal::eprintln(format_args!("pmon: {}", explain(unmeetable, &limits)));
    }
    Ok(if report.failed.is_empty() && report.is_within_limits { exit::DONE } else { exit::STORAGE })
}

/// Explains why a limit cannot be met, and what can be done.
fn explain(unmeetable: &UnmeetableLimit, limits: &RetentionLimits) -> String {
    let UnmeetableLimit { limit, reachable } = *unmeetable;
    let (option, reachable) = (limit.option(), size(reachable));
    let asked = |bytes: Option<u64>| size(bytes.unwrap_or_default());
    match limit {
        RetentionLimit::KeepFree => format!(
            "cannot meet {option} {}: without all older segments, {reachable} would be free; \
             no segment was removed for it: free other files, or lower the limit",
            asked(limits.keep_free)
        ),
        _ => format!(
            "cannot meet {option} {}: the newest segment, those being written, and files that are never \
             removed take {reachable}; no segment was removed for it: raise the limit",
            asked(limits.max_use)
        ),
    }
}

fn text(args: &VacuumArgs, report: &VacuumReport) -> String {
    let mut text = String::new();
    for segment in &report.removed {
        let (name, size, limit) = (harmless(&segment.name), size(segment.bytes), segment.limit.option());
        text.push_str(&format!("{name}  {size}  {limit}\n"));
    }
    let removed = counted(report.removed.len() as u64, "segment");
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let kept = counted(report.kept as u64, "segment");
    text + &format!(
        "{verb} {removed}, {}; {kept} and {} remain\n",
        size(report.removed_bytes()),
        size(report.used)
    )
}

fn json_report(args: &VacuumArgs, report: &VacuumReport) -> Value {
    let removed = report.removed.iter().map(
        |segment| json!({ "name": segment.name, "bytes": segment.bytes, "limit": segment.limit.option() }),
    );
    let failed = report.failed.iter().map(|(name, error)| json!({ "name": name, "error": error }));
    let unmeetable = report.unmeetable.iter().map(
        |unmeetable| json!({ "limit": unmeetable.limit.option(), "reachable_bytes": unmeetable.reachable }),
    );
    json!({
        "dry_run": args.dry_run,
        "removed": removed.collect::<Vec<_>>(),
        "removed_bytes": report.removed_bytes(),
        "unmeetable": unmeetable.collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(),
        "kept_segments": report.kept,
        "used_bytes": report.used,
        "within_limits": report.is_within_limits,
    })
}
