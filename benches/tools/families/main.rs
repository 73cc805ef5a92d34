//! Makes families of processes in all the ways that the tests of lineage need.
//!
//! Each process of a family prints a line: its role, and its process ID, parent, process group and
//! session as the kernel returns them. It then waits for the end of standard input. The first
//! process prints the wait statuses of its children and adopted children.
//!
//! ```text
//! cargo run --example families -- subreaper < /dev/null
//! ```
#![deny(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use rustix::process::{WaitOptions, getpid, getppid, set_child_subreaper, setsid, wait};

#[allow(unsafe_code, reason = "clone3(2) and _exit(2) have no safe wrapper")]
mod sys;

/// Make families of processes in all the ways that the tests of lineage need
#[derive(Debug, Parser)]
#[command(name = "families", max_term_width = 100)]
struct FamiliesArgs {
    #[command(subcommand)]
    family: Family,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Family {
    /// A parent exits with 3, and init or a subreaper adopts its child, which exits with 4
    Orphan,
    /// The same, with the first process as the subreaper
    Subreaper,
    /// A daemon: the parent starts a session and exits, and the child executes a shell
    Daemon,
    /// A process with CLONE_PARENT: its parent is the first process, and not its creator
    CloneParent,
    /// A leader of a session has a child in it, and a child in a session of its own
    Session,
    /// COUNT parents, one after the other, each with a child that has this process ID
    Reuse { pid: u32, count: u32 },
}

fn main() -> ExitCode {
    match run(FamiliesArgs::parse().family) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "families: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(family: Family) -> anyhow::Result<()> {
    match family {
        Family::Orphan => {
            fork(|| orphan("orphan", announce))?;
        }
        Family::Subreaper => {
            set_child_subreaper(Some(getpid()))?;
            fork(|| orphan("orphan", announce))?;
        }
        Family::Daemon => {
            fork(|| {
                setsid()?;
                orphan("daemon", |role| {
                    print(role)?;
                    let error = Command::new("/bin/sh").args(["-c", "cat; exit 4", role]).exec();
                    Err(error).context("cannot execute sh")
                })
            })?;
        }
        Family::CloneParent => {
            fork(|| {
                fork_with(sys::CLONE_PARENT, None, || {
                    announce("sibling")?;
                    Ok(4)
                })?;
                announce("creator")?;
                Ok(3)
            })?;
        }
        Family::Session => {
            fork(|| {
                setsid()?;
                fork(|| {
                    announce("member")?;
                    Ok(4)
                })?;
                fork(|| {
                    setsid()?;
                    announce("other")?;
                    Ok(5)
                })?;
                announce("leader")?;
                wait_for_children(false)?;
                Ok(3)
            })?;
        }
        Family::Reuse { pid, count } => {
            for n in 0..count as i32 {
                fork(|| {
                    fork_with(0, Some(pid), || {
                        print("child")?;
                        Ok(10 + n)
                    })?;
                    print("parent")?;
                    wait_for_children(false)?;
                    Ok(100 + n)
                })?;
                wait_for_children(true)?;
            }
            return Ok(());
        }
    }
    announce("first")?;
    wait_for_children(true)
}

/// Forks a child that runs this, and exits with the code that it returns.
fn fork(child: impl FnOnce() -> anyhow::Result<i32>) -> anyhow::Result<()> {
    fork_with(0, None, child)
}

fn fork_with(
    flags: u64,
    pid: Option<u32>,
    child: impl FnOnce() -> anyhow::Result<i32>,
) -> anyhow::Result<()> {
    if sys::fork(flags, pid).context("cannot fork")? != 0 {
        return Ok(());
    }
    match child() {
        Ok(code) => sys::exit(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "families: {error:#}");
            sys::exit(99)
        }
    }
}

/// Forks a child that waits until it is an orphan, runs this and exits with 4. Returns 3, the exit
/// code of its parent.
fn orphan(role: &str, child: impl FnOnce(&str) -> anyhow::Result<()>) -> anyhow::Result<i32> {
    let parent = Some(getpid());
    fork(|| {
        while getppid() == parent {
            thread::sleep(Duration::from_millis(1));
        }
        child(role).map(|()| 4)
    })?;
    print("parent")?;
    Ok(3)
}

/// Prints a line, and waits for the end of standard input.
fn announce(role: &str) -> anyhow::Result<()> {
    print(role)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn print(role: &str) -> anyhow::Result<()> {
    let parent = getppid().map_or(0, |id| id.as_raw_nonzero().get());
    let (group, session) = sys::group_and_session();
    let line = format!("{role} {} {parent} {group} {session}\n", std::process::id());
    // A single write, so that the lines of several processes do not mix.
    io::stdout().lock().write_all(line.as_bytes())?;
    Ok(io::stdout().flush()?)
}

/// Waits for all children, and prints their wait statuses.
fn wait_for_children(prints: bool) -> anyhow::Result<()> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::empty()) {
        if prints {
            writeln!(io::stdout(), "ended {} {}", pid.as_raw_nonzero(), status.as_raw())?;
        }
    }
    Ok(())
}
