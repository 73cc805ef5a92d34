//! The arguments of `pmon config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::help::of_other;

use crate::config::DEFAULT_PATH;

const EXAMPLES: &str = "\
Examples:
  pmon config check                  check /etc/pmon/pmon.toml
  pmon config check ./pmon.toml      check another file";

#[derive(Debug, Args)]
#[command(after_help = of_other(&[EXAMPLES], &[]))]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file, and print the options and triggers that are in force with it.
    Check {
        /// The file.
        #[arg(value_name = "FILE", default_value = DEFAULT_PATH)]
        file: PathBuf,
    },
}
