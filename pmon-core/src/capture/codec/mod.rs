//! The coding of records: numbers in columns, strings in tables, events by prediction.

pub(crate) mod column;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod error;
pub(crate) mod index;

mod args;
mod block_encoder;
mod counts;
mod delta;
mod details;
mod notes;
mod pending;
mod predict;
mod profile;
mod recent;
mod strings;
mod usage;
