//! Reads every segment of a simulated store, with code of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use pmon_analysis::{Verdict, Verifier};
use pmon_core::MonoNs;
use pmon_core::capture::{
    Damage, Details, DetailsSubject, End, Header, Item, Loss, Positions, Reader, Record, RecordedDatagram,
    SnapshotReason,
};
use pmon_core::wire::Event;
use pmon_store::simulated::SimulatedFilesystem;
use pmon_store::{Filesystem, SegmentName, StoredFile};

use super::crash::lock;
use super::machine::ORDER;

/// Maximum number of segments that are kept.
const MAX_CACHED: usize = 512;
/// Suffix of the name of a segment that is being written.
pub(super) const PARTIAL: &str = ".partial";

/// A record that accounts for sequence numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Accounted {
    Event(Event),
    Loss(Loss),
}

/// A segment of a store.
#[derive(Clone, Debug)]
pub(super) struct ReadSegment {
    /// The name, without `.partial`.
    pub(super) name: String,
    pub(super) is_partial: bool,
    pub(super) contents: Arc<SegmentContents>,
}

/// A segment, read from its file alone.
#[derive(Debug)]
pub(super) struct SegmentContents {
    pub(super) header: Header,
    pub(super) ended_cleanly: bool,
    /// The unreadable parts.
    pub(super) damage: Vec<Damage>,
    /// The records that a verification needs, in their order.
    pub(super) records: Vec<Record<'static>>,
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
    pub(super) verdict: Verdict,
}

/// Reads all segments of a store, in the order of their starts within a boot. A filesystem that has
/// failed may have lost the contents of a file.
///
/// # Errors
/// If a file is not what its name says.
pub(super) fn read_segments(fs: &dyn Filesystem, has_failed: bool) -> Result<Vec<ReadSegment>, String> {
    list_segments(fs, has_failed, |file| Ok(SegmentContents::read(fs, file)?.map(Arc::new)))
}

/// The segments that were read, by the version of their files. Most segments are the same after two
/// crashes.
#[derive(Debug, Default)]
pub(super) struct SegmentCache {
    by_version: Mutex<HashMap<u64, Option<Arc<SegmentContents>>>>,
}

impl SegmentCache {
    /// Reads all segments of a store; see [`read_segments`].
    ///
    /// # Errors
    /// If a file is not what its name says.
    pub(super) fn read(
        &self,
        fs: &SimulatedFilesystem,
        has_failed: bool,
    ) -> Result<Vec<ReadSegment>, String> {
        list_segments(fs, has_failed, |file| self.contents(fs, file))
    }

    /// Reads a segment; `None` if its header is unreadable.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn contents(
        &self,
        fs: &SimulatedFilesystem,
        file: &str,
    ) -> Result<Option<Arc<SegmentContents>>, String> {
        let mut by_version = lock(&self.by_version);
        let version = fs.version(file).unwrap_or_default();
        if let Some(known) = by_version.get(&version) {
            return Ok(known.clone());
        }
        let read = SegmentContents::read(fs, file)?.map(Arc::new);
        if by_version.len() > MAX_CACHED {
            by_version.clear();
        }
        by_version.insert(version, read.clone());
        Ok(read)
    }
}

fn list_segments(
    fs: &dyn Filesystem,
    has_failed: bool,
    mut read: impl FnMut(&str) -> Result<Option<Arc<SegmentContents>>, String>,
) -> Result<Vec<ReadSegment>, String> {
    let mut segments = Vec::new();
    let listed = fs.list().map_err(|error| format!("the store cannot be listed: {error}"))?;
    for file in listed.into_iter().map(|entry| entry.name) {
        let name = file.strip_suffix(PARTIAL).unwrap_or(&file);
        if SegmentName::parse(name).is_none() {
            continue;
        }
        match read(&file)? {
            Some(contents) => {
                segments.push(ReadSegment { name: name.to_owned(), is_partial: name != file, contents });
            }
            // A power loss can leave a file without contents, but not under its final name.
            None if file == name && !has_failed => return Err(format!("{file} has no header")),
            None => {}
        }
    }
    segments.sort_by(|a: &ReadSegment, b| {
        let key = |segment: &ReadSegment| segment.contents.header.meta.start.mono;
        let (boot_a, boot_b) = (&a.contents.header.meta.boot_id, &b.contents.header.meta.boot_id);
        boot_a.cmp(boot_b).then_with(|| key(a).cmp(&key(b)))
    });
    Ok(segments)
}

/// Describes segments for an error, each in a line of its own.
pub(super) fn summaries(segments: &[ReadSegment]) -> String {
    segments.iter().map(|segment| format!("\n  {}", segment.summary())).collect()
}

impl ReadSegment {
    fn summary(&self) -> String {
        let mut cpus: BTreeMap<u32, (u32, u32, u64)> = BTreeMap::new();
        for accounted in &self.contents.accounted {
            let (cpu, first, last, lost) = match accounted {
                Accounted::Event(event) => (event.cpu, event.seq, event.seq, 0),
                Accounted::Loss(loss) => (loss.cpu, loss.first, loss.last, loss.count()),
            };
            let entry = cpus.entry(cpu.0).or_insert((first.0, last.0, 0));
            *entry = (entry.0, last.0, entry.2 + lost);
        }
        let info = self.contents.header.meta.segment.as_ref();
        let starts: Vec<(u32, u32)> = info
            .map(|info| info.positions.iter().map(|position| (position.cpu.0, position.next.0)).collect())
            .unwrap_or_default();
        format!(
            "{}{} ({:02x}{:02x} after {:02x?}) {:?} from {} at {starts:?}, {}: cpu (first, last, lost) {cpus:?} {:?}",
            self.name,
            if self.is_partial { ".partial" } else { "" },
            self.contents.header.uuid[0],
            self.contents.header.uuid[1],
            self.contents.header.meta.previous.map(|uuid| [uuid[0], uuid[1]]),
            info.map(|info| info.reason),
            self.contents.header.meta.start.mono,
            if self.contents.ended_cleanly { "clean" } else { "unclean" },
            self.contents.damage,
        )
    }
}

impl SegmentContents {
    fn read(fs: &dyn Filesystem, file: &str) -> Result<Option<Self>, String> {
        let input: Box<dyn StoredFile> = fs.open(file).map_err(|error| format!("{file}: {error}"))?;
        let Ok(mut reader) = Reader::open_sparse(input, |input| input.skip_hole()) else { return Ok(None) };
        let Some(header) = reader.header().cloned() else { return Ok(None) };
        let mut this = Self {
            header,
            ended_cleanly: false,
            damage: Vec::new(),
            records: Vec::new(),
            accounted: Vec::new(),
            opening: None,
            positions: None,
            end: None,
            undetailed: Vec::new(),
            problems: Vec::new(),
            verdict: Verdict::Damaged,
        };
        let meta = &this.header.meta;
        let mut verifier = Verifier::new(ORDER, meta.recorder());
        if let Some(segment) = &meta.segment {
            verifier.begin_at(&segment.positions, meta.start.mono);
        }
        let mut opening = BTreeMap::new();
        while let Some(item) = reader.next_item().map_err(|error| format!("{file}: {error}"))? {
            match item {
                Item::Damage(damage) => {
                    verifier.damage(&damage);
                    this.damage.push(damage);
                }
                Item::Block(block) => {
                    for record in block.records() {
                        verifier.count(&record);
                        this.records.extend(kept(&record));
                        this.add(record, &mut opening);
                    }
                }
            }
        }
        this.ended_cleanly = reader.ended_cleanly();
        let report = verifier.finish(this.ended_cleanly);
        this.verdict = report.verdict();
        this.problems = report.problems.iter().map(ToString::to_string).collect();
        Ok(Some(this))
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

/// Returns a record without borrowed bytes, if a verification of the whole store needs it.
fn kept(record: &Record<'_>) -> Option<Record<'static>> {
    Some(match record {
        Record::Event(datagram, _) => RecordedDatagram::Event(datagram.event(ORDER)?).into(),
        Record::Loss(loss) => Record::Loss(*loss),
        Record::Fence(fence) => Record::Fence(fence.clone()),
        Record::Witness(witness) => Record::Witness(*witness),
        Record::Clock(clock) => Record::Clock(*clock),
        Record::Positions(positions) => Record::Positions(positions.clone()),
        Record::Unobserved(span) => Record::Unobserved(*span),
        Record::Blind(blind) => Record::Blind(*blind),
        Record::End(end) => Record::End(*end),
        _ => return None,
    })
}
