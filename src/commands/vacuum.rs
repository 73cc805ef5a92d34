//! `pmon vacuum`: removes the oldest segments of a store.

use crate::args::VacuumArgs;
use crate::exit::{self, Failure};

/// Runs the verb.
pub(crate) fn run(_args: &VacuumArgs) -> Result<u8, Failure> {
    Err(Failure::new(exit::INTERNAL, "`pmon vacuum` is not built yet"))
}
