//! Tries the program that shall replace a recorder, while the recorder still records.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::input::shown;
use crate::output::printable;

/// Time that all runs of the program may take.
const TRIAL_TIME: Duration = Duration::from_secs(5);
/// Time between two looks at a running program.
const POLL: Duration = Duration::from_millis(2);
/// Maximum bytes that are read of the program's output.
const MAX_OUTPUT: u64 = 4 << 10;

/// Checks that the program is a pmon that accepts the command line and the configuration file.
///
/// A program that cannot be run at all passes: its `execve(2)` fails, after which the recorder goes
/// on.
///
/// # Errors
/// Returns what is wrong with the program.
pub(super) fn check(program: &Path, line: &[OsString], config: Option<&Path>) -> Result<(), String> {
    let deadline = Instant::now() + TRIAL_TIME;
    let run = |arguments: &[&OsStr]| run(program, arguments, deadline);
    let Some(version) = run(&[OsStr::new("--version")])? else { return Ok(()) };
    if !version.status.success() || !version.out.starts_with("pmon ") {
        return Err(format!(
            "{} is no pmon that runs here: `--version` ended with {}{}",
            shown(program),
            version.status,
            version.message()
        ));
    }
    let recorder: Vec<_> =
        line.iter().skip(1).map(OsString::as_os_str).chain([OsStr::new("--help")]).collect();
    let check = config.map(|file| vec![OsStr::new("config"), OsStr::new("check"), file.as_os_str()]);
    let checks = [("the command line", Some(recorder)), ("the configuration", check)];
    for (what, arguments) in checks {
        if let Some(ran) = arguments.map(|arguments| run(&arguments)).transpose()?.flatten()
            && !ran.status.success()
        {
            return Err(format!("{} refuses {what}{}", shown(program), ran.message()));
        }
    }
    Ok(())
}

/// The result of a program.
struct Trial {
    status: ExitStatus,
    out: String,
    err: String,
}

impl Trial {
    /// Returns the first line of standard error, after a colon.
    fn message(&self) -> String {
        let line = self.err.lines().next().unwrap_or_default();
        if line.is_empty() { String::new() } else { format!(": {}", printable(line.as_bytes())) }
    }
}

/// Runs the program; `None` if it cannot be run.
fn run(program: &Path, arguments: &[&OsStr], deadline: Instant) -> Result<Option<Trial>, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The program is no service yet.
    command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
    let Ok(mut child) = command.spawn() else { return Ok(None) };
    let status = wait(&mut child, deadline);
    let Some(status) = status else {
        // The program has ended meanwhile if the signal cannot be sent.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{} has not ended within {} s", shown(program), TRIAL_TIME.as_secs()));
    };
    Ok(Some(Trial { status, out: text(child.stdout.take()), err: text(child.stderr.take()) }))
}

fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}

/// Reads what is in a pipe. A process that the program has left behind may hold its other end.
fn text(pipe: Option<impl std::io::Read + std::os::fd::AsFd>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe
        && rustix::io::ioctl_fionbio(&pipe, true).is_ok()
    {
        // An error means that the pipe has no more bytes at the moment.
        let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
