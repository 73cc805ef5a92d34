//! `pmon replay`: replays the events of a capture.

mod consumers;
mod expected_output;
mod header;
mod pacer;
mod program;
mod refusal;
mod report;
mod warnings;

use std::cell::Cell;
use std::fs;
use std::io::{IsTerminal as _, stdout};
use std::path::Path;
use std::thread;
use std::time::Instant;

use indicatif::ProgressBar;
use pmon::{RerecordError, Rerecorder};
use pmon_analysis::Filter;
use pmon_analysis::filter::TimeBound;
use pmon_core::capture::Header;
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Tgid};
use pmon_fake::{FaultScript, Kernel};
use pmon_record::Sink;
use pmon_replay::ReplayError;
use pmon_store::{CaptureFile, CaptureTarget};

use self::consumers::Consumers;
use self::pacer::Pacer;
use self::report::{JsonStream, Reporter};
use self::warnings::{Replayed, Warning, WarningCode, print_warnings};
use crate::args::{FormatArg, ReplayArgs, SpeedArg};
use crate::captures::Captures;
use crate::counting_sink::CountingSink;
use crate::exit::{self, Failure, OrFail};
use crate::input::{CaptureInput, CaptureReplay, ReadOutcome, is_stdio, report_damage, shown};
use crate::output::TextStyle;
use crate::output::shell_word;
use crate::prescan::{exits, open_range};
use crate::report::summary::VerbParts;
use crate::selection;
use crate::terminal;
use crate::view::{self, Range, View, ViewSink};

/// Number of events after which every consumer must have read them. It is small enough that none is
/// lost.
const UNREAD_EVENTS: u32 = 64;

/// Runs the verb.
pub(crate) fn run(args: &ReplayArgs) -> Result<u8, Failure> {
    selection::check(&args.view.selection)?;
    let mut captures = Captures::find(&args.source.files, args.source.host.as_deref())?;
    if captures.is_stdin() && args.speed == SpeedArg::Step {
        let why = "--speed step cannot be used with a capture from standard input, which it reads itself; name a file";
        return Err(Failure::new(exit::USAGE, why));
    }
    let (input, range) = open_range(&mut captures, ["--from", "--to"], [args.from, args.to])?;
    if input.reader.segments().is_some_and(|reader| reader.list().has_reboot()) {
        let why = "the machine was booted within the recording, and a replay has one monotonic clock; select the time before or after with --from and --to";
        return Err(Failure::new(exit::USAGE, format_args!("{}: {why}", input.name())));
    }
    args.view.selection.process.check_users(input.header())?;
    let playback = Playback::new(args, captures, range, &input)?;
    let is_seekable = input.file_bytes().is_some();
    let mut replay = CaptureReplay::new(input.reader);
    // A consumer that follows processes or shows their names needs the events that started them.
    let follows = playback.filter.is_some() || args.shows() || !args.program.is_empty();
    if let (Some(from), true, false) = (playback.from, is_seekable, follows)
        && let Err(error) = replay.seek(from)
    {
        playback.report(error)?;
    }
    playback.run(replay)
}

/// A replay with its options.
struct Playback<'a> {
    args: &'a ReplayArgs,
    captures: Captures,
    name: String,
    header: Option<Header>,
    from: Option<MonoNs>,
    until: Option<MonoNs>,
    filter: Option<Filter>,
    script: FaultScript,
    bar: ProgressBar,
    /// Whether any part of the capture is damaged.
    damaged: Cell<bool>,
    reporter: Reporter,
}

impl<'a> Playback<'a> {
    fn new(
        args: &'a ReplayArgs,
        captures: Captures,
        range: Range,
        input: &CaptureInput,
    ) -> Result<Self, Failure> {
        if args.program.is_empty() {
            args.shown_clock()?;
        }
        let header = input.header();
        let mono = |bound: TimeBound| -> Result<MonoNs, Failure> {
            match bound {
                TimeBound::Mono(time) => Ok(time),
                TimeBound::Wall(at) => {
                    let start = header.map(|header| header.meta.start).ok_or_else(|| {
                        Failure::new(exit::USAGE, "the capture's header is damaged, so its start is unknown; give times as +DURATION")
                    })?;
                    let since = i128::from(at) - i128::from(start.real_ns);
                    let time = (i128::from(start.mono.0) + since).clamp(0, u64::MAX.into());
                    Ok(MonoNs(u64::try_from(time).unwrap_or(u64::MAX)))
                }
            }
        };
        let script = match &args.faults {
            Some(path) => script(path)?,
            None => FaultScript::new(),
        };
        // Output to the terminal shows the progress by itself.
        let has_no_output = args.record.is_some() || !args.program.is_empty() && !stdout().is_terminal();
        let quiet = args.speed == SpeedArg::Instant && (has_no_output || args.expect.is_some());
        Ok(Self {
            args,
            name: input.name().to_owned(),
            header: header.cloned(),
            from: range.since.map(mono).transpose()?,
            until: range.until.map(mono).transpose()?,
            filter: filter(args, &captures)?,
            captures,
            script,
            bar: if quiet {
                terminal::reading_bar(input.file_bytes().unwrap_or(0))
            } else {
                ProgressBar::hidden()
            },
            damaged: Cell::new(false),
            reporter: Reporter::new(args)?,
        })
    }

    fn run(self, mut replay: CaptureReplay) -> Result<u8, Failure> {
        if let Some(from) = self.from {
            replay = replay.from(from);
        }
        if let Some(until) = self.until {
            replay = replay.until(until);
        }
        // Events that are only shown are filtered by the view, which knows all earlier events.
        let is_shown = self.args.shows();
        if let (Some(filter), false) = (&self.filter, is_shown) {
            replay = replay.filter(filter.clone());
        }
        // A program takes the place of the recorder, so the recorder's own events are excluded.
        if let (false, Some(recorder)) = (self.args.program.is_empty() || self.args.view.own, self.recorder())
        {
            let filter = self.filter.clone().unwrap_or_default();
            replay = replay.filter(Filter { hide_self_generated: Some(recorder), ..filter });
        }
        replay = replay.faults(self.script.clone(), self.args.seed);
        if !self.args.program.is_empty() {
            return self.run_program(replay);
        }
        match (&self.args.record, &self.args.socket) {
            (Some(path), _) => self.record(replay.pass_records(), path),
            (None, Some(path)) => self.serve(replay, path),
            (None, None) => self.show(replay.pass_records()),
        }
    }

    /// Replays the events to each program that connects to the socket.
    fn serve(&self, mut replay: CaptureReplay, path: &Path) -> Result<u8, Failure> {
        let mut pacer = Pacer::new(self.args.speed, self.deadline())?;
        // Damage before the first event is reported before waiting for a program.
        self.next_time(&mut replay)?;
        let mut consumers = Consumers::wait_for_first(path, &mut replay, &mut pacer)?;
        let mut unread_allowed = 0;
        while !consumers.is_empty()
            && let Some(time) = self.next_time(&mut replay)?
        {
            if !pacer.wait(time, |left| consumers.serve(&mut replay, left))? {
                break;
            }
            // With `instant`, the programs set the pace, so they lose only the events that the
            // capture lost.
            if self.args.speed == SpeedArg::Instant && unread_allowed == 0 {
                if !consumers.wait_until_read(&mut replay, &mut pacer)? {
                    break;
                }
                unread_allowed = UNREAD_EVENTS;
            }
            unread_allowed = unread_allowed.saturating_sub(1);
            if let Err(error) = replay.step() {
                self.report(error)?;
            }
        }
        let readers = consumers.end(&mut replay, &mut pacer)?;
        let is_over = self.next_time(&mut replay)?.is_none();
        let replayed = self.replayed(replay.kernel(), is_over);
        drop(replay);
        let warnings = self.request_warnings(&replayed);
        print_warnings(&warnings);
        let events = terminal::counted(replayed.events, "event");
        terminal::eprintln(format_args!("pmon: replayed {events} to {readers}"));
        let mut fields = self.common_json(&replayed, &warnings);
        fields.insert("consumers".into(), readers.connected.into());
        fields.insert("drops".into(), readers.dropped.into());
        self.reporter.write(fields, JsonStream::Stdout)?;
        Ok(self.exit_code_of(&replayed))
    }

    /// Returns the time of the next event, after reporting the damage before it; `None` at the end.
    fn next_time(&self, replay: &mut CaptureReplay) -> Result<Option<MonoNs>, Failure> {
        loop {
            match replay.next_time() {
                Ok(time) => return Ok(time),
                Err(error) => self.report(error)?,
            }
        }
    }

    fn recorder(&self) -> Option<Tgid> {
        self.header.as_ref()?.meta.recorder()
    }

    /// Reports damage, which does not end the replay; returns other errors.
    fn report(&self, error: ReplayError) -> Result<(), Failure> {
        match error {
            ReplayError::Damaged(damage) => {
                self.damaged.set(true);
                self.bar.suspend(|| report_damage(&self.name, &damage));
                Ok(())
            }
            error => Err(self.failure(error.into())),
        }
    }

    fn show(&self, replay: CaptureReplay) -> Result<u8, Failure> {
        let mut args = self.args.view.clone();
        if self.args.classic {
            args.format = FormatArg::Classic;
        }
        let header = self.header.as_ref();
        let out = terminal::output()?;
        let clock = self.args.shown_clock()?;
        let style = TextStyle::for_output(clock);
        let view = View::new(&args, style, Range::default(), header, ByteOrder::NATIVE, out);
        let (sink, replayed) = self.play(replay, ViewSink::new(view))?;
        let unmatched = sink.view.unmatched();
        // The view's processes are released here, because the warnings can read the capture again.
        let read = ReadOutcome { clean_end: true, ..ReadOutcome::default() };
        let outcome = sink.view.into_outcome(read, None);
        // Events that are not shown have happened, too.
        let mut warnings = self.request_warnings(&replayed);
        if let (Some(why), 1..) = (unmatched, replayed.events) {
            let why = format!("{}: {why}", self.name);
            warnings.insert(0, Warning::new(WarningCode::SelectionEmpty, why));
        }
        outcome.report();
        print_warnings(&warnings);
        // The events are on standard output.
        self.reporter.write(self.common_json(&replayed, &warnings), JsonStream::Stderr)?;
        Ok(self.exit_code_of(&replayed))
    }

    fn record(&self, replay: CaptureReplay, path: &Path) -> Result<u8, Failure> {
        let header = self.new_header();
        let target = if is_stdio(path) { CaptureTarget::Stdout } else { CaptureTarget::File(path.into()) };
        // No signal is handled yet, so SIGINT and SIGTERM end the wait.
        let reader = target.wait_for_reader(|time| {
            thread::sleep(time);
            true
        })?;
        let file = CaptureFile::create(&target, &header, self.args.force)?;
        drop(reader);
        let (sink, _) = CountingSink::new(file, &header);
        let (sink, replayed) = self.play(replay, sink)?;
        let summary = sink.into_summary(&header);
        let warnings = self.request_warnings(&replayed);
        print_warnings(&warnings);
        let mut fields = self.common_json(&replayed, &warnings);
        fields.extend(summary.json());
        let stream = if is_stdio(path) { JsonStream::Stderr } else { JsonStream::Stdout };
        self.reporter.write(fields, stream)?;
        if !self.args.json {
            let words = |path: &Path| shell_word(path.as_os_str().as_encoded_bytes());
            let from = self.args.source.files.iter().map(|file| words(file)).collect::<Vec<_>>().join(" ");
            let to = words(path);
            let is_all = self.from.is_none() && self.until.is_none() && self.filter.is_none();
            let is_one = self.args.source.files.len() == 1 && !self.captures.is_stdin();
            let is_same = is_all && self.script.rules().is_empty() && is_one;
            let next = if is_same { format!("pmon diff {from} {to}") } else { format!("pmon print {to}") };
            let parts = VerbParts { next: vec![next], ..VerbParts::default() };
            terminal::eprintln(summary.text(&parts).trim_end());
        }
        Ok(self.exit_code_of(&replayed))
    }

    /// Returns the exit code of a replay that was not ended by an error.
    fn exit_code(&self) -> u8 {
        if self.damaged.get() { exit::DAMAGED } else { exit::DONE }
    }

    /// Returns the exit code of a replay without a program.
    fn exit_code_of(&self, replayed: &Replayed) -> u8 {
        if replayed.is_limit_reached { exit::LIMIT } else { self.exit_code() }
    }

    /// Returns the end of `--limit`.
    fn deadline(&self) -> Option<Instant> {
        self.reporter.began().checked_add(self.args.limit?)
    }

    /// Returns what has happened in a replay without a program, and reports if `--limit` has ended
    /// it.
    fn replayed(&self, kernel: &Kernel, is_over: bool) -> Replayed {
        let is_late = self.deadline().is_some_and(|deadline| deadline <= Instant::now());
        let is_limit_reached = !is_over && is_late;
        if is_limit_reached {
            terminal::eprintln("pmon: the replay was ended by --limit");
        }
        Replayed { is_limit_reached, ..Replayed::on(kernel, is_over) }
    }

    /// Replays all events to `sink` and reports damage; returns the sink and what has happened.
    fn play<S: Sink>(&self, mut replay: CaptureReplay, sink: S) -> Result<(S, Replayed), Failure> {
        let recorder = self.header.as_ref().map_or(0, |header| header.meta.recorder_pid);
        let mut rerecorder = Rerecorder::new(sink, Tgid(recorder));
        let mut report = |error: RerecordError| match error {
            RerecordError::Replay(error) => self.report(error).map(|()| true),
            error => Err(self.failure(error)),
        };
        while rerecorder.begin(&mut replay).or_else(&mut report)? {}
        let mut is_over = true;
        match self.args.speed {
            SpeedArg::Instant => {
                while rerecorder.take(&mut replay, None).or_else(&mut report)? {
                    self.bar.set_position(replay.offset());
                    if self.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                        is_over = false;
                        break;
                    }
                }
            }
            SpeedArg::Times(_) | SpeedArg::Step => {
                let mut socket = loop {
                    match replay.listener() {
                        Ok(socket) => break socket,
                        Err(error) => self.report(error)?,
                    }
                };
                let mut pacer = Pacer::new(self.args.speed, self.deadline())?;
                while let Some(time) = self.next_time(&mut replay)? {
                    if !pacer.wait(time, |_| rerecorder.tick().map_err(|error| self.failure(error)))? {
                        is_over = false;
                        break;
                    }
                    if let Err(error) = replay.step() {
                        self.report(error)?;
                    }
                    if !rerecorder.take(&mut replay, Some(&mut socket)).or_else(&mut report)? {
                        is_over = false;
                        break;
                    }
                }
                replay.kernel().release_delayed();
                // A fault can make calls return no event although some are queued.
                while socket.poll().readable
                    && rerecorder.take(&mut replay, Some(&mut socket)).or_else(&mut report)?
                {}
            }
        }
        self.bar.finish_and_clear();
        let replayed = self.replayed(replay.kernel(), is_over);
        let end = self.until.map_or(replay.now(), |until| until.min(replay.now()));
        drop(replay);
        let sink = rerecorder.finish(end).map_err(|error| self.failure(error))?;
        Ok((sink, replayed))
    }

    fn failure(&self, error: RerecordError) -> Failure {
        match error {
            // The reader of text may close the pipe early; the reader of a capture may not.
            RerecordError::Sink(error) if error.is_closed_pipe() && self.args.record.is_none() => {
                Failure { code: exit::DONE, error: None }
            }
            RerecordError::Sink(error) => Failure::new(exit::STORAGE, error),
            error => Failure {
                code: exit::ENVIRONMENT,
                error: Some(anyhow::Error::new(error).context(self.name.clone())),
            },
        }
    }
}

/// Returns the filter for the events that happen; `None` if all of them do.
fn filter(args: &ReplayArgs, captures: &Captures) -> Result<Option<Filter>, Failure> {
    let view = &args.view;
    let is_all = view.selection.is_all();
    if is_all {
        return Ok(None);
    }
    let mut filter = Filter { hide_threads: false, ..view::filter(view, Range::default(), None) };
    if let Some(tree) = &mut filter.tree
        && let Some(exits) = exits(captures)?
    {
        tree.expect_missing_forks(exits);
    }
    Ok(Some(filter))
}

fn script(path: &Path) -> Result<FaultScript, Failure> {
    let name = shown(path);
    let text = fs::read_to_string(path)
        .or_fail(exit::ENVIRONMENT, format!("cannot read the fault script {name}"))?;
    text.parse().map_err(|error| Failure::new(exit::USAGE, format!("{name}: {error}")))
}
