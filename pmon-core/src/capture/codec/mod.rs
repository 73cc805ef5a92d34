//! The coding of records: numbers in columns, strings in tables, events by prediction.

pub(crate) mod index;

mod args;
mod block_encoder;
mod column;
mod decode;
mod delta;
mod details;
mod encode;
mod encoded_block;
mod error;
mod fatal_signal;
mod notes;
mod pending;
mod predict;
mod profile;
mod recent;
mod recovered_index;
mod strings;
mod usage;

pub(crate) use column::{ColumnReader, ColumnSet};
pub(crate) use decode::DecodedBlock;
pub use decode::{Block, Records};
pub use encode::Encoder;
pub use encoded_block::{BlockDecoder, BlockOutline, EncodedBlock, Note, OutlinedCpu};
pub use error::EncodeError;
pub use recovered_index::{BlockSummary, RecoveredIndex};
