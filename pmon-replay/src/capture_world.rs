//! A capture as the world of a program under test: the events that happen, and the processes in
//! `/proc`.

use std::collections::VecDeque;
use std::time::Instant;

use pmon_analysis::OwnedRecord;
use pmon_core::capture::{Meta, RecordingReader};
use pmon_fake::Kernel;
use pmon_interpose::{NextEvent, ProcessView, ReplayWorld};

use crate::procfs::CaptureProcfs;
use crate::{Pace, Replay, ReplayError, Speed};

/// Maximum number of records that have happened and are not received; beyond it, the oldest count
/// as received.
const MAX_PENDING: usize = 1 << 12;
/// Maximum memory of the records that have happened and are not received, in bytes; beyond it, the
/// oldest count as received.
const MAX_PENDING_BYTES: usize = 4 << 20;
/// Number of pending records from which on the received ones are applied to the processes, even if
/// no caller looks at them. Applying many records at once is faster, because their data structures
/// then stay in the CPU's caches.
const MAX_DEFERRED: usize = 1 << 10;
/// Memory of pending records, in bytes, from which on the received ones are applied.
const MAX_DEFERRED_BYTES: usize = 1 << 20;
/// Memory budget of the reader in bytes. Twice the excess is deducted from the budget for
/// processes, because the reader's records take as much memory again.
const READER_BYTES: usize = 16 << 20;

/// A [`Replay`] as the [`ReplayWorld`] of a program.
///
/// Its events happen one at a time, on demand or at a pace. Its [`ProcessView`] shows the processes
/// of the capture as of the last event that the program has received. Before the first event, these
/// are the processes of the capture's first scan, or those at the start of the range. An ended
/// process is a zombie until the event after its exit. Events that a filter hides are not
/// delivered, but still change the processes: when a program receives an exec, it finds the process
/// even if the fork was hidden.
///
/// The files in `/proc` are those of Linux 6.18. Data that are not recorded appear as the kernel
/// shows data that it cannot show: user and group IDs as 65534, process IDs as 0, texts as empty,
/// symbolic links as missing, and counters as 0. After an exec without details, the name of the
/// process is `?`.
///
/// ```
/// use pmon_core::capture::{Encoder, Reader, Record};
/// use pmon_interpose::{NextEvent, ProcessView, ReplayWorld};
/// use pmon_replay::synth::{Synth, SynthOptions};
/// use pmon_replay::{CaptureWorld, Replay, Speed};
///
/// let synth = Synth::new(SynthOptions { events: 100, ..SynthOptions::default() })?;
/// let mut encoder = Encoder::new(&synth.header())?;
/// synth.generate(|record| encoder.push(record))?;
/// let capture = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
///
/// let mut world = CaptureWorld::new(Replay::new(Reader::open(capture.as_slice())?), Speed::Instant);
/// let before = world.processes().pids();
/// assert_eq!(before[0], 1);
/// let entries = world.processes().entries(1);
/// assert!(entries.iter().any(|(path, _)| path == "cmdline"));
///
/// while world.next_event()? == NextEvent::OnDemand {
///     world.step()?;
///     world.mark_received(world.position());
/// }
/// assert_ne!(world.processes().pids(), before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// To run a program until it exits, or until the capture has ended and the program waits for more
/// events:
///
/// ```no_run
/// use std::fs::File;
/// use pmon_core::capture::Reader;
/// use pmon_interpose::{LaunchOptions, ReplayWorld, RunOptions, Supervisor};
/// use pmon_replay::{CaptureWorld, Replay, ReplayError, Speed};
///
/// let capture = Reader::open(File::open("night.pmon")?)?;
/// let mut world = CaptureWorld::new(Replay::new(capture), Speed::Instant);
/// let mut launch = LaunchOptions::new("forkstat");
/// launch.args = vec!["-l".into()];
/// let mut supervisor = Supervisor::start(&launch, world.processes())?;
/// let report = supervisor.run(&mut world, &RunOptions::default(), |_| Ok(()), Err::<(), ReplayError>)?;
/// assert_eq!(report.exit_code(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CaptureWorld<C> {
    replay: Replay<C>,
    speed: Speed,
    /// Start of the replay and its pace, unless events happen on demand.
    started: Option<(Instant, Pace)>,
    procfs: CaptureProcfs,
    /// Number of steps so far.
    position: u64,
    /// Number of steps whose events the program has received.
    received: u64,
    /// Records that have happened and are not applied to `procfs`, each with the number of the step
    /// in which it happened. Received records are applied when a caller looks at the processes, or
    /// when many have accumulated.
    pending: VecDeque<(u64, OwnedRecord)>,
    pending_bytes: usize,
    /// Offset in the capture at which the reader's memory was last measured.
    measured_at: u64,
    /// Error of the start, until a call returns it.
    start_error: Option<ReplayError>,
    /// Whether the replay cannot continue.
    has_failed: bool,
}

impl<C: RecordingReader> CaptureWorld<C> {
    /// Creates a world from a replay. With [`Speed::Instant`], the next event happens whenever the
    /// program waits for one. With other speeds, each event happens in its time after the first
    /// call of [`ReplayWorld::next_event`], whatever the program does.
    ///
    /// Reads the capture up to the first event. The first call of [`ReplayWorld::next_event`] or
    /// [`ReplayWorld::step`] returns an error of this step.
    pub fn new(replay: Replay<C>, speed: Speed) -> Self {
        let mut world = Self {
            procfs: CaptureProcfs::new(replay.meta().cloned().unwrap_or_default()),
            replay: replay.keep_process_records(),
            speed,
            started: None,
            position: 0,
            received: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            measured_at: 0,
            start_error: None,
            has_failed: false,
        };
        world.start_error = world.start().err();
        world
    }

    /// Returns the metadata of the recording, which are empty if the header cannot be read.
    pub fn meta(&self) -> &Meta {
        self.procfs.meta()
    }

    /// Returns the number of bytes of the capture that have been read.
    pub fn offset(&self) -> u64 {
        self.replay.offset()
    }

    /// Returns the number of processes, threads, parents and details that the program sees
    /// incompletely for lack of memory.
    pub fn incomplete(&mut self) -> u64 {
        self.apply_received();
        self.procfs.incomplete()
    }

    /// Divides one memory budget between reader and processes: large blocks leave less for the
    /// details of processes.
    fn share_memory(&mut self) {
        let offset = self.replay.offset();
        if std::mem::replace(&mut self.measured_at, offset) != offset {
            self.apply_received();
            self.procfs.limit_memory(self.replay.reader_memory().saturating_sub(READER_BYTES));
        }
    }

    /// Reads up to the first event. Earlier records about processes are visible to the program from
    /// its start.
    fn start(&mut self) -> Result<(), ReplayError> {
        if let Some(error) = self.start_error.take() {
            return Err(error);
        }
        loop {
            let has_advanced = self.replay.advance_to_start();
            self.share_memory();
            self.replay.take_process_records().for_each(|record| self.procfs.apply(&record));
            if !has_advanced? {
                return Ok(());
            }
        }
    }

    fn next_unless_failed(&mut self) -> Result<NextEvent, ReplayError> {
        self.start()?;
        let Some(time) = self.replay.next_time()? else { return Ok(NextEvent::Never) };
        if self.speed == Speed::Instant {
            return Ok(NextEvent::OnDemand);
        }
        let (started, pace) =
            self.started.get_or_insert_with(|| (Instant::now(), Pace::new(self.speed, time)));
        Ok(NextEvent::In(pace.due(time).saturating_sub(started.elapsed())))
    }

    fn step_unless_failed(&mut self) -> Result<(), ReplayError> {
        self.start()?;
        loop {
            let played = self.replay.play();
            self.share_memory();
            for record in self.replay.take_process_records() {
                self.pending_bytes += record.memory();
                self.pending.push_back((self.position, record));
            }
            if self.pending.len() > MAX_PENDING || self.pending_bytes > MAX_PENDING_BYTES {
                self.apply_received();
            }
            while self.pending.len() > MAX_PENDING || self.pending_bytes > MAX_PENDING_BYTES {
                self.apply_next();
            }
            // A record without an effect, or a hidden event, is no step.
            match played? {
                Some(None) => {}
                Some(Some(_)) | None => return Ok(()),
            }
        }
    }

    /// Applies the records that the program has received.
    fn apply_received(&mut self) {
        while self.pending.front().is_some_and(|(step, _)| *step <= self.received) {
            self.apply_next();
        }
    }

    fn apply_next(&mut self) {
        if let Some((_, record)) = self.pending.pop_front() {
            self.pending_bytes -= record.memory();
            self.procfs.apply(&record);
        }
    }

    /// Notes whether the replay cannot continue: it continues after damage, but after no other
    /// error.
    fn note_failure<T>(&mut self, result: Result<T, ReplayError>) -> Result<T, ReplayError> {
        self.has_failed |= matches!(&result, Err(error) if !matches!(error, ReplayError::Damaged(_)));
        result
    }
}

impl<C: RecordingReader> ReplayWorld for CaptureWorld<C> {
    type Error = ReplayError;

    fn kernel(&mut self) -> &mut Kernel {
        self.replay.kernel()
    }

    /// Returns [`NextEvent::Never`] also after a replay has failed.
    ///
    /// # Errors
    /// Fails like [`Replay::step`]: after damage, the next call continues.
    fn next_event(&mut self) -> Result<NextEvent, ReplayError> {
        if self.has_failed {
            return Ok(NextEvent::Never);
        }
        let next = self.next_unless_failed();
        self.note_failure(next)
    }

    /// Lets the next event or loss happen, with all records before it. At the end of the capture,
    /// applies the remaining records.
    ///
    /// # Errors
    /// Fails like [`Replay::step`]: after damage, the next call continues.
    fn step(&mut self) -> Result<(), ReplayError> {
        if self.has_failed {
            return Ok(());
        }
        self.position += 1;
        let result = self.step_unless_failed();
        if self.speed != Speed::Instant {
            self.mark_received(self.position);
        }
        self.note_failure(result)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn mark_received(&mut self, position: u64) {
        self.received = self.received.max(position);
        if self.pending.len() > MAX_DEFERRED || self.pending_bytes > MAX_DEFERRED_BYTES {
            self.apply_received();
        }
    }

    fn processes(&mut self) -> &dyn ProcessView {
        self.apply_received();
        &self.procfs
    }
}
