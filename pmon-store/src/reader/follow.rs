//! Reads on in a recording that is being written: in its last capture, and in those that follow.
//!
//! A block that is being written looks like damage, and so does the journal while the recorder
//! replaces it. Damage in a capture that is being written therefore counts only if it stays.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pmon_core::capture::{Damage, Item, OpenError, Part, ResumePoint, UnobservedReason};

use super::entry::SegmentEntry;
use super::list::SegmentList;
use super::segments::{SegmentReader, left_out, open};
use crate::Filesystem;
use crate::segment::SegmentName;

/// Time after which the whole journal is read again and the directory is listed, even if nothing
/// seems to have changed.
const WHOLE_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which damage must stay, and for which a new file may lack a header.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time without a new record after which a capture without an END is left if another one follows
/// it. A recorder adds late details for two seconds.
const MAX_IDLE: Duration = Duration::from_secs(5);

/// How a recording is followed.
pub(super) struct Following {
    /// The directory in which further captures appear; `None` for a single capture.
    store: Option<FollowedStore>,
    /// Where the current capture is read on.
    point: ResumePoint,
    /// Whether nothing more is written to the current capture, so that its damage counts.
    is_final: bool,
    /// Time of the last call of [`SegmentReader::refresh`].
    now: Instant,
    /// Time at which the whole journal was read last.
    whole_at: Instant,
    /// Time at which the last record was read.
    last_record: Instant,
    /// Time at which the next capture could not be opened for the first time.
    unopened_since: Option<Instant>,
    /// Damage that may be a block which is being written: its offset, and the time at which it was
    /// found.
    suspected: Option<(u64, Instant)>,
    /// Offsets of the damage in the current capture that was returned.
    returned: Vec<u64>,
}

/// A directory in which captures appear.
struct FollowedStore {
    filesystem: Arc<dyn Filesystem>,
    /// Host of the captures, as it stands in their names.
    host: String,
    /// Captures that are not to be read: those before the current one.
    earlier: HashSet<SegmentName>,
    /// Time of the last change of the directory that was listed.
    listed: Option<SystemTime>,
}

enum Found {
    Block,
    Damage(Damage),
    End,
}

impl SegmentReader {
    /// Reads on from now on when the recorder has written more: [`SegmentReader::refresh`]
    /// continues after the end. `store` is the directory of a store and its captures so far, of
    /// which those that this reader does not have are left out.
    pub fn follow(&mut self, store: Option<(Arc<dyn Filesystem>, &SegmentList)>, now: Instant) {
        let host = self.entry().segment.as_ref().map(|segment| segment.host().to_owned());
        let store = store.zip(host).map(|((filesystem, all), host)| {
            let read: HashSet<_> =
                self.list.entries.iter().filter_map(|entry| entry.segment.as_ref()).collect();
            let all = all.entries.iter().filter_map(|entry| entry.segment.as_ref());
            let earlier = all.filter(|segment| !read.contains(segment)).cloned().collect();
            FollowedStore { filesystem, host, earlier, listed: None }
        });
        self.following = Some(Box::new(Following {
            store,
            point: self.current.resume_point(),
            is_final: !self.entry().is_partial,
            now,
            whole_at: now,
            last_record: now,
            unopened_since: None,
            suspected: None,
            returned: Vec::new(),
        }));
        self.junction.is_followed = true;
    }

    /// Looks for what the recorder has written since the last call, which
    /// [`next_part`](pmon_core::capture::RecordingReader::next_part) then returns. Call it after
    /// that function has returned `None`, about ten times a second, with the present time.
    ///
    /// # Errors
    /// When the current capture cannot be read. A directory that cannot be read is no error: it may
    /// come back.
    pub fn refresh(&mut self, now: Instant) -> io::Result<()> {
        let Some(following) = &mut self.following else { return Ok(()) };
        following.now = following.now.max(now);
        let mut is_whole =
            following.since(following.whole_at) >= WHOLE_INTERVAL || following.suspected.is_some();
        if self.at + 1 == self.list.entries.len() {
            self.find_next(is_whole);
        }
        if self.current.ended_cleanly() {
            return Ok(());
        }
        if self.has_lost_its_recorder() {
            is_whole |= !self.is_final();
            self.end_current();
        }
        let Some(following) = &mut self.following else { return Ok(()) };
        if is_whole {
            following.whole_at = following.now;
        }
        self.current.resume(&following.point, is_whole)
    }

    /// Announces that nothing more is written to the current capture, because its recorder has
    /// ended. Damage in it then counts.
    pub fn end_current(&mut self) {
        if let Some(following) = &mut self.following {
            following.is_final = true;
        }
    }

    /// Returns whether nothing more is written to the current capture: it has its END, or
    /// [`SegmentReader::end_current`] was called.
    pub fn has_ended(&self) -> bool {
        self.current.has_end() || self.is_final()
    }

    fn is_final(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.is_final)
    }

    /// Returns whether a later capture shows that nothing more is written to the current one,
    /// although it has no END.
    fn has_lost_its_recorder(&self) -> bool {
        let Some(following) = &self.following else { return false };
        let Some(store) = following.store.as_ref().filter(|_| self.at + 1 < self.list.entries.len()) else {
            return false;
        };
        let is_idle = following.since(following.last_record) > MAX_IDLE;
        // A recovery has given it its final name, or another process has removed it.
        !self.current.has_end() && (is_idle || store.filesystem.entry(&self.entry().name).is_err())
    }

    pub(super) fn next_followed(&mut self) -> io::Result<Option<Part<'_>>> {
        loop {
            let found = match self.current.next_item()? {
                Some(Item::Block(block)) => {
                    if let Some((_, last)) = block.times() {
                        self.last.time = self.last.time.max(last);
                    }
                    Found::Block
                }
                Some(Item::Damage(damage)) => Found::Damage(damage),
                None => Found::End,
            };
            let Some(following) = &mut self.following else { return Ok(None) };
            match found {
                Found::Block => {
                    following.point = self.current.resume_point();
                    following.last_record = following.now;
                    return Ok(self.current.rest_of_block(0).map(Part::Block));
                }
                Found::Damage(damage) if following.returned.contains(&damage.offset) => {}
                Found::Damage(damage) if following.counts(&damage) => {
                    following.returned.push(damage.offset);
                    return Ok(Some(Part::Damage(damage)));
                }
                Found::Damage(_) => return Ok(None),
                Found::End => {
                    following.suspected = None;
                    following.point = self.current.resume_point();
                    let is_read = self.current.has_end() || following.is_final;
                    return Ok((is_read && self.advance_followed()).then_some(Part::Segment));
                }
            }
        }
    }

    /// Opens the next capture. Returns `false` if there is none yet.
    fn advance_followed(&mut self) -> bool {
        while let Some(entry) = self.list.entries.get(self.at + 1) {
            let is_new = self.at + 2 == self.list.entries.len() && entry.is_partial;
            let opened = open(entry).and_then(|reader| match reader.header() {
                None if is_new => Err(OpenError::Empty),
                _ => Ok(reader),
            });
            let Some(following) = &mut self.following else { return false };
            let since = *following.unopened_since.get_or_insert(following.now);
            let is_young = is_new && following.since(since) < PATIENCE;
            match opened {
                Ok(reader) => {
                    following.leave(&self.list.entries[self.at]);
                    self.at += 1;
                    self.begin_with(reader);
                    self.begin_followed();
                    return true;
                }
                Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    let entry = self.list.entries.remove(self.at + 1);
                    self.skipped.push(left_out(&entry, &OpenError::Io(error)));
                }
                // The recorder has only just created its file.
                Err(_) if is_young => return false,
                Err(error) => {
                    let entry = self.list.entries.remove(self.at + 1);
                    following.leave(&entry);
                    following.unopened_since = None;
                    self.skipped.push(left_out(&entry, &error));
                }
            }
        }
        false
    }

    /// Notes the start of the next capture.
    fn begin_followed(&mut self) {
        let is_final = !self.entry().is_partial;
        let Some(following) = &mut self.following else { return };
        following.point = self.current.resume_point();
        following.is_final = is_final;
        following.last_record = following.now;
        (following.unopened_since, following.suspected) = (None, None);
        following.returned.clear();
        // The recording does not end here.
        self.junction.is_followed = true;
        // The captures between were removed before they were read.
        if let Some(span) = &mut self.junction.unobserved
            && span.reason == UnobservedReason::Missing
        {
            span.reason = UnobservedReason::Pruned;
        }
    }

    /// Lists the directory if it has changed, or if `is_forced`.
    fn find_next(&mut self, is_forced: bool) {
        let Some(store) = self.following.as_mut().and_then(|following| following.store.as_mut()) else {
            return;
        };
        let modified = store.filesystem.directory().ok().map(|directory| directory.modified);
        if !is_forced && modified == store.listed {
            return;
        }
        store.listed = modified;
        let Ok(list) = SegmentList::of_store(store.filesystem.clone(), Some(&store.host)) else { return };
        let listed: HashSet<_> = list.entries.iter().filter_map(|entry| entry.segment.as_ref()).collect();
        store.earlier.retain(|segment| listed.contains(segment));
        let mut current = self.list.entries[self.at].clone();
        let is_next = |entry: &SegmentEntry| {
            entry.segment != current.segment
                && entry.segment.as_ref().is_some_and(|segment| !store.earlier.contains(segment))
        };
        let mut entries: Vec<_> = list.entries.iter().filter(|entry| is_next(entry)).cloned().collect();
        if entries.is_empty() {
            return;
        }
        // The file of the current capture may have been removed.
        current.set_summary(self.last.summary.clone());
        entries.push(current.clone());
        let mut list = SegmentList { entries, is_ordered: false, duplicates: Vec::new() };
        list.order();
        let at = list.entries.iter().position(|entry| entry.segment == current.segment).unwrap_or(0);
        for entry in list.entries.drain(..at) {
            store.earlier.extend(entry.segment);
        }
        (self.list, self.at) = (list, 0);
    }
}

impl Following {
    fn since(&self, time: Instant) -> Duration {
        self.now.saturating_duration_since(time)
    }

    /// Returns whether damage counts. If not, it may be a block that is being written.
    fn counts(&mut self, damage: &Damage) -> bool {
        let since = match self.suspected {
            Some((offset, since)) if offset == damage.offset => since,
            _ => self.now,
        };
        self.suspected = Some((damage.offset, since));
        self.is_final || self.since(since) > PATIENCE
    }

    /// Notes that a capture is not to be read again.
    fn leave(&mut self, entry: &SegmentEntry) {
        if let Some(store) = &mut self.store {
            store.earlier.extend(entry.segment.clone());
        }
    }
}
