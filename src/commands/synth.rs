//! `pmon synth` writes a synthetic capture.

use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use indicatif::ProgressBar;
use pmon_core::capture::{Header, Record};
use pmon_record::{CaptureFile, CaptureTarget, Signals, Sink as _, SinkError, WakeReason};
use pmon_replay::synth::Synth;
use serde_json::Value;

use crate::args::SynthArgs;
use crate::control;
use crate::counting_sink::{CountingSink, facts};
use crate::exit::{self, Failure, OrFail as _};
use crate::input::{is_stdio, shown};
use crate::output::{json_text, shell_words};
use crate::report::text_table::TextTable;
use crate::report::verdict::Completeness;
use crate::terminal;
use crate::time_spec::brief;

/// Records between looks at signals and the bar.
const LOOK: u64 = 1 << 16;

/// Runs the verb.
pub(crate) fn run(args: &SynthArgs) -> Result<u8, Failure> {
    let to_stdout = is_stdio(&args.output);
    if to_stdout && stdout().is_terminal() {
        return Err(Failure::new(
            exit::USAGE,
            "a capture is binary, and standard output is a terminal: pipe it, as in `pmon synth -o - | pmon print -`",
        ));
    }
    let options = args.options();
    let synth = Synth::new(options).map_err(|error| Failure::new(exit::USAGE, error))?;
    let header = synth.header();
    let mut signals = control::signals()?;
    let target = if to_stdout { CaptureTarget::Stdout } else { CaptureTarget::File(args.output.clone()) };
    let reader = control::wait_for_reader(&target, &mut signals, None)?;
    let file = CaptureFile::create(&target, &header, args.force)?;
    drop(reader);
    let (sink, _handle) = CountingSink::new(file, &header);
    let bar = if args.quiet { ProgressBar::hidden() } else { terminal::event_bar(options.events) };
    let mut writing = Writing { sink, signals: &mut signals, bar, records: 0 };
    let written = synth.generate(|record| writing.record(record));
    let finished = written.and_then(|()| writing.sink.finish().map_err(StopReason::Sink));
    writing.bar.finish_and_clear();
    let Writing { mut sink, .. } = writing;
    if let Err(stop) = finished {
        // What is there of it is of no use to anybody.
        let removed = sink.file.discard();
        let failure = stop.failure();
        removed.or_fail(exit::STORAGE, "cannot remove what was written")?;
        return Err(failure);
    }
    let completeness = sink.checker.finish(true);
    let summary =
        SynthSummary { file: &sink.file, tally: &sink.tally, completeness: &completeness, header: &header };
    if args.json {
        let json = json_text(&summary.json());
        if to_stdout {
            terminal::eprintln(json);
        } else {
            terminal::print(&(json + "\n"))?;
        }
    } else if !args.quiet {
        terminal::eprintln(summary.text().trim_end());
    }
    Ok(exit::DONE)
}

/// A capture on its way into its file.
struct Writing<'a> {
    sink: CountingSink,
    signals: &'a mut Signals,
    bar: ProgressBar,
    records: u64,
}

/// Why it is not written to its end.
enum StopReason {
    Sink(SinkError),
    Signals(Failure),
    Interrupted,
}

impl Writing<'_> {
    fn record(&mut self, record: &Record<'_>) -> Result<(), StopReason> {
        self.records += 1;
        if self.records.is_multiple_of(LOOK) {
            self.look()?;
        }
        self.sink.record(record).map_err(StopReason::Sink)
    }

    #[cold]
    fn look(&mut self) -> Result<(), StopReason> {
        self.bar.set_position(self.sink.tally.events);
        let wakeup = self.signals.wait(Some(Duration::ZERO));
        match wakeup.or_fail(exit::INTERNAL, "cannot wait for signals").map_err(StopReason::Signals)? {
            WakeReason::Interrupt | WakeReason::Terminate => Err(StopReason::Interrupted),
            _ => Ok(()),
        }
    }
}

impl StopReason {
    fn failure(self) -> Failure {
        match self {
            Self::Sink(error) => Failure::new(exit::STORAGE, error),
            Self::Signals(failure) => failure,
            Self::Interrupted => Failure::new(exit::INTERRUPTED, "interrupted; nothing is kept"),
        }
    }
}

/// What was written.
struct SynthSummary<'a> {
    file: &'a CaptureFile,
    tally: &'a pmon_analysis::Statistics,
    completeness: &'a Completeness,
    header: &'a Header,
}

impl SynthSummary<'_> {
    fn text(&self) -> String {
        let Self { file, tally, completeness, .. } = self;
        let mut table = TextTable::default();
        table.line("made", brief(self.duration_ns()));
        table.verdict(completeness);
        table.kinds(tally);
        table.losses(completeness);
        table.size(file.bytes(), tally.events);
        if let Some(path) = file.path() {
            table.line("file", shown(path));
            let file = shell_words([path.as_os_str().as_encoded_bytes()].into_iter());
            table.line("next", format!("pmon print {file}   or   pmon info {file}"));
        }
        table.into_text()
    }

    fn json(&self) -> Value {
        let Self { file, tally, completeness, header } = self;
        let mut facts = facts(file, tally, completeness, header);
        facts.insert("uuid".into(), format!("{:032x}", u128::from_be_bytes(header.uuid)).into());
        facts.insert("made_by".into(), header.meta.transport.why.clone().into());
        Value::Object(facts)
    }

    fn duration_ns(&self) -> u64 {
        let end = self.completeness.report.end.map_or(0, |end| end.time.0);
        end.saturating_sub(self.header.meta.start.mono.0)
    }
}
