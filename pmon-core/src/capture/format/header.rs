//! The file header: what a reader must know before the first record.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::block::{put_u32, u32_at};
use super::meta::{self, MetaError};
use super::{MAJOR, MINOR};
use crate::capture::records::ClockAnchor;
use crate::ids::Tgid;
use crate::wire::ByteOrder;

/// The first bytes of a capture: none of them survives a transfer in text mode.
const MAGIC: [u8; 8] = *b"\x89PMON\r\n\x1a";
/// Bytes of a header before its metadata.
pub(crate) const FIXED: usize = 40;

/// What stands at the start of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// A random number of its own for each capture; its first four bytes mark each block as this capture's.
    pub uuid: [u8; 16],
    /// The byte order of the datagrams.
    pub byte_order: ByteOrder,
    /// Where, how and by what it was recorded.
    pub meta: Meta,
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// A header of so many bytes.
    Header(usize),
    /// A header of another major version, if the rest of it can be trusted.
    Version { major: u16, minor: u16, len: usize },
    /// Something else, or nothing that makes sense.
    Foreign,
}

impl Header {
    /// The first bytes of its UUID, which each block carries.
    pub(crate) fn tag(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.uuid;
        [a, b, c, d]
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, MetaError> {
        let meta = meta::encode(&self.meta)?;
        let mut out = Vec::with_capacity(FIXED + meta.len() + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&MAJOR.to_le_bytes());
        out.extend_from_slice(&MINOR.to_le_bytes());
        put_u32(&mut out, (FIXED + meta.len() + 4) as u32);
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&[if self.byte_order == ByteOrder::Big { 2 } else { 1 }, 0, 0, 0]);
        put_u32(&mut out, meta.len() as u32);
        out.extend_from_slice(&meta);
        let crc = crc32c::crc32c(&out);
        put_u32(&mut out, crc);
        Ok(out)
    }

    /// Looks at the first [`FIXED`] bytes of a file, or at all of them if there are fewer.
    pub(crate) fn start(bytes: &[u8]) -> Start {
        if bytes.len() < FIXED || bytes[..8] != MAGIC {
            return Start::Foreign;
        }
        let (major, minor) =
            (u16::from_le_bytes([bytes[8], bytes[9]]), u16::from_le_bytes([bytes[10], bytes[11]]));
        let len = u32_at(bytes, 12) as usize;
        if !(FIXED + 4..=FIXED + meta::LIMIT + 4).contains(&len) {
            Start::Foreign
        } else if major == MAJOR {
            Start::Header(len)
        } else {
            Start::Version { major, minor, len }
        }
    }

    /// Whether these bytes, a header of any version, are as they were written.
    pub(crate) fn is_intact(bytes: &[u8]) -> bool {
        bytes.split_last_chunk().is_some_and(|(head, crc)| crc32c::crc32c(head) == u32::from_le_bytes(*crc))
    }

    /// Reads a header of this version; `None` if it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if !Self::is_intact(bytes) {
            return None;
        }
        let uuid = *bytes.get(16..32)?.first_chunk()?;
        let byte_order = match bytes[32] {
            1 => ByteOrder::Little,
            2 => ByteOrder::Big,
            _ => return None,
        };
        let meta = bytes.get(FIXED..)?.get(..u32_at(bytes, 36) as usize)?;
        Some(Self { uuid, byte_order, meta: meta::decode(meta).ok()? })
    }
}

/// Where, how and by what a capture was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The program that wrote it, with its version.
    pub tool: String,
    /// Host name.
    pub host: String,
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// Machine, as `uname -m`.
    pub machine: String,
    /// `/proc/sys/kernel/random/boot_id`: captures with the same one share a monotonic clock.
    pub boot_id: String,
    /// CPUs online at the start.
    pub cpus_online: u32,
    /// Clock ticks per second: the unit of start times.
    pub ticks_per_second: u32,
    /// Inode numbers of the recorder's namespaces.
    pub namespaces: Namespaces,
    /// The recorder's process id.
    pub recorder_pid: u32,
    /// The command that was recorded, if it was started by the recorder; else empty.
    pub command: Vec<Vec<u8>>,
    /// How events came from the kernel.
    pub transport: TransportInfo,
    /// Bytes of socket buffer in effect, as the kernel accounts for them.
    pub socket_buffer: u64,
    /// The clocks at the start.
    pub start: ClockAnchor,
    /// The UUID of the capture that this one continues.
    pub previous: Option<[u8; 16]>,
}

impl Meta {
    /// The recorder's process, if it is known.
    pub fn recorder(&self) -> Option<Tgid> {
        (self.recorder_pid != 0).then_some(Tgid(self.recorder_pid))
    }
}

/// Inode numbers of namespaces, as in `/proc/self/ns`; 0 where not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// PID namespace.
    pub pid: u64,
    /// User namespace.
    pub user: u64,
    /// Network namespace.
    pub net: u64,
}

/// How events came from the kernel, and why this way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportInfo {
    /// Its name: `ring+details`, `ring`, `recvmmsg`, `replay`.
    pub name: String,
    /// Why it was chosen over a better one.
    pub why: String,
}

impl fmt::Display for TransportInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.why.is_empty() { Ok(()) } else { write!(f, " ({})", self.why) }
    }
}
