//! Encoding of metadata and notes: bincode 2.0.1 in its standard configuration (little endian,
//! variable-length integers).
//!
//! All decoding has a limit, so that a length in a file never causes an allocation of that size.

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use bincode::error::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Maximum size of one value in bytes, encoded and in memory.
pub(crate) const LIMIT: usize = 1 << 20;

/// Why a value cannot be encoded or decoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The bytes are not an encoding of the value, or exceed the limit.
    #[error("cannot decode")]
    Decode(#[source] DecodeError),
    /// The value has no encoding.
    #[error("cannot encode")]
    Encode(#[source] bincode::error::EncodeError),
    /// The encoded value exceeds the limit.
    #[error("{len} bytes are over the limit of {LIMIT}")]
    TooLong {
        /// Length of the encoded value in bytes.
        len: usize,
    },
}

fn config() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    standard().with_limit::<LIMIT>()
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, MetaError> {
    // The limit in the configuration applies to decoding only.
    let bytes = bincode::serde::encode_to_vec(value, config()).map_err(MetaError::Encode)?;
    if bytes.len() > LIMIT { Err(MetaError::TooLong { len: bytes.len() }) } else { Ok(bytes) }
}

/// Maximum number of zero bytes that stand for the fields which an earlier version does not write.
const MAX_MISSING: usize = 64;

/// Decodes a value from the start of `bytes`. Ignores the rest, because later versions append
/// fields. Fields that are missing at the end, because an earlier version wrote the value, are
/// zero, empty or `None`: zero bytes encode all of these.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MetaError> {
    match bincode::serde::decode_from_slice(bytes, config()) {
        Err(DecodeError::UnexpectedEnd { .. }) => {
            let padded = [bytes, &[0; MAX_MISSING]].concat();
            bincode::serde::decode_from_slice(&padded, config())
        }
        decoded => decoded,
    }
    .map(|(value, _)| value)
    .map_err(MetaError::Decode)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize)]
    struct Earlier {
        number: u32,
        text: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Later {
        number: u32,
        text: String,
        other: String,
        list: Vec<(u32, u64)>,
        choice: Option<[u8; 16]>,
        counts: [u64; 2],
    }

    #[test]
    fn fields_missing_at_the_end_are_zero_empty_or_none() {
        let earlier = Earlier { number: 300, text: "text".into() };
        let expected = Later {
            number: 300,
            text: "text".into(),
            other: String::new(),
            list: vec![],
            choice: None,
            counts: [0; 2],
        };
        assert_eq!(decode::<Later>(&encode(&earlier).unwrap()).unwrap(), expected);
        let later = Later { other: "other".into(), list: vec![(1, 2)], counts: [3, 0], ..expected };
        let bytes = encode(&later).unwrap();
        assert_eq!(decode::<Later>(&bytes).unwrap(), later);
        assert_eq!(decode::<Later>(&bytes[..bytes.len() - 1]).unwrap(), later);
        assert_eq!(decode::<Later>(&[&bytes[..], &[7; 9]].concat()).unwrap(), later);
    }

    #[test]
    fn a_field_that_claims_more_than_the_missing_bytes_is_refused() {
        let bytes = [0, MAX_MISSING as u8 + 1];
        assert!(decode::<Later>(&bytes).is_err());
        assert!(decode::<Later>(&[0, 253, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
    }
}
