//! The differential table: scenarios that are played on the kernel and on a model of it, and what was seen, line by line.

pub(crate) mod compare;
pub(crate) mod count;
pub(crate) mod host;
pub(crate) mod model;
pub(crate) mod real;
pub(crate) mod request;
pub(crate) mod scenarios;
pub(crate) mod scene;
pub(crate) mod show;
#[allow(
    unsafe_code,
    reason = "socket options of netlink, and a child that does what it is told, have no safe wrapper"
)]
mod sys;

pub use compare::{Row, compare_scenarios};
pub use model::Model;
pub use real::Kernel;
pub use scene::Disturbed;
