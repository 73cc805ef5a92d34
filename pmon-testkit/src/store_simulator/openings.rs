//! The processes that the opening of each segment must have.

use std::collections::BTreeMap;

use super::machine::{Machine, Process};
use super::segments::ReadSegment;

/// The processes at each division, by the boot and the time of the division; `None` if the store
/// cannot know them because events were lost.
#[derive(Debug, Default)]
pub(super) struct ExpectedOpenings {
    processes: BTreeMap<(String, u64), Option<BTreeMap<u32, Process>>>,
}

impl ExpectedOpenings {
    /// Adds a division as of now. The programs of the processes in `awaited` are not known yet.
    pub(super) fn add(
        &mut self,
        machine: &Machine,
        mut processes: Option<BTreeMap<u32, Process>>,
        awaited: impl Iterator<Item = u32>,
    ) {
        for pid in awaited {
            if let Some(process) = processes.as_mut().and_then(|known| known.get_mut(&pid)) {
                (process.comm, process.exe) = Default::default();
            }
        }
        self.processes.insert((machine.boot_id(), machine.now().0), processes);
    }

    /// Checks that each segment opens with the processes that ran when it began.
    ///
    /// # Errors
    /// The first contradiction.
    pub(super) fn check(&self, segments: &[ReadSegment]) -> Result<(), String> {
        for segment in segments {
            let meta = &segment.contents.header.meta;
            let key = (meta.boot_id.clone(), meta.start.mono.0);
            let (Some(Some(expected)), Some(opening)) = (self.processes.get(&key), &segment.contents.opening)
            else {
                continue;
            };
            let found = opening.iter().map(|(&pid, details)| {
                let text = |bytes: &Option<Vec<u8>>| {
                    bytes
                        .as_deref()
                        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                        .unwrap_or_default()
                };
                let (ppid, start_ticks) =
                    (details.ppid.unwrap_or_default(), details.start_ticks.unwrap_or_default());
                (pid, Process { ppid, start_ticks, comm: text(&details.comm), exe: text(&details.exe) })
            });
            let mut found: BTreeMap<u32, Process> = found.collect();
            // The program is unknown while its details, or those of the parent at the fork, are
            // awaited.
            for (pid, process) in &mut found {
                if let Some(expected) = expected.get(pid)
                    && (expected.exe.is_empty() || process.exe.is_empty())
                {
                    (process.comm, process.exe) = (expected.comm.clone(), expected.exe.clone());
                }
            }
            if found != *expected {
                let differs = |(pid, process): &(&u32, &Process)| expected.get(pid) != Some(process);
                let found: Vec<_> = found.iter().filter(differs).collect();
                let missing: Vec<_> = expected
                    .iter()
                    .filter(|(pid, process)| {
                        !opening.contains_key(pid)
                            || found.iter().any(|(other, _)| other == pid && !process.exe.is_empty())
                    })
                    .collect();
                let (found, expected) = (found, missing);
                return Err(format!("{} opens with {found:?}, expected {expected:?}", segment.name));
            }
        }
        Ok(())
    }
}
