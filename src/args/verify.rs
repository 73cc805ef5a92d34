//! The arguments of `pmon verify`.

use std::path::PathBuf;

use clap::Args;

use crate::exit;

const EXAMPLES: &str = "\
Examples:
  pmon verify night.pmon                          for people
  pmon verify night.pmon --json | jq .verdict     for programs
  pmon verify night.pmon && ./evaluate night.pmon    only if it is complete";

const DETAILS: &str = "\
The kernel numbers the events of each CPU without gaps. pmon checks that every
missing number belongs to a recorded loss, and that the recorder's totals agree
with the records. The verdict is the worst one that applies:

  verdict    meaning                                                   exit code
  complete   every event from the start to the end is in the capture           0
  lossy      events were lost, or may have been                                3
  blind      the kernel emitted no events for a time, so the number of
             missing events is unknown                                         3
  unsealed   the recorder still runs or was killed; the capture is complete
             up to the stated time                                             3
  damaged    parts are unreadable, missing or contradictory                    4";

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{DETAILS}\n\n{}", exit::HELP))]
pub(crate) struct VerifyArgs {
    /// The capture to check; `-` is standard input.
    pub(crate) file: PathBuf,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
