//! Runs programs in the ways in which programs are run, for tests that know what must be told of each.
//!
//! `cargo run --example execs -- storm 1000`
#![deny(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};

#[allow(
    unsafe_code,
    reason = "fexecve(3), prctl(2), _exit(2) of a thread and a segmentation fault have no safe wrapper"
)]
mod sys;

/// Maximum number of programs that run at the same time.
const AT_ONCE: usize = 4;

/// Runs programs in the ways in which programs are run.
#[derive(Debug, Parser)]
#[command(name = "execs", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    way: Way,
}

#[derive(Debug, Subcommand)]
enum Way {
    /// Runs `/bin/true` so often, one behind the other, each with a number, `b c` and an empty argument
    Storm { count: u32 },
    /// Run `/bin/true` COUNT times as fast as possible, each time with WORDS unique words
    Words { count: u32, words: u32 },
    /// Declare GIB GiB of memory as its arguments, print a line, and wait for a line of input
    Declare { gib: usize },
    /// Becomes the program, from a thread that is not the first
    Thread { program: Vec<OsString> },
    /// Becomes the program in the file PROGRAM, by its descriptor
    Descriptor { program: Vec<OsString> },
    /// Keeps so many threads busy for so many ms each, and one MiB for each ms; prints the CPU time of the process in us
    Burn {
        threads: u32,
        ms: u64,
        /// Let the threads live until the process ends
        #[arg(long)]
        linger: bool,
    },
    /// End by the second thread: 150 ms after the first has exited or, with --together, while it
    /// runs
    End {
        how: How,
        #[arg(long)]
        together: bool,
    },
    /// Allocate MIB MiB of memory, free all of it, and exec the program
    Take {
        mib: usize,
        /// Keep the memory, and run the program as a child
        #[arg(long)]
        keep: bool,
        program: Vec<OsString>,
    },
}

/// The action of the second thread.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// Call `exit_group(7)`
    Exit,
    /// Send SIGKILL to its process
    Kill,
    /// Cause a segmentation fault with a core dump
    Fault,
    /// Exit alone with `_exit(9)`; a first thread that still runs exits with 3
    Alone,
    /// Exec a shell that exits with 5
    Exec,
}

fn main() -> ExitCode {
    match run(Args::parse().way) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "execs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(way: Way) -> anyhow::Result<()> {
    match way {
        Way::Storm { count } => {
            for n in 0..count {
                let status = Command::new("/bin/true").args([&n.to_string(), "b c", ""]).status()?;
                ensure!(status.success(), "/bin/true ended with {status}");
            }
            Ok(())
        }
        Way::Words { count, words } => {
            let run = |n: u32| {
                let words = (0..words)
                    .map(|word| format!("w{:08x}", u64::from(n) * u64::from(words) + u64::from(word)));
                Command::new("/bin/true").args(words).spawn()
            };
            let mut running = VecDeque::new();
            for n in 0..count {
                running.push_back(run(n)?);
                if running.len() == AT_ONCE {
                    running.pop_front().map(|mut child| child.wait()).transpose()?;
                }
            }
            running.iter_mut().try_for_each(|child| child.wait().map(drop))?;
            Ok(())
        }
        Way::Declare { gib } => {
            sys::declare_arguments(gib << 30)?;
            writeln!(io::stdout(), "declared")?;
            io::stdin().read_line(&mut String::new())?;
            Ok(())
        }
        Way::Thread { program } => {
            let (name, args) = program.split_first().context("no program")?;
            let mut command = Command::new(name);
            command.args(args);
            let became = thread::spawn(move || command.exec()).join();
            bail!("cannot run it: {became:?}");
        }
        Way::Descriptor { program } => {
            let (path, args) = program.split_first().context("no program")?;
            let file = File::open(path)?;
            Err(sys::fexecve(&file, path, args)).context("cannot run it")
        }
        Way::Burn { threads, ms, linger } => burn(threads, ms, linger),
        Way::End { how, together } => end(how, together),
        Way::Take { mib, keep, program } => {
            let memory = black_box(vec![1_u8; mib << 20]);
            let (name, args) = program.split_first().context("no program")?;
            let mut command = Command::new(name);
            command.args(args);
            if keep {
                let status = command.status()?;
                ensure!(status.success(), "it ended with {status}");
                drop(memory);
                return Ok(());
            }
            drop(memory);
            Err(command.exec()).context("cannot run it")
        }
    }
}

fn end(how: How, together: bool) -> anyhow::Result<()> {
    let most = Rlimit { current: None, maximum: None };
    if matches!(how, How::Fault) && setrlimit(Resource::Core, most).is_err() {
        writeln!(io::stderr(), "execs: there may be no core")?;
    }
    let second = thread::spawn(move || {
        if !together {
            thread::sleep(Duration::from_millis(150));
        }
        match how {
            How::Exit => sys::end_process(7),
            How::Kill => drop(kill_process(getpid(), Signal::KILL)),
            How::Fault => sys::fault(),
            How::Alone => sys::end_thread(9),
            How::Exec => drop(Command::new("/bin/sh").args(["-c", "exit 5"]).exec()),
        }
    });
    match (together, how) {
        (false, _) => sys::end_thread(0),
        (true, How::Alone) => {
            thread::sleep(Duration::from_millis(50));
            sys::end_thread(3)
        }
        (true, _) => bail!("the second thread came back: {:?}", second.join()),
    }
}

fn burn(threads: u32, ms: u64, linger: bool) -> anyhow::Result<()> {
    let memory = black_box(vec![1_u8; (ms as usize) << 20]);
    let work = move || {
        while used(ClockId::ThreadCPUTime) < Duration::from_millis(ms) {}
        if linger {
            thread::sleep(Duration::from_secs(60));
        }
    };
    let workers: Vec<_> = (0..threads).map(|_| thread::spawn(work)).collect();
    if linger {
        let all = Duration::from_millis(ms * u64::from(threads));
        while used(ClockId::ProcessCPUTime) < all {
            thread::sleep(Duration::from_millis(1));
        }
    } else {
        workers.into_iter().for_each(|worker| drop(worker.join()));
    }
    writeln!(io::stdout(), "{}", used(ClockId::ProcessCPUTime).as_micros())?;
    drop(memory);
    Ok(())
}

fn used(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
