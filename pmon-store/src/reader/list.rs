//! The captures of a recording: found in a directory, or given as files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pmon_core::MonoNs;
use pmon_core::capture::{ClockAnchor, Header, SegmentInfo, SegmentReason};
use thiserror::Error;

use super::bytes::CaptureBytes;
use super::order;
use crate::file::PARTIAL;
use crate::segment::{UtcSecond, restricted};
use crate::{FileEntry, Filesystem, SegmentName};

/// Suffix of the name of each capture.
const SUFFIX: &str = ".pmon";
/// Length of the time in a segment's name, in bytes.
const TIME_LEN: usize = 16;
/// Maximum length of a text that is kept of each header, in bytes. Texts of real headers are
/// shorter; a forged header can have 1 MiB.
const MAX_TEXT: usize = 128;

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

/// What the header of a capture states about its place in a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// UUID of the capture.
    pub uuid: [u8; 16],
    /// UUID of the capture that this one continues.
    pub previous: Option<[u8; 16]>,
    /// Why the segment began; `None` if it is no segment of a store.
    pub reason: Option<SegmentReason>,
    /// The clocks at its start.
    pub start: ClockAnchor,
    /// Time of the latest event before it; `None` if it continues no capture. Its own events are
    /// later, except for differences between CPUs, but can be earlier than its start: they waited
    /// in the kernel's buffers, for seconds if no recorder was running.
    pub last_before: Option<MonoNs>,
    /// Host name, at most 128 bytes.
    pub host: String,
    /// Boot id, at most 128 bytes.
    pub boot_id: String,
    /// Machine id, at most 128 bytes.
    pub machine_id: String,
}

impl SegmentSummary {
    pub(super) fn of(header: &Header) -> Self {
        let meta = &header.meta;
        Self {
            uuid: header.uuid,
            previous: meta.previous,
            reason: meta.segment.as_ref().map(|segment| segment.reason),
            start: meta.start,
            last_before: meta.segment.as_ref().and_then(latest),
            host: shortened(&meta.host),
            boot_id: shortened(&meta.boot_id),
            machine_id: shortened(&meta.machine_id),
        }
    }

    /// Returns whether both captures were recorded since the same boot, as far as that is known.
    pub fn is_same_boot(&self, other: &Self) -> bool {
        self.boot_id == other.boot_id
    }

    /// Returns whether this segment begins where `previous` ends.
    pub fn continues(&self, previous: &Self) -> bool {
        self.previous == Some(previous.uuid)
            && self.is_same_boot(previous)
            && self.reason.is_some_and(SegmentReason::is_continuous)
    }
}

fn latest(segment: &SegmentInfo) -> Option<MonoNs> {
    let positions = segment.positions.iter().filter(|_| segment.reason.is_continuous());
    positions.map(|position| position.time).max()
}

fn shortened(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}

/// One capture of a recording.
#[derive(Clone)]
pub struct SegmentEntry {
    /// Name of the file; for given files, the path.
    pub name: String,
    /// Length of the file in bytes when it was found.
    pub len: u64,
    /// Whether the file is still being written, or its recorder was killed.
    pub is_partial: bool,
    location: Location,
    /// Second of the start according to the name, as `YYYYMMDDTHHMMSSZ`.
    pub(super) second: Option<String>,
    /// Part of the name after the second, which orders segments of the same second.
    pub(super) suffix: String,
    pub(super) summary: Option<SegmentSummary>,
    is_read: bool,
}

#[derive(Clone)]
enum Location {
    Path(PathBuf),
    Stored(Arc<dyn Filesystem>),
}

impl SegmentEntry {
    /// Opens the capture.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(&self) -> io::Result<CaptureBytes> {
        match &self.location {
            Location::Path(path) => File::open(path).map(CaptureBytes::File),
            Location::Stored(fs) => fs.open(&self.name).map(CaptureBytes::Stored),
        }
    }

    /// Returns what the header states; `None` if it cannot be read. Reads the header once.
    pub fn summary(&mut self) -> Option<&SegmentSummary> {
        if !self.is_read {
            self.is_read = true;
            let header = self.open().and_then(|mut bytes| Header::read(&mut bytes)).ok().flatten();
            self.summary = header.as_ref().map(SegmentSummary::of);
        }
        self.summary.as_ref()
    }

    /// Returns what the header states, if it was read and is intact.
    pub fn known_summary(&self) -> Option<&SegmentSummary> {
        self.summary.as_ref()
    }

    /// Returns whether the time in the file's name is not that of the header.
    pub fn is_misnamed(&self) -> bool {
        match (&self.summary, &self.second) {
            (Some(summary), Some(second)) => UtcSecond::of(summary.start.real_ns).to_string() != *second,
            _ => false,
        }
    }

    /// Returns the path of the file as messages show it.
    pub fn path(&self) -> PathBuf {
        match &self.location {
            Location::Path(path) => path.clone(),
            Location::Stored(fs) => fs.path(&self.name),
        }
    }
}

/// The captures of one recording.
#[derive(Clone)]
pub struct SegmentList {
    pub(super) entries: Vec<SegmentEntry>,
    /// Whether `entries` are in the order of their headers; otherwise of their names.
    is_ordered: bool,
    duplicates: Vec<(String, String)>,
}

impl SegmentList {
    /// Finds the segments of a store. Reads no header.
    ///
    /// # Errors
    /// When the store cannot be read, has no segments, has segments of several hosts and `host`
    /// selects none, or has none of that host.
    pub fn of_store(fs: Arc<dyn Filesystem>, host: Option<&str>) -> Result<Self, ListError> {
        let mut files = fs.list()?;
        // The recorder's own files, such as its lock.
        files.retain(|file| !file.name.starts_with('.'));
        let mut found: Vec<(String, SegmentEntry)> =
            files.iter().filter_map(|file| stored_entry(&fs, file)).collect();
        if found.is_empty() && files.is_empty() {
            return Err(ListError::EmptyDirectory);
        }
        if found.is_empty() {
            let capture = files.iter().map(|file| &file.name).filter(|name| name.ends_with(SUFFIX)).min();
            return Err(ListError::NoSegments { files: files.len(), capture: capture.cloned() });
        }
        select_host(&mut found, host.map(restricted).as_deref(), |(host, _)| host)?;
        let mut entries: Vec<_> = found.into_iter().map(|(_, entry)| entry).collect();
        // A recorder renames a segment when it ends; both names can be found then.
        entries
            .sort_by(|a, b| (&a.second, &a.suffix, a.is_partial).cmp(&(&b.second, &b.suffix, b.is_partial)));
        entries.dedup_by(|b, a| (&a.second, &a.suffix) == (&b.second, &b.suffix));
        Ok(Self { entries, is_ordered: false, duplicates: Vec::new() })
    }

    /// Takes the given captures, in any order. Reads their headers.
    ///
    /// # Errors
    /// When they are of several hosts and `host` selects none, or there is none of that host.
    pub fn of_files(paths: &[PathBuf], host: Option<&str>) -> Result<Self, ListError> {
        let mut entries: Vec<_> = paths.iter().map(|path| given_entry(path)).collect();
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

    /// Returns what the header of the first capture states, if it is intact.
    pub fn first(&mut self) -> Option<&SegmentSummary> {
        self.entries.first_mut()?.summary()
    }

    /// Returns what the header of the last capture states, if it is intact.
    pub fn last(&mut self) -> Option<&SegmentSummary> {
        self.entries.last_mut()?.summary()
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

/// Returns the host and the entry of a file of a store; `None` if it is no segment.
fn stored_entry(fs: &Arc<dyn Filesystem>, file: &FileEntry) -> Option<(String, SegmentEntry)> {
    let (stem, is_partial) = match file.name.strip_suffix(PARTIAL) {
        Some(stem) => (stem, true),
        None => (&*file.name, false),
    };
    let name = SegmentName::parse(stem)?;
    let (second, suffix) = time_of(&name)?;
    let entry = SegmentEntry {
        name: file.name.clone(),
        len: file.len,
        is_partial,
        location: Location::Stored(Arc::clone(fs)),
        second: Some(second),
        suffix,
        summary: None,
        is_read: false,
    };
    Some((name.host().to_owned(), entry))
}

fn given_entry(path: &Path) -> SegmentEntry {
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_partial = file.ends_with(PARTIAL);
    let name = SegmentName::parse(file.strip_suffix(PARTIAL).unwrap_or(&file));
    let (second, suffix) = name.as_ref().and_then(time_of).unzip();
    SegmentEntry {
        name: path.to_string_lossy().into_owned(),
        len: path.metadata().map_or(0, |meta| meta.len()),
        is_partial,
        location: Location::Path(path.to_owned()),
        second,
        suffix: suffix.unwrap_or_default(),
        summary: None,
        is_read: false,
    }
}

/// Returns the second in a segment's name, and the rest of the name.
fn time_of(name: &SegmentName) -> Option<(String, String)> {
    let time = name.as_str().get(name.host().len() + 1..)?;
    let (second, rest) = time.split_at_checked(TIME_LEN)?;
    Some((second.to_owned(), rest.strip_suffix(SUFFIX)?.to_owned()))
}
