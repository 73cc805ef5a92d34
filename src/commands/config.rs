//! `pmon config`: checks the configuration of a recorder.

use std::path::Path;
use std::time::Duration;

use crate::args::{ConfigArgs, ConfigCommand};
use crate::config::RecordConfig;
use crate::exit::{self, Failure};
use crate::input::shown;
use crate::output::harmless;
use crate::terminal;
use crate::time_spec::brief;

/// Runs the verb.
pub(crate) fn run(args: &ConfigArgs) -> Result<u8, Failure> {
    let ConfigCommand::Check { file } = &args.command;
    check(file)
}

/// Prints the options that are in force with a file, in the syntax of the file.
fn check(file: &Path) -> Result<u8, Failure> {
    let config = RecordConfig::check(file)?;
    super::record::options(&config.args).map_err(|failure| failure.prefixed(&shown(file)))?;
    let mut text = format!("# {} is valid. In force with it:\n", shown(file));
    for option in &config.options {
        text.push_str(&harmless(&option.toml()));
        text.push('\n');
    }
    for trigger in config.triggers() {
        let (before, after) = trigger.span();
        let brief = |span: Duration| brief(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let span = format!("{} before and {} after", brief(before), brief(after));
        text.push_str(&format!("# trigger {}: a clip of {span}\n", trigger.name()));
    }
    terminal::print(&text)?;
    Ok(exit::DONE)
}
