//! `pmon snapshot`: requests a clip from the recorder of a store.

use std::path::Path;
use std::time::Duration;

use pmon_analysis::Verdict;
use pmon_store::clip::DEFAULT_AFTER;
use pmon_store::control::{Reply, Request, SnapshotReply, SnapshotRequest};

use super::control::{printed_json, request, unexpected};
use crate::args::SnapshotArgs;
use crate::exit::{self, Failure};
use crate::input::shown;
use crate::terminal::{self, counted, size};

/// Time that the recorder has to write a clip.
const WRITE_TIME: Duration = Duration::from_secs(300);

/// Runs the verb.
pub(crate) fn run(args: &SnapshotArgs) -> Result<u8, Failure> {
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let snapshot = SnapshotRequest {
        name: args.name.clone(),
        before_ns: args.before.map(ns),
        after_ns: args.after.map(ns),
    };
    let timeout = args.after.unwrap_or(DEFAULT_AFTER).saturating_add(WRITE_TIME);
    let reply = request(&args.store, &Request::Snapshot(snapshot), timeout, exit::STORAGE)?;
    let Reply::Snapshot(clip) = &reply else { return Err(unexpected(&reply)) };
    if args.json {
        printed_json(&reply)?;
    } else {
        terminal::print(&text(clip))?;
    }
    Ok(if clip.verdict == Verdict::Complete.name() { exit::DONE } else { exit::INCOMPLETE })
}

fn text(clip: &SnapshotReply) -> String {
    let missing = if clip.missing.is_empty() { String::new() } else { format!(": {}", clip.missing) };
    format!(
        "{}\n{}{missing}; {}, {}\n",
        shown(Path::new(&clip.path)),
        clip.verdict,
        counted(clip.events, "event"),
        size(clip.bytes),
    )
}
