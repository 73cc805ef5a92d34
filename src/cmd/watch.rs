//! `pmon watch`: events as they happen.

use crate::args::WatchArgs;
use crate::exit::{self, Failure};

/// Runs the verb.
pub(crate) fn run(_: &WatchArgs) -> Result<u8, Failure> {
    Err(Failure::new(exit::INTERNAL, "this build cannot listen yet"))
}
