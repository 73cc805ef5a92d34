//! A recorder that continues an earlier one, for the tests of restarts.
//!
//! ```text
//! restarts DIRECTORY [RING-BYTES [SOCKET-BYTES [recvmmsg]]]
//! ```
//!
//! Each run writes one capture, `000.pmon`, `001.pmon`, ... It reports to its service manager
//! whether it continues. `SIGTERM` ends it and leaves its subscription to the next run, `SIGUSR1`
//! replaces it by the program at its path, and `SIGINT` ends it and its subscription.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use pmon_record::handover::{Descriptors, Program, ServiceManager};
use pmon_record::{RecordOptions, Recording, Signals, Subscription, TransportChoice, WakeReason};
use pmon_store::{CaptureFile, CaptureTarget};

fn main() -> Result<()> {
    let received = Descriptors::received();
    let program = Program::current()?;
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().context("an argument: the directory")?;
    let mut options = RecordOptions { snapshot: false, ..RecordOptions::default() };
    let number = |arguments: &mut std::iter::Skip<std::env::Args>| {
        arguments.next().map(|argument| argument.parse::<usize>()).transpose()
    };
    options.ring = number(&mut arguments)?.unwrap_or(options.ring);
    options.socket_buffer = number(&mut arguments)?.unwrap_or(options.socket_buffer);
    if arguments.next().is_some() {
        options.transport = TransportChoice::Recvmmsg;
    }
    let manager = ServiceManager::from_environment()?.context("a service manager")?;
    let mut signals = Signals::new()?;
    let mut next = match received {
        Some(Ok(descriptors)) => Next::Continue(descriptors),
        Some(Err(error)) => Next::Begin(error.to_string()),
        None => Next::Begin("no descriptors".into()),
    };
    loop {
        match record(Path::new(&directory), &options, next, &manager, &mut signals)? {
            (WakeReason::Report, descriptors) => {
                let error = program.exec(&descriptors);
                manager.notify(&format!("STATUS=not replaced: {error}"))?;
                next = Next::Continue(descriptors);
            }
            _ => return Ok(()),
        }
    }
}

/// How a recording begins.
enum Next {
    Continue(Descriptors),
    Begin(String),
}

/// Records into the next file until a signal arrives. Returns the signal and the descriptors of the
/// subscription.
fn record(
    directory: &Path,
    options: &RecordOptions,
    next: Next,
    manager: &ServiceManager,
    signals: &mut Signals,
) -> Result<(WakeReason, Descriptors)> {
    let adopted = match next {
        Next::Continue(descriptors) => {
            Subscription::adopt(options, descriptors).map_err(|error| error.to_string())
        }
        Next::Begin(why) => Err(why),
    };
    let (mut subscription, status, is_new) = match adopted {
        Ok(subscription) => (subscription, "continues".to_owned(), false),
        Err(why) => (Subscription::open(options)?, format!("begins: {why}"), true),
    };
    let descriptors = subscription.descriptors(options)?;
    if is_new {
        manager.keep(&descriptors)?;
    }
    let number = fs::read_dir(directory)?.count();
    let target = CaptureTarget::NewFile(directory.join(format!("{number:03}.pmon")));
    let file = CaptureFile::create(&target, &subscription.header(&[]), false)?;
    let recording = Recording::start(subscription, file, options)?;
    manager.notify(&format!("READY=1\nSTATUS={status}"))?;
    let reason = signals.wait(None)?;
    match reason {
        WakeReason::Interrupt => recording.stopper().stop(),
        _ => recording.stopper().detach(),
    }
    recording.join()?;
    Ok((reason, descriptors))
}
