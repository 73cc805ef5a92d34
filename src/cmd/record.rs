//! `pmon record`: events into a file.

use crate::args::RecordArgs;
use crate::exit::{self, Failure};

/// Runs the verb.
pub(crate) fn run(_: &RecordArgs) -> Result<u8, Failure> {
    Err(Failure::new(exit::INTERNAL, "this build cannot record yet"))
}
