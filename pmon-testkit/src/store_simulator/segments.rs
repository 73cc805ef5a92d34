//! Reads every segment of a simulated store, with code of its own.

use std::collections::BTreeMap;

use pmon_analysis::Verifier;
use pmon_core::MonoNs;
use pmon_core::capture::{
    Details, DetailsSubject, End, Header, Item, Loss, Positions, Reader, Record, SnapshotReason,
};
use pmon_core::wire::Event;
use pmon_store::{Filesystem, SegmentName, StoredFile};

use super::machine::ORDER;

/// Suffix of the name of a segment that is being written.
const PARTIAL: &str = ".partial";

/// A record that accounts for sequence numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Accounted {
    Event(Event),
    Loss(Loss),
}

/// A segment, read from its file alone.
#[derive(Debug)]
pub(super) struct ReadSegment {
    /// The name, without `.partial`.
    pub(super) name: String,
    pub(super) header: Header,
    pub(super) is_partial: bool,
    pub(super) ended_cleanly: bool,
    /// Descriptions of unreadable parts.
    pub(super) damage: Vec<String>,
    /// Events and losses in their order.
    pub(super) accounted: Vec<Accounted>,
    /// The processes of the opening; `None` if it is incomplete.
    pub(super) opening: Option<BTreeMap<u32, Details>>,
    pub(super) positions: Option<Positions>,
    pub(super) end: Option<End>,
    /// Execs without details.
    pub(super) undetailed: Vec<(u32, MonoNs)>,
    /// What the segment's own verification reports.
    pub(super) problems: Vec<String>,
}

/// Reads all segments of a store, in the order of their starts within a boot. A filesystem that has
/// failed may have lost the contents of a file.
///
/// # Errors
/// If a file is not what its name says.
pub(super) fn read_segments(fs: &dyn Filesystem, has_failed: bool) -> Result<Vec<ReadSegment>, String> {
    let mut segments = Vec::new();
    let listed = fs.list().map_err(|error| format!("the store cannot be listed: {error}"))?;
    for file in listed.into_iter().map(|entry| entry.name) {
        let name = file.strip_suffix(PARTIAL).unwrap_or(&file);
        if SegmentName::parse(name).is_none() {
            continue;
        }
        match ReadSegment::read(fs, &file)? {
            Some(segment) => segments.push(segment),
            // A power loss can leave a file without contents, but not under its final name.
            None if file == name && !has_failed => return Err(format!("{file} has no header")),
            None => {}
        }
    }
    segments.sort_by_key(|segment| (segment.header.meta.boot_id.clone(), segment.header.meta.start.mono));
    Ok(segments)
}

impl ReadSegment {
    fn read(fs: &dyn Filesystem, file: &str) -> Result<Option<Self>, String> {
        let input: Box<dyn StoredFile> = fs.open(file).map_err(|error| format!("{file}: {error}"))?;
        let Ok(mut reader) = Reader::open_sparse(input, |input| input.skip_hole()) else { return Ok(None) };
        let Some(header) = reader.header().cloned() else { return Ok(None) };
        let name = file.strip_suffix(PARTIAL).unwrap_or(file).to_owned();
        let mut this = Self {
            is_partial: name != file,
            name,
            header,
            ended_cleanly: false,
            damage: Vec::new(),
            accounted: Vec::new(),
            opening: None,
            positions: None,
            end: None,
            undetailed: Vec::new(),
            problems: Vec::new(),
        };
        let mut verifier = Verifier::new(ORDER, this.header.meta.recorder());
        let mut opening = BTreeMap::new();
        while let Some(item) = reader.next_item().map_err(|error| format!("{file}: {error}"))? {
            match item {
                Item::Damage(damage) => {
                    verifier.damage(&damage);
                    this.damage.push(format!("{damage:?}"));
                }
                Item::Block(block) => {
                    for record in block.records() {
                        verifier.count(&record);
                        this.add(record, &mut opening);
                    }
                }
            }
        }
        this.ended_cleanly = reader.ended_cleanly();
        let report = verifier.finish(this.ended_cleanly);
        this.problems = report.problems.iter().map(ToString::to_string).collect();
        Ok(Some(this))
    }

    /// Describes the segment for an error.
    pub(super) fn summary(&self) -> String {
        let mut cpus: BTreeMap<u32, (u32, u32, u64)> = BTreeMap::new();
        for accounted in &self.accounted {
            let (cpu, first, last, lost) = match accounted {
                Accounted::Event(event) => (event.cpu, event.seq, event.seq, 0),
                Accounted::Loss(loss) => (loss.cpu, loss.first, loss.last, loss.count()),
            };
            let entry = cpus.entry(cpu.0).or_insert((first.0, last.0, 0));
            *entry = (entry.0, last.0, entry.2 + lost);
        }
        let info = self.header.meta.segment.as_ref();
        let starts: Vec<(u32, u32)> = info
            .map(|info| info.positions.iter().map(|position| (position.cpu.0, position.next.0)).collect())
            .unwrap_or_default();
        format!(
            "{}{} ({:02x}{:02x} after {:02x?}) {:?} from {} at {starts:?}, {}: cpu (first, last, lost) {cpus:?} {:?}",
            self.name,
            if self.is_partial { ".partial" } else { "" },
            self.header.uuid[0],
            self.header.uuid[1],
            self.header.meta.previous.map(|uuid| [uuid[0], uuid[1]]),
            info.map(|info| info.reason),
            self.header.meta.start.mono,
            if self.ended_cleanly { "clean" } else { "unclean" },
            self.damage,
        )
    }

    fn add(&mut self, record: Record<'_>, opening: &mut BTreeMap<u32, Details>) {
        match record {
            Record::Event(datagram, _) => {
                let event = datagram.event(ORDER);
                self.accounted.extend(event.map(Accounted::Event));
                if let Some(Event { body: pmon_core::wire::EventBody::Exec { task }, time, .. }) = event {
                    self.undetailed.push((task.tgid.0, time));
                }
            }
            Record::Loss(loss) => self.accounted.push(Accounted::Loss(loss)),
            Record::Details(details) => match details.subject {
                DetailsSubject::Snapshot { tgid } if self.opening.is_none() => {
                    opening.insert(tgid.0, *details);
                }
                DetailsSubject::Exec { tgid, time } => {
                    self.undetailed.retain(|exec| *exec != (tgid.0, time));
                }
                DetailsSubject::Snapshot { .. } => {}
            },
            Record::Snapshot(snapshot) if snapshot.reason == SnapshotReason::Segment => {
                self.opening = Some(std::mem::take(opening));
            }
            Record::Positions(positions) => self.positions = Some(positions),
            Record::End(end) => self.end = Some(end),
            _ => {}
        }
    }
}
