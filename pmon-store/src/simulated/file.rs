//! A file: what reads return now, and what can be on the disk after a power loss.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oorandom::Rand32;

/// Bytes that the disk writes as a whole. After a power loss, each such page is old or new.
pub(super) const PAGE: u64 = 512;
/// Bytes of one unit of allocation.
pub(super) const UNIT: u64 = 4096;

/// The length and the pages of a file. Pages that are not there are holes.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub(super) len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE as usize]>>,
}

/// A change of a file that the disk may not have yet.
#[derive(Clone, Debug)]
enum Change {
    /// The new bytes of a page, and the end of the write in the file.
    Page { page: u64, bytes: Arc<[u8; PAGE as usize]>, end: u64 },
    /// The new length.
    Len(u64),
    /// Pages that became a hole: first, and first after them.
    Hole(u64, u64),
}

/// A file with its page cache.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedFile {
    /// What reads return.
    pub(super) cached: Contents,
    /// What is on the disk in any case.
    durable: Contents,
    /// Changes since the last sync, in their order.
    unsynced: Vec<Change>,
    /// Number of changes before these.
    synced: u64,
    /// Whether a sync has failed, so that reads may return what the disk never gets.
    is_diverged: bool,
    /// Identifies the bytes that reads return: files of the same version have the same bytes.
    pub(super) version: u64,
    /// Time of the last change, in ns.
    pub(super) modified: u64,
}

impl Contents {
    /// Returns the bytes from `at` on, at most `len`.
    pub(super) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let end = self.len.min(at.saturating_add(len as u64));
        let mut bytes = vec![0; end.saturating_sub(at) as usize];
        if bytes.is_empty() {
            return bytes;
        }
        for (&page, content) in self.pages.range(at / PAGE..end.div_ceil(PAGE)) {
            let (from, until) = ((page * PAGE).max(at), ((page + 1) * PAGE).min(end));
            bytes[(from - at) as usize..(until - at) as usize]
                .copy_from_slice(&content[(from - page * PAGE) as usize..(until - page * PAGE) as usize]);
        }
        bytes
    }

    /// Returns the bytes of disk that the file takes.
    pub(super) fn allocated(&self) -> u64 {
        let units = self.pages.keys().map(|page| page * PAGE / UNIT);
        let (count, _) = units.fold((0, None), |(count, last), unit| match last == Some(unit) {
            true => (count, last),
            false => (count + 1, Some(unit)),
        });
        count * UNIT
    }

    /// Whether a unit of allocation has a page.
    pub(super) fn has_unit(&self, unit: u64) -> bool {
        self.pages.range(unit * UNIT / PAGE..(unit + 1) * UNIT / PAGE).next().is_some()
    }

    /// Returns the first byte after `at` that may not be zero, if there is one.
    pub(super) fn next_data(&self, at: u64) -> Option<u64> {
        self.pages.range(at / PAGE..).next().map(|(&page, _)| (page * PAGE).max(at))
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Page { page, bytes, end } => {
                self.pages.insert(*page, bytes.clone());
                self.len = self.len.max(*end);
            }
            Change::Len(len) => self.set_len(*len),
            Change::Hole(from, until) => self.pages.retain(|page, _| !(*from..*until).contains(page)),
        }
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.pages.split_off(&len.div_ceil(PAGE));
        if !len.is_multiple_of(PAGE)
            && let Some(last) = self.pages.get_mut(&(len / PAGE))
        {
            Arc::make_mut(last)[(len % PAGE) as usize..].fill(0);
        }
    }
}

impl SimulatedFile {
    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        let end = at + bytes.len() as u64;
        for page in at / PAGE..end.div_ceil(PAGE) {
            let mut content = self.cached.pages.get(&page).map_or([0; PAGE as usize], |old| **old);
            let (from, until) = ((page * PAGE).max(at), ((page + 1) * PAGE).min(end));
            content[(from - page * PAGE) as usize..(until - page * PAGE) as usize]
                .copy_from_slice(&bytes[(from - at) as usize..(until - at) as usize]);
            self.change(Change::Page { page, bytes: Arc::new(content), end: until });
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.change(Change::Len(len));
    }

    /// Zeroes a range of bytes, and frees the pages that are in it as a whole.
    pub(super) fn punch_hole(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len).min(self.cached.len);
        let (first, last) = (at.div_ceil(PAGE), end / PAGE);
        if first >= last {
            return self.write(&vec![0; end.saturating_sub(at) as usize], at);
        }
        self.write(&vec![0; (first * PAGE - at) as usize], at);
        self.change(Change::Hole(first, last));
        self.write(&vec![0; (end - last * PAGE) as usize], last * PAGE);
    }

    fn change(&mut self, change: Change) {
        self.cached.apply(&change);
        self.version = next_version();
        self.unsynced.push(change);
    }

    /// Returns the number of changes so far: those that a sync which begins now makes durable.
    pub(super) fn changes(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// Ends a sync that began after this number of changes.
    pub(super) fn end_sync(&mut self, changes: u64) {
        for change in self.take_changes(changes) {
            self.durable.apply(&change);
        }
    }

    /// Ends a sync that failed: its changes never reach the disk, and later syncs do not report
    /// this. `drops_pages` makes reads return the old bytes at once, as some filesystems do.
    pub(super) fn fail_sync(&mut self, changes: u64, drops_pages: bool) {
        self.is_diverged = true;
        // The filesystem has the new length all the same.
        for change in self.take_changes(changes) {
            match change {
                Change::Page { end, .. } => self.durable.len = self.durable.len.max(end),
                Change::Len(_) | Change::Hole(..) => self.durable.apply(&change),
            }
        }
        if drops_pages {
            self.cached = self.durable.clone();
            self.unsynced.iter().for_each(|change| self.cached.apply(change));
            self.version = next_version();
        }
    }

    /// Whether the disk has what reads return.
    pub(super) fn is_durable(&self) -> bool {
        self.unsynced.is_empty() && !self.is_diverged
    }

    fn take_changes(&mut self, changes: u64) -> Vec<Change> {
        let number = changes.saturating_sub(self.synced).min(self.unsynced.len() as u64);
        self.synced += number;
        self.unsynced.drain(..number as usize).collect()
    }

    /// Returns the file after a power loss. Of each page, any version since the last sync may be on
    /// the disk, and any of the lengths, independently; but no byte that was cut off reappears.
    pub(super) fn after_power_loss(&self, random: &mut Rand32) -> Self {
        let all = self.unsynced.len();
        let draw = |random: &mut Rand32| match random.rand_range(0..4) {
            0 => 0,
            1 | 2 => all,
            _ => random.rand_range(0..all as u32 + 1) as usize,
        };
        // One decision for all pages is frequent: nothing or everything was written back.
        let common = (random.rand_range(0..2) == 0).then(|| draw(random));
        let lengths = common.unwrap_or_else(|| draw(random));
        let mut survivors: BTreeMap<u64, usize> = BTreeMap::new();
        let mut contents = self.durable.clone();
        let mut len = contents.len;
        for (number, change) in self.unsynced.iter().enumerate() {
            match change {
                Change::Page { page, bytes, end } => {
                    if number < lengths {
                        len = len.max(*end);
                    }
                    let survives =
                        *survivors.entry(*page).or_insert_with(|| common.unwrap_or_else(|| draw(random)));
                    if number < survives {
                        contents.pages.insert(*page, bytes.clone());
                    }
                }
                Change::Len(new) if number < lengths => {
                    len = *new;
                    contents.set_len(*new);
                }
                Change::Hole(..) if number < lengths => contents.apply(change),
                Change::Len(_) | Change::Hole(..) => {}
            }
        }
        contents.len = u64::MAX;
        contents.set_len(len);
        Self {
            cached: contents.clone(),
            durable: contents,
            modified: self.modified,
            version: next_version(),
            ..Self::default()
        }
    }
}

/// Returns a version that no file has had.
fn next_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
