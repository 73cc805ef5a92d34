//! The differential table.

mod table;
pub mod verbs;

pub use table::{Disturbed, Kernel, Model, Row, compare_scenarios};
