//! How received datagrams become records, in the order of the data: [`receive`], [`queue`],
//! [`assemble`], [`write`](mod@write).

pub mod assemble;
pub(crate) mod chunk;
pub(crate) mod drain;
pub(crate) mod queue;
pub mod receive;
#[cfg(test)]
pub(crate) mod segmented_sink;
pub(crate) mod wakeups;
pub(crate) mod write;
