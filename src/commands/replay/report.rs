//! The JSON summary of a replay (`--json`, `--report`).

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pmon_interpose::{RunReport, SocketKind, SocketSummary, SocketUsage};
use serde_json::{Map, Value, json};

use super::Playback;
use super::expected_output::ExpectResult;
use super::warnings::{Replayed, Warning};
use crate::args::ReplayArgs;
use crate::exit::{self, Failure, OrFail as _};
use crate::input::shown;
use crate::output::{json_line, json_text};
use crate::terminal;

/// Writes the summary to the places that the options name.
pub(super) struct Reporter {
    json: bool,
    file: Option<(File, PathBuf)>,
    began: Instant,
}

/// The stream to which `--json` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonStream {
    /// Standard output.
    Stdout,
    /// Standard error, on its last line, because standard output belongs to the program or contains
    /// the events.
    Stderr,
}

impl Reporter {
    /// Creates the file of `--report`, so that a wrong path is reported before the replay.
    pub(super) fn new(args: &ReplayArgs) -> Result<Self, Failure> {
        let create = |path: &PathBuf| {
            let created = File::create(path);
            let failed = format_args!("cannot write the report {}", shown(path));
            created.or_fail(exit::STORAGE, failed).map(|file| (file, path.clone()))
        };
        let file = args.report.as_ref().map(create).transpose()?;
        Ok(Self { json: args.json, file, began: Instant::now() })
    }

    /// Returns the start of the replay.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn write(&self, fields: Map<String, Value>, stream: JsonStream) -> Result<(), Failure> {
        let value = Value::Object(fields);
        if let Some((file, path)) = &self.file {
            let written = writeln!(&mut &*file, "{}", json_text(&value));
            written.or_fail(exit::STORAGE, format_args!("cannot write the report {}", shown(path)))?;
        }
        match stream {
            _ if !self.json => Ok(()),
            JsonStream::Stdout => terminal::print(&(json_text(&value) + "\n")),
            JsonStream::Stderr => {
                terminal::eprintln(json_line(&value));
                Ok(())
            }
        }
    }
}

/// How a run of a program ended, for the summary.
pub(super) struct ProgramRun<'a> {
    pub(super) ending: &'a RunReport,
    /// Whether a signal to pmon was passed to the program.
    pub(super) is_interrupted: bool,
    pub(super) sockets: &'a SocketSummary,
    pub(super) socket_kind: SocketKind,
    /// The file of `--expect` and the result of the comparison.
    pub(super) expect: Option<(&'a Path, ExpectResult)>,
    /// The exit code of pmon.
    pub(super) exit_code: u8,
}

impl Playback<'_> {
    /// Returns the fields that the summaries of all replays have.
    pub(super) fn common_json(&self, replayed: &Replayed, warnings: &[Warning]) -> Map<String, Value> {
        let rules = self.script.rules().iter().enumerate().zip(&replayed.faults);
        let faults = rules.map(|((index, rule), count)| {
            json!({
                "line": self.script.line(index),
                "rule": rule.to_string(),
                "fired": count.fired,
                "effective": count.effective,
                "is_losing": count.is_losing,
            })
        });
        let view = &self.args.view;
        let selected = &view.selection.process;
        let selection = self.selects().then(|| {
            json!({
                "from_mono_ns": self.from.map(|time| time.0),
                "to_mono_ns": self.until.map(|time| time.0),
                "kind": view.selection.kind.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
                "pid": selected.pid,
                "tree": selected.tree,
                "comm": selected.comm.as_ref().map(|comm| comm.to_string_lossy()),
                "conditions": crate::selection::describe(&selected.condition()),
            })
        });
        object(json!({
            "events_happened": replayed.events,
            "is_complete": replayed.is_over,
            "selection": selection,
            "faults": faults.collect::<Vec<_>>(),
            "damaged": self.damaged.get(),
            "limit_reached": replayed.is_limit_reached,
            "warnings": warnings.iter().map(Warning::json).collect::<Vec<_>>(),
            "elapsed_ns": u64::try_from(self.reporter.began.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }))
    }

    /// Returns the fields of a program's run.
    pub(super) fn program_json(&self, run: &ProgramRun<'_>) -> Map<String, Value> {
        let mut words = self.args.program.iter().map(|word| word.to_string_lossy());
        let ProgramRun { ending, is_interrupted, sockets, socket_kind, expect, exit_code } = run;
        let signal = ending.status & 0x7F;
        let total = &sockets.total;
        object(json!({
            "program": words.next(),
            "args": words.collect::<Vec<_>>(),
            "exit_code": (signal == 0).then(|| ending.exit_code()),
            "signal": (signal != 0).then_some(signal),
            "ended": how_it_ended(ending, *is_interrupted),
            "settled": ending.has_settled,
            "sent_signal": ending.signal.map(|signal| signal.as_raw()),
            "pmon_exit_code": exit_code,
            "socket_kind": match socket_kind {
                SocketKind::Native => "native",
                SocketKind::Seccomp { .. } => "seccomp",
            },
            "fallback": match socket_kind {
                SocketKind::Native => None,
                SocketKind::Seccomp { why } => {
                    Some(json!({ "code": why.code(), "message": why.to_string() }))
                }
            },
            "sockets_opened": sockets.opened,
            "bound": total.is_bound,
            "subscribed": total.has_subscribed,
            "events_received": total.events,
            "acknowledgements_received": total.acknowledgements,
            "others_received": total.others,
            "overruns": total.overruns,
            "drops": total.drops,
            "sockets": sockets.each.iter().map(socket_json).collect::<Vec<_>>(),
            "expect": expect.map(|(path, comparison)| json!({
                "file": path.to_string_lossy(),
                "result": comparison.name(),
            })),
        }))
    }
}

fn socket_json(usage: &SocketUsage) -> Value {
    json!({
        "bound": usage.is_bound,
        "subscribed": usage.has_subscribed,
        "events_received": usage.events,
        "acknowledgements_received": usage.acknowledgements,
        "others_received": usage.others,
        "overruns": usage.overruns,
        "drops": usage.drops,
    })
}

/// Returns the value of the field `ended`.
fn how_it_ended(ending: &RunReport, is_interrupted: bool) -> &'static str {
    if ending.is_limit_reached {
        "limit"
    } else if is_interrupted {
        "interrupted"
    } else if ending.is_at_end {
        "at_end"
    } else if ending.status & 0x7F != 0 {
        "killed"
    } else {
        "exited"
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
