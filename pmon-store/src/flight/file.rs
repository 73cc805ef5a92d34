//! A file in memory: chunks that are allocated when they are written.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::disk::{Disk, FileEntry, StoredFile};

/// Bytes of a chunk, the unit of allocation.
pub(super) const CHUNK: usize = 64 << 10;
/// Bytes of a trailer, which a reader must see as a whole.
const TRAILER: u64 = 24;

/// The memory of all files of a directory.
#[derive(Debug)]
pub(super) struct Usage {
    used: AtomicU64,
    limit: u64,
}

impl Usage {
    pub(super) fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    pub(super) fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used())
    }

    /// Takes the memory of a chunk. Returns whether the limit permits it.
    fn take_chunk(&self) -> bool {
        let chunk = CHUNK as u64;
        let take = |used: u64| used.checked_add(chunk).filter(|&used| used <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn free(&self, chunks: usize) {
        self.used.fetch_sub((chunks * CHUNK) as u64, Ordering::AcqRel);
    }
}

/// A file in memory.
pub(super) struct MemoryFile {
    usage: Arc<Usage>,
    contents: Mutex<Contents>,
}

struct Contents {
    len: u64,
    /// Chunks in order; `None` is a hole.
    chunks: Vec<Option<Box<[u8; CHUNK]>>>,
    modified: SystemTime,
}

impl Contents {
    fn allocated(&self) -> usize {
        self.chunks.iter().flatten().count()
    }
}

impl MemoryFile {
    pub(super) fn new(usage: Arc<Usage>) -> Self {
        let contents = Contents { len: 0, chunks: Vec::new(), modified: SystemTime::now() };
        Self { usage, contents: Mutex::new(contents) }
    }

    pub(super) fn entry(&self, name: &str) -> FileEntry {
        let contents = self.contents();
        FileEntry {
            name: name.into(),
            len: contents.len,
            allocated: (contents.allocated() * CHUNK) as u64,
            modified: contents.modified,
        }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // The contents are consistent after each step, whatever panics.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> usize {
        let contents = self.contents();
        let left = contents.len.saturating_sub(at);
        let (chunk, start) = position(at);
        let count = into.len().min(CHUNK - start).min(usize::try_from(left).unwrap_or(usize::MAX));
        match contents.chunks.get(chunk) {
            Some(Some(bytes)) => into[..count].copy_from_slice(&bytes[start..start + count]),
            _ => into[..count].fill(0),
        }
        count
    }

    /// Returns the first byte from `at` on that is in a chunk, or the length.
    fn next_data(&self, at: u64) -> u64 {
        let contents = self.contents();
        let first = position(at).0;
        let used = contents.chunks.iter().skip(first).position(Option::is_some);
        used.map_or(contents.len, |skipped| ((first + skipped) as u64 * CHUNK as u64).max(at))
    }
}

/// Returns the chunk that contains an offset, and the position in it.
fn position(at: u64) -> (usize, usize) {
    (usize::try_from(at / CHUNK as u64).unwrap_or(usize::MAX), (at % CHUNK as u64) as usize)
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let allocated = self.contents().allocated();
        self.usage.free(allocated);
    }
}

impl Disk for MemoryFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut contents = self.contents();
        let (chunk, start) = position(at);
        let count = bytes.len().min(CHUNK - start);
        if count == 0 {
            return Ok(0);
        }
        if contents.chunks.len() <= chunk {
            contents.chunks.resize_with(chunk + 1, || None);
        }
        let into = &mut contents.chunks[chunk];
        if into.is_none() {
            if !self.usage.take_chunk() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *into = Some(Box::new([0; CHUNK]));
        }
        if let Some(into) = into {
            into[start..start + count].copy_from_slice(&bytes[..count]);
        }
        contents.len = contents.len.max(at + count as u64);
        contents.modified = SystemTime::now();
        Ok(count)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut contents = self.contents();
        let before = contents.allocated();
        let kept = usize::try_from(len.div_ceil(CHUNK as u64)).unwrap_or(usize::MAX);
        contents.chunks.truncate(kept);
        contents.chunks.shrink_to_fit();
        let (chunk, start) = position(len);
        if let Some(Some(bytes)) = contents.chunks.get_mut(chunk) {
            bytes[start..].fill(0);
        }
        self.usage.free(before - contents.allocated());
        contents.len = len;
        contents.modified = SystemTime::now();
        Ok(())
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        let mut contents = self.contents();
        let end = at.saturating_add(len).min(contents.len);
        let before = contents.allocated();
        let mut from = at;
        while from < end {
            let (chunk, start) = position(from);
            let until = end.min((chunk as u64 + 1) * CHUNK as u64);
            match contents.chunks.get_mut(chunk) {
                Some(hole) if start == 0 && until - from == CHUNK as u64 => *hole = None,
                Some(Some(bytes)) => bytes[start..start + (until - from) as usize].fill(0),
                _ => {}
            }
            from = until;
        }
        self.usage.free(before - contents.allocated());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size_limit(&self) -> Option<u64> {
        None
    }
}

/// Reads a file in memory. It may be removed meanwhile.
pub(super) struct MemoryReader {
    file: Arc<MemoryFile>,
    at: u64,
}

impl MemoryReader {
    pub(super) fn new(file: Arc<MemoryFile>) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for MemoryReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for MemoryReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let len = self.file.contents().len;
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl StoredFile for MemoryReader {
    fn skip_hole(&mut self) -> io::Result<u64> {
        let to = self.file.next_data(self.at).saturating_sub(TRAILER).max(self.at);
        Ok(to - std::mem::replace(&mut self.at, to))
    }
}
