//! `pmon print --follow`: prints events while they are recorded.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmon_core::capture::Record;
use pmon_record::{Signals, WakeReason};
use pmon_store::{Directory, ListError, SegmentList, recorder_of_file};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::last_events;
use crate::args::PrintArgs;
use crate::captures::{CaptureSource, Captures, WHAT_TO_NAME, recorder_of};
use crate::control;
use crate::exit::{self, Failure, OrFail as _};
use crate::input::{CaptureInput, InputItem, ReadOutcome, is_stdio, report_damage, shown};
use crate::prescan::{exits, open_range};
use crate::terminal;
use crate::view::{DETAILS_TIMEOUT, View};

/// Time between two looks for new records. A recorder writes to a file at most every 40 ms; inotify
/// would wake up as often, and does not see what other machines write.
const INTERVAL: Duration = Duration::from_millis(100);
/// Time without a new event after which a single capture without a recorder has ended. Heartbeats
/// are events.
const ENDED_AFTER: Duration = Duration::from_secs(5);

/// What is followed.
enum Followed {
    /// The directory of a store, in which new segments appear.
    Store(Arc<Directory>),
    /// One capture, which its recorder ends.
    File(PathBuf),
}

/// Runs the verb.
pub(super) fn run(args: &PrintArgs) -> Result<u8, Failure> {
    let mut signals = control::signals()?;
    let [path] = &args.source.files[..] else {
        return Err(Failure::new(exit::USAGE, "--follow takes one capture, or the directory of a store"));
    };
    let followed = Followed::find(path)?;
    let Some(mut captures) = followed.captures(args, &mut signals)? else { return Ok(exit::DONE) };
    let CaptureSource::Several(all) = captures.source.clone() else { return Err(stream(path)) };
    let (mut input, range) = match args.since {
        Some(since) => open_range(&mut captures, ["--since", "--until"], [Some(since), None])?,
        None => {
            let range = last_events::restrict(&mut captures, args)?;
            (captures.open()?, range)
        }
    };
    let store = match &followed {
        Followed::Store(directory) => Some(directory.clone() as Arc<dyn pmon_store::Filesystem>),
        Followed::File(_) => None,
    };
    args.view.selection.process.check_users(input.header())?;
    input.follow(store.map(|store| (store, &all)));
    let style = args.text.style();
    let mut view = View::new(&args.view, style, range, input.header(), input.order(), terminal::output()?);
    if args.view.selection.process.tree.is_some()
        && let Some(exits) = exits(&captures)?
    {
        view.add_exits(exits);
    }
    followed.report_missing_recorder();
    let is_file = matches!(followed, Followed::File(_));
    let mut last = Instant::now();
    loop {
        let is_interrupted = read_available(&mut input, &mut view, &mut last, &mut signals)?;
        if last.elapsed() >= DETAILS_TIMEOUT {
            view.release().map_err(Failure::output)?;
        }
        view.flush().map_err(Failure::output)?;
        let has_ended = is_file && input.has_ended();
        if is_interrupted || has_ended || is_reader_gone() || is_interrupted_within(INTERVAL, &mut signals)? {
            break;
        }
        if is_file && last.elapsed() > ENDED_AFTER && !followed.has_recorder() {
            input.end_current();
        }
        input.refresh()?;
    }
    view.release().map_err(Failure::output)?;
    view.flush().map_err(Failure::output)?;
    let outcome = input.outcome();
    if is_file && input.has_ended() && !outcome.clean_end {
        terminal::eprintln(format_args!("pmon: {}: not ended cleanly", input.name()));
    }
    // The recording goes on after the end of the range.
    view.into_outcome(ReadOutcome { clean_end: true, ..outcome }, None).report();
    Ok(outcome.exit_code())
}

/// Prints everything that is recorded. Returns whether a signal requests the end.
fn read_available(
    input: &mut CaptureInput,
    view: &mut View<std::io::Stdout>,
    last: &mut Instant,
    signals: &mut Signals,
) -> Result<bool, Failure> {
    loop {
        let has_more = input.read_some(|item| match item {
            InputItem::Record(record) => {
                if matches!(record, Record::Event(..)) {
                    *last = Instant::now();
                }
                view.record(record).map_err(Failure::output)
            }
            InputItem::BlockEnd => view.flush().map_err(Failure::output),
            InputItem::Segment(header, junction) => {
                view.begin_segment(header, junction).map_err(Failure::output)
            }
            InputItem::Damage(name, damage) => {
                view.damage();
                view.flush().map_err(Failure::output)?;
                report_damage(name, &damage);
                Ok(())
            }
        })?;
        if signals.is_ending() {
            return Ok(true);
        }
        if !has_more {
            return Ok(false);
        }
    }
}

/// Waits. Returns whether a signal requests the end.
fn is_interrupted_within(time: Duration, signals: &mut Signals) -> Result<bool, Failure> {
    let woken = signals.wait(Some(time)).or_fail(exit::INTERNAL, "cannot wait for signals")?;
    Ok(matches!(woken, WakeReason::Interrupt | WakeReason::Terminate))
}

/// Whether the process that reads standard output from a pipe has ended. Without this check, pmon
/// would end only at the next event.
fn is_reader_gone() -> bool {
    let stdout = std::io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

impl Followed {
    fn find(path: &Path) -> Result<Self, Failure> {
        if is_stdio(path) {
            return Err(stream(path));
        }
        if path.is_dir() {
            return Ok(Self::Store(Arc::new(Directory::new(path))));
        }
        // The final name of a capture that is being written.
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let path = if !path.exists() && partial.exists() { partial } else { path.to_owned() };
        Ok(Self::File(path))
    }

    /// Returns the captures so far. Waits for the first one of a store; `None` if a signal ends the
    /// wait.
    fn captures(&self, args: &PrintArgs, signals: &mut Signals) -> Result<Option<Captures>, Failure> {
        let host = args.source.host.as_deref();
        let directory = match self {
            Self::Store(directory) => directory,
            Self::File(path) => {
                let metadata = path.metadata();
                let is_missing = matches!(&metadata, Err(error) if error.kind() == io::ErrorKind::NotFound);
                let opened = metadata.or_fail(exit::ENVIRONMENT, format_args!("cannot open {}", shown(path)));
                opened.map_err(|failure| match is_missing {
                    true => failure.followed_by(WHAT_TO_NAME),
                    false => failure,
                })?;
                let mut captures = Captures::find(std::slice::from_ref(path), host)?;
                if !captures.is_rereadable() {
                    return Err(stream(path));
                }
                captures.source = CaptureSource::Several(
                    SegmentList::of_files(std::slice::from_ref(path), None)
                        .or_fail(exit::ENVIRONMENT, format_args!("cannot read {}", shown(path)))?,
                );
                return Ok(Some(captures));
            }
        };
        let mut is_reported = false;
        loop {
            let list = SegmentList::of_store(directory.clone(), host);
            let is_ready = match list {
                Ok(mut list) => list.first().is_some(),
                Err(ListError::EmptyDirectory | ListError::NoSegments { .. }) => false,
                // The error is reported below.
                Err(_) => true,
            };
            if is_ready {
                return Captures::find(&args.source.files, host).map(Some);
            }
            if !std::mem::replace(&mut is_reported, true) {
                let name = shown(&args.source.files[0]);
                terminal::eprintln(format_args!("pmon: {name} has no segment yet; waiting for one"));
            }
            if is_reader_gone() || is_interrupted_within(INTERVAL, signals)? {
                return Ok(None);
            }
        }
    }

    /// Whether a recorder writes what is followed. One in another PID namespace cannot be found.
    fn has_recorder(&self) -> bool {
        match self {
            Self::Store(directory) => directory.recorder().is_some(),
            // It may be a segment of a store.
            Self::File(path) => recorder_of_file(path).or_else(|| recorder_of(path)).is_some(),
        }
    }

    fn report_missing_recorder(&self) {
        if let Self::Store(directory) = self
            && !self.has_recorder()
        {
            let name = shown(&pmon_store::Filesystem::path(&**directory, ""));
            terminal::eprintln(format_args!("pmon: no recorder writes {name} now; waiting for one"));
        }
    }
}

fn stream(path: &Path) -> Failure {
    let name = if is_stdio(path) { "standard input".into() } else { shown(path) };
    Failure::new(exit::USAGE, format_args!("{name} is read until it ends, without --follow"))
}
