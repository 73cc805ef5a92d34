//! Why a record cannot be encoded.

use thiserror::Error;

use crate::capture::format::MetaError;

/// Why the encoder refused a record. The encoder's state is unchanged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A datagram or string exceeds the limit.
    #[error("{what} of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Length in bytes.
        len: usize,
        /// Maximum length in bytes.
        limit: usize,
    },
    /// A typed event does not represent its whole datagram, or this version cannot write the
    /// record.
    #[error("an event or record of unknown kind must be given as raw bytes")]
    Unknown,
    /// The record has a usage and is not an exit.
    #[error("only an exit has a usage")]
    NoExit,
    /// The record's text exceeds the limit.
    #[error("cannot encode the record")]
    Meta(#[from] MetaError),
}
