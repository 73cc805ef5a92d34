//! Intervals of this machine, as they pass.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pmon_analysis::groups::GroupBy;
use pmon_analysis::life::ProcessId;
use pmon_core::capture::Record;
use pmon_record::{RecordOptions, Recording, Signals, Sink, SinkError, Subscription, WakeReason};

use super::cpu::{CpuReader, CpuResult};
use super::display::{Display, Request};
use super::interval::{Interval, IntervalFacts};
use super::model::{LiveModel, Losses, RunningProcess};
use super::plain;
use super::screen::Screen;
use crate::args::TopArgs;
use crate::control::{self, ProgressDisplay, RecordingControl};
use crate::exit::{self, Failure};
use crate::selection::too_long;
use crate::terminal::{self, counted, grouped};
use crate::time_spec::brief;
use crate::users::UserNames;

/// Minimum length of an interval.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time for which the first list of processes is awaited.
const MAX_SCAN_TIME: Duration = Duration::from_secs(1);
/// Time between two checks for the first list of processes.
const SCAN_CHECK: Duration = Duration::from_millis(10);
/// Time between two checks of the size of the screen.
const SIZE_CHECK: Duration = Duration::from_millis(250);
/// Part of an interval that may be spent on reading the CPU times of running processes.
const CPU_READING_PART: u32 = 10;

/// Shows this machine.
pub(super) fn run(args: &TopArgs) -> Result<u8, Failure> {
    if args.interval < MIN_INTERVAL {
        let why = "--interval is too short for a live display; use at least 100ms";
        return Err(Failure::new(exit::USAGE, why));
    }
    let mut signals = control::signals()?;
    terminal::output()?;
    let options = RecordOptions::default();
    let subscription = Subscription::open(&options)?;
    control::report_added_listeners(subscription.added_listeners());
    let header = subscription.header(&[]);
    if let Some(why) = args.process.comm.as_ref().and_then(|name| too_long(name.as_bytes())) {
        terminal::eprintln(format_args!("pmon: --comm: {why}"));
    }
    let model = LiveModel::new(&header, args.process.life_filter(), args.by);
    let model = Arc::new(Mutex::new(model));
    let began = Instant::now();
    let recording =
        Recording::start(subscription, ModelSink(model.clone()), &options).map_err(control::failure)?;
    let mut session = LiveSession {
        args,
        model,
        host: header.meta.host.clone(),
        users: Arc::new(UserNames::of_this_machine()),
        reader: CpuReader::new(header.meta.ticks_per_second),
        dropped: 0,
        from: began,
        due: began + args.interval,
        deadline: args.duration.and_then(|duration| began.checked_add(duration)),
        scan_deadline: Some(began + MAX_SCAN_TIME),
        left: args.count,
    };
    let ended = session.show(&recording, &mut signals);
    let control = RecordingControl {
        signals: &mut signals,
        deadline: None,
        child: None,
        display: ProgressDisplay::new(false, None),
        is_shown: true,
        service: None,
    };
    let stopped = control.stop(recording);
    ended?;
    stopped?;
    Ok(exit::DONE)
}

/// Applies the records of a recording to the model.
struct ModelSink(Arc<Mutex<LiveModel>>);

impl Sink for ModelSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        lock(&self.0).apply(record);
        Ok(())
    }

    fn tick(&mut self, _: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

fn lock(model: &Mutex<LiveModel>) -> MutexGuard<'_, LiveModel> {
    // A panic of the writer thread ends the recording.
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The intervals of a recording.
struct LiveSession<'a> {
    args: &'a TopArgs,
    model: Arc<Mutex<LiveModel>>,
    host: String,
    users: Arc<UserNames>,
    reader: CpuReader,
    /// Number of processes and texts dropped for lack of memory before this interval.
    dropped: u64,
    /// Start of the current interval.
    from: Instant,
    /// End of the current interval.
    due: Instant,
    /// End of the recording.
    deadline: Option<Instant>,
    /// Time up to which the first list of processes is awaited; `None` if it has arrived.
    scan_deadline: Option<Instant>,
    /// Number of intervals that are still to be shown.
    left: Option<u32>,
}

impl LiveSession<'_> {
    /// Shows the intervals until the user, a signal, the deadline or a failure ends the recording.
    fn show(&mut self, recording: &Recording<ModelSink>, signals: &mut Signals) -> Result<(), Failure> {
        recording.wake_on_change(signals.wake());
        let is_screen = !self.args.json && Screen::is_possible();
        let mut view = match is_screen {
            true => Some(ScreenView {
                screen: Screen::open(signals.wake())?,
                display: Display::new(self.args, true),
                shown: None,
            }),
            false => None,
        };
        if let Some(view) = &mut view {
            view.draw()?;
        }
        while !recording.is_finished() {
            self.read_first_cpu();
            let now = Instant::now();
            let is_last = self.deadline.is_some_and(|deadline| now >= deadline);
            if now >= self.due || is_last && now - self.from >= MIN_INTERVAL {
                let is_blind = recording.counters().blind;
                let by = view.as_ref().map_or(self.args.by, |view| view.display.by);
                let interval = self.close(now, by, is_blind);
                match &mut view {
                    Some(view) => view.show(interval)?,
                    None => plain::print(&interval, self.args)?,
                }
                self.left = self.left.map(|left| left - 1);
            }
            if is_last || self.left == Some(0) {
                break;
            }
            if let Some(view) = &mut view
                && view.handle_keys()?
            {
                break;
            }
            let timeout = self.timeout(view.is_some());
            if let WakeReason::Interrupt | WakeReason::Terminate = control::wait(signals, Some(timeout))? {
                break;
            }
        }
        Ok(())
    }

    fn timeout(&self, is_screen: bool) -> Duration {
        let now = Instant::now();
        let checks = [is_screen.then_some(SIZE_CHECK), self.scan_deadline.map(|_| SCAN_CHECK)];
        let ends = [Some(self.due), self.deadline].into_iter().flatten();
        let ends = ends.map(|end| end.saturating_duration_since(now));
        ends.chain(checks.into_iter().flatten()).min().unwrap_or_default()
    }

    /// Reads the CPU times of the processes that are older than the recording, as soon as they are
    /// known.
    fn read_first_cpu(&mut self) {
        let Some(deadline) = self.scan_deadline else { return };
        if !lock(&self.model).has_scanned() && Instant::now() < deadline {
            return;
        }
        self.scan_deadline = None;
        let older = lock(&self.model).older();
        let pids: Vec<_> = older.iter().map(|&(_, pid)| pid).collect();
        let readings = self.reader.read(&pids, MAX_SCAN_TIME);
        let mut model = lock(&self.model);
        for ((id, _), reading) in older.into_iter().zip(readings) {
            if let CpuResult::Read(reading) = reading {
                model.read_cpu(id, None, reading);
            }
        }
    }

    /// Ends the interval at `now`, and begins the next one with groups by this property.
    fn close(&mut self, now: Instant, by: GroupBy, is_blind: bool) -> Interval {
        let closed = lock(&self.model).close(by);
        let until_ns = i64::try_from(Timestamp::now().as_nanosecond()).ok();
        // The model continues to follow processes while the CPU times are read.
        let pids: Vec<_> = closed.running.iter().map(|process| process.life.pid).collect();
        let readings = self.reader.read(&pids, self.args.interval / CPU_READING_PART);
        let mut used: HashMap<ProcessId, u64> = HashMap::new();
        let mut unread = 0;
        let mut model = lock(&self.model);
        for (process, reading) in closed.running.iter().zip(readings) {
            let RunningProcess { life, .. } = process;
            match reading {
                CpuResult::Read(reading) => {
                    let cpu_ns = model.read_cpu(life.id, life.start, reading);
                    used.extend(cpu_ns.map(|cpu_ns| (life.id, cpu_ns)));
                }
                CpuResult::Missing => unread += u64::from(model.miss_cpu(life.id)),
                CpuResult::LeftOut => unread += 1,
            }
        }
        drop(model);
        let losses = closed.losses;
        let missing = missing(losses, losses.dropped - self.dropped, unread, is_blind);
        self.dropped = losses.dropped;
        let facts = IntervalFacts {
            users: Arc::clone(&self.users),
            host: self.host.clone(),
            until_ns,
            length_ns: u64::try_from((now - self.from).as_nanos()).unwrap_or(u64::MAX),
            has_running_cpu: true,
            missing,
        };
        self.from = now;
        // After a pause of the process, missed intervals are not made up for.
        self.due = (self.due + self.args.interval).max(now + self.args.interval / 2);
        closed.into_sums(|life| used.get(&life.id).copied()).into_interval(facts)
    }
}

/// Returns what an interval lacks, in words.
fn missing(losses: Losses, dropped: u64, unread: u64, is_blind: bool) -> Option<String> {
    let mut items = Vec::new();
    if losses.events > 0 {
        items.push(format!("{} lost", counted(losses.events, "event")));
    }
    if losses.blind_ns > 0 {
        items.push(format!("no events received for {}", brief(losses.blind_ns)));
    } else if is_blind {
        items.push("the kernel emits no events at the moment".into());
    }
    if losses.missed_args > 0 {
        items.push(format!("arguments of {} missed", counted(losses.missed_args, "exec")));
    }
    if losses.undecided > 0 {
        let processes = counted(losses.undecided, "process");
        items.push(format!("{processes} left out, because too little is known of them"));
    }
    if dropped > 0 {
        items.push(format!("{} processes or texts dropped for lack of memory", grouped(dropped)));
    }
    if unread > 0 {
        items.push(format!("CPU time of {} running processes not read", grouped(unread)));
    }
    (!items.is_empty()).then(|| items.join(", "))
}

/// The screen of a live display.
struct ScreenView {
    screen: Screen,
    display: Display,
    /// The interval on the screen.
    shown: Option<Interval>,
}

impl ScreenView {
    /// Shows an interval, unless the display is paused.
    fn show(&mut self, interval: Interval) -> Result<(), Failure> {
        if !self.display.is_paused {
            self.shown = Some(interval);
        }
        self.draw()
    }

    /// Applies the keys that were pressed. Returns whether pmon shall end.
    fn handle_keys(&mut self) -> Result<bool, Failure> {
        let mut has_changed = self.screen.has_resized();
        while let Some(key) = self.screen.key() {
            has_changed = true;
            match self.display.key(key) {
                Request::Quit => return Ok(true),
                Request::Suspend => self.screen.suspend()?,
                Request::Draw | Request::Regroup | Request::Move(_) => {}
            }
        }
        if has_changed {
            self.draw()?;
        }
        Ok(false)
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let is_stale = self.shown.as_ref().is_some_and(|interval| interval.by != self.display.by);
        let status = match &self.shown {
            None => Some("waiting for the first interval"),
            Some(_) if is_stale => Some("regrouping"),
            Some(_) => None,
        };
        let lines = self.display.lines(self.shown.as_ref(), self.screen.size(), status);
        self.screen.draw(&lines)
    }
}
