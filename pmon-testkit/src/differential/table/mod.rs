//! The differential table: scenarios that run on the kernel and on the fake kernel, with what each
//! of them observes.

pub(super) mod compare;
mod kernel;
mod listener_count;
mod model;
mod normalize;
pub(super) mod request;
pub(super) mod run;
mod running;
mod scenario_world;
mod scenarios;
#[allow(
    unsafe_code,
    reason = "socket options of netlink, and a child that makes only system calls, have no safe wrapper"
)]
mod sys;

pub use compare::{TableRow, compare_scenarios};
pub use model::ModelKernel;
pub use run::Disturbed;
pub use running::{NotComparable, RunningKernel};
pub use scenario_world::ScenarioWorld;
