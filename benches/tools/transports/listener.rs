//! Starts and stops the listeners, and reads what they have received.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;

use crate::reader;
use crate::sys::cpu_time;

/// The file with the events, in the listener's directory.
const EVENTS: &str = "events.pmon";
/// The same file before the recorder has renamed it.
const PARTIAL: &str = "events.pmon.partial";
/// The file with standard output.
const STDOUT: &str = "stdout";
/// The file with standard error.
const STDERR: &str = "stderr";

/// Maximum time until a listener has started.
const MAX_START: Duration = Duration::from_secs(10);
/// Time from the first output of a listener until it certainly records.
const SETTLE: Duration = Duration::from_millis(50);
/// The same for `perf`, which first describes all processes in its file.
const SETTLE_PERF: Duration = Duration::from_millis(300);
/// Time in which the last events arrive.
const DELIVERY: Duration = Duration::from_millis(50);
/// Exit code of a pmon that does not have the transport.
const USAGE: i32 = 2;

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListenerKind {
    /// No listener
    None,
    /// A reader that only counts, one `recv` for each event
    Recv,
    /// A reader that only counts, by the ring
    BareRing,
    /// `pmon record` into a file, by the socket
    Recvmmsg,
    /// `pmon record` into a file, by the ring
    Ring,
    /// `pmon record` into a file, by the ring with details
    #[value(name = "ring+details")]
    RingDetails,
    /// `forkstat` without output
    Forkstat,
    /// `perf record` into a file
    Perf,
}

/// A running listener.
pub(crate) struct ListenerProcess {
    transport: ListenerKind,
    child: Child,
    /// CPU time of the start.
    start: Duration,
    directory: TempDir,
}

/// What a listener has received, and its CPU time.
pub(crate) struct ListenerResult {
    pub(crate) kept: u64,
    pub(crate) lost: u64,
    /// Number of overruns that were reported; `None` if the listener does not count them.
    pub(crate) overruns: Option<u64>,
    /// CPU time of the start.
    pub(crate) start: Duration,
    /// CPU time after the start, including the end.
    pub(crate) cpu: Duration,
}

impl ListenerKind {
    /// Returns the name on the command lines of this program and of pmon.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn is_pmon(self) -> bool {
        matches!(self, Self::Recvmmsg | Self::Ring | Self::RingDetails)
    }

    /// Returns the command of the listener.
    fn command(self, tracepoints: &[&str]) -> io::Result<Command> {
        let this_program = env::current_exe()?;
        let pmon =
            this_program.ancestors().nth(2).map(|directory| directory.join("pmon")).unwrap_or_default();
        let name = self.name();
        let (program, args): (PathBuf, Vec<&str>) = match self {
            Self::None => return Err(io::ErrorKind::Unsupported.into()),
            Self::Recv => (this_program, vec![reader::RECV]),
            Self::BareRing => (this_program, vec![reader::BARE_RING]),
            Self::Recvmmsg | Self::Ring | Self::RingDetails => {
                (pmon, vec!["record", "-q", "--json", "-o", EVENTS, "--transport", &name])
            }
            Self::Forkstat => ("forkstat".into(), vec!["-E", "-q"]),
            Self::Perf => {
                let events = tracepoints.iter().flat_map(|name| ["-e", name]);
                ("perf".into(), ["record", "-a", "-o", EVENTS].into_iter().chain(events).collect())
            }
        };
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        Ok(command)
    }
}

impl ListenerProcess {
    /// Starts a listener (`perf` with those tracepoints), and waits until it records. Returns
    /// `None` if it is not installed.
    pub(crate) fn start(transport: ListenerKind, tracepoints: &[&str]) -> anyhow::Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let child = transport
            .command(tracepoints)?
            .current_dir(&directory)
            .stdout(File::create(directory.path().join(STDOUT))?)
            .stderr(File::create(directory.path().join(STDERR))?)
            .spawn();
        let name = transport.name();
        let child = match child {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !transport.is_pmon() => return Ok(None),
            child => child.with_context(|| {
                format!("cannot start {name}: `cargo build --profile dist --bins --examples` builds it")
            })?,
        };
        let mut this = Self { transport, child, start: Duration::ZERO, directory };
        let began = Instant::now();
        while !this.has_started()? {
            if let Some(status) = this.child.try_wait()? {
                if transport.is_pmon() && status.code() == Some(USAGE) {
                    return Ok(None);
                }
                bail!("{name} ended with {status}: {}", this.read(STDERR)?);
            }
            ensure!(began.elapsed() < MAX_START, "{name} has not started");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(if transport == ListenerKind::Perf { SETTLE_PERF } else { SETTLE });
        this.start = cpu_time(this.pid())?;
        Ok(Some(this))
    }

    /// Ends the listener after a load of `emitted` events.
    pub(crate) fn end(mut self, emitted: u64) -> anyhow::Result<ListenerResult> {
        let name = self.transport.name();
        thread::sleep(DELIVERY);
        let drops = self.drops()?;
        kill_process(self.pid(), Signal::INT)?;
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let cpu = cpu_time(self.pid())? - self.start;
        let status = self.child.wait()?;
        // `perf` cleans up, and is then killed by the signal.
        let ended_well = status.success() || status.signal() == Some(Signal::INT.as_raw());
        let (stdout, stderr) = (self.read(STDOUT)?, self.read(STDERR)?);
        ensure!(ended_well, "{name} ended with {status}: {stderr}");

        let counts = counts(self.transport, emitted, drops.unwrap_or(0), &stdout, &stderr);
        let (kept, lost, overruns) =
            counts.with_context(|| format!("{name} printed no report: {stdout}{stderr}"))?;
        Ok(ListenerResult { kept, lost, overruns, start: self.start, cpu })
    }

    /// Returns whether the listener has subscribed or written its file.
    fn has_started(&self) -> io::Result<bool> {
        let file = match self.transport {
            ListenerKind::Perf => EVENTS,
            transport if transport.is_pmon() => PARTIAL,
            _ => return Ok(self.drops()?.is_some()),
        };
        Ok(fs::metadata(self.directory.path().join(file)).is_ok_and(|file| file.len() > 0))
    }

    /// Returns the number of drops of the socket whose port is the listener's process ID.
    fn drops(&self) -> io::Result<Option<u64>> {
        let all = listeners()?;
        Ok(all.into_iter().find(|&(port, _)| port == self.child.id()).map(|(_, drops)| drops))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.directory.path().join(file))
    }
}

impl Drop for ListenerProcess {
    fn drop(&mut self) {
        // These calls do nothing if the listener has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the numbers of events kept, events lost, and overruns, from the listener's output, the
/// number of emitted events and the socket's drops.
fn counts(
    transport: ListenerKind,
    emitted: u64,
    drops: u64,
    stdout: &str,
    stderr: &str,
) -> Option<(u64, u64, Option<u64>)> {
    match transport {
        ListenerKind::None => None,
        ListenerKind::Recv | ListenerKind::BareRing => {
            let (kept, overruns) = stdout.trim().split_once(' ')?;
            Some((kept.parse().ok()?, drops, Some(overruns.parse().ok()?)))
        }
        ListenerKind::Recvmmsg | ListenerKind::Ring | ListenerKind::RingDetails => {
            let summary: Value = serde_json::from_str(stdout).ok()?;
            Some((summary["events"]["total"].as_u64()?, summary["lost"]["total"].as_u64()?, None))
        }
        // forkstat does not count events, but prints each overrun.
        ListenerKind::Forkstat => {
            Some((emitted.saturating_sub(drops), drops, Some(stdout.matches("nobufs").count() as u64)))
        }
        // `[ perf record: Captured and wrote 1.254 MB events.pmon (8032 samples) ]`, without the
        // brackets if there were none.
        ListenerKind::Perf => {
            let samples = stderr.rsplit_once(" samples)").and_then(|(line, _)| line.rsplit_once('('));
            let kept = samples.map_or(Some(0), |(_, count)| count.parse().ok())?;
            Some((kept, emitted.saturating_sub(kept), None))
        }
    }
}

/// Returns the port and the drops of each member of the group, from `/proc/net/netlink`.
pub(crate) fn listeners() -> io::Result<Vec<(u32, u64)>> {
    let table = fs::read_to_string("/proc/net/netlink")?;
    let row = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
        let [_, "11", port, groups, _, _, _, _, drops, _] = fields[..] else { return None };
        let is_member = u32::from_str_radix(groups, 16).is_ok_and(|groups| groups & 1 == 1);
        is_member.then(|| port.parse().ok().zip(drops.parse().ok())).flatten()
    };
    Ok(table.lines().filter_map(row).collect())
}
