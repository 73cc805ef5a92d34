//! `pmon config`: checks the configuration of a recorder.

use std::path::Path;

use crate::args::{ConfigArgs, ConfigCommand};
use crate::config::RecordConfig;
use crate::exit::{self, Failure};
use crate::input::shown;
use crate::output::harmless;
use crate::terminal;

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
    terminal::print(&text)?;
    Ok(exit::DONE)
}
