//! Processes of which too little is known for an answer.

use pmon_analysis::life::Life;

use super::search::MAX_FOUND;
use crate::output::printable;
use crate::terminal::counted;

/// Why it is unknown whether a process satisfies the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhyUnknown {
    /// It ended before a scan could examine it.
    Early,
    /// Its command line is truncated or redacted.
    Partial,
    /// The recorder could not read its properties, for this reason.
    Missed(&'static str),
    /// A property was not recorded.
    Other,
}

/// Processes that may satisfy the conditions, by the reason why that is unknown.
#[derive(Debug, Default)]
pub(super) struct UnknownProcesses(Vec<(WhyUnknown, ProcessList)>);

/// The number of processes, and the first ones in words.
#[derive(Debug, Default)]
struct ProcessList {
    count: u64,
    first: Vec<String>,
}

impl UnknownProcesses {
    /// Adds a process.
    pub(super) fn add(&mut self, why: WhyUnknown, life: &Life) {
        let at = self.0.iter().position(|(known, _)| *known == why).unwrap_or_else(|| {
            self.0.push((why, ProcessList::default()));
            self.0.len() - 1
        });
        let list = &mut self.0[at].1;
        list.count += 1;
        if list.first.len() < MAX_FOUND {
            let name = life.comm().map(|comm| format!(" {}", printable(comm))).unwrap_or_default();
            list.first.push(format!("{}{name}", life.pid));
        }
    }

    /// Returns a sentence for each reason.
    pub(super) fn reasons(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(why, list)| {
            let more = if list.count > list.first.len() as u64 { ", ..." } else { "" };
            let pids = format!("(pid {}{more})", list.first.join(", "));
            let processes = counted(list.count, "process");
            match why {
                WhyUnknown::Early => format!("{processes} ended before the first scan of /proc {pids}"),
                WhyUnknown::Partial => {
                    format!("the command line of {processes} is truncated or redacted {pids}")
                }
                WhyUnknown::Missed(why) => format!("too little is known of {processes} {pids}: {why}"),
                WhyUnknown::Other => {
                    format!("too little is known of {processes} {pids}; `pmon why` shows what is unknown")
                }
            }
        })
    }
}
