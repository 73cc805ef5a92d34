//! Writes the bytes of a file again after a sync that may have failed.
//!
//! The kernel takes pages whose write-back has failed for written. Until they are written again, no
//! sync writes them to the disk, though reads return them. They are written in place: a copy would
//! need the space of a second segment on a disk that may be full.

use std::io::{self, SeekFrom};
use std::ops::Range;

use crate::disk::{Disk, StoredFile};

/// Maximum bytes of one write.
const CHUNK: usize = 256 << 10;
/// Bytes before the end of a hole at which [`StoredFile::skip_hole`] stops.
const TRAILER: u64 = 24;

/// Writes the bytes of `range` again, up to the end of the file. Holes that are longer than a chunk
/// stay.
///
/// # Errors
/// When the bytes cannot be read or written.
pub(super) fn rewrite(disk: &dyn Disk, file: &mut dyn StoredFile, range: Range<u64>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = range.start;
    while at < range.end {
        file.seek(SeekFrom::Start(at))?;
        let len = chunk.len().min(usize::try_from(range.end - at).unwrap_or(CHUNK));
        let len = read_up_to(file, &mut chunk[..len])?;
        let bytes = &chunk[..len];
        if bytes.is_empty() {
            break;
        }
        if bytes.iter().all(|&byte| byte == 0) {
            file.seek(SeekFrom::Start(at))?;
            let skipped = file.skip_hole()?;
            if skipped > 0 {
                at += skipped + TRAILER;
                continue;
            }
        }
        write_again(disk, bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Fills the buffer, unless the file ends before. Returns the number of bytes read.
fn read_up_to(file: &mut dyn StoredFile, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn write_again(disk: &dyn Disk, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.rewrite_at(bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => (at, bytes) = (at + written as u64, &bytes[written..]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Directory, Filesystem};

    #[test]
    fn the_bytes_of_a_range_are_the_same_afterwards_and_a_hole_stays() {
        let directory = tempfile::tempdir().unwrap();
        let fs = Directory::new(directory.path());
        let disk = fs.create("f").unwrap();
        disk.write_at(&[1; 5000], 0).unwrap();
        disk.write_at(&[2; 700], 8 << 20).unwrap();
        disk.sync().unwrap();
        let (before, bytes) = (fs.entry("f").unwrap(), std::fs::read(fs.path("f")).unwrap());
        rewrite(&*disk, &mut *fs.open("f").unwrap(), 0..u64::MAX).unwrap();
        disk.sync().unwrap();
        assert!(std::fs::read(fs.path("f")).unwrap() == bytes);
        let after = fs.entry("f").unwrap();
        assert_eq!(after.len, before.len);
        // A chunk with bytes at its start or end is written as a whole.
        assert!(after.allocated <= before.allocated + 2 * CHUNK as u64, "{before:?} {after:?}");
    }
}
