//! `pmon verify`: checks a capture for completeness.

use serde_json::Value;

use crate::args::VerifyArgs;
use crate::exit::Failure;
use crate::input::Input;
use crate::output::json_text;
use crate::report::text_table::Sheet;
use crate::report::verdict::Finding;
use crate::terminal;

/// Runs the verb.
pub(crate) fn run(args: &VerifyArgs) -> Result<u8, Failure> {
    let input = Input::open(&args.file)?;
    let name = input.name().to_owned();
    let (finding, _) = input.examine(|_| ())?;
    let text = match args.json {
        true => json_text(&Value::Object(finding.json())) + "\n",
        false => text(&name, &finding),
    };
    terminal::print(&text)?;
    Ok(finding.exit_code())
}

fn text(name: &str, finding: &Finding) -> String {
    let report = &finding.report;
    let mut sheet = Sheet::default();
    sheet.line("capture", name);
    sheet.verdict(finding);
    sheet.events(report.events);
    sheet.losses(finding);
    sheet.rejected(finding);
    for problem in finding.problems() {
        sheet.line("problem", problem);
    }
    sheet.into_text()
}
