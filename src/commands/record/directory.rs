//! Creates and locks the directory of a store, and reports what was recovered there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pmon_store::{Directory, LockedStore, OpenStoreError, Recovered};

use crate::exit::{self, Failure};
use crate::input::shown;
use crate::output::harmless;
use crate::terminal;
use crate::time_spec::local_time;

/// Mode of a store's directory that pmon creates: command lines may contain secrets.
const DIRECTORY_MODE: u32 = 0o700;

/// Maximum time for which a recorder waits for the lock of the store. A killed recorder has it
/// until the kernel has freed its memory.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// Time between two attempts to lock the store.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// Creates the store's directory if it does not exist.
pub(super) fn create(directory: &Path) -> Result<(), Failure> {
    let created = DirBuilder::new().mode(DIRECTORY_MODE).create(directory);
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Err(Failure::new(
            exit::STORAGE,
            format_args!("cannot {what} the store {}: {error}", shown(directory)),
        ))
    };
    match (created, fs::metadata(directory)) {
        (_, Ok(meta)) if meta.is_dir() => Ok(()),
        (_, Ok(_)) => failed("use", &"it is not a directory; name another one"),
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
            failed("create", &format_args!("{error}; create its parent directory first"))
        }
        (Err(error), _) | (Ok(()), Err(error)) => failed("create", &error),
    }
}

/// Locks the store, and completes what its previous recorder left unfinished.
pub(super) fn open(directory: &Path, host: &str) -> Result<LockedStore, Failure> {
    let deadline = Instant::now() + LOCK_WAIT;
    let store = loop {
        match LockedStore::open(Arc::new(Directory::new(directory)), host) {
            Err(OpenStoreError::Busy { .. }) if Instant::now() < deadline => thread::sleep(LOCK_INTERVAL),
            opened => break opened?,
        }
    };
    report_recovered(store.recovered(), directory);
    Ok(store)
}

impl From<OpenStoreError> for Failure {
    fn from(error: OpenStoreError) -> Self {
        let remedy = match &error {
            OpenStoreError::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => "; run as its owner, or name another directory",
                io::ErrorKind::ReadOnlyFilesystem => {
                    "; mount the filesystem for writing, or name another directory"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
                _ => "",
            },
            _ => "",
        };
        Self::new(exit::STORAGE, format_args!("{error}{remedy}"))
    }
}

/// Reports that the previous recorder did not end cleanly.
fn report_recovered(recovered: &Recovered, directory: &Path) {
    for name in &recovered.salvaged {
        let end = recovered.last.as_ref().filter(|last| &last.name == name).map(|last| {
            let start = last.header.meta.start;
            let end = last.positions.cpus.iter().map(|cpu| cpu.time).max().unwrap_or(start.mono);
            format!(" at {}", local_time(start.at(end).real_ns))
        });
        terminal::eprintln(format_args!(
            "pmon: recovered {}: its recorder did not end cleanly; the segment ends{}",
            shown(&directory.join(name)),
            end.unwrap_or_else(|| " early".into())
        ));
    }
    for name in &recovered.set_aside {
        terminal::eprintln(format_args!(
            "pmon: kept {}: its header is unreadable, but `pmon print` can read its records",
            shown(&directory.join(name))
        ));
    }
    for (name, why) in &recovered.failed {
        terminal::eprintln(format_args!(
            "pmon: cannot recover {}: {}; it stays as it is",
            shown(&directory.join(name)),
            harmless(why)
        ));
    }
}
