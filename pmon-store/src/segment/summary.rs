//! What the header of a capture states about its place in a recording.

use std::io::Read;

use pmon_core::MonoNs;
use pmon_core::capture::{ClockAnchor, Header, SegmentInfo, SegmentReason};

/// Maximum length of a text that is kept of each header, in bytes. Texts of real headers are
/// shorter; a forged header can have 1 MiB.
const MAX_TEXT: usize = 128;
/// Maximum time in ns by which an event is earlier than one before it in the recording, because
/// CPUs emit events independently. This is far more than the kernel's.
const MAX_INVERSION_NS: u64 = 100_000_000;

/// What the header of a capture states about its place in a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// UUID of the capture.
    pub uuid: [u8; 16],
    /// UUID of the capture that this one continues.
    pub previous: Option<[u8; 16]>,
    /// Why the segment began; `None` if it is no segment of a store.
    pub reason: Option<SegmentReason>,
    /// The clocks at its start.
    pub start: ClockAnchor,
    /// Time of the latest event before it; `None` if it continues no capture. Its own events are
    /// later, except for differences between CPUs, but can be earlier than its start: they waited
    /// in the kernel's buffers, for seconds if no recorder was running.
    pub last_before: Option<MonoNs>,
    /// Host name, at most 128 bytes.
    pub host: String,
    /// Boot id, at most 128 bytes.
    pub boot_id: String,
    /// Machine id, at most 128 bytes.
    pub machine_id: String,
}

impl SegmentSummary {
    /// Returns what a header states.
    pub(crate) fn of(header: &Header) -> Self {
        let meta = &header.meta;
        Self {
            uuid: header.uuid,
            previous: meta.previous,
            reason: meta.segment.as_ref().map(|segment| segment.reason),
            start: meta.start,
            last_before: meta.segment.as_ref().and_then(latest),
            host: shortened(&meta.host),
            boot_id: shortened(&meta.boot_id),
            machine_id: shortened(&meta.machine_id),
        }
    }

    /// Reads the header of a capture; `None` if it is damaged or cannot be read.
    pub(crate) fn read(capture: &mut impl Read) -> Option<Self> {
        Header::read(capture).ok().flatten().as_ref().map(Self::of)
    }

    /// Returns how much earlier than the start the first event can be, in ns.
    pub(crate) fn max_lead_ns(&self) -> u64 {
        let waited = self.last_before.map_or(0, |last| self.start.mono.0.saturating_sub(last.0));
        waited.saturating_add(MAX_INVERSION_NS)
    }

    /// Returns whether both captures were recorded since the same boot, as far as that is known.
    pub fn is_same_boot(&self, other: &Self) -> bool {
        self.boot_id == other.boot_id
    }

    /// Returns whether this segment begins where `previous` ends.
    pub fn continues(&self, previous: &Self) -> bool {
        self.previous == Some(previous.uuid)
            && self.is_same_boot(previous)
            && self.reason.is_some_and(SegmentReason::is_continuous)
    }
}

fn latest(segment: &SegmentInfo) -> Option<MonoNs> {
    let positions = segment.positions.iter().filter(|_| segment.reason.is_continuous());
    positions.map(|position| position.time).max()
}

/// Returns the first [`MAX_TEXT`] bytes of a text, at most.
pub(crate) fn shortened(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}
