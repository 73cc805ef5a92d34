//! `pmon synth`: writes a synthetic capture.

use std::time::Duration;

use indicatif::ProgressBar;
use pmon_core::capture::Record;
use pmon_record::{Signals, Sink as _, SinkError, WakeReason};
use pmon_replay::synth::Synth;
use pmon_store::{CaptureFile, CaptureTarget};

use crate::args::SynthArgs;
use crate::control;
use crate::counting_sink::CountingSink;
use crate::exit::{self, Failure, OrFail as _};
use crate::input::is_stdio;
use crate::output::shell_word;
use crate::report::summary::{VerbParts, print_json};
use crate::terminal;

/// Number of records after which signals and the progress bar are updated.
const UPDATE_INTERVAL: u64 = 1 << 16;

/// Runs the verb.
pub(crate) fn run(args: &SynthArgs) -> Result<u8, Failure> {
    let to_stdout = is_stdio(&args.output);
    if to_stdout {
        terminal::refuse_capture("synth")?;
    }
    let options = args.options();
    let synth = Synth::new(options).map_err(|error| Failure::new(exit::USAGE, error))?;
    let header = synth.header();
    let mut signals = control::signals()?;
    let target = if to_stdout { CaptureTarget::Stdout } else { CaptureTarget::File(args.output.clone()) };
    let reader = control::wait_for_reader(&target, &mut signals, None)?;
    let file = CaptureFile::create(&target, &header, args.force)?;
    drop(reader);
    let (sink, _monitor) = CountingSink::new(file, &header);
    let bar = if args.quiet { ProgressBar::hidden() } else { terminal::event_bar(options.events) };
    let mut writing = Writing { sink, signals: &mut signals, bar, records: 0 };
    let written = synth.generate(|record| writing.record(record));
    let finished = written.and_then(|()| writing.sink.finish().map_err(unwritten));
    writing.bar.finish_and_clear();
    let Writing { mut sink, .. } = writing;
    if let Err(failure) = finished {
        // An incomplete synthetic capture is of no use.
        sink.file.discard().or_fail(exit::STORAGE, "cannot remove the incomplete capture")?;
        return Err(failure);
    }
    let summary = sink.into_summary(&header);
    if args.json {
        let mut fields = summary.json();
        fields.insert("uuid".into(), format!("{:032x}", u128::from_be_bytes(header.uuid)).into());
        fields.insert("made_by".into(), header.meta.transport.why.clone().into());
        print_json(fields, to_stdout)?;
    } else if !args.quiet {
        let path = shell_word(args.output.as_os_str().as_encoded_bytes());
        let next = vec![format!("pmon print {path}"), format!("pmon info {path}")];
        let parts = VerbParts { duration_label: Some("made"), next, ..VerbParts::default() };
        terminal::eprintln(summary.text(&parts).trim_end());
    }
    Ok(exit::DONE)
}

/// A capture while it is written.
struct Writing<'a> {
    sink: CountingSink,
    signals: &'a mut Signals,
    bar: ProgressBar,
    records: u64,
}

impl Writing<'_> {
    fn record(&mut self, record: &Record<'_>) -> Result<(), Failure> {
        self.records += 1;
        if self.records.is_multiple_of(UPDATE_INTERVAL) {
            self.update()?;
        }
        self.sink.record(record).map_err(unwritten)
    }

    #[cold]
    fn update(&mut self) -> Result<(), Failure> {
        self.bar.set_position(self.sink.statistics.events);
        match control::wait(self.signals, Some(Duration::ZERO))? {
            WakeReason::Interrupt | WakeReason::Terminate => {
                Err(Failure::new(exit::INTERRUPTED, "interrupted; the incomplete capture was removed"))
            }
            _ => Ok(()),
        }
    }
}

fn unwritten(error: SinkError) -> Failure {
    Failure::new(exit::STORAGE, error)
}
