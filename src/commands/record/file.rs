//! Records process events to one file or stream.

use std::io::ErrorKind;
use std::time::Instant;

use jiff::Zoned;
use pmon_core::capture::{Header, Meta};
use pmon_record::{Recording, Subscription};
use pmon_store::{CaptureFile, CaptureFileError, CaptureTarget};

use super::reception;
use crate::args::RecordArgs;
use crate::child::CommandProcess;
use crate::control::{self, ProgressDisplay, RecordingControl};
use crate::counting_sink::CountingSink;
use crate::exit::{self, Failure};
use crate::input::is_stdio;
use crate::report::programs::ProgramCounter;
use crate::report::recording::RecordSummary;
use crate::report::summary::print_json;
use crate::terminal::{self, size};

/// Maximum number of default names that are tried.
const MAX_NAMES: u32 = 20;
/// Number of the name from which on names contain the UUID of the capture, which no process can
/// predict.
const FIRST_UUID_NAME: u32 = 10;

/// Records until a signal, the deadline or the end of the command.
pub(super) fn run(args: &RecordArgs) -> Result<u8, Failure> {
    let to_stdout = args.output.as_deref().is_some_and(is_stdio);
    check_stdout(args, to_stdout)?;
    let mut signals = control::signals()?;
    let target = args.output.as_ref().map(|path| match to_stdout {
        true => CaptureTarget::Stdout,
        false => CaptureTarget::File(path.clone()),
    });
    // The reader must be there before any event is recorded, or the events would have to wait for
    // it.
    let deadline = args.duration.and_then(|duration| Instant::now().checked_add(duration));
    let reader = target.as_ref().map(|target| control::wait_for_reader(target, &mut signals, deadline));
    let reader = reader.transpose()?;
    let options = super::options(args)?;
    let subscription = Subscription::open(&options)?;
    let header = subscription.header(&args.command);
    let file = create(args, target.as_ref(), &header)?;
    drop(reader);
    if !args.quiet && !args.json {
        terminal::eprintln(format_args!("pmon: recording by {}", reception(&header.meta)));
    }
    control::report_added_listeners(subscription.added_listeners());
    let (mut sink, monitor) = CountingSink::new(file, &header);
    sink.programs = (!args.command.is_empty()).then(|| ProgramCounter::new(&header));
    let began = Instant::now();
    let recording = Recording::start(subscription, sink, &options).map_err(control::failure)?;
    let mut child = match CommandProcess::start(&args.command) {
        Ok(child) => child,
        Err(failure) => {
            monitor.discard();
            recording.stopper().stop();
            recording.join().map_err(control::failure)?;
            return Err(failure);
        }
    };

    let output = || size(monitor.bytes());
    let display = ProgressDisplay::new(!args.quiet && child.is_none(), Some(&output));
    let control = RecordingControl {
        signals: &mut signals,
        deadline: args.duration.and_then(|duration| began.checked_add(duration)),
        child: child.as_mut(),
        display,
        is_shown: false,
        service: None,
    };
    let result = control.run(recording).and_then(|(mut sink, _)| {
        let command = child.as_ref().map(CommandProcess::pid);
        let programs = sink.programs.take();
        let summary =
            RecordSummary { summary: sink.into_summary(&header), options: &options, command, programs };
        print_summary(args, to_stdout, &summary)?;
        Ok(if args.strict { summary.summary.completeness.exit_code() } else { exit::DONE })
    });
    super::wait_for_command(result, child, &mut signals)
}

/// Prints the summary, unless `--quiet` is given without `--json`.
fn print_summary(args: &RecordArgs, to_stdout: bool, summary: &RecordSummary<'_>) -> Result<(), Failure> {
    if args.json {
        return print_json(summary.json(), to_stdout || !args.command.is_empty());
    }
    if !args.quiet {
        terminal::eprintln(summary.text().trim_end());
    }
    Ok(())
}

fn check_stdout(args: &RecordArgs, to_stdout: bool) -> Result<(), Failure> {
    if to_stdout && !args.command.is_empty() {
        return Err(Failure::new(
            exit::USAGE,
            "`-o -` cannot be used with a command, because both would write to standard output; name a file or a FIFO",
        ));
    }
    if to_stdout { terminal::refuse_capture("record") } else { Ok(()) }
}

/// Creates the capture file. With a default name, an existing file is never replaced.
fn create(
    args: &RecordArgs,
    target: Option<&CaptureTarget>,
    header: &Header,
) -> Result<CaptureFile, Failure> {
    if let Some(target) = target {
        return Ok(CaptureFile::create(target, header, args.force)?);
    }
    let mut names = DefaultNames::default();
    loop {
        let name = names.next(&header.meta, &Zoned::now(), header.uuid);
        match CaptureFile::create(&CaptureTarget::NewFile(name.into()), header, false) {
            Err(
                CaptureFileError::Exists { .. }
                | CaptureFileError::Unfinished { .. }
                | CaptureFileError::Busy { .. },
            ) if names.tried < MAX_NAMES => {}
            // Another user can create a directory of that name, too.
            Err(CaptureFileError::Io { source, .. })
                if source.kind() == ErrorKind::IsADirectory && names.tried < MAX_NAMES => {}
            created => return Ok(created?),
        }
    }
}

/// Default names of captures: `pmon-HOST-TIME.pmon`, then with a number, then with an unpredictable
/// suffix.
#[derive(Default)]
struct DefaultNames {
    tried: u32,
}

impl DefaultNames {
    fn next(&mut self, meta: &Meta, now: &Zoned, uuid: [u8; 16]) -> String {
        self.tried += 1;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let host: String = meta.host.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let number = match self.tried {
            1 => String::new(),
            n @ ..FIRST_UUID_NAME => format!("-{n}"),
            n => format!("-{:x}", u128::from_be_bytes(uuid).rotate_left(n)),
        };
        format!("pmon-{host}-{}{number}.pmon", now.strftime("%Y%m%d-%H%M%S"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names_need_no_quoting_and_become_unpredictable() {
        let meta = Meta { host: "a/b c".into(), ..Meta::default() };
        let now = "2026-01-02T03:04:05[UTC]".parse().expect("a time");
        let mut names = DefaultNames::default();
        let mut next = || names.next(&meta, &now, [0xab; 16]);
        assert_eq!(next(), "pmon-a_b_c-20260102-030405.pmon");
        assert_eq!(next(), "pmon-a_b_c-20260102-030405-2.pmon");
        let last = (0..10).map(|_| next()).last();
        assert!(last.is_some_and(|name| name.len() == "pmon-a_b_c-20260102-030405-.pmon".len() + 32));
    }
}
