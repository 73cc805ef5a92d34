//! The command, run as a program: on captures that are built here, and against the running kernel.

mod buffer;
mod diff;
mod errors;
mod info;
mod live;
mod print;
mod record;
mod replay;
mod support;
mod synth;
mod transport;
mod verify;
mod watch;
