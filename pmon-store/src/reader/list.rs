//! The captures of a recording: found in a directory, or given as files.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::entry::SegmentEntry;
use super::order;
use crate::Filesystem;
use crate::segment::{SegmentName, SegmentSummary, restricted};

/// Suffix of the name of each capture.
const SUFFIX: &str = ".pmon";
/// Why there is no recording to read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListError {
    /// The directory cannot be read.
    #[error("cannot read")]
    Io(#[from] io::Error),
    /// The directory has no file.
    #[error("the directory is empty: there is no segment to read")]
    EmptyDirectory,
    /// The directory has no segment, but other files.
    #[error("{}", no_segments(*.files, .capture.as_deref()))]
    NoSegments {
        /// Number of files.
        files: usize,
        /// Name of a file that may be a capture, if there is one.
        capture: Option<String>,
    },
    /// The captures are of several hosts.
    #[error("there are segments of {} hosts ({}): select one with --host", .hosts.len(), some(.hosts))]
    SeveralHosts {
        /// Names of the hosts, sorted.
        hosts: Vec<String>,
    },
    /// There is no capture of the selected host.
    #[error("there is no segment of the host {host}, only of {}", some(.hosts))]
    NoSuchHost {
        /// The selected host.
        host: String,
        /// Names of the hosts, sorted.
        hosts: Vec<String>,
    },
}

fn no_segments(files: usize, capture: Option<&str>) -> String {
    let other = if files == 1 { "its file is" } else { "its files are" };
    let hint = capture.map(|name| format!("; to read {name}, name the file")).unwrap_or_default();
    format!("the directory has no segment (HOST-YYYYMMDDTHHMMSSZ.pmon); {other} ignored{hint}")
}

/// Lists the first names.
fn some(names: &[String]) -> String {
    let mut text = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 4 {
        text.push_str(", ...");
    }
    text
}

/// The captures of one recording.
#[derive(Clone)]
pub struct SegmentList {
    pub(super) entries: Vec<SegmentEntry>,
    /// Whether `entries` are in the order of their headers; otherwise of their names.
    pub(super) is_ordered: bool,
    pub(super) duplicates: Vec<(String, String)>,
}

impl SegmentList {
    /// Finds the segments of a store. Reads no header.
    ///
    /// # Errors
    /// When the store cannot be read, has no segments, has segments of several hosts and `host`
    /// selects none, or has none of that host.
    pub fn of_store(fs: Arc<dyn Filesystem>, host: Option<&str>) -> Result<Self, ListError> {
        let mut names = fs.names()?;
        // The recorder's own files, such as its lock.
        names.retain(|name| !name.starts_with('.'));
        let mut entries: Vec<SegmentEntry> =
            names.iter().filter_map(|name| SegmentEntry::stored(&fs, name)).collect();
        if names.is_empty() {
            return Err(ListError::EmptyDirectory);
        }
        if entries.is_empty() {
            let capture = names.iter().filter(|name| name.ends_with(SUFFIX)).min();
            return Err(ListError::NoSegments { files: names.len(), capture: capture.cloned() });
        }
        select_host(&mut entries, host.map(restricted).as_deref(), |entry| {
            entry.segment.as_ref().map_or("", SegmentName::host)
        })?;
        // A recorder renames a segment when it ends; both names can be found then.
        entries.sort_by(|a, b| (&a.segment, a.is_partial).cmp(&(&b.segment, b.is_partial)));
        entries.dedup_by(|b, a| a.segment == b.segment);
        Ok(Self { entries, is_ordered: false, duplicates: Vec::new() })
    }

    /// Takes the given captures, in any order. Reads their headers.
    ///
    /// # Errors
    /// When they are of several hosts and `host` selects none, or there is none of that host.
    pub fn of_files(paths: &[PathBuf], host: Option<&str>) -> Result<Self, ListError> {
        let mut entries: Vec<_> = paths.iter().map(|path| SegmentEntry::at(path)).collect();
        entries.iter_mut().for_each(|entry| {
            entry.summary();
        });
        // A capture with a damaged header may be of any host.
        let is_other = |entry: &&SegmentEntry| entry.summary.is_none();
        let unknown: Vec<_> = entries.iter().filter(is_other).cloned().collect();
        entries.retain(|entry| entry.summary.is_some());
        if !entries.is_empty() {
            select_host(&mut entries, host, |entry| entry.summary.as_ref().map_or("", |of| &of.host))?;
        }
        entries.extend(unknown);
        let mut this = Self { entries, is_ordered: false, duplicates: Vec::new() };
        this.order();
        Ok(this)
    }

    /// Reads all headers, and orders the captures by them. Of captures with the same UUID, only the
    /// first stays.
    pub fn order(&mut self) {
        if self.is_ordered {
            return;
        }
        self.entries.iter_mut().for_each(|entry| {
            entry.summary();
        });
        self.remove_duplicates();
        order::by_header(&mut self.entries);
        self.is_ordered = true;
    }

    fn remove_duplicates(&mut self) {
        let mut seen = std::collections::HashMap::new();
        let duplicates = &mut self.duplicates;
        self.entries.retain(|entry| {
            let Some(summary) = &entry.summary else { return true };
            match seen.get(&summary.uuid) {
                None => {
                    seen.insert(summary.uuid, entry.name.clone());
                    true
                }
                Some(first) => {
                    duplicates.push((entry.name.clone(), first.clone()));
                    false
                }
            }
        });
    }

    /// Returns the captures, in order.
    pub fn entries(&self) -> &[SegmentEntry] {
        &self.entries
    }

    /// Returns whether captures of several boots follow each other, whose monotonic clocks differ.
    pub fn has_reboot(&self) -> bool {
        let known: Vec<_> = self.entries.iter().filter_map(SegmentEntry::known_summary).collect();
        known.windows(2).any(|pair| !pair[0].is_same_boot(pair[1]))
    }

    /// Returns the captures that were left out because another one has the same UUID: the name of
    /// each, and of the one that stays.
    pub fn duplicates(&self) -> &[(String, String)] {
        &self.duplicates
    }

    /// Returns the number of captures.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no capture.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns a list of only the last capture that has an intact header. An unfinished capture can
    /// be empty still.
    #[must_use]
    pub fn last_only(&self) -> Self {
        let mut last = self.clone();
        while last.len() > 1 && last.entries.last_mut().is_some_and(|entry| entry.summary().is_none()) {
            last.entries.pop();
        }
        last.entries.drain(..last.entries.len().saturating_sub(1));
        last
    }

    /// Returns a list of the last `count` captures that have an intact header, and those after
    /// them.
    #[must_use]
    pub fn last_few(&self, count: usize) -> Self {
        let mut last = self.clone();
        let intact =
            last.entries.iter_mut().enumerate().rev().filter_map(|(at, entry)| entry.summary().map(|_| at));
        let first = intact.take(count).last().unwrap_or(0);
        last.entries.drain(..first);
        last
    }

    /// Returns what the header of the first capture states, if it is intact. Files that are no
    /// captures do not count, because readers leave them out.
    pub fn first(&mut self) -> Option<&SegmentSummary> {
        self.entries.iter_mut().find_map(|entry| entry.is_capture().then_some(entry))?.summary()
    }

    /// Returns what the header of the last capture states, as [`SegmentList::first`].
    pub fn last(&mut self) -> Option<&SegmentSummary> {
        self.entries.iter_mut().rev().find_map(|entry| entry.is_capture().then_some(entry))?.summary()
    }
}

/// Keeps only the items of the selected host, or checks that there is only one host.
fn select_host<T>(items: &mut Vec<T>, host: Option<&str>, of: impl Fn(&T) -> &str) -> Result<(), ListError> {
    let hosts: BTreeSet<&str> = items.iter().map(&of).collect();
    let all = || hosts.iter().map(|&host| host.to_owned()).collect();
    match host {
        None if hosts.len() > 1 => return Err(ListError::SeveralHosts { hosts: all() }),
        None => {}
        Some(host) if !hosts.contains(host) => {
            return Err(ListError::NoSuchHost { host: host.to_owned(), hosts: all() });
        }
        Some(host) => items.retain(|item| of(item) == host),
    }
    Ok(())
}
