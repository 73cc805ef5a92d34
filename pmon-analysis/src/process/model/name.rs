//! Names of processes and threads.

use std::sync::Arc;

use pmon_core::capture::Details;
use pmon_core::wire::Comm;

use crate::process::MAX_NAME;

/// The name of a process or thread. The kernel's own threads have names of up to 64 bytes; all
/// others are stored in place.
#[derive(Clone, Debug, Default)]
pub(crate) enum Name {
    #[default]
    Unknown,
    /// Length of the name, and its bytes.
    Short(u8, ShortBytes),
    Long(Arc<[u8]>),
}

/// `TASK_COMM_LEN` without the terminating zero.
const SHORT: usize = 15;

/// Bytes of a short name. The alignment lets a name be stored by two instructions.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
pub(crate) struct ShortBytes([u8; SHORT + 1]);

impl Name {
    pub(crate) fn new(name: &[u8]) -> Self {
        let name = &name[..name.len().min(MAX_NAME)];
        if name.len() > SHORT {
            return Self::Long(name.into());
        }
        let mut bytes = [0; SHORT + 1];
        bytes[..name.len()].copy_from_slice(name);
        Self::Short(name.len() as u8, ShortBytes(bytes))
    }

    /// Returns the name that an event states.
    #[inline]
    pub(super) fn of_comm(comm: &Comm) -> Self {
        // Finds the first zero byte without a loop: this is half the cost of a COMM event.
        const LOW: u128 = u128::MAX / 255;
        let word = u128::from_le_bytes(comm.0);
        let zeros = word.wrapping_sub(LOW) & !word & (LOW << 7);
        Self::Short((zeros.trailing_zeros() / 8) as u8, ShortBytes(comm.0))
    }

    /// Returns the name of the first thread according to details. An exec names it after the file
    /// passed to it.
    pub(crate) fn of_details(details: &Details) -> Self {
        if let Some(comm) = &details.comm {
            return Self::new(comm);
        }
        match details.filename.as_deref().and_then(|path| path.rsplit(|&byte| byte == b'/').next()) {
            Some(base) if !base.is_empty() => Self::new(&base[..base.len().min(SHORT)]),
            _ => Self::Unknown,
        }
    }

    pub(crate) fn get(&self) -> Option<&[u8]> {
        match self {
            Self::Unknown => None,
            Self::Short(len, bytes) => Some(&bytes.0[..usize::from(*len)]),
            Self::Long(bytes) => Some(bytes),
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_an_event_ends_before_its_first_zero() {
        for text in ["", "a", "a\0b", "\u{80}\0\u{1}", "\u{1}\0\u{1}", "fourteen-bytes", "fifteen-bytes-x"] {
            let mut comm = Comm([b'x'; 16]);
            comm.0[..text.len()].copy_from_slice(text.as_bytes());
            if let Some(end) = comm.0.get_mut(text.len()) {
                *end = 0;
            }
            assert_eq!(Name::of_comm(&comm).get(), Some(comm.as_bytes()), "{text:?}");
        }
        let full = Comm([b'x'; 16]);
        assert_eq!(Name::of_comm(&full).get(), Some(&full.0[..]));
    }
}
