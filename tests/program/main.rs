//! Tests of `pmon replay FILE -- PROGRAM`: unmodified programs on the fake kernel, run by an
//! ordinary user.
//!
//! `clients/` contains small programs, one for each way of receiving events. They are built here.
//! Most of them are also run on the real kernel, to check that their expectations are correct.

mod arguments;
mod busy_readers;
mod clocks;
mod differential;
mod end_of_replay;
mod expect;
mod faults;
mod harness;
mod i386;
mod isolation;
mod limits;
mod procfs;
mod real_kernel;
mod receive_methods;
mod regressions;
mod restricted_systems;
mod settle;
mod test_capture;
mod third_party;
mod tmpfs;
mod warnings;

use pmon_testkit::{guard, support};
