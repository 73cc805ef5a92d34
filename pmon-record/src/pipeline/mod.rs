//! How received events become records: receive, queue, assemble, write.

pub mod assemble;
pub(crate) mod chunk;
pub(crate) mod drain;
pub mod receive;
pub(crate) mod write;
