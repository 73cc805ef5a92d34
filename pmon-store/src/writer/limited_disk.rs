//! A file of a store within its limits: each write makes room first.

use std::io;
use std::sync::{Arc, Mutex};

use super::ledger::{Ledger, is_full};
use super::limits::lock;
use crate::disk::{Disk, Filesystem, pages};

/// A file of a store within its limits.
pub(super) struct LimitedDisk {
    pub(super) disk: Arc<dyn Disk>,
    /// Number of the file in the ledger.
    pub(super) id: u64,
    /// The directory without limits.
    pub(super) inner: Arc<dyn Filesystem>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
}

impl Disk for LimitedDisk {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let len = bytes.len() as u64;
        lock(&self.ledger).reserve(&*self.inner, self.id, at + len, len)?;
        self.rewrite_at(bytes, at)
    }

    fn rewrite_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        loop {
            match self.disk.write_at(bytes, at) {
                Err(error) if is_full(&error) => {
                    let mut ledger = lock(&self.ledger);
                    let can_prune = ledger.removable(ledger.kept_now()) > 0;
                    if !can_prune || ledger.prune_oldest(&*self.inner).is_none() {
                        return Err(error);
                    }
                }
                written => return written,
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)?;
        let mut ledger = lock(&self.ledger);
        let ledger = &mut *ledger;
        if let Some(file) = ledger.files.get_mut(&self.id) {
            ledger.used = ledger.used - file.bytes + pages(len);
            file.bytes = pages(len);
        }
        Ok(())
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.disk.punch_hole(at, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn size_limit(&self) -> Option<u64> {
        self.disk.size_limit()
    }
}

impl Drop for LimitedDisk {
    fn drop(&mut self) {
        if let Some(file) = lock(&self.ledger).files.get_mut(&self.id) {
            file.is_open = false;
        }
    }
}
