//! The capture format, version 1: records to bytes and back. `docs/capture-format.md` specifies every byte.

mod args;
mod block;
mod checksum;
mod column;
mod decode;
mod details;
mod encode;
mod header;
mod index;
mod input;
mod limit;
mod meta;
mod notes;
mod own;
mod predict;
mod profile;
mod read;
mod recent;
mod record;
mod strings;
mod usage;

pub use decode::{Block, Records};
pub use encode::{EncodeError, Encoder};
pub use header::{Header, Meta, Namespaces, Transport};
pub use limit::BLOCK as MAX_BLOCK;
pub use meta::MetaError;
pub use own::Own;
pub use read::{Damage, DamageKind, Item, OpenError, Reader};
pub use record::{
    Blind, ClockAnchor, CpuCounts, Credentials, Details, Edge, End, Fence, ForkCount, Forks, Frame, LeftOut,
    Loss, Mark, Membership, Miss, ProcessState, Reason, Record, RingCounts, Scope, Snapshot, Subject,
    Unreached, Usage, WhyUnreached, Witness,
};

/// The format's major version: a reader refuses any other.
///
/// * 1: the first.
pub const MAJOR: u16 = 1;
/// The format's minor version: a reader takes any, and skips what it does not know.
///
/// * 0: the first.
/// * 1: what an exit's process used; of an exec, its file name and where the process belongs; events that were left out.
/// * 2: readings of the kernel's fork counter.
pub const MINOR: u16 = 2;
