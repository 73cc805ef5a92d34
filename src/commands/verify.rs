//! `pmon verify`: checks a capture for completeness.

use crate::args::VerifyArgs;
use crate::captures::Captures;
use crate::exit::Failure;
use crate::report::summary::print_json;
use crate::report::text_table::TextTable;
use crate::report::verdict::Completeness;
use crate::terminal;

/// Runs the verb.
pub(crate) fn run(args: &VerifyArgs) -> Result<u8, Failure> {
    let input = Captures::find(&args.source.files, args.source.host.as_deref())?.open()?;
    let name = input.name().to_owned();
    let (completeness, _) = input.examine(|_| ())?;
    match args.json {
        true => print_json(completeness.json(), false)?,
        false => terminal::print(&text(&name, &completeness))?,
    }
    Ok(completeness.exit_code())
}

fn text(name: &str, completeness: &Completeness) -> String {
    let report = &completeness.report;
    let mut table = TextTable::default();
    table.line("capture", name);
    table.segments(completeness, 0);
    table.verdict(completeness);
    table.events(report.events);
    table.losses(completeness);
    table.rejected(completeness);
    table.chain(completeness);
    for problem in completeness.problems() {
        table.line("problem", problem);
    }
    table.into_text()
}
