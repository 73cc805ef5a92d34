//! Tests the `pmon` program on captures that are built here, and on the running kernel.

mod buffer;
mod config;
mod cut;
mod diff;
mod errors;
mod follow;
mod hostile;
mod info;
mod lines;
mod live;
mod mistakes;
mod output;
mod print;
mod query;
mod record;
mod recorder;
mod refusals;
mod replay;
mod retention;
mod scope;
mod signals;
mod sql;
mod store;
mod synth;
#[allow(unsafe_code, reason = "a program is started with less than this one has")]
mod sys;
mod timens;
mod times;
mod top;
mod transport;
mod verify;
mod watch;

use pmon_testkit::{guard, support};
