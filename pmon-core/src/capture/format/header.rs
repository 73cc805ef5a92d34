//! The file header: identity, byte order and origin of a capture.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::meta::{self, MetaError};
use super::{FILE_ORDER, MAJOR, MINOR, put_u32};
use crate::capture::records::{ClockAnchor, CpuPosition};
use crate::ids::Tgid;
use crate::wire::ByteOrder;

/// First bytes of a capture. A transfer in text mode changes them.
const MAGIC: [u8; 8] = *b"\x89PMON\r\n\x1a";
/// Bytes of a header before its metadata.
pub(crate) const HEADER_FIXED: usize = 40;

/// Bytes that hold most headers, so that one read suffices.
const USUAL_LEN: u64 = 4096;

// Byte ranges of the header's fields after the magic number.
const MAJOR_VERSION: Range<usize> = 8..10;
const MINOR_VERSION: Range<usize> = 10..12;
const HEADER_LEN: Range<usize> = 12..16;
const UUID: Range<usize> = 16..32;
const BYTE_ORDER: usize = 32;
const META_LEN: Range<usize> = 36..40;

/// The file header of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random UUID of the capture. Each block repeats its first four bytes.
    pub uuid: [u8; 16],
    /// Byte order of the datagrams.
    pub byte_order: ByteOrder,
    /// Origin of the capture.
    pub meta: Meta,
}

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileStart {
    /// A header of this version with this length in bytes.
    Header(usize),
    /// A header of another major version, unless its checksum does not match.
    Version { major: u16, minor: u16, len: usize },
    /// No header, or one with an impossible length.
    Foreign,
}

impl Header {
    /// Returns the first bytes of the UUID, which each block repeats.
    pub(crate) fn tag(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.uuid;
        [a, b, c, d]
    }

    /// Reads the header at the start of a capture, without searching for blocks.
    ///
    /// Returns `None` if the header is damaged or of another major version, or if the input is no
    /// capture.
    ///
    /// # Errors
    /// Returns an error if the input cannot be read.
    pub fn read(input: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        input.by_ref().take(USUAL_LEN).read_to_end(&mut bytes)?;
        let FileStart::Header(len) = Self::start(&bytes) else { return Ok(None) };
        if let Some(more) = (len as u64).checked_sub(bytes.len() as u64) {
            input.by_ref().take(more).read_to_end(&mut bytes)?;
        }
        Ok(bytes.get(..len).and_then(Self::decode))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, MetaError> {
        let meta = meta::encode(&self.meta)?;
        let mut out = Vec::with_capacity(HEADER_FIXED + meta.len() + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&MAJOR.to_le_bytes());
        out.extend_from_slice(&MINOR.to_le_bytes());
        put_u32(&mut out, (HEADER_FIXED + meta.len() + 4) as u32);
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&[if self.byte_order == ByteOrder::Big { 2 } else { 1 }, 0, 0, 0]);
        put_u32(&mut out, meta.len() as u32);
        out.extend_from_slice(&meta);
        let crc = crc32c::crc32c(&out);
        put_u32(&mut out, crc);
        Ok(out)
    }

    /// Classifies a file by its first [`HEADER_FIXED`] bytes, or by all of its bytes if there are
    /// fewer.
    pub(crate) fn start(bytes: &[u8]) -> FileStart {
        if bytes.len() < HEADER_FIXED || !bytes.starts_with(&MAGIC) {
            return FileStart::Foreign;
        }
        let [major, minor] =
            [MAJOR_VERSION, MINOR_VERSION].map(|field| FILE_ORDER.u16_at(bytes, field.start));
        let len = FILE_ORDER.u32_at(bytes, HEADER_LEN.start) as usize;
        if !(HEADER_FIXED + 4..=HEADER_FIXED + meta::LIMIT + 4).contains(&len) {
            FileStart::Foreign
        } else if major == MAJOR {
            FileStart::Header(len)
        } else {
            FileStart::Version { major, minor, len }
        }
    }

    /// Returns whether the checksum of a header of any version matches.
    pub(crate) fn is_intact(bytes: &[u8]) -> bool {
        bytes.split_last_chunk().is_some_and(|(head, crc)| crc32c::crc32c(head) == u32::from_le_bytes(*crc))
    }

    /// Returns whether a later minor version than this one wrote a header of this major version.
    pub(crate) fn is_later(bytes: &[u8]) -> bool {
        bytes.len() >= HEADER_FIXED && FILE_ORDER.u16_at(bytes, MINOR_VERSION.start) > MINOR
    }

    /// Reads a header of this major version; `None` if it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if !Self::is_intact(bytes) {
            return None;
        }
        let uuid = *bytes.get(UUID)?.first_chunk()?;
        let byte_order = match bytes[BYTE_ORDER] {
            1 => ByteOrder::Little,
            2 => ByteOrder::Big,
            _ => return None,
        };
        let meta = bytes.get(HEADER_FIXED..)?.get(..FILE_ORDER.u32_at(bytes, META_LEN.start) as usize)?;
        Some(Self { uuid, byte_order, meta: meta::decode(meta).ok()? })
    }
}

/// Origin of a capture: the machine, the recorder and its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Name and version of the program that wrote the capture.
    pub tool: String,
    /// Host name of the machine.
    pub host: String,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Hardware name (`uname -m`).
    pub machine: String,
    /// Boot id (`/proc/sys/kernel/random/boot_id`). Captures with the same boot id share a
    /// monotonic clock.
    pub boot_id: String,
    /// Number of CPUs online at the start.
    pub cpus_online: u32,
    /// Clock ticks per second (`sysconf(_SC_CLK_TCK)`), the unit of start times.
    pub ticks_per_second: u32,
    /// Inode numbers of the recorder's namespaces.
    pub namespaces: Namespaces,
    /// Process id of the recorder; 0 if unknown.
    pub recorder_pid: u32,
    /// Command that the recorder started, as its arguments; empty if it started none.
    pub command: Vec<Vec<u8>>,
    /// How the recorder received events from the kernel.
    pub transport: TransportInfo,
    /// Effective size of the socket's receive buffer in bytes (`SO_RCVBUF`).
    pub socket_buffer: u64,
    /// Reading of the clocks at the start.
    pub start: ClockAnchor,
    /// UUID of the capture that this one continues.
    pub previous: Option<[u8; 16]>,
    /// Machine id (`machine-id(5)`), which identifies the machine across boots; empty if unknown.
    pub machine_id: String,
    /// Why the capture began and how it continues `previous`; `None` if it is no segment of a
    /// store.
    pub segment: Option<SegmentInfo>,
    /// Whether the recorder observed the senders of signals.
    pub signals: SignalTracing,
}

impl Meta {
    /// Returns the recorder's process; `None` if it is unknown.
    pub fn recorder(&self) -> Option<Tgid> {
        (self.recorder_pid != 0).then_some(Tgid(self.recorder_pid))
    }
}

/// Whether a recorder observed the senders of the signals that killed processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SignalTracing {
    /// An earlier version wrote the capture, which has no senders.
    #[default]
    Unknown,
    /// The recorder observed the senders.
    On,
    /// The recorder could not observe the senders.
    Off {
        /// Why not.
        why: String,
    },
}

/// How a segment of a store begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentInfo {
    /// Why the segment began.
    pub reason: SegmentReason,
    /// Number that the next event of each CPU must have. CPUs that are not listed have emitted no
    /// event since the recording began. Empty if no event is known to precede the segment.
    pub positions: Vec<CpuPosition>,
}

/// Why a segment of a store began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SegmentReason {
    /// A recorder started with a new socket. Nothing was observed since the previous segment.
    Start,
    /// The previous segment reached the maximum size.
    Size,
    /// The previous segment reached the maximum age.
    Age,
    /// A user requested it.
    Request,
    /// The previous segment could not be written further.
    Storage,
    /// A recorder started with the socket and the ring of the previous one.
    Restart,
    /// The capture is an excerpt of others.
    Cut,
}

impl SegmentReason {
    /// Returns the reason's name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Size => "size",
            Self::Age => "age",
            Self::Request => "request",
            Self::Storage => "storage",
            Self::Restart => "restart",
            Self::Cut => "cut",
        }
    }

    /// Returns whether the sequence numbers continue those of the previous segment.
    pub fn is_continuous(self) -> bool {
        !matches!(self, Self::Start | Self::Cut)
    }
}

/// Inode numbers of namespaces (`/proc/self/ns`); 0 where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Inode number of the PID namespace.
    pub pid: u64,
    /// Inode number of the user namespace.
    pub user: u64,
    /// Inode number of the network namespace.
    pub net: u64,
}

/// How the recorder received events from the kernel, and why this way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportInfo {
    /// Name of the transport: `ring+details`, `ring`, `recvmmsg` or `replay`.
    pub name: String,
    /// Why the recorder did not use a better transport; empty if it used the best.
    pub why: String,
}

impl fmt::Display for TransportInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.why.is_empty() { Ok(()) } else { write!(f, " ({})", self.why) }
    }
}
