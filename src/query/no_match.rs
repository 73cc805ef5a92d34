//! States that no process matches, and among which processes.

use super::QueryTarget;
use crate::terminal::{self, counted};

/// Reports on standard error that none of `examined` processes is the requested one.
pub(crate) fn report_no_match(target: Option<&QueryTarget>, examined: u64) {
    let what = match target {
        Some(QueryTarget::Pid(pid)) => format!("no process had the ID {pid}"),
        _ => "no process matches".into(),
    };
    let among = match examined {
        0 => "no process is known in this time".into(),
        _ => format!("{} ran in this time", counted(examined, "process")),
    };
    terminal::eprintln(format_args!("pmon: {what}; {among}"));
}
