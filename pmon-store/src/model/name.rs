//! Names of processes and threads.

use std::sync::Arc;

use pmon_analysis::process::MAX_NAME;
use pmon_core::capture::Details;

/// The name of a process or thread. The kernel's own threads have names of up to 64 bytes; all
/// others are stored in place.
#[derive(Clone, Debug, Default)]
pub(super) enum Name {
    #[default]
    Unknown,
    Short(u8, [u8; SHORT]),
    Long(Arc<[u8]>),
}

/// `TASK_COMM_LEN` without the terminating zero.
const SHORT: usize = 15;

impl Name {
    pub(super) fn new(name: &[u8]) -> Self {
        let name = &name[..name.len().min(MAX_NAME)];
        if name.len() > SHORT {
            return Self::Long(name.into());
        }
        let mut bytes = [0; SHORT];
        bytes[..name.len()].copy_from_slice(name);
        Self::Short(name.len() as u8, bytes)
    }

    /// Returns the name of the first thread according to details. An exec names it after the file
    /// passed to it.
    pub(super) fn of_details(details: &Details) -> Self {
        if let Some(comm) = &details.comm {
            return Self::new(comm);
        }
        match details.filename.as_deref().and_then(|path| path.rsplit(|&byte| byte == b'/').next()) {
            Some(base) if !base.is_empty() => Self::new(&base[..base.len().min(SHORT)]),
            _ => Self::Unknown,
        }
    }

    pub(super) fn get(&self) -> Option<&[u8]> {
        match self {
            Self::Unknown => None,
            Self::Short(len, bytes) => Some(&bytes[..usize::from(*len)]),
            Self::Long(bytes) => Some(bytes),
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}
