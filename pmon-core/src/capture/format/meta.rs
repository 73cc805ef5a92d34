//! The one place that knows bincode. Version 2.0.1, standard configuration: little endian, variable-length
//! integers; always with a limit, so that a length that bytes claim never becomes memory.

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The most that one value may take, encoded and in memory.
pub(crate) const LIMIT: usize = 1 << 20;

/// Why a value cannot be encoded or decoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MetaError {
    /// Bytes that are not the value's encoding, or over the limit.
    #[error("cannot decode")]
    Decode(#[source] bincode::error::DecodeError),
    /// A value that has no encoding.
    #[error("cannot encode")]
    Encode(#[source] bincode::error::EncodeError),
    /// A value over the limit.
    #[error("{len} bytes are over the limit of {LIMIT}")]
    TooLong {
        /// Its length, encoded.
        len: usize,
    },
}

fn config() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    standard().with_limit::<LIMIT>()
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, MetaError> {
    // The configuration's limit holds for decoding only.
    let bytes = bincode::serde::encode_to_vec(value, config()).map_err(MetaError::Encode)?;
    if bytes.len() > LIMIT { Err(MetaError::TooLong { len: bytes.len() }) } else { Ok(bytes) }
}

/// Reads a value from the front of `bytes`. What follows it is left alone: later versions append fields.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MetaError> {
    bincode::serde::decode_from_slice(bytes, config()).map(|(value, _)| value).map_err(MetaError::Decode)
}
