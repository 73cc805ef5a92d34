//! The capture format, version 1: records to bytes and back.
//!
//! `docs/capture-format.md` specifies every byte. The modules build on each other in this order:
//!
//! * `records`: the types of the records;
//! * `format`: the file header, block headers and limits;
//! * `codec`: the coding of a block's records, and the [`Encoder`];
//! * `reader`: the [`Reader`], which finds the intact blocks of a file, and the interface
//!   [`RecordingReader`] to read one capture or several alike.

mod codec;
mod format;
mod reader;
mod records;

pub use codec::{
    Block, BlockDecoder, BlockOutline, BlockSummary, EncodeError, EncodedBlock, Encoder, Note, OutlinedCpu,
    Records, RecoveredIndex,
};
pub use format::{
    Header, MAJOR, MAX_BLOCK, MINOR, Meta, MetaError, Namespaces, SegmentInfo, SegmentReason, SignalTracing,
    TransportInfo,
};
pub use reader::{
    Damage, DamageKind, EncodedItem, Item, Junction, OpenError, Part, Reader, RecordingReader, ResumePoint,
    SeekRecording, Splicer,
};
pub use records::{
    Blind, ClockAnchor, ContainerNames, CpuCounts, CpuPosition, Credentials, Details, DetailsSubject, End,
    Excluded, FatalSignal, Fence, FencePosition, ForkCount, ForkReading, Loss, MissReason, Positions,
    ProcessContext, ProcessState, Record, RecordPool, RecordedDatagram, RingCounts, ScopeInfo, SelfGenerated,
    SignalOrigin, SignalSender, Snapshot, SnapshotReason, Unobserved, UnobservedReason, UnreachedCpu,
    UnreachedReason, Usage, Witness, argv,
};
