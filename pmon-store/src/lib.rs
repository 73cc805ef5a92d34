//! Captures on disk.
//!
//! * `disk`: the [`Filesystem`] and its files, which simulations and memory implement too.
//! * [`control`]: the control socket of a recorder.
//! * `file`: [`CaptureFile`] is the sink that writes one capture to a file or a stream.
//! * `segment`: names, listing and order of the segments of a store, recovery, retention.
//! * `writer`: [`StoreWriter`] is the sink that writes a store of segments.
//! * `reader`: [`SegmentReader`] reads a store, or several captures, as one recording.
//! * `trigger`: conditions on events that request a clip.
//! * `flight`: [`MemoryFilesystem`] holds the store of a flight recorder.
//! * [`cut`]: excerpts of captures that stand alone.
//! * [`clip`]: excerpts of a store, made by a running recorder.
//! * `simulated`: a filesystem in memory that loses data, fills up and fails, for tests.
//!
//! This crate does not print or exit.
#![deny(unsafe_code)]

pub mod clip;
pub mod control;
pub mod cut;
mod disk;
mod file;
mod flight;
mod reader;
mod segment;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
mod tally;
mod trigger;
mod writer;

pub use disk::{
    Directory, DirectoryState, Disk, FileEntry, Filesystem, RECORDER_NAME, StoreLock, StoredFile, SyncRunner,
    SyncWork, recorder_of_file,
};
pub use file::{CaptureFile, CaptureFileError, CaptureFileOptions, CaptureTarget};
pub use flight::{MemoryFilesystem, flight_options};
pub use reader::{
    CaptureBytes, ListError, RangeBound, SegmentEntry, SegmentList, SegmentReader, SkippedSegment,
};
pub use segment::{
    ExcessSegment, RetentionLimit, RetentionLimits, SegmentName, SegmentSummary, StoreMachine,
    UnmeetableLimit, VacuumReport, vacuum,
};
pub use trigger::{
    ProcessSummary, Trigger, TriggerCounts, TriggerError, TriggerFired, Triggers, TriggersHandle,
    parse_triggers,
};
pub use writer::{
    LastSegment, LockedStore, OpenStoreError, RecordObserver, Recovered, StoreHandle, StoreOptions,
    StoreStatus, StoreWriter,
};
