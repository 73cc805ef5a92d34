//! A recorder that continues an earlier one, for the tests of restarts.
//!
//! ```text
//! restarts DIRECTORY [RING-BYTES [SOCKET-BYTES [recvmmsg]]]
//! ```
//!
//! Each run writes one capture, `000.pmon`, `001.pmon`, ... It reports to its service manager
//! whether it continues. `SIGTERM` ends it and leaves its subscription to the next run, `SIGUSR1`
//! replaces it by the program at its path, and `SIGINT` ends it and its subscription.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pmon_core::Seq;
use pmon_core::capture::{CpuPosition, Positions, Record};
use pmon_record::handover::{Descriptors, Program, ServiceManager};
use pmon_record::{
    RecordOptions, Recording, Signals, Sink, SinkError, Subscription, TransportChoice, WakeReason,
};
use pmon_store::{CaptureFile, CaptureFileOptions, Directory};
use pmon_testkit::capture::{AccountedRecord, CaptureContents};

/// The tests read captures that have not been finished, with a hole of this size.
const SMALL_FILE: CaptureFileOptions = CaptureFileOptions { hole: 256 << 10, journal: true };

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
                let Err(error) = program.exec(&descriptors, &mut signals) else { return Ok(()) };
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
    let positions = if is_new { None } else { Some(positions(directory)?) };
    let (name, header) = (format!("{number:03}.pmon"), subscription.header(&[]));
    let file = CaptureFile::create_in(
        Arc::new(Directory::new(directory)),
        &name,
        &header,
        SMALL_FILE,
        Instant::now(),
    )?;
    let sink = SegmentFile(file);
    let recording = match &positions {
        Some(positions) => Recording::resume(subscription, sink, options, positions)?,
        None => Recording::start(subscription, sink, options)?,
    };
    manager.notify(&format!("READY=1\nSTATUS={status}"))?;
    let reason = signals.wait(None)?;
    match reason {
        WakeReason::Interrupt => recording.stopper().stop(),
        _ => recording.stopper().detach(),
    }
    recording.join()?;
    Ok((reason, descriptors))
}

/// Returns the positions at which the last capture in a directory ends. A recorder that was killed
/// has not recorded them, so they are those after its last event or loss.
fn positions(directory: &Path) -> Result<Positions> {
    let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let last = entries.iter().max().context("an earlier capture")?;
    let mut recorded = None;
    let capture = CaptureContents::try_from_bytes(File::open(last)?, |record| {
        if let Record::Positions(positions) = record {
            recorded = Some(positions.clone());
        }
    });
    let capture = capture.map_err(anyhow::Error::msg)?;
    if let Some(recorded) = recorded {
        return Ok(recorded);
    }
    let mut times = BTreeMap::new();
    for record in &capture.accounted {
        match record {
            AccountedRecord::Event(event) => times.insert(event.cpu, event.time),
            AccountedRecord::Loss(loss) => times.insert(loss.cpu, loss.before),
        };
    }
    let spans = capture.number_spans().map_err(anyhow::Error::msg)?;
    let cpus = spans.into_iter().map(|(cpu, span)| CpuPosition {
        cpu,
        next: Seq(span.first.0.wrapping_add(span.len as u32)),
        time: times.get(&cpu).copied().unwrap_or_default(),
    });
    let time = times.values().copied().max().unwrap_or_default();
    // The tests kill no recorder whose socket has dropped events.
    ensure!(capture.witnesses.is_empty(), "the killed recorder's socket has dropped events");
    Ok(Positions { time, cpus: cpus.collect(), source_drops: Some(0) })
}

/// A capture that ends with its positions.
struct SegmentFile(CaptureFile);

impl Sink for SegmentFile {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.0.record(record)
    }

    fn received_at(&mut self, time: Instant) {
        self.0.received_at(time);
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        self.0.tick(now)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.0.finish()
    }

    fn has_segments(&self) -> bool {
        true
    }
}
