//! A capture as a program lives through it: what happens, and the processes that it then sees.

use std::collections::VecDeque;
use std::io::Read;
use std::time::Instant;

use pmon_analysis::OwnedRecord;
use pmon_core::capture::Meta;
use pmon_fake::Kernel;
use pmon_interpose::{NextEvent, ProcessView, ReplayWorld};

use crate::procfs::Procfs;
use crate::{Pace, Replay, ReplayError, Speed};

/// What has happened and was not received is held for so many records; then the oldest count as received.
const MAX_PENDING: usize = 1 << 12;
/// Maximum bytes of the records held for reception; beyond them, the oldest count as received.
const MAX_PENDING_BYTES: usize = 4 << 20;
/// Memory budget of the reader in bytes. Twice the excess is deducted from the budget for
/// processes, because the reader's records take as much memory again.
const READER_BYTES: usize = 16 << 20;

/// A [`Replay`] as the [`ReplayWorld`] of a program: its events happen one at a time, when the program waits for one or at a pace, and its
/// [`ProcessView`] are the processes of the capture, as of the last event that the program has received.
///
/// Before the first event, these are the processes of the capture's first scan. An ended process is a zombie until the event after its
/// exit. Events that a filter hides are not delivered, and yet change the processes: whoever hears of an exec finds the process that its
/// parent forked. A range begins with the processes of its begin.
///
/// Their files are those of Linux 6.18. What is not recorded is there as a kernel shows what it cannot tell: ids of users as 65534, ids of
/// processes as 0, texts as empty, links not at all, what is counted as 0. Only a name is always one: after an exec that left nothing to
/// be read it is `?`.
///
/// ```
/// use pmon_core::capture::{Encoder, Reader, Record};
/// use pmon_interpose::{NextEvent, ProcessView, ReplayWorld};
/// use pmon_replay::synth::{SynthOptions, Synth};
/// use pmon_replay::{CaptureWorld, Replay, Speed};
///
/// let synth = Synth::new(SynthOptions { events: 100, ..SynthOptions::default() })?;
/// let mut encoder = Encoder::new(&synth.header())?;
/// synth.generate(|record| encoder.push(record))?;
/// let capture = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
///
/// let mut live = CaptureWorld::new(Replay::new(Reader::open(capture.as_slice())?), Speed::Instant);
/// let before = live.processes().pids();
/// assert_eq!(before[0], 1);
/// let entries = live.processes().entries(1);
/// assert!(entries.iter().any(|(path, _)| path == "cmdline"));
///
/// while live.next_event()? == NextEvent::OnDemand {
///     live.step()?;
///     live.mark_received();
/// }
/// assert_ne!(live.processes().pids(), before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A program lives through it, and ends as it does when there is no more:
///
/// ```no_run
/// use std::fs::File;
/// use pmon_core::capture::Reader;
/// use pmon_interpose::{RunOptions, LaunchOptions, Supervisor, ReplayWorld};
/// use pmon_replay::{CaptureWorld, Replay, ReplayError, Speed};
///
/// let capture = Reader::open(File::open("night.pmon")?)?;
/// let mut live = CaptureWorld::new(Replay::new(capture), Speed::Instant);
/// let mut launch = LaunchOptions::new("forkstat");
/// launch.args = vec!["-l".into()];
/// let mut program = Supervisor::start(&launch, live.processes())?;
/// let ending = program.run(&mut live, &RunOptions::default(), |_| Ok(()), Err::<(), ReplayError>)?;
/// assert_eq!(ending.exit_code(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CaptureWorld<R> {
    replay: Replay<R>,
    speed: Speed,
    /// Since when it goes on, where it has a pace.
    began: Option<(Instant, Pace)>,
    procfs: Procfs,
    /// What has happened, and was not received.
    pending: VecDeque<OwnedRecord>,
    pending_bytes: usize,
    /// Offset in the capture at which the reader's memory was last measured.
    looked_at: u64,
    /// Why it could not begin, until somebody asks.
    trouble: Option<ReplayError>,
    /// It cannot go on.
    failed: bool,
}

impl<R: Read> CaptureWorld<R> {
    /// A world in which `replay` happens: with [`Speed::Instant`], the next event whenever the program waits for one; else each in its
    /// time, counted from the first call of [`ReplayWorld::next_event`], whatever the program does.
    ///
    /// It reads as far as the first event; what goes wrong with that, the first call of [`ReplayWorld::next_event`] or [`ReplayWorld::step`] says.
    pub fn new(replay: Replay<R>, speed: Speed) -> Self {
        let mut live = Self {
            procfs: Procfs::new(replay.meta().cloned().unwrap_or_default()),
            replay: replay.telling(),
            speed,
            began: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            looked_at: 0,
            trouble: None,
            failed: false,
        };
        live.trouble = live.begin().err();
        live
    }

    /// Where, how and by what the capture was recorded; all empty if its header cannot be read.
    pub fn meta(&self) -> &Meta {
        self.procfs.meta()
    }

    /// Bytes of the capture that have been read.
    pub fn offset(&self) -> u64 {
        self.replay.offset()
    }

    /// Returns the number of processes, threads, parents and details that the program sees
    /// incompletely for lack of memory.
    pub fn incomplete(&self) -> u64 {
        self.procfs.incomplete()
    }

    /// Divides one memory budget between reader and processes: large blocks leave less for the
    /// details of processes.
    fn share_memory(&mut self) {
        let offset = self.replay.offset();
        if std::mem::replace(&mut self.looked_at, offset) != offset {
            self.procfs.limit(self.replay.reader_memory().saturating_sub(READER_BYTES));
        }
    }

    /// Goes as far as the first event. What is told before it, the program finds when it begins.
    fn begin(&mut self) -> Result<(), ReplayError> {
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        loop {
            let is_nearer = self.replay.approach();
            self.share_memory();
            self.replay.told().for_each(|record| self.procfs.apply(&record));
            if !is_nearer? {
                return Ok(());
            }
        }
    }

    fn next_thing(&mut self) -> Result<NextEvent, ReplayError> {
        self.begin()?;
        let Some(time) = self.replay.next_time()? else { return Ok(NextEvent::Never) };
        if self.speed == Speed::Instant {
            return Ok(NextEvent::OnDemand);
        }
        let (began, pace) = self.began.get_or_insert_with(|| (Instant::now(), Pace::new(self.speed, time)));
        Ok(NextEvent::In(pace.due(time).saturating_sub(began.elapsed())))
    }

    fn let_happen(&mut self) -> Result<(), ReplayError> {
        self.begin()?;
        loop {
            let played = self.replay.play();
            self.share_memory();
            for record in self.replay.told() {
                self.pending_bytes += record.memory();
                self.pending.push_back(record);
            }
            while self.pending.len() > MAX_PENDING || self.pending_bytes > MAX_PENDING_BYTES {
                self.apply_next();
            }
            // A piece may be nothing that shows: a record, or what a filter hides.
            match played? {
                Some(None) => {}
                Some(Some(_)) | None => return Ok(()),
            }
        }
    }

    fn apply_next(&mut self) -> bool {
        let record = self.pending.pop_front();
        if let Some(record) = &record {
            self.pending_bytes -= record.memory();
            self.procfs.apply(record);
        }
        record.is_some()
    }

    /// Behind damage it goes on, behind anything else it does not.
    fn checked<T>(&mut self, done: Result<T, ReplayError>) -> Result<T, ReplayError> {
        self.failed |= matches!(&done, Err(error) if !matches!(error, ReplayError::Damaged(_)));
        done
    }
}

impl<R: Read> ReplayWorld for CaptureWorld<R> {
    type Error = ReplayError;

    fn kernel(&mut self) -> &mut Kernel {
        self.replay.kernel()
    }

    /// [`NextEvent::Never`] also when it cannot go on.
    ///
    /// # Errors
    /// As [`Replay::step`]: behind damage the next call goes on.
    fn next_event(&mut self) -> Result<NextEvent, ReplayError> {
        if self.failed {
            return Ok(NextEvent::Never);
        }
        let next = self.next_thing();
        self.checked(next)
    }

    /// Lets an event happen, or a loss, and whatever stands before it; what is left at the end, at the end.
    ///
    /// # Errors
    /// As [`Replay::step`]: behind damage the next call goes on.
    fn step(&mut self) -> Result<(), ReplayError> {
        if self.failed {
            return Ok(());
        }
        let done = self.let_happen();
        if self.speed != Speed::Instant {
            self.mark_received();
        }
        self.checked(done)
    }

    fn mark_received(&mut self) {
        while self.apply_next() {}
    }

    fn processes(&self) -> &dyn ProcessView {
        &self.procfs
    }
}
