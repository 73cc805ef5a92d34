//! The command, run as a program: on captures that are built here, and against the running kernel.

mod buffer;
mod diff;
mod errors;
#[path = "../common/guard.rs"]
mod guard;
mod info;
mod live;
mod print;
mod record;
mod replay;
#[path = "../common/skipped.rs"]
mod skipped;
mod support;
mod synth;
mod timens;
mod times;
mod transport;
mod verify;
mod watch;
