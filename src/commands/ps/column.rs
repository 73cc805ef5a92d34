//! The columns of `pmon ps`, with the names that ps(1) gives them.

use std::borrow::Cow;
use std::fmt::Display;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pmon_analysis::cgroup::CgroupIdentity;
use pmon_core::capture::ContainerNames;

use super::PsRow;
use crate::output::printable;
use crate::query::command_line;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PsColumn(&'static Definition);

#[derive(Debug)]
struct Definition {
    /// The name, and other names for the same column.
    names: &'static [&'static str],
    header: &'static str,
    is_number: bool,
    value: fn(&PsRow<'_>) -> Option<String>,
}

impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

impl Eq for Definition {}

const fn number(
    names: &'static [&'static str],
    header: &'static str,
    value: fn(&PsRow<'_>) -> Option<String>,
) -> Definition {
    Definition { names, header, is_number: true, value }
}

const fn text(
    names: &'static [&'static str],
    header: &'static str,
    value: fn(&PsRow<'_>) -> Option<String>,
) -> Definition {
    Definition { names, header, is_number: false, value }
}

/// All columns. As in ps(1), users without a known name are numbers.
const COLUMNS: &[Definition] = &[
    number(&["pid", "tgid"], "PID", |row| Some(row.life.pid.to_string())),
    number(&["ppid"], "PPID", |row| shown(row.life.ppid)),
    number(&["pgid", "pgrp"], "PGID", |row| shown(row.life.group)),
    number(&["sid", "sess", "session"], "SID", |row| shown(row.life.session)),
    text(&["user", "euser", "uname"], "USER", |row| row.life.uid.map(|ids| row.users.text(ids.1))),
    text(&["ruser"], "RUSER", |row| row.life.uid.map(|ids| row.users.text(ids.0))),
    number(&["uid", "euid"], "UID", |row| shown(row.life.uid.map(|ids| ids.1))),
    number(&["ruid"], "RUID", |row| shown(row.life.uid.map(|ids| ids.0))),
    number(&["gid", "egid", "group", "egroup"], "GID", |row| shown(row.life.gid.map(|ids| ids.1))),
    number(&["rgid", "rgroup"], "RGID", |row| shown(row.life.gid.map(|ids| ids.0))),
    number(&["luid", "login_uid"], "LUID", |row| {
        shown(row.life.program.get().login_uid.filter(|&uid| uid != u32::MAX))
    }),
    text(&["comm", "ucmd", "ucomm"], "COMMAND", |row| row.life.comm().map(printable)),
    text(&["args", "cmd", "command"], "COMMAND", |row| {
        Some(command_line(row.life.program.get(), row.life.comm()))
    }),
    text(&["exe"], "EXE", |row| row.life.program.get().exe.as_deref().map(printable)),
    text(&["cwd"], "CWD", |row| row.life.program.get().cwd.as_deref().map(printable)),
    number(&["etime"], "ELAPSED", |row| row.elapsed_ns().map(etime)),
    number(&["etimes"], "ELAPSED", |row| row.elapsed_ns().map(|ns| (ns / 1_000_000_000).to_string())),
    text(&["start", "stime", "start_time", "bsdstart"], "STARTED", started),
    text(&["lstart"], "STARTED", |row| local(row.start_ns()?, "%a %b %e %H:%M:%S %Y")),
    text(&["cgroup"], "CGROUP", |row| row.life.program.get().cgroup.as_deref().map(printable)),
    text(&["unit"], "UNIT", |row| Some(printable(row.cgroup().unit?))),
    text(&["uunit"], "UUNIT", |row| Some(printable(row.cgroup().user_unit?))),
    text(&["lsession"], "SESSION", |row| Some(printable(row.cgroup().session?))),
    text(&["container"], "CONTAINER", |row| {
        let name = row.names().container.map(printable);
        name.or_else(|| row.cgroup().container_id.map(short))
    }),
    text(&["container_id"], "CONTAINER_ID", |row| row.cgroup().container_id.map(short)),
    text(&["pod"], "POD", |row| {
        let name = row.names().pod.map(printable);
        name.or_else(|| row.cgroup().pod_uid.map(|pod| printable(&pod)))
    }),
    text(&["namespace"], "NAMESPACE", |row| row.names().namespace.map(printable)),
    text(&["image"], "IMAGE", |row| row.names().image.map(printable)),
    number(&["pidns"], "PIDNS", |row| shown(row.life.program.get().pid_namespace)),
    number(&["nspid"], "NSPID", |row| shown(row.life.namespace_pid)),
    number(&["nlwp", "thcount"], "NLWP", |_| None),
    number(&["process_id"], "PROCESS_ID", |row| Some(row.life.id.to_string())),
];

/// The main names of all columns, for messages.
const COLUMN_NAMES: &str = "pid, ppid, pgid, sid, user, ruser, uid, ruid, gid, rgid, luid, comm, args, exe, cwd, \
    etime, etimes, start, lstart, cgroup, unit, uunit, lsession, container, container_id, pod, namespace, image, pidns, nspid, nlwp, process_id";

impl PsColumn {
    /// Returns the column with a name.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let found = COLUMNS.iter().find(|column| column.names.contains(&name));
        found.map(Self).ok_or_else(|| format!("there is no column `{name}`; the columns are {COLUMN_NAMES}"))
    }

    /// Returns the columns that are shown without `-o`.
    pub(super) fn default_columns() -> Vec<Self> {
        ["user", "pid", "ppid", "start", "etime", "args"].iter().flat_map(|name| Self::parse(name)).collect()
    }

    /// Returns the header.
    pub(super) fn header(self) -> &'static str {
        self.0.header
    }

    /// Returns whether the values are aligned to the right.
    pub(super) fn is_number(self) -> bool {
        self.0.is_number
    }

    /// Returns the value for a process; `-` if it is unknown.
    pub(super) fn cell(self, row: &PsRow<'_>) -> String {
        (self.0.value)(row).unwrap_or_else(|| "-".into())
    }
}

impl PsRow<'_> {
    fn names(&self) -> ContainerNames<'_> {
        self.life.program.get().container_names()
    }

    fn cgroup(&self) -> CgroupIdentity<'_> {
        self.life.program.get().cgroup.as_deref().map(CgroupIdentity::of).unwrap_or_default()
    }

    /// Returns the wall-clock time of the start in ns.
    fn start_ns(&self) -> Option<i64> {
        self.wall.at(self.life.start?)
    }
}

fn shown(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Returns the first digits of a container's identifier, as the tools of all runtimes show it.
fn short(id: Cow<'_, [u8]>) -> String {
    let is_hash = id.len() == 64 && id.iter().all(u8::is_ascii_hexdigit);
    printable(if is_hash { &id[..12] } else { &id })
}

/// Formats an age as ps(1) does: `[[DD-]hh:]mm:ss`.
fn etime(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    let (days, hours, minutes, seconds) = (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, _) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Formats the start: the time of day, or the date if the process started on another day.
fn started(row: &PsRow<'_>) -> Option<String> {
    let (start, at) = (row.start_ns()?, row.wall.at(row.at)?);
    let is_same_day = local(start, "%F") == local(at, "%F");
    local(start, if is_same_day { "%H:%M:%S" } else { "%F" })
}

fn local(real_ns: i64, format: &str) -> Option<String> {
    let at = Timestamp::from_nanosecond(real_ns.into()).ok()?;
    Some(at.to_zoned(TimeZone::system()).strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_name_belongs_to_one_column_and_the_list_is_complete() {
        let names: Vec<_> = COLUMNS.iter().flat_map(|column| column.names).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        let main: Vec<_> = COLUMNS.iter().map(|column| column.names[0]).collect();
        assert_eq!(main.join(", "), COLUMN_NAMES);
        assert_eq!(PsColumn::default_columns().len(), 6);
        assert!(PsColumn::parse("stat").is_err_and(|why| why.contains("`stat`; the columns are pid")));
    }

    #[test]
    fn ages_have_the_format_of_ps() {
        assert_eq!(etime(59_999_999_999), "00:59");
        assert_eq!(etime(3_600_000_000_000), "01:00:00");
        assert_eq!(etime(90_061_000_000_000), "1-01:01:01");
    }

    #[test]
    fn identifiers_of_containers_are_short() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(short(id.as_bytes().into()), "0123456789ab");
        assert_eq!(short(b"web-1"[..].into()), "web-1");
    }
}
