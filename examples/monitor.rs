//! A consumer that reads a proc connector socket by its file descriptor, and its tests.
//!
//! `docs/testing-rust.md` explains them. `main` runs the consumer on the fake kernel:
//!
//! ```sh
//! cargo run --example monitor
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::os::fd::AsFd;

use pmon_core::wire::{ByteOrder, Event, EventKind};
use pmon_fake::{Errno, Kernel};
use rustix::net::{RecvFlags, recv};

/// Counts forks and exits, and notices when it has missed some.
#[derive(Debug, Default, PartialEq)]
struct Monitor {
    forks: usize,
    exits: usize,
    /// How often events were lost, so that `/proc` had to be read again.
    rescans: usize,
}

impl Monitor {
    /// Reads the events that are queued on a bound and subscribed socket.
    fn read(&mut self, socket: impl AsFd) -> Result<(), Errno> {
        let mut buffer = [0; 4096];
        loop {
            match recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    match Event::decode(&buffer[..len], ByteOrder::NATIVE).map(|event| event.kind()) {
                        Ok(EventKind::Fork) => self.forks += 1,
                        Ok(EventKind::Exit) => self.exits += 1,
                        _ => {}
                    }
                }
                Err(Errno::NOBUFS) => self.rescans += 1,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut kernel = Kernel::new(1);
    let mut fd_socket = kernel.netlink_fd_socket()?;
    fd_socket.socket().listen()?;
    let socket = fd_socket.consumer().ok_or("the descriptor was taken before")?;
    let shell = kernel.add_process("sh");
    for _ in 0..1000 {
        kernel.fork(shell);
    }
    fd_socket.pump()?;
    let mut monitor = Monitor::default();
    monitor.read(&socket)?;
    println!("{monitor:?}");
    Ok(())
}

#[test]
fn a_lost_fork_makes_the_monitor_read_proc_again() {
    let mut kernel = Kernel::new(2); // 2 CPUs
    let mut fd_socket = match kernel.netlink_fd_socket() {
        Ok(fd_socket) => fd_socket,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    fd_socket.socket().listen().unwrap();
    let socket = fd_socket.consumer().unwrap();
    let mut monitor = Monitor::default();
    let shell = kernel.add_process("sh");

    // ENOBUFS, and the fork of 5071 was lost.
    kernel.set_next_pid(5071);
    kernel.lose(1);
    let child = kernel.fork(shell);
    fd_socket.pump().unwrap();
    monitor.read(&socket).unwrap();
    assert_eq!(monitor, Monitor { forks: 0, exits: 0, rescans: 1 });

    // Its exit is received.
    kernel.exit(child, 0);
    fd_socket.pump().unwrap();
    monitor.read(&socket).unwrap();
    assert_eq!(monitor, Monitor { forks: 0, exits: 1, rescans: 1 });
}

#[cfg(test)]
use {
    pmon_core::capture::{Encoder, Reader},
    pmon_interpose::{LaunchOptions, ReplayWorld, RunOptions, Supervisor},
    pmon_replay::synth::{Synth, SynthOptions},
    pmon_replay::{CaptureWorld, Replay, ReplayError, Speed},
};

#[test]
fn a_program_sees_the_processes_of_a_capture() {
    let capture = capture();
    let mut world = CaptureWorld::new(Replay::new(Reader::open(&*capture).unwrap()), Speed::Instant);

    // In your test, the program is env!("CARGO_BIN_EXE_name").
    let mut launch = LaunchOptions::new("sh");
    launch.args = vec!["-c".into(), "read comm < /proc/1/comm && test \"$comm\" = systemd".into()];
    let mut supervisor = match Supervisor::start(&launch, world.processes()) {
        Ok(supervisor) => supervisor,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let options = RunOptions::default();
    let report = supervisor.run(&mut world, &options, |_| Ok(()), Err::<(), ReplayError>).unwrap();
    assert_eq!(report.exit_code(), 0);
}

/// Returns a synthetic capture; in your test, `Reader::open` a file of `pmon record` instead.
#[cfg(test)]
fn capture() -> Vec<u8> {
    let synth = Synth::new(SynthOptions { events: 100, ..SynthOptions::default() }).unwrap();
    let mut encoder = Encoder::new(&synth.header()).unwrap();
    synth.generate(|record| encoder.push(record)).unwrap();
    [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat()
}
