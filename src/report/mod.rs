//! Reports about whole captures, as text for people and as JSON.

mod chain;
pub(crate) mod details;
pub(crate) mod diff;
pub(crate) mod programs;
pub(crate) mod recording;
pub(crate) mod summary;
pub(crate) mod text_table;
pub(crate) mod verdict;
