//! The tests of `tests/program` on native sockets; that target runs them on emulated ones.

#[path = "program/arguments.rs"]
mod arguments;
#[path = "program/busy_readers.rs"]
mod busy_readers;
#[path = "program/clocks.rs"]
mod clocks;
#[path = "program/differential.rs"]
mod differential;
#[path = "program/end_of_replay.rs"]
mod end_of_replay;
#[path = "program/expect.rs"]
mod expect;
#[path = "program/faults.rs"]
mod faults;
#[path = "program/harness.rs"]
mod harness;
#[path = "program/i386.rs"]
mod i386;
#[path = "program/isolation.rs"]
mod isolation;
#[path = "program/limits.rs"]
mod limits;
#[path = "program/procfs.rs"]
mod procfs;
#[path = "program/real_kernel.rs"]
mod real_kernel;
#[path = "program/receive_methods.rs"]
mod receive_methods;
#[path = "program/regressions.rs"]
mod regressions;
#[path = "program/restricted_systems.rs"]
mod restricted_systems;
#[path = "program/settle.rs"]
mod settle;
#[path = "program/test_capture.rs"]
mod test_capture;
#[path = "program/third_party.rs"]
mod third_party;
#[path = "program/tmpfs.rs"]
mod tmpfs;
#[path = "program/warnings.rs"]
mod warnings;

use pmon_testkit::{guard, support};
