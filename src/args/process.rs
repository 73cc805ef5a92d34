//! The arguments that select processes, shared by the verbs about events and about processes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use pmon_analysis::filter::{EndCondition, Glob, LifeFilter, ProcessCondition, Regex, compile_regex};
use pmon_core::capture::Header;

use super::UserArg;
use crate::exit::{self, Failure};
use crate::output::printable;
use crate::time_spec::parse_duration;
use crate::users::is_recorded_here;

/// Heading of these options in the help.
pub(crate) const SELECTION: &str = "Options that select processes";

/// The arguments that select processes. A process must satisfy all of them. Every verb that shows
/// processes or events of processes has these arguments.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProcessArgs {
    /// Select only processes with these IDs. Of events, this also selects those of threads, and a
    /// fork by the ID of the parent or of the child.
    #[arg(long, help_heading = SELECTION, value_name = "PID,..", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Select only this process and its descendants.
    #[arg(long, help_heading = SELECTION, value_name = "PID")]
    pub(crate) tree: Option<u32>,
    /// Select only processes with exactly this name.
    #[arg(long, help_heading = SELECTION, value_name = "NAME")]
    pub(crate) comm: Option<OsString>,
    /// Select only processes whose command line matches, for example 'cc1.* -O2'.
    #[arg(long, help_heading = SELECTION, value_name = "REGEX", value_parser = parse_regex)]
    pub(crate) args: Option<Regex>,
    /// Select only processes with such an executable, for example make or '/opt/**'.
    #[arg(long, help_heading = SELECTION, value_name = "GLOB", value_parser = parse_glob)]
    pub(crate) exe: Option<Glob>,
    /// Select only processes with this real or effective user: a number; or a name, if the events
    /// were recorded on this machine.
    #[arg(long, help_heading = SELECTION, visible_alias = "uid", value_name = "USER,..", value_delimiter = ',')]
    pub(crate) user: Vec<UserArg>,
    /// Select only processes of such a systemd unit, for example nginx or 'user@*'.
    #[arg(long, help_heading = SELECTION, value_name = "GLOB", value_parser = parse_glob)]
    pub(crate) unit: Option<Glob>,
    /// Select only processes of the container with this name, or whose ID begins with this.
    #[arg(long, help_heading = SELECTION, value_name = "NAME|ID")]
    pub(crate) container: Option<String>,
    /// Select only processes in this cgroup or below it.
    #[arg(long, help_heading = SELECTION, value_name = "PATH", value_parser = parse_cgroup)]
    pub(crate) cgroup: Option<String>,
    /// Select only processes that ended so: an exit code, a signal such as SIGSEGV, `failed` (all
    /// but code 0), `killed` or `oom` (by the OOM killer). Of events, this selects exits.
    #[arg(long, help_heading = SELECTION, value_name = "END,..", value_delimiter = ',')]
    pub(crate) exit: Vec<EndCondition>,
    /// Select only processes that existed at least this long, for example 2s. Of events, this
    /// selects exits.
    #[arg(long, help_heading = SELECTION, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) longer_than: Option<u64>,
}

impl ProcessArgs {
    /// Returns whether all processes are selected.
    pub(crate) fn is_all(&self) -> bool {
        self.pid.is_empty() && self.tree.is_none() && self.condition().is_empty()
    }

    /// Refuses names of users if they are those of another machine than the recorded one.
    pub(crate) fn check_users(&self, header: Option<&Header>) -> Result<(), Failure> {
        let Some(name) = self.user.iter().find_map(|user| user.name.as_deref()) else { return Ok(()) };
        if header.is_some_and(|header| is_recorded_here(&header.meta)) {
            return Ok(());
        }
        let host = header.map_or("an unknown machine", |header| header.meta.host.as_str());
        let why = format!(
            "{name} is a user of this machine, and the capture was recorded on {}, which can have other users; \
             give the number of the user",
            printable(host.as_bytes())
        );
        Err(Failure::new(exit::USAGE, why))
    }

    /// Refuses conditions that no running process satisfies.
    pub(crate) fn check_running(&self) -> Result<(), Failure> {
        if self.exit.is_empty() {
            return Ok(());
        }
        let why = "--exit selects processes that have ended, and none has at that moment; use --since and \
                   --until, or `pmon find`";
        Err(Failure::new(exit::USAGE, why))
    }

    /// Returns the filter for rows of processes.
    pub(crate) fn life_filter(&self) -> LifeFilter {
        LifeFilter { pids: self.pid.clone(), tree: self.tree, process: self.condition() }
    }

    /// Returns the conditions on the properties of a process.
    pub(crate) fn condition(&self) -> ProcessCondition {
        ProcessCondition {
            ends: self.exit.clone(),
            longer_than_ns: self.longer_than,
            comm: self.comm.as_ref().map(|name| name.as_bytes().to_vec()),
            exe: self.exe.clone(),
            args: self.args.clone(),
            uids: self.user.iter().map(|user| user.uid).collect(),
            unit: self.unit.clone(),
            container: self.container.as_ref().map(|id| id.as_bytes().to_vec()),
            cgroup: self.cgroup.as_ref().map(|path| path.as_bytes().to_vec()),
        }
    }
}

/// Parses a regular expression.
pub(crate) fn parse_regex(text: &str) -> Result<Regex, String> {
    compile_regex(text).map_err(|error| {
        // The text has several lines, of which the last one states the error.
        let text = error.to_string();
        let line = text.lines().last().unwrap_or_default();
        format!("no regular expression: {}", line.trim_start_matches("error: "))
    })
}

fn parse_glob(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(|error| error.to_string())
}

fn parse_cgroup(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("the path of a cgroup begins with /, as in /proc/PID/cgroup".into()),
    }
}
