//! Compares the answers with what families of processes know about themselves.

use std::process::{Child, ChildStdin, Command, Stdio};

use pmon_testkit::live::OutputLines;
use pmon_testkit::programs;
use rustix::process::Signal;

use super::live::{free_pids, now, proc_ancestors};
use super::*;
use crate::guard;
use crate::live::*;

/// A process, as it described itself.
#[derive(Clone, Debug)]
struct Member {
    role: String,
    pid: u64,
    ppid: u64,
    group: u64,
    session: u64,
}

/// A running family of the tool `families`. All its processes end when `stdin` is closed.
struct Family {
    first: Child,
    stdin: ChildStdin,
    output: OutputLines,
    members: Vec<Member>,
}

impl Family {
    /// Starts a family, and waits until `count` processes have described themselves.
    fn start(name: &str, count: usize) -> Self {
        let mut command = Command::new(programs::tool("families"));
        command.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut first = start(command);
        let stdin = first.stdin.take().expect("a pipe");
        let output = OutputLines::new(first.stdout.take().expect("a pipe"));
        let line = || {
            let line = output.next().unwrap_or_else(|| panic!("{name}: it has ended"));
            member(&line).unwrap_or_else(|| panic!("{name}: {line:?}"))
        };
        let members = (0..count).map(|_| line()).collect();
        Self { first, stdin, output, members }
    }

    /// Lets all processes end. Returns them, and the wait statuses that the first one knows.
    fn end(mut self) -> (Vec<Member>, Vec<(u64, u64)>) {
        drop(self.stdin);
        let status = |line: String| {
            let mut words = line.strip_prefix("ended ")?.split(' ').map(str::parse);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        };
        let statuses = std::iter::from_fn(|| self.output.next()).filter_map(status).collect();
        assert!(self.first.wait().expect("it ends").success());
        (self.members, statuses)
    }
}

fn member(line: &str) -> Option<Member> {
    let (role, numbers) = line.trim_end().split_once(' ')?;
    let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [pid, ppid, group, session] = numbers[..] else { return None };
    Some(Member { role: role.to_owned(), pid, ppid, group, session })
}

/// The rows of the processes of a recording.
struct Rows(Vec<Value>);

impl Rows {
    fn of(file: &str) -> Self {
        Self(pmon(&["sql", file, "--format", "json", "SELECT * FROM processes"]).expect(0).json_lines())
    }

    /// Returns the row of the last process of a family that had this ID.
    #[track_caller]
    fn last(&self, pid: u64) -> &Value {
        let rows = || self.0.iter().rev().filter(|row| row["pid"] == pid);
        // Other processes of the machine can have the ID before and after.
        let is_of_family = |row: &&Value| {
            row["args"].as_str().is_some_and(|args| args.contains("families") || args.contains("exit 4"))
        };
        rows().find(is_of_family).or_else(|| rows().next()).expect("a row")
    }

    #[track_caller]
    fn id(&self, pid: u64) -> &Value {
        &self.last(pid)["process_id"]
    }
}

/// Checks one process: `listed` is the answer of `ps` while it ran, and `row` is its row.
fn check(member: &Member, listed: Option<&Value>, rows: &Rows, is_older: bool) {
    let row = rows.last(member.pid);
    let what = format!("{member:?}\n{listed:?}\n{row}");
    for found in listed.into_iter().chain([row]) {
        // Without the ring, nothing is known of these before an exec.
        let ids = [("process_group", member.group), ("session", member.session)];
        assert!(ids.iter().all(|(name, id)| found[name].is_null() || found[name] == *id), "{what}");
    }
    if let Some(listed) = listed {
        let is_assumed = listed["ppid_assumed"] == true;
        assert!(listed["ppid"] == member.ppid || is_assumed, "{what}");
        // Only an orphan is not known to have its parent.
        assert!(!is_assumed || ["orphan", "daemon"].contains(&member.role.as_str()), "{what}");
    }
    // The exit names the parent.
    assert_eq!((&row["ppid"], &row["ppid_assumed"]), (&member.ppid.into(), &0.into()), "{what}");
    // The parent can have ended before the first scan.
    let parent = &row["parent_process_id"];
    assert!(parent == rows.id(member.ppid) || is_older && parent.is_null(), "{what}");
}

#[test]
fn the_lineage_is_the_one_that_the_processes_know() {
    if !can_record() {
        return;
    }
    guard::retry(compare_families).unwrap_or_else(|why| panic!("{why}"));
}

/// Fails if events were lost, of which the socket of an ordinary user has room for few.
pub(super) fn check_losses(file: &str) -> Result<(), String> {
    let info = pmon(&["info", file, "--json"]).expect(0).json();
    if info["lost"]["total"] == 0 { Ok(()) } else { Err("events were lost".to_owned()) }
}

fn compare_families() -> Result<(), String> {
    let dir = Dir::new();
    let recorder = Recorder::start(&dir);
    let families = [("orphan", 3), ("subreaper", 3), ("daemon", 3), ("clone-parent", 3), ("session", 4)]
        .map(|(name, count)| (name, Family::start(name, count)));
    let at = now();
    let families = families.map(|(name, family)| (name, family.end()));
    let file = recorder.file.clone();
    recorder.end(Signal::INT).expect(0);
    check_losses(&file)?;
    let listed = pmon(&["ps", &file, "--at", &at, "--json"]).expect(0).json_lines();
    let rows = Rows::of(&file);
    for (name, (members, statuses)) in &families {
        let of = |role: &str| members.iter().find(|member| member.role == role).expect("a process");
        for member in members {
            let listed = listed.iter().find(|line| line["pid"] == member.pid);
            // A parent that leaves an orphan has ended.
            assert_eq!(listed.is_none(), member.role == "parent", "{name}: {member:?}");
            check(member, listed, &rows, false);
        }
        for (pid, status) in statuses {
            assert_eq!(rows.last(*pid)["wait_status"], *status, "{name}: {pid}");
        }
        let creators: &[(&str, &str)] = match *name {
            "orphan" | "subreaper" => &[("orphan", "parent"), ("parent", "first")],
            "daemon" => &[("daemon", "parent"), ("parent", "first")],
            // The kernel names the parent, and not the process that called `clone(2)`.
            "clone-parent" => &[("sibling", "first"), ("creator", "first")],
            _ => &[("member", "leader"), ("other", "leader"), ("leader", "first")],
        };
        for (role, creator) in creators {
            let (child, creator) = (rows.last(of(role).pid), rows.id(of(creator).pid));
            assert_eq!(&child["creator_process_id"], creator, "{name}: {child}");
        }
    }
    // Processes that are older than the recording have events before the scan finds them.
    let sql = "SELECT count(*) FROM events WHERE process_id NOT IN (SELECT process_id FROM processes)";
    assert_eq!(pmon(&["sql", &file, "--format", "line", sql]).expect(0).out, "0\n");
    Ok(())
}

#[test]
fn each_child_of_a_reused_id_has_its_own_parent() {
    if !needs(&[Need::Recording(&[]), Need::Root]) {
        return;
    }
    const COUNT: usize = 5;
    let dir = Dir::new();
    let recorder = Recorder::start(&dir);
    let pid = u64::from(free_pids() + 25);
    let mut command = Command::new(programs::tool("families"));
    let ran = RunOutput::new(
        command.args(["reuse", &pid.to_string(), &COUNT.to_string()]).output().expect("it runs"),
    );
    let file = recorder.file.clone();
    recorder.end(Signal::INT).expect(0);
    if ran.err.contains("cannot fork") {
        return skip("the next process id cannot be chosen: clone3(2) refuses it");
    }
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let members: Vec<_> = ran.out.lines().filter_map(member).collect();
    let parents: Vec<_> = members.iter().filter(|member| member.role == "child").map(|of| of.ppid).collect();
    assert_eq!(parents.len(), COUNT, "{}", ran.out);
    // The newest is the first.
    let lines = pmon(&["why", &file, &pid.to_string(), "--all", "--json"]).expect(0).json_lines();
    let of_family = |line: &&Value| line["args"][1] == "reuse";
    let chains: Vec<_> = lines.iter().filter(of_family).collect();
    assert_eq!(chains.len(), COUNT, "{lines:#?}");
    for (n, (child, parent)) in chains.iter().rev().zip(parents).enumerate() {
        let ancestors = child["ancestors"].as_array().expect("a list");
        assert_eq!((&child["pid"], &child["exit_code"]), (&pid.into(), &(10 + n).into()), "{child}");
        assert_eq!((&ancestors[0]["pid"], &ancestors[0]["exit_code"]), (&parent.into(), &(100 + n).into()));
        let own: Vec<_> = ancestors[2..].iter().map(|of| of["pid"].as_u64().expect("a number")).collect();
        assert_eq!(own, proc_ancestors(std::process::id().into()));
    }
}

#[test]
fn a_process_older_than_the_recording_is_described_from_its_start() {
    if !can_record() {
        return;
    }
    guard::retry(compare_older_family).unwrap_or_else(|why| panic!("{why}"));
}

fn compare_older_family() -> Result<(), String> {
    let dir = Dir::new();
    let family = Family::start("session", 4);
    let recorder = Recorder::start(&dir);
    let at = now();
    let (members, _) = family.end();
    let file = recorder.file.clone();
    recorder.end(Signal::INT).expect(0);
    check_losses(&file)?;
    let listed = pmon(&["ps", &file, "--at", &at, "--json"]).expect(0).json_lines();
    let rows = Rows::of(&file);
    for member in &members {
        check(member, listed.iter().find(|line| line["pid"] == member.pid), &rows, true);
        let row = rows.last(member.pid);
        // Without the ring, the start is unknown if the process ended before the first scan.
        let start = row["start_time"].as_str();
        assert_eq!(start.is_some(), row["duration_ns"].is_u64(), "{row}");
        assert!(start.map_or(row["args"].is_null(), |start| start < at.as_str()), "{row}");
        let code = [("first", 0), ("leader", 3), ("member", 4), ("other", 5)];
        let code = code.iter().find(|(role, _)| *role == member.role).expect("a role").1;
        assert_eq!(row["exit_code"].as_u64().unwrap_or(code), code, "{row}");
    }
    Ok(())
}
