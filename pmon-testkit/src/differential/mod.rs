//! The differential table: the fake kernel compared with the running one, line by line.
//!
//! `table` compares sockets, requests and sequence numbers; [`verbs`] compares process events.

mod table;
pub mod verbs;

pub use table::{
    Disturbed, ModelKernel, NotComparable, RunningKernel, ScenarioWorld, TableRow, compare_scenarios,
};
