//! Executes programs in all the ways that the tests of details need.
//!
//! ```text
//! cargo run --example execs -- storm 1000
//! ```
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
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};

#[allow(
    unsafe_code,
    reason = "fexecve(3), prctl(2), _exit(2) of a thread and a segmentation fault have no safe wrapper"
)]
mod sys;

/// Maximum number of programs that run at the same time.
const AT_ONCE: usize = 4;

/// Execute programs in all the ways that the tests of details need
#[derive(Debug, Parser)]
#[command(name = "execs", max_term_width = 100)]
struct ExecsArgs {
    #[command(subcommand)]
    command: ExecsCommand,
}

#[derive(Debug, Subcommand)]
enum ExecsCommand {
    /// Run `/bin/true` COUNT times in a row, each with a number, `b c` and an empty argument
    Storm { count: u32 },
    /// Run `/bin/true` COUNT times as fast as possible, each time with WORDS unique words
    Words { count: u32, words: u32 },
    /// Declare GIB GiB of memory as its arguments, print a line, and wait for a line of input
    Declare { gib: usize },
    /// Execute the program, in a thread that is not the first
    Thread { program: Vec<OsString> },
    /// Execute the file PROGRAM by its descriptor
    Descriptor { program: Vec<OsString> },
    /// Keep THREADS threads busy for MS ms each, and use MS MiB; print the CPU time of the process
    /// in us
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
        how: EndAction,
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
enum EndAction {
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
    match run(ExecsArgs::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "execs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: ExecsCommand) -> anyhow::Result<()> {
    match command {
        ExecsCommand::Storm { count } => {
            for n in 0..count {
                let status = Command::new("/bin/true").args([&n.to_string(), "b c", ""]).status()?;
                ensure!(status.success(), "/bin/true exited with {status}");
            }
            Ok(())
        }
        ExecsCommand::Words { count, words } => {
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
        ExecsCommand::Declare { gib } => {
            sys::declare_arguments(gib << 30)?;
            writeln!(io::stdout(), "declared")?;
            io::stdin().read_line(&mut String::new())?;
            Ok(())
        }
        ExecsCommand::Thread { program } => {
            let (name, args) = program.split_first().context("no program")?;
            let mut command = Command::new(name);
            command.args(args);
            let result = thread::spawn(move || command.exec()).join();
            bail!("cannot execute it: {result:?}");
        }
        ExecsCommand::Descriptor { program } => {
            let (path, args) = program.split_first().context("no program")?;
            let file = File::open(path)?;
            Err(sys::fexecve(&file, path, args)).context("cannot execute it")
        }
        ExecsCommand::Burn { threads, ms, linger } => burn(threads, ms, linger),
        ExecsCommand::End { how, together } => end(how, together),
        ExecsCommand::Take { mib, keep, program } => {
            let memory = black_box(vec![1_u8; mib << 20]);
            let (name, args) = program.split_first().context("no program")?;
            let mut command = Command::new(name);
            command.args(args);
            if keep {
                let status = command.status()?;
                ensure!(status.success(), "the program exited with {status}");
                drop(memory);
                return Ok(());
            }
            drop(memory);
            Err(command.exec()).context("cannot execute it")
        }
    }
}

fn end(how: EndAction, together: bool) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Core);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if matches!(how, EndAction::Fault) && setrlimit(Resource::Core, raised).is_err() {
        writeln!(io::stderr(), "execs: the limit of core dumps cannot be raised")?;
    }
    let second = thread::spawn(move || {
        if !together {
            thread::sleep(Duration::from_millis(150));
        }
        match how {
            EndAction::Exit => sys::end_process(7),
            EndAction::Kill => drop(kill_process(getpid(), Signal::KILL)),
            EndAction::Fault => sys::fault(),
            EndAction::Alone => sys::end_thread(9),
            EndAction::Exec => drop(Command::new("/bin/sh").args(["-c", "exit 5"]).exec()),
        }
    });
    match (together, how) {
        (false, _) => sys::end_thread(0),
        (true, EndAction::Alone) => {
            thread::sleep(Duration::from_millis(50));
            sys::end_thread(3)
        }
        (true, _) => bail!("the second thread returned: {:?}", second.join()),
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
