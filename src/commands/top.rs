//! `pmon top`: sums over groups of processes per interval, live or in a recording.

mod cpu;
mod display;
mod interval;
mod json;
mod keys;
mod live;
mod model;
mod plain;
mod recorded;
mod screen;
mod table;

use crate::args::TopArgs;
use crate::exit::Failure;

/// Runs the verb.
pub(crate) fn run(args: &TopArgs) -> Result<u8, Failure> {
    match &args.file {
        Some(file) => recorded::run(args, file),
        None => live::run(args),
    }
}
