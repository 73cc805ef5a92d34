//! `pmon cut`: writes an excerpt of a recording.

use std::fs;
use std::io::{Write, stdout};
use std::path::PathBuf;

use indicatif::ProgressBar;
use pmon_record::random_uuid;
use pmon_store::cut::{CutError, CutFile, CutOptions, CutReport, CutSource, Selection, cut};
use pmon_store::{SegmentList, SkippedSegment};
use serde_json::{Map, Value, json};

use crate::args::{CutArgs, SelectionArgs};
use crate::captures::{CaptureSource, Captures};
use crate::control;
use crate::exit::{self, Failure, OrFail as _};
use crate::input::{is_stdio, shown};
use crate::interruptible::InterruptibleSource;
use crate::output::printable;
use crate::prescan::{exits, extent, open_range};
use crate::report::summary::print_json;
use crate::report::text_table::TextTable;
use crate::selection;
use crate::terminal::{self, grouped, size};
use crate::time_spec::{brief, local_time, rfc3339};
use crate::view::selection_filter;

/// Runs the verb.
pub(crate) fn run(args: &CutArgs) -> Result<u8, Failure> {
    let to_stdout = is_stdio(&args.output);
    if to_stdout {
        terminal::refuse_capture("cut")?;
    }
    let mut captures = Captures::find(&args.files, args.host.as_deref())?;
    if captures.is_stdin() {
        return Err(read_once(&captures));
    }
    let whole = captures.clone();
    let (input, range) = open_range(&mut captures, ["--since", "--until"], [args.since, args.until])?;
    if !captures.is_rereadable() {
        return Err(read_once(&captures));
    }
    args.selection.process.check_users(input.header())?;
    let bytes = input.file_bytes();
    let selection = selection(args, &captures)?;
    let scope = selection.as_ref().map(|selection| selection.text.clone());
    let tool = concat!("pmon ", env!("CARGO_PKG_VERSION")).into();
    let (since, until) = (range.since, range.until);
    let options = CutOptions { since, until, selection, uuid: random_uuid(), tool, ..CutOptions::default() };
    let source = match &captures.source {
        CaptureSource::One(path) => list_of(path)?,
        CaptureSource::Several(list) => {
            let mut list = list.clone();
            list.order();
            list
        }
    };
    let bar = match bytes {
        Some(bytes) if !args.quiet => terminal::reading_bar(bytes),
        _ => ProgressBar::hidden(),
    };
    let written = if to_stdout {
        write(&source, &options, &mut stdout().lock(), &bar)
    } else {
        write_file(&source, &options, args, &bar)
    };
    bar.finish_and_clear();
    let report = match written {
        Err(WriteError::NotRecorded) => return Err(not_recorded(&whole)?),
        Err(WriteError::Failed(failure)) => return Err(failure),
        Ok(report) => report,
    };
    if args.json {
        print_json(json_fields(args, &report, &options, scope.as_deref()), to_stdout)?;
    } else if !args.quiet {
        terminal::eprintln(text(args, &report, scope.as_deref()).trim_end());
    }
    for SkippedSegment { name, why, is_removed } in &report.skipped {
        let name = printable(name.as_bytes());
        terminal::eprintln(match is_removed {
            true => format!("pmon: {name} was removed while reading"),
            false => format!("pmon: cannot read {name}: {why}; skipped"),
        });
    }
    let is_damaged = report.damaged > 0 || report.skipped.iter().any(|skipped| !skipped.is_removed);
    Ok(if is_damaged { exit::DAMAGED } else { exit::DONE })
}

/// Describes that no part of the range is recorded, and what is.
fn not_recorded(captures: &Captures) -> Result<Failure, Failure> {
    let recorded = match extent(captures)?.map(|times| times.map(rfc3339)) {
        Some([Some(from), Some(until)]) => format!("the recording is from {from} to {until}; "),
        _ => String::new(),
    };
    let why = format!(
        "cannot cut {}: no part of the range is recorded; {recorded}choose --since and --until within the \
         recording",
        captures.name()
    );
    Ok(Failure::new(exit::USAGE, why))
}

/// Why no excerpt was written.
enum WriteError {
    NotRecorded,
    Failed(Failure),
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn read_once(captures: &Captures) -> Failure {
    let name = captures.name();
    let why =
        format!("{name} can be read only once, and an excerpt reads its source several times; name a file");
    Failure::new(exit::USAGE, why)
}

fn list_of(path: &PathBuf) -> Result<SegmentList, Failure> {
    let list = SegmentList::of_files(std::slice::from_ref(path), None);
    list.or_fail(exit::REFUSED, format_args!("cannot read {}", shown(path)))
}

/// Writes an excerpt to a file. A signal ends it and removes a regular file; a write to a FIFO or a
/// device can take any time, so a signal then ends pmon at once.
fn write_file(
    list: &SegmentList,
    options: &CutOptions,
    args: &CutArgs,
    bar: &ProgressBar,
) -> Result<CutReport, WriteError> {
    let is_special = fs::metadata(&args.output).is_ok_and(|meta| !meta.is_file());
    let source = if is_special { None } else { Some(InterruptibleSource::new(list, control::signals()?)) };
    let mut file = CutFile::create(&args.output, args.force).map_err(Failure::from)?;
    let written = match &source {
        Some(source) => write(source, options, &mut file, bar),
        None => write(list, options, &mut file, bar),
    };
    match written {
        Ok(report) => {
            file.publish().map_err(Failure::from)?;
            Ok(report)
        }
        Err(_) if source.is_some_and(|source| source.is_interrupted()) => {
            let why = "interrupted; the incomplete excerpt was removed";
            Err(Failure::new(exit::INTERRUPTED, why).into())
        }
        Err(error) => Err(error),
    }
}

fn write(
    source: &dyn CutSource,
    options: &CutOptions,
    output: &mut dyn Write,
    bar: &ProgressBar,
) -> Result<CutReport, WriteError> {
    let report = cut(source, options, output, &mut |bytes| bar.set_position(bytes));
    report.map_err(|error| {
        let code = match &error {
            CutError::NotRecorded => return WriteError::NotRecorded,
            CutError::Open { .. } | CutError::NoCapture => exit::REFUSED,
            CutError::Read { .. } => exit::ENVIRONMENT,
            CutError::Reboot { .. } => exit::USAGE,
            CutError::Write(source) if source.kind() == std::io::ErrorKind::BrokenPipe => {
                return Failure { code: exit::DONE, error: None }.into();
            }
            CutError::Write(_) => exit::STORAGE,
            _ => exit::INTERNAL,
        };
        Failure::new(code, error).into()
    })
}

fn selection(args: &CutArgs, captures: &Captures) -> Result<Option<Selection>, Failure> {
    if args.selection.is_all() {
        return Ok(None);
    }
    selection::check(&args.selection)?;
    let SelectionArgs { kind, process } = &args.selection;
    let (pid, tree) = (&process.pid, process.tree);
    let kinds: Vec<_> = kind.iter().map(|kind| kind.name()).collect();
    let mut text = if kinds.is_empty() { "events".into() } else { format!("{} events", kinds.join(", ")) };
    if !pid.is_empty() {
        let pids: Vec<_> = pid.iter().map(u32::to_string).collect();
        text += &format!(" of the processes {}", pids.join(", "));
    }
    if let Some(tree) = tree {
        text += &format!(" of process {tree} and its descendants");
    }
    let described = selection::describe(&process.condition());
    if !described.is_empty() {
        text += &format!(" of processes {}", described.join(", "));
    }
    let filter = selection_filter(&args.selection);
    let exits = if tree.is_some() { exits(captures)? } else { None };
    Ok(Some(Selection { text, filter, exits }))
}

fn text(args: &CutArgs, report: &CutReport, scope: Option<&str>) -> String {
    let mut table = TextTable::default();
    let [from, until] = [report.from, report.until].map(|time| local_time(report.clock.at(time).real_ns));
    let length = brief(report.until.0.saturating_sub(report.from.0));
    table.line("range", format!("{from} to {until} ({length})"));
    let missing = report.missing();
    let missing = if missing.is_empty() { String::new() } else { format!(": {missing}") };
    table.line("verdict", format!("{}{missing}", report.verdict().name()));
    if let Some(scope) = scope {
        table.line("scope", scope);
    }
    table.line("events", grouped(report.events));
    let (copied, encoded) = (grouped(report.copied_blocks), grouped(report.encoded_blocks));
    table.line("blocks", format!("{copied} copied, {encoded} encoded"));
    table.line("size", size(report.bytes));
    if !is_stdio(&args.output) {
        table.line("file", shown(&args.output));
    }
    table.into_text()
}

fn json_fields(
    args: &CutArgs,
    report: &CutReport,
    options: &CutOptions,
    scope: Option<&str>,
) -> Map<String, Value> {
    let unobserved: Vec<_> = report
        .unobserved
        .iter()
        .map(|span| {
            json!({
                "from_mono_ns": span.from.0,
                "until_mono_ns": span.until.0,
                "duration_ns": span.length_ns(),
                "reason": span.reason.name(),
            })
        })
        .collect();
    let file = (!is_stdio(&args.output)).then(|| args.output.to_string_lossy());
    let fields = json!({
        "file": file,
        "uuid": format!("{:032x}", u128::from_be_bytes(options.uuid)),
        "bytes": report.bytes,
        "from": rfc3339(report.clock.at(report.from).real_ns),
        "until": rfc3339(report.clock.at(report.until).real_ns),
        "from_mono_ns": report.from.0,
        "until_mono_ns": report.until.0,
        "verdict": report.verdict().name(),
        "missing": report.missing(),
        "scope": scope,
        "events": report.events,
        "processes": report.processes,
        "lost": report.lost.total(),
        "blind_ns": report.blind_ns,
        "unobserved": unobserved,
        "damaged": report.damaged,
        "copied_blocks": report.copied_blocks,
        "encoded_blocks": report.encoded_blocks,
    });
    fields.as_object().cloned().unwrap_or_default()
}
