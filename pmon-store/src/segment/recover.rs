//! Recovery of segments whose recorder was killed or lost power.
//!
//! A segment is salvaged in place: its bytes are written again and synced, the records of its
//! journal are encoded again into sealed blocks, a torn tail is cut off, everything is synced, and
//! then the segment gets its final name. It gets an index, so that readers can seek in it, unless
//! it has an END: with both, it would read as ended cleanly. A crash at any moment leaves a segment
//! that can be salvaged again, because the journal stays until the sealed blocks with its records
//! are durable.

use std::io;
use std::sync::Arc;

use pmon_core::MonoNs;
use pmon_core::capture::{Header, Item, Positions, Reader, Record, RecoveredIndex, SegmentReason};

use super::journal::{Journal, JournalEncoder};
use super::name::{DAMAGED_SUFFIX, SegmentName};
use super::rewrite::rewrite;
use crate::disk::{Disk, Filesystem, StoredFile};
use crate::file::{PARTIAL, partial, sync_supported};
use crate::tally::Tally;

/// What became of an unfinished segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// The segment was salvaged, and has this final name.
    Salvaged(String),
    /// The file had no record, and was removed.
    Removed,
    /// The file has records but no intact header. It was kept with this name.
    SetAside(String),
}

/// The readable parts of a capture.
struct Inspection {
    header: Option<Header>,
    /// End of the blocks that follow each other from the start without a gap.
    sealed_end: u64,
    /// The later blocks with records that no earlier one has.
    journal: Option<Journal>,
    /// Whether the recording ended cleanly, and nothing is damaged.
    is_finished: bool,
    tally: Tally,
    records: u64,
    /// The blocks of a file with a header.
    index: Option<RecoveredIndex>,
}

/// Salvages the file `NAME.partial` of a recorder that has ended.
///
/// # Errors
/// When the file cannot be read, synced or renamed. It then stays as it is, or partly repaired.
pub(crate) fn salvage(filesystem: &dyn Filesystem, partial_name: &str) -> io::Result<Recovery> {
    let mut found = match inspect(filesystem.open(partial_name)?, true, |_| {}) {
        Ok(found) => found,
        Err(InspectError::NotACapture) => return remove(filesystem, partial_name),
        Err(InspectError::Io(error)) => return Err(error),
    };
    if found.records == 0 {
        return remove(filesystem, partial_name);
    }
    let disk = filesystem.reopen(partial_name)?;
    make_durable(filesystem, partial_name, &*disk, &found)?;
    let stem = partial_name.strip_suffix(PARTIAL).unwrap_or(partial_name);
    let Some(header) = found.header.clone() else {
        let name = unused(stem.trim_end_matches(".pmon"), DAMAGED_SUFFIX, filesystem);
        filesystem.rename(partial_name, &name)?;
        sync_supported(filesystem)?;
        return Ok(Recovery::SetAside(name));
    };
    if !found.is_finished {
        let end = repair(&disk, &mut found)?;
        // A power loss must not leave the index intact and a block before it torn: readers would
        // skip the journal.
        disk.sync()?;
        write_index(&disk, &found, end)?;
    }
    disk.sync()?;
    let is_taken = |name: &str| filesystem.entry(name).is_ok();
    let name = if is_taken(stem) {
        let is_taken = |name: &SegmentName| is_taken(name.as_str()) || is_taken(&partial(name.as_str()));
        SegmentName::unused(&header.meta.host, header.meta.start.real_ns, is_taken).to_string()
    } else {
        stem.to_owned()
    };
    filesystem.rename(partial_name, &name)?;
    sync_supported(filesystem)?;
    Ok(Recovery::Salvaged(name))
}

/// Writes what readers find in a file to the disk.
///
/// After a kill, the last sealed block may not be durable, and only the journal, which the salvage
/// cuts off, may have its records on the disk. After a failed sync, of this process or of one that
/// was killed, a sync alone would succeed without writing the pages that have failed.
fn make_durable(
    filesystem: &dyn Filesystem,
    partial_name: &str,
    disk: &dyn Disk,
    found: &Inspection,
) -> io::Result<()> {
    let mut file = filesystem.open(partial_name)?;
    // The index follows the blocks of a finished segment.
    let end = if found.is_finished { u64::MAX } else { found.sealed_end };
    rewrite(disk, &mut *file, 0..end)?;
    if let Some(journal) = &found.journal {
        rewrite(disk, &mut *file, journal.bytes.clone())?;
    }
    disk.sync()
}

/// How a segment ends.
pub(crate) struct EndPositions {
    pub(crate) positions: Positions,
    pub(crate) ended_cleanly: bool,
    /// Whether the positions are those of all CPUs.
    pub(crate) has_all_cpus: bool,
}

/// Returns the positions at the end of a segment. `drops_before` is the socket's count of drops at
/// its start, if known.
///
/// # Errors
/// When the segment cannot be read.
pub(crate) fn end_positions(
    filesystem: &dyn Filesystem,
    name: &str,
    drops_before: Option<u64>,
) -> io::Result<EndPositions> {
    if let Some(positions) = stated_positions(filesystem, name)? {
        return Ok(EndPositions { positions, ended_cleanly: true, has_all_cpus: true });
    }
    let found = inspect(filesystem.open(name)?, false, |_| {}).map_err(io::Error::from)?;
    let start = found.header.as_ref().and_then(|header| header.meta.segment.as_ref());
    // After a failure, the positions are those of the CPUs whose events had been written.
    let is_continued = start.is_some_and(|start| {
        start.reason.is_continuous() && start.reason != SegmentReason::Storage && !start.positions.is_empty()
    });
    Ok(EndPositions {
        positions: found.tally.end_positions(drops_before),
        ended_cleanly: found.is_finished,
        has_all_cpus: is_continued || found.tally.has_fence,
    })
}

/// Passes each record of a segment to `observe`.
///
/// # Errors
/// When the segment cannot be read.
pub(crate) fn read_records(
    filesystem: &dyn Filesystem,
    name: &str,
    observe: impl FnMut(&Record<'_>),
) -> io::Result<()> {
    inspect(filesystem.open(name)?, false, observe).map(drop).map_err(io::Error::from)
}

/// Returns the positions that a segment with a clean end states in its last block; `None` if there
/// are none.
fn stated_positions(filesystem: &dyn Filesystem, name: &str) -> io::Result<Option<Positions>> {
    let Ok(mut reader) = Reader::open_sparse(filesystem.open(name)?, |file| file.skip_hole()) else {
        return Ok(None);
    };
    if !reader.seek(MonoNs(u64::MAX))? {
        return Ok(None);
    }
    let mut positions = None;
    while let Some(item) = reader.next_item()? {
        let Item::Block(block) = item else { return Ok(None) };
        positions = block.records().fold(positions, |last, record| match record {
            Record::Positions(positions) => Some(positions),
            _ => last,
        });
    }
    Ok(positions.filter(|_| reader.ended_cleanly()))
}

enum InspectError {
    NotACapture,
    Io(io::Error),
}

impl From<InspectError> for io::Error {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::NotACapture => Self::new(io::ErrorKind::InvalidData, "it is no capture"),
            InspectError::Io(error) => error,
        }
    }
}

/// Reads a capture. `encodes_journal` states whether the records of a journal are encoded again.
fn inspect(
    file: Box<dyn StoredFile>,
    encodes_journal: bool,
    mut observe: impl FnMut(&Record<'_>),
) -> Result<Inspection, InspectError> {
    let mut reader = match Reader::open_sparse(file, |file| file.skip_hole()) {
        Ok(reader) => reader,
        Err(pmon_core::capture::OpenError::Io(error)) => return Err(InspectError::Io(error)),
        Err(_) => return Err(InspectError::NotACapture),
    };
    let header = reader.header().cloned();
    let order = reader.byte_order();
    let start = header.as_ref().and_then(|header| header.meta.segment.as_ref());
    // Data that this version skips would be lost.
    let encodes_journal = encodes_journal && !reader.is_of_later_version();
    let mut found = Inspection {
        sealed_end: reader.offset(),
        journal: None,
        is_finished: false,
        tally: start.map_or_else(Tally::default, |segment| Tally::at(&segment.positions)),
        records: 0,
        index: header.as_ref().map(RecoveredIndex::new),
        header,
    };
    let mut has_damage = false;
    while let Some(item) = reader.next_item().map_err(InspectError::Io)? {
        let (len, summary) = match item {
            Item::Damage(_) => {
                has_damage = true;
                continue;
            }
            Item::Block(block) => {
                for record in block.records() {
                    found.records += 1;
                    found.tally.apply(&record, order);
                    observe(&record);
                }
                (block.stored_len() as u64, block.summary())
            }
        };
        let start = reader.offset() - len;
        if let Some(index) = &mut found.index {
            index.push(summary, start);
        }
        // The offset is the number of intact bytes as long as there is no gap.
        if reader.offset() == reader.intact_bytes() {
            found.sealed_end = reader.offset();
            continue;
        }
        let journal = found.journal.get_or_insert_with(|| {
            let header = found.header.clone().filter(|_| encodes_journal);
            let encoder = header.map(|header| JournalEncoder::new(header, start - found.sealed_end));
            Journal { bytes: start..start, encoder }
        });
        journal.bytes.end = reader.offset();
        if let (Some(encoder), Some(block)) = (&mut journal.encoder, reader.rest_of_block(0)) {
            encoder.push(&block);
        }
    }
    found.is_finished = reader.ended_cleanly() && !has_damage && found.journal.is_none();
    Ok(found)
}

/// Writes the records of the journal after the sealed blocks, and cuts off the rest. If they do not
/// fit into the hole, or cannot be written, the journal stays where it is. Returns the end of the
/// file.
fn repair(disk: &Arc<dyn Disk>, found: &mut Inspection) -> io::Result<u64> {
    let sealed_end = found.sealed_end;
    let end = match found.journal.take() {
        Some(Journal { bytes, encoder }) => {
            let blocks = encoder.and_then(JournalEncoder::finish);
            match blocks.filter(|blocks| write_blocks(disk, blocks, sealed_end).is_ok()) {
                Some(blocks) => {
                    let blocks = blocks.concat();
                    let index = found.index.iter_mut();
                    index.for_each(|index| index.replace(bytes.start, &blocks, sealed_end));
                    sealed_end + blocks.len() as u64
                }
                None => {
                    // Removes a torn block before the journal. If this fails, readers skip it.
                    let _ = disk.punch_hole(sealed_end, bytes.start - sealed_end);
                    bytes.end
                }
            }
        }
        None => sealed_end,
    };
    disk.set_len(end)?;
    Ok(end)
}

/// Appends the index, so that readers need not read the whole file to find a time. A segment with
/// an END gets none, nor one without room for it.
fn write_index(disk: &Arc<dyn Disk>, found: &Inspection, end: u64) -> io::Result<()> {
    match found.index.as_ref().and_then(|index| index.encode(end)) {
        Some(bytes) => write_all(disk, &bytes, end).or_else(|_| disk.set_len(end)),
        None => Ok(()),
    }
}

/// Writes blocks at an offset.
///
/// Each block is durable before the next one begins, so a power loss leaves only the last one torn.
/// Otherwise, an intact block after a torn one would make readers skip the blocks of the journal.
/// Nearly every journal fits into one block.
fn write_blocks(disk: &Arc<dyn Disk>, blocks: &[Vec<u8>], mut at: u64) -> io::Result<()> {
    for block in blocks {
        write_all(disk, block, at)?;
        at += block.len() as u64;
        disk.sync()?;
    }
    Ok(())
}

fn write_all(disk: &Arc<dyn Disk>, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.write_at(bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => (at, bytes) = (at + written as u64, &bytes[written..]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn remove(filesystem: &dyn Filesystem, name: &str) -> io::Result<Recovery> {
    match filesystem.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(Recovery::Removed),
    }
}

/// Returns a name that no file has.
fn unused(stem: &str, suffix: &str, filesystem: &dyn Filesystem) -> String {
    let mut name = format!("{stem}{suffix}");
    let mut number = 1;
    while filesystem.entry(&name).is_ok() {
        number += 1;
        name = format!("{stem}-{number}{suffix}");
    }
    name
}
