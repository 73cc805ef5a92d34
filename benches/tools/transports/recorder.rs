//! Whoever takes the events: starts it, ends it, and asks what it has seen.

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

/// What a recorder writes, in its folder: the events,
const EVENTS: &str = "events.pmon";
const PARTIAL: &str = "events.pmon.partial";
/// standard output, and standard error.
const SAID: &str = "said";
const COMPLAINED: &str = "complained";

/// It has to be ready within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// From its first sign of life until it surely records, and longer for `perf`, which first describes all processes in its file.
const SETTLE: Duration = Duration::from_millis(50);
const SETTLE_PERF: Duration = Duration::from_millis(300);
/// Events that are still on their way get so long.
const PAUSE: Duration = Duration::from_millis(50);
/// Exit code of a pmon that does not know the transport.
const USAGE: i32 = 2;

/// A way to take events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Nobody listens
    None,
    /// A reader that only counts, one `recv` for each event
    Recv,
    /// A reader that only counts, by the ring
    BareRing,
    /// `pmon record` into a file, by the socket
    Recvmmsg,
    /// The same by the ring
    Ring,
    /// The same by the ring, with details
    #[value(name = "ring+details")]
    RingDetails,
    /// forkstat, which prints nothing
    Forkstat,
    /// `perf record` into a file
    Perf,
}

/// One that runs.
pub(crate) struct Recorder {
    transport: Transport,
    child: Child,
    /// CPU time that its start took.
    start: Duration,
    folder: TempDir,
}

/// What it has seen, and what that took.
pub(crate) struct Account {
    pub(crate) kept: u64,
    pub(crate) lost: u64,
    /// How often it was told of an overrun, if it counts that.
    pub(crate) overruns: Option<u64>,
    /// CPU time that its start took,
    pub(crate) start: Duration,
    /// and what came then, the end included.
    pub(crate) cpu: Duration,
}

impl Transport {
    /// As the command line has it, ours and pmon's.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn is_pmon(self) -> bool {
        matches!(self, Self::Recvmmsg | Self::Ring | Self::RingDetails)
    }

    /// What runs for it.
    fn command(self, tracepoints: &[&str]) -> io::Result<Command> {
        let myself = env::current_exe()?;
        let pmon = myself.ancestors().nth(2).map(|folder| folder.join("pmon")).unwrap_or_default();
        let name = self.name();
        let (program, args): (PathBuf, Vec<&str>) = match self {
            Self::None => return Err(io::ErrorKind::Unsupported.into()),
            Self::Recv => (myself, vec![reader::RECV]),
            Self::BareRing => (myself, vec![reader::BARE_RING]),
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

impl Recorder {
    /// Starts one, for `perf` of those tracepoints, and waits until it records. `None` if there is no such recorder here.
    pub(crate) fn start(transport: Transport, tracepoints: &[&str]) -> anyhow::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let child = transport
            .command(tracepoints)?
            .current_dir(&folder)
            .stdout(File::create(folder.path().join(SAID))?)
            .stderr(File::create(folder.path().join(COMPLAINED))?)
            .spawn();
        let name = transport.name();
        let child = match child {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !transport.is_pmon() => return Ok(None),
            child => child.with_context(|| {
                format!("cannot start {name}: `cargo build --release --bins --examples` builds it")
            })?,
        };
        let mut this = Self { transport, child, start: Duration::ZERO, folder };
        let began = Instant::now();
        while !this.is_alive()? {
            if let Some(status) = this.child.try_wait()? {
                if transport.is_pmon() && status.code() == Some(USAGE) {
                    return Ok(None);
                }
                bail!("{name} ended with {status}: {}", this.read(COMPLAINED)?);
            }
            ensure!(began.elapsed() < PATIENCE, "{name} does not begin");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(if transport == Transport::Perf { SETTLE_PERF } else { SETTLE });
        this.start = cpu_time(this.pid())?;
        Ok(Some(this))
    }

    /// Ends it after a load of so many events.
    pub(crate) fn end(mut self, emitted: u64) -> anyhow::Result<Account> {
        let name = self.transport.name();
        thread::sleep(PAUSE);
        let drops = self.drops()?;
        kill_process(self.pid(), Signal::INT)?;
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let cpu = cpu_time(self.pid())? - self.start;
        let status = self.child.wait()?;
        // `perf` cleans up, and then has the signal kill it.
        let ended_well = status.success() || status.signal() == Some(Signal::INT.as_raw());
        let (said, complained) = (self.read(SAID)?, self.read(COMPLAINED)?);
        ensure!(ended_well, "{name} ended with {status}: {complained}");

        let counts = counts(self.transport, emitted, drops.unwrap_or(0), &said, &complained);
        let (kept, lost, overruns) =
            counts.with_context(|| format!("{name} does not say what it has seen: {said}{complained}"))?;
        Ok(Account { kept, lost, overruns, start: self.start, cpu })
    }

    /// Whether it has what it needs in order to record.
    fn is_alive(&self) -> io::Result<bool> {
        let file = match self.transport {
            Transport::Perf => EVENTS,
            transport if transport.is_pmon() => PARTIAL,
            _ => return Ok(self.drops()?.is_some()),
        };
        Ok(fs::metadata(self.folder.path().join(file)).is_ok_and(|file| file.len() > 0))
    }

    /// What its socket has dropped, if it listens on the port of its own number.
    fn drops(&self) -> io::Result<Option<u64>> {
        let all = listeners()?;
        Ok(all.into_iter().find(|&(port, _)| port == self.child.id()).map(|(_, drops)| drops))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.folder.path().join(file))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Of one that has ended, and was waited for, these do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Events kept, events lost, and overruns, of so many events emitted and so many dropped by the socket, by what was said.
fn counts(
    transport: Transport,
    emitted: u64,
    drops: u64,
    said: &str,
    complained: &str,
) -> Option<(u64, u64, Option<u64>)> {
    match transport {
        Transport::None => None,
        Transport::Recv | Transport::BareRing => {
            let (kept, overruns) = said.trim().split_once(' ')?;
            Some((kept.parse().ok()?, drops, Some(overruns.parse().ok()?)))
        }
        Transport::Recvmmsg | Transport::Ring | Transport::RingDetails => {
            let summary: Value = serde_json::from_str(said).ok()?;
            Some((summary["events"]["total"].as_u64()?, summary["lost"]["total"].as_u64()?, None))
        }
        // It does not count what it takes, but says so when it is told of an overrun.
        Transport::Forkstat => {
            Some((emitted.saturating_sub(drops), drops, Some(said.matches("nobufs").count() as u64)))
        }
        // `[ perf record: Captured and wrote 1.254 MB events.pmon (8032 samples) ]`, without the brackets if there were none.
        Transport::Perf => {
            let samples = complained.rsplit_once(" samples)").and_then(|(line, _)| line.rsplit_once('('));
            let kept = samples.map_or(Some(0), |(_, count)| count.parse().ok())?;
            Some((kept, emitted.saturating_sub(kept), None))
        }
    }
}

/// Port and drops of each socket that listens to process events: `/proc/net/netlink`.
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
