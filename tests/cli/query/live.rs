//! Compares the answers with what scripts saw on the running kernel.

use std::collections::HashMap;
use std::fs;
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pmon_testkit::live::OutputLines;
use rustix::process::Signal;

use super::lineage::check_losses;
use super::*;
use crate::guard;
use crate::live::*;

/// File through which root chooses the next process ID.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Flag in `/proc/PID/stat` of a process whose exit has begun (`linux/sched.h`).
const PF_EXITING: u32 = 0x4;

/// Forks short processes, and prints the process ID and the wait status of each. If it may, it
/// gives them the same few process IDs again and again.
const STORM: &str = r#"
while :; do
    echo "$1" 2>/dev/null > /proc/sys/kernel/ns_last_pid || :
    pids=
    for i in 1 2 3 4 5 6 7 8; do
        sh -c 'sleep 0.0$(($$ % 7)); [ $(($$ % 3)) = 0 ] && kill -9 $$; exit $(($$ % 5))' "storm $i" &
        pids="$pids $!"
    done
    for pid in $pids; do wait $pid; echo "$pid $?"; done
done 2>/dev/null
"#;

/// Processes that are stopped when the test ends.
struct Storm {
    shell: Child,
    output: OutputLines,
}

impl Storm {
    fn start(first_pid: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", STORM, "storm", &(first_pid - 1).to_string()]);
        let mut shell = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("sh runs");
        let output = OutputLines::new(shell.stdout.take().expect("a pipe"));
        Self { shell, output }
    }

    /// Ends the storm. Returns the statuses of the processes with each process ID, as the shell has
    /// them in `$?`.
    fn end(mut self) -> HashMap<u64, Vec<u64>> {
        self.kill();
        let mut statuses: HashMap<_, Vec<_>> = HashMap::new();
        while let Some(line) = self.output.next() {
            let (pid, status) = line.split_once(' ').expect("two numbers");
            let number = |word: &str| word.parse().expect("a number");
            statuses.entry(number(pid)).or_default().push(number(status));
        }
        statuses
    }

    fn kill(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Compares the ends of the processes that a shell forked with their wait statuses.
fn check_statuses(file: &str, shell: u32, statuses: &HashMap<u64, Vec<u64>>) {
    let sql = format!(
        "SELECT pid, coalesce(exit_code, 128 + term_signal) AS status FROM processes \
         WHERE ppid = {shell} ORDER BY start_time_ns"
    );
    let mut recorded: HashMap<u64, Vec<Option<u64>>> = HashMap::new();
    for row in pmon(&["sql", file, "--format", "json", &sql]).expect(0).json_lines() {
        recorded.entry(row["pid"].as_u64().expect("a number")).or_default().push(row["status"].as_u64());
    }
    for (pid, statuses) in statuses {
        // The shell was killed before it waited for the last ones.
        let recorded = &recorded[pid];
        assert!((0..=1).contains(&(recorded.len() - statuses.len())), "{pid}: {statuses:?} {recorded:?}");
        let statuses: Vec<_> = statuses.iter().copied().map(Some).collect();
        assert_eq!(recorded[..statuses.len()], statuses, "{pid}");
    }
}

/// Returns the first of 50 process IDs that are not in use.
pub(super) fn free_pids() -> u32 {
    let is_free = |first: &u32| (*first..first + 50).all(|pid| fs::metadata(format!("/proc/{pid}")).is_err());
    (20_000..30_000).step_by(50).find(is_free).expect("some process ids are free")
}

/// Properties of a process in `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    start_ticks: u64,
    ppid: u64,
    group: u64,
    session: u64,
    /// Real and effective user ID.
    uid: [u64; 2],
    comm: String,
    /// Whether the process is a zombie, or its exit has begun: it then has no arguments.
    is_ending: bool,
    args: Vec<String>,
}

/// Lists `/proc`.
fn proc_list() -> HashMap<u64, Seen> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(seen).collect()
}

fn seen(pid: u64) -> Option<(u64, Seen)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let args = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut uids = uids.split_whitespace().map_while(|uid| uid.parse().ok());
    let (before, after) = stat.rsplit_once(')')?;
    let fields: Vec<_> = after.split_whitespace().collect();
    let args = args.strip_suffix(b"\0").unwrap_or(&args);
    let words = args.split(|&byte| byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned());
    let seen = Seen {
        start_ticks: fields[19].parse().ok()?,
        ppid: fields[1].parse().ok()?,
        group: fields[2].parse().ok()?,
        session: fields[3].parse().ok()?,
        uid: [uids.next()?, uids.next()?],
        comm: before.split_once('(')?.1.to_owned(),
        is_ending: matches!(fields[0], "Z" | "X") || fields[6].parse::<u32>().ok()? & PF_EXITING != 0,
        args: if args.is_empty() { Vec::new() } else { words.collect() },
    };
    Some((pid, seen))
}

fn now_ns() -> i128 {
    Timestamp::now().as_nanosecond()
}

/// Two lists of `/proc`, with the times before the first, between both, and after the second.
struct Sample {
    times: [i128; 3],
    lists: [HashMap<u64, Seen>; 2],
}

impl Sample {
    fn take() -> Self {
        let before = now_ns();
        let first = proc_list();
        thread::sleep(Duration::from_millis(2));
        let between = now_ns();
        thread::sleep(Duration::from_millis(2));
        let second = proc_list();
        Self { times: [before, between, now_ns()], lists: [first, second] }
    }

    /// Returns the moment between both lists.
    fn at(&self) -> String {
        rfc3339(self.times[1])
    }

    /// Compares the answer with both lists. Returns the number of compared processes.
    fn check(&self, file: &str) -> usize {
        let ran = pmon(&["ps", file, "--at", &self.at(), "--json"]).expect(0);
        let mut lines = ran.json_lines();
        let coverage = lines.pop().expect("a line about the completeness");
        assert_eq!(coverage["lost"], 0, "{coverage}");
        let listed: HashMap<u64, &Value> =
            lines.iter().map(|line| (line["pid"].as_u64().expect("a number"), line)).collect();
        assert_eq!(listed.len(), lines.len(), "each process id is listed once");
        let [first, second] = &self.lists;
        let mut compared = 0;
        for (pid, then) in first {
            let Some(later) = second.get(pid).filter(|later| later.start_ticks == then.start_ticks) else {
                continue;
            };
            if then.is_ending || later.is_ending {
                continue;
            }
            let line =
                listed.get(pid).unwrap_or_else(|| panic!("{pid} {then:?} is missing at {}", self.at()));
            if then == later {
                // The first process and the first thread of the kernel have no parent.
                let has_parent = line["ppid"].as_u64().unwrap_or(0) == then.ppid;
                assert!(has_parent || line["ppid_assumed"] == true, "{pid} {then:?} {line}");
                let args: Vec<_> = line["args"].as_array().into_iter().flatten().collect();
                if line["missed"].is_null() && line["args_truncated"] == false {
                    assert_eq!(args, then.args.iter().collect::<Vec<_>>(), "{pid}: {line}");
                }
                let id = |name: &str, expected: u64| line[name].is_null() || line[name] == expected;
                assert!(id("session", then.session), "{pid} {then:?} {line}");
                assert!(id("uid", then.uid[0]) && id("euid", then.uid[1]), "{pid} {then:?} {line}");
                // No event reports setpgid(2), nor the names that threads had before the recording.
                if then.args.iter().any(|arg| arg.starts_with("storm ")) {
                    assert!(id("process_group", then.group) && line["comm"] == then.comm, "{then:?} {line}");
                }
                compared += 1;
            }
        }
        for (pid, line) in &listed {
            let is_known = self.lists.iter().any(|list| list.contains_key(pid));
            let start = line["start_time_ns"].as_i64().map(i128::from);
            let is_new = start.is_some_and(|start| start >= self.times[0] - 20_000_000);
            assert!(is_known || is_new, "{line} did not run at {}", self.at());
        }
        compared
    }
}

/// Returns the current time in RFC 3339.
pub(super) fn now() -> String {
    rfc3339(now_ns())
}

fn rfc3339(real_ns: i128) -> String {
    format!("{:.9}", Timestamp::from_nanosecond(real_ns).expect("a time of our days"))
}

#[test]
fn ps_equals_proc_at_every_moment_of_a_storm() {
    if !can_record() {
        return;
    }
    guard::retry(compare_storm).unwrap_or_else(|why| panic!("{why}"));
}

fn compare_storm() -> Result<(), String> {
    const SAMPLES: usize = 100;
    const MIN_SAMPLES: usize = 25;
    let dir = Dir::new();
    let recorder = Recorder::start(&dir);
    let storm = Storm::start(free_pids());
    let shell = storm.shell.id();
    thread::sleep(Duration::from_millis(300));
    let mut random = oorandom::Rand32::new(now_ns() as u64);
    let began = Instant::now();
    let samples: Vec<_> = (0..SAMPLES)
        // Programs of tests are killed after 30 s.
        .take_while(|n| *n < MIN_SAMPLES || began.elapsed() < Duration::from_secs(15))
        .map(|_| {
            thread::sleep(Duration::from_millis(random.rand_range(0..20).into()));
            Sample::take()
        })
        .collect();
    let statuses = storm.end();
    let file = recorder.file.clone();
    recorder.end(Signal::INT).expect(0);
    check_losses(&file)?;
    let compared: usize = thread::scope(|scope| {
        let check = |part: &[Sample]| part.iter().map(|sample| sample.check(&file)).sum::<usize>();
        let checks: Vec<_> = samples.chunks(25).map(|part| scope.spawn(move || check(part))).collect();
        checks.into_iter().map(|check| check.join().unwrap_or_else(|panic| resume_unwind(panic))).sum()
    });
    assert!(compared > samples.len() * 5, "{compared} processes were compared");
    check_statuses(&file, shell, &statuses);
    assert!(statuses.len() >= 8 && statuses.values().flatten().any(|&status| status == 128 + 9));
    let is_reused = statuses.values().any(|statuses| statuses.len() > 1);
    assert!(is_reused || fs::write(LAST_PID, fs::read(LAST_PID).unwrap_or_default()).is_err());
    Ok(())
}

#[test]
fn ps_needs_only_the_segment_of_the_moment() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let mut command = command(&["record", "--store", &store]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let recorder = start(command);
    wait_until(|| fs::metadata(format!("{store}/.control")).is_ok());
    let storm = Storm::start(free_pids());
    let mut samples = Vec::new();
    for _ in 0..3 {
        // The names of segments have a resolution of one second.
        thread::sleep(Duration::from_millis(1100));
        samples.push(Sample::take());
        pmon(&["control", "rotate", "--store", &store]).expect(0);
    }
    drop(storm);
    send(&recorder, Signal::INT);
    RunOutput::new(recorder.wait_with_output().expect("pmon ends")).expect(0);
    samples.iter().for_each(|sample| assert!(sample.check(&store) > 5));
    let list =
        |at: &str| pmon(&["ps", &store, "--at", at, "-o", "pid,ppid,user,args,process_id"]).expect(0).out;
    let at = samples[1].at();
    let whole = list(&at);
    let mut segments: Vec<_> =
        fs::read_dir(&store).expect("a store").map(|entry| entry.expect("an entry").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "pmon"));
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    fs::remove_file(&segments[0]).expect("it is there");
    fs::remove_file(&segments[segments.len() - 1]).expect("it is there");
    assert_eq!(list(&at), whole);
    assert!(samples[1].check(&store) > 5);
}

/// Starts a child with the process ID `$1`, and prints the own ID. The argument `$2` marks both.
const CHOOSE: &str = r#"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid || exit 3
    sh -c 'sleep 0.05; :' "child $2" &
    child=$!
    wait
    [ $child = $1 ] && { echo $$; exit 0; }
done
exit 4
"#;

#[test]
fn why_names_the_ancestors_of_each_process_that_had_the_same_id() {
    if !needs(&[Need::Recording(&[]), Need::Root]) {
        return;
    }
    if fs::read_to_string(LAST_PID).and_then(|pid| fs::write(LAST_PID, pid.trim())).is_err() {
        return skip("the next process id cannot be chosen");
    }
    let dir = Dir::new();
    let recorder = Recorder::start(&dir);
    let pid = free_pids() + 25;
    let mut parents = Vec::new();
    for marker in ["first", "second", "third"] {
        let mut shell = Command::new("sh");
        shell.args(["-c", CHOOSE, "parent", &pid.to_string(), marker]);
        let ran = RunOutput::new(shell.output().expect("sh runs"));
        if ran.code == Some(4) {
            return skip_part("other processes took the process id");
        }
        parents.push((marker, ran.expect(0).out.trim().parse::<u64>().expect("a process id")));
    }
    let storm = Storm::start(free_pids());
    thread::sleep(Duration::from_millis(300));
    drop(storm);
    let file = recorder.file.clone();
    recorder.end(Signal::INT).expect(0);
    let lines = pmon(&["why", &file, &pid.to_string(), "--all", "--json"]).expect(0).json_lines();
    for (marker, parent) in parents {
        let is_child = |line: &&Value| line["args"][3] == format!("child {marker}");
        let child = lines.iter().find(is_child).unwrap_or_else(|| panic!("child {marker} in {lines:#?}"));
        let ancestors = child["ancestors"].as_array().expect("a list");
        assert_eq!(ancestors[0]["pid"], parent);
        assert_eq!(ancestors[0]["args"][5], marker, "{}", ancestors[0]);
        assert_eq!(ancestors[0]["exit_code"], 0);
        // The parents of the shell are this test and its ancestors.
        assert_eq!(ancestors[1]["pid"], u64::from(std::process::id()));
        let own = proc_ancestors(std::process::id().into());
        let named: Vec<_> = ancestors[1..].iter().map(|of| of["pid"].as_u64().expect("a number")).collect();
        assert_eq!(named, own);
    }
}

/// Returns a process and its ancestors in `/proc`.
pub(super) fn proc_ancestors(pid: u64) -> Vec<u64> {
    let parent = |pid: &u64| Some(seen(*pid)?.1.ppid).filter(|&ppid| ppid != 0);
    std::iter::successors(Some(pid), parent).collect()
}
