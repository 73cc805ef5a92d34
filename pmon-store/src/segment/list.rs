//! The segments in a directory, and their order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use pmon_core::capture::Header;

use super::name::{SegmentName, is_store_file};
use crate::disk::{FileEntry, Filesystem};
use crate::file::PARTIAL;

/// A segment in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// The file.
    pub entry: FileEntry,
    /// The final name of the segment.
    pub name: SegmentName,
    /// Whether the segment is not finished.
    pub is_partial: bool,
    /// The header.
    pub header: Header,
}

/// The files of a directory that belong to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreListing {
    /// The segments, in the order of [`in_order`].
    pub segments: Vec<SegmentFile>,
    /// Unfinished segments without a readable header.
    pub unreadable: Vec<FileEntry>,
    /// Other files of the store: clips, and those of the recorder.
    pub others: Vec<FileEntry>,
}

impl StoreListing {
    /// Lists a directory. Foreign files, and segments with a damaged header, are left out.
    ///
    /// # Errors
    /// When the directory cannot be listed. A file that cannot be read is no error.
    pub fn read(filesystem: &dyn Filesystem) -> io::Result<Self> {
        let mut this = Self::default();
        for entry in filesystem.list()? {
            let (stem, is_partial) = match entry.name.strip_suffix(PARTIAL) {
                Some(stem) => (stem, true),
                None => (&*entry.name, false),
            };
            let Some(name) = SegmentName::parse(stem) else {
                if is_store_file(&entry.name) {
                    this.others.push(entry);
                }
                continue;
            };
            match header(filesystem, &entry.name) {
                Some(header) => this.segments.push(SegmentFile { entry, name, is_partial, header }),
                None if is_partial => this.unreadable.push(entry),
                None => this.others.push(entry),
            }
        }
        this.segments = in_order(std::mem::take(&mut this.segments), |segment| &segment.header);
        Ok(this)
    }
}

/// Reads the header of a capture; `None` if it cannot be read.
pub(crate) fn header(filesystem: &dyn Filesystem, name: &str) -> Option<Header> {
    Header::read(&mut filesystem.open(name).ok()?).ok().flatten()
}

/// Sorts segments of one host by their headers: segments of a boot by the monotonic time of their
/// start, boots by their chain of predecessors, and by the wall clock where the chain is broken.
pub fn in_order<T>(segments: Vec<T>, header: impl Fn(&T) -> &Header) -> Vec<T> {
    let mut boots: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for segment in segments {
        boots.entry(header(&segment).meta.boot_id.clone()).or_default().push(segment);
    }
    let mut boots: Vec<Vec<T>> = boots.into_values().collect();
    for boot in &mut boots {
        boot.sort_by_key(|segment| {
            let start = header(segment).meta.start;
            (start.mono, start.real_ns, header(segment).uuid)
        });
    }
    let mut boot_of = HashMap::new();
    for (number, boot) in boots.iter().enumerate() {
        boot_of.extend(boot.iter().map(|segment| (header(segment).uuid, number)));
    }
    // The boots that follow each boot, because their first segments name one of its segments.
    let mut followers: Vec<Vec<usize>> = boots.iter().map(|_| Vec::new()).collect();
    let mut ready = BTreeSet::new();
    let starts: Vec<i64> = boots.iter().map(|boot| header(&boot[0]).meta.start.real_ns).collect();
    for (number, boot) in boots.iter().enumerate() {
        let previous = header(&boot[0]).meta.previous.and_then(|uuid| boot_of.get(&uuid));
        match previous {
            Some(&previous) if previous != number => followers[previous].push(number),
            _ => drop(ready.insert((starts[number], number))),
        }
    }
    let mut order = Vec::new();
    let mut left: BTreeSet<_> = starts.iter().copied().zip(0..).collect();
    // Forged headers can form a circle. The earliest boot then breaks it.
    while let Some(next) = ready.pop_first().or_else(|| left.first().copied()) {
        if left.remove(&next) {
            order.push(next.1);
            ready.extend(followers[next.1].iter().map(|&number| (starts[number], number)));
        }
    }
    let mut boots: Vec<Option<Vec<T>>> = boots.into_iter().map(Some).collect();
    order.into_iter().filter_map(|number| boots[number].take()).flatten().collect()
}

#[cfg(test)]
mod tests {
    use pmon_core::MonoNs;
    use pmon_core::capture::{ClockAnchor, Meta};
    use pmon_core::wire::ByteOrder;

    use super::*;

    /// Returns a header with this number as its UUID.
    fn segment(uuid: u8, boot: &str, mono: u64, real_ns: i64, previous: Option<u8>) -> Header {
        let start = ClockAnchor { mono: MonoNs(mono), boot_ns: mono, real_ns };
        let previous = previous.map(|previous| [previous; 16]);
        let meta = Meta { boot_id: boot.into(), start, previous, ..Meta::default() };
        Header { uuid: [uuid; 16], byte_order: ByteOrder::NATIVE, meta }
    }

    fn order(segments: Vec<Header>) -> Vec<u8> {
        in_order(segments, |header| header).into_iter().map(|header| header.uuid[0]).collect()
    }

    #[test]
    fn a_clock_that_steps_backwards_does_not_change_the_order_of_a_boot() {
        let segments = vec![
            segment(3, "a", 30, 50, Some(2)),
            segment(1, "a", 10, 1000, None),
            segment(2, "a", 20, 40, Some(1)),
        ];
        assert_eq!(order(segments), [1, 2, 3]);
    }

    #[test]
    fn boots_follow_their_chain_and_otherwise_the_wall_clock() {
        // The wall clock of the second boot is before that of the first one.
        let segments = vec![
            segment(4, "c", 5, 300, None),
            segment(3, "b", 5, 100, Some(2)),
            segment(1, "a", 10, 200, None),
            segment(2, "a", 20, 210, Some(1)),
        ];
        assert_eq!(order(segments), [1, 2, 3, 4]);
        let broken = vec![segment(3, "b", 5, 100, Some(9)), segment(1, "a", 10, 200, None)];
        assert_eq!(order(broken), [3, 1]);
    }

    #[test]
    fn a_circle_of_predecessors_loses_no_segment() {
        let segments = vec![
            segment(1, "a", 1, 10, Some(3)),
            segment(2, "b", 1, 20, Some(1)),
            segment(3, "c", 1, 30, Some(2)),
        ];
        assert_eq!(order(segments), [1, 2, 3]);
    }
}
