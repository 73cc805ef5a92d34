//! `pmon cut`: writes an excerpt of a recording.

use std::io::{Write, stdout};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use indicatif::ProgressBar;
use pmon_analysis::Filter;
use pmon_core::{MonoNs, Tgid};
use pmon_store::SegmentList;
use pmon_store::cut::{CutError, CutFile, CutOptions, CutReport, Selection, cut};
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::{Map, Value, json};

use crate::args::{CutArgs, SelectionArgs};
use crate::captures::{CaptureSource, Captures};
use crate::exit::{self, Failure, OrFail as _};
use crate::input::{is_stdio, shown};
use crate::output::printable;
use crate::prescan::{exits, open_range};
use crate::report::summary::print_json;
use crate::report::text_table::TextTable;
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
    let (input, range) = open_range(&mut captures, ["--since", "--until"], [args.since, args.until])?;
    if !captures.is_rereadable() {
        return Err(read_once(&captures));
    }
    let recorder = input.header().and_then(|header| header.meta.recorder());
    let bytes = input.file_bytes();
    let selection = selection(args, &captures, recorder)?;
    let scope = selection.as_ref().map(|selection| selection.text.clone());
    let mut uuid = [0; 16];
    getrandom(&mut uuid, GetRandomFlags::empty()).or_fail(exit::ENVIRONMENT, "cannot read random bytes")?;
    let tool = concat!("pmon ", env!("CARGO_PKG_VERSION")).into();
    let (since, until) = (range.since, range.until);
    let options = CutOptions { since, until, selection, uuid, tool, now: None };
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
        let file = CutFile::create(&args.output, args.force);
        let mut file = file.map_err(|error| Failure::new(exit::STORAGE, error))?;
        write(&source, &options, &mut file, &bar).and_then(|report| {
            file.publish().map_err(|error| Failure::new(exit::STORAGE, error))?;
            Ok(report)
        })
    };
    bar.finish_and_clear();
    let report = written?;
    if args.json {
        print_json(json_fields(args, &report, &options, scope.as_deref()), to_stdout)?;
    } else if !args.quiet {
        terminal::eprintln(text(args, &report, scope.as_deref()).trim_end());
    }
    Ok(if report.damaged > 0 { exit::DAMAGED } else { exit::DONE })
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

fn write(
    source: &SegmentList,
    options: &CutOptions,
    output: &mut dyn Write,
    bar: &ProgressBar,
) -> Result<CutReport, Failure> {
    let report = cut(source, options, output, &mut |bytes| bar.set_position(bytes));
    report.map_err(|error| {
        let code = match &error {
            CutError::Open { .. } | CutError::NoCapture => exit::REFUSED,
            CutError::Read { .. } => exit::ENVIRONMENT,
            CutError::Reboot { .. } => exit::USAGE,
            CutError::Write(source) if source.kind() == std::io::ErrorKind::BrokenPipe => {
                return Failure { code: exit::DONE, error: None };
            }
            CutError::Write(_) => exit::STORAGE,
            _ => exit::INTERNAL,
        };
        Failure::new(code, error)
    })
}

fn selection(
    args: &CutArgs,
    captures: &Captures,
    recorder: Option<Tgid>,
) -> Result<Option<Selection>, Failure> {
    if args.selection.is_all() {
        return Ok(None);
    }
    let SelectionArgs { kind, pid, tree, comm } = &args.selection;
    let kinds: Vec<_> = kind.iter().map(|kind| kind.name()).collect();
    let mut text = if kinds.is_empty() { "events".into() } else { format!("{} events", kinds.join(", ")) };
    if !pid.is_empty() {
        let pids: Vec<_> = pid.iter().map(u32::to_string).collect();
        text += &format!(" of the processes {}", pids.join(", "));
    }
    if let Some(tree) = tree {
        text += &format!(" of process {tree} and its descendants");
    }
    if let Some(comm) = comm {
        text += &format!(" of processes named {}", printable(comm.as_bytes()));
    }
    let filter = Filter { hide_self_generated: recorder, ..selection_filter(&args.selection) };
    let exits = if tree.is_some() { exits(captures)? } else { None };
    Ok(Some(Selection { text, filter, exits }))
}

fn real_ns(report: &CutReport, time: MonoNs) -> i64 {
    let passed = i128::from(time.0) - i128::from(report.clock.mono.0);
    i64::try_from(i128::from(report.clock.real_ns) + passed).unwrap_or(i64::MAX)
}

fn text(args: &CutArgs, report: &CutReport, scope: Option<&str>) -> String {
    let mut table = TextTable::default();
    let [from, until] = [report.from, report.until].map(|time| local_time(real_ns(report, time)));
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
        "from": rfc3339(real_ns(report, report.from)),
        "until": rfc3339(real_ns(report, report.until)),
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
