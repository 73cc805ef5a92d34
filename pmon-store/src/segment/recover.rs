//! Recovery of segments whose recorder was killed or lost power.
//!
//! A segment is salvaged in place: its journal becomes a part of the sealed blocks, a torn tail is
//! cut off, everything is synced, and then the segment gets its final name. It has no END, so it
//! still reads as unclean. A crash at any moment leaves a segment that can be salvaged again,
//! because the journal stays until its copy is durable.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use pmon_core::MonoNs;
use pmon_core::capture::{Header, Item, Positions, Reader, Record};

use super::name::SegmentName;
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
    /// Start and length of each later block with records that no earlier one has.
    journal: Vec<(u64, u64)>,
    /// Whether the recording ended cleanly, and nothing is damaged.
    is_finished: bool,
    tally: Tally,
    records: u64,
}

/// Salvages the file `NAME.partial` of a recorder that has ended.
///
/// # Errors
/// When the file cannot be read, synced or renamed. It then stays as it is, or partly repaired.
pub(crate) fn salvage(filesystem: &dyn Filesystem, partial_name: &str) -> io::Result<Recovery> {
    let found = match inspect(filesystem.open(partial_name)?, |_| {}) {
        Ok(found) => found,
        Err(InspectError::NotACapture) => return remove(filesystem, partial_name),
        Err(InspectError::Io(error)) => return Err(error),
    };
    if found.records == 0 {
        return remove(filesystem, partial_name);
    }
    let stem = partial_name.strip_suffix(PARTIAL).unwrap_or(partial_name);
    let Some(header) = &found.header else {
        let name = unused(stem.trim_end_matches(".pmon"), ".damaged.pmon", filesystem);
        filesystem.rename(partial_name, &name)?;
        sync_supported(filesystem)?;
        return Ok(Recovery::SetAside(name));
    };
    let disk = filesystem.reopen(partial_name)?;
    if !found.is_finished {
        repair(filesystem, partial_name, &disk, &found)?;
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
    let found = inspect(filesystem.open(name)?, |_| {}).map_err(io::Error::from)?;
    let start = found.header.as_ref().and_then(|header| header.meta.segment.as_ref());
    let is_continued = start.is_some_and(|start| start.reason.is_continuous() && !start.positions.is_empty());
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
    inspect(filesystem.open(name)?, observe).map(drop).map_err(io::Error::from)
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

fn inspect(
    file: Box<dyn StoredFile>,
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
    let mut found = Inspection {
        sealed_end: reader.offset(),
        journal: Vec::new(),
        is_finished: false,
        tally: start.map_or_else(Tally::default, |segment| Tally::at(&segment.positions)),
        records: 0,
        header,
    };
    let mut has_damage = false;
    while let Some(item) = reader.next_item().map_err(InspectError::Io)? {
        let len = match item {
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
                block.stored_len() as u64
            }
        };
        // The offset is the number of intact bytes as long as there is no gap.
        if reader.offset() == reader.intact_bytes() {
            found.sealed_end = reader.offset();
        } else {
            found.journal.push((reader.offset() - len, len));
        }
    }
    found.is_finished = reader.ended_cleanly() && !has_damage && found.journal.is_empty();
    Ok(found)
}

/// Moves the journal to the end of the sealed blocks, and cuts off the rest. If the journal does
/// not fit into the hole, or cannot be copied, it stays where it is.
fn repair(
    filesystem: &dyn Filesystem,
    name: &str,
    disk: &Arc<dyn Disk>,
    found: &Inspection,
) -> io::Result<()> {
    let len: u64 = found.journal.iter().map(|&(_, len)| len).sum();
    let end = match (found.journal.first(), found.journal.last()) {
        (Some(&(start, _)), Some(&(last, last_len))) => {
            let fits = found.sealed_end + len <= start;
            if fits && copy(filesystem, name, disk, found).is_ok() {
                found.sealed_end + len
            } else {
                // Removes a torn block before the journal. If this fails, readers skip the block.
                let _ = disk.punch_hole(found.sealed_end, start - found.sealed_end);
                last + last_len
            }
        }
        _ => found.sealed_end,
    };
    disk.set_len(end)
}

/// Copies the blocks of the journal to the end of the sealed blocks.
///
/// Each copy is durable before the next one begins, so a power loss leaves only the last one torn.
/// Otherwise, an intact copy after a torn one would make readers skip the blocks of the journal.
fn copy(filesystem: &dyn Filesystem, name: &str, disk: &Arc<dyn Disk>, found: &Inspection) -> io::Result<()> {
    let mut file = filesystem.open(name)?;
    let mut at = found.sealed_end;
    for &(start, len) in &found.journal {
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        (&mut file).take(len).read_to_end(&mut block)?;
        let mut bytes = &block[..];
        while !bytes.is_empty() {
            match disk.write_at(bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => (at, bytes) = (at + written as u64, &bytes[written..]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        disk.sync()?;
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
