//! Mistakes that the simulation must find.

use pmon_store::simulated::Operation;

/// A mistake of the filesystem, of a recorder or of the store's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// An operation reports success without effect.
    Omits(Operation),
    /// A loss is recorded twice.
    CountsLossTwice,
    /// A loss is not recorded.
    OmitsLoss,
    /// A restarted recorder continues one event too late on a CPU.
    SkipsPosition,
    /// A restarted recorder lacks the position of its last CPU.
    LacksPosition,
    /// The process table at the start lacks a process.
    LacksProcess,
    /// The last event before a division is recorded after the division as well.
    RepeatsEvent,
    /// The count of drops at the end of a segment includes those of the earlier segments.
    SumsDrops,
    /// The newest segment is removed instead of the oldest one.
    RemovesNewest,
    /// A segment gets its final name before its end is synced.
    RenamesBeforeSync,
    /// A clip begins later than its request says.
    ShortensClip,
    /// The store takes a page more than its limit, and uses the page reserved for the directory.
    ExceedsLimit,
}
