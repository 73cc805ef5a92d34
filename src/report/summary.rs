//! The summary at the end of each verb that writes a capture.

use pmon_analysis::Statistics;
use pmon_core::capture::Header;
use pmon_store::CaptureFile;
use serde_json::{Map, Value, json};

use crate::exit::Failure;
use crate::input::shown;
use crate::output::json_text;
use crate::report::details;
use crate::report::text_table::TextTable;
use crate::report::verdict::Completeness;
use crate::terminal::{self, per_event};
use crate::time_spec::brief;

/// A capture that was written.
pub(crate) struct Summary<'a> {
    pub(crate) file: CaptureFile,
    pub(crate) statistics: Statistics,
    pub(crate) completeness: Completeness,
    pub(crate) header: &'a Header,
}

/// The parts of the text that depend on the verb.
#[derive(Default)]
pub(crate) struct VerbParts<'a> {
    /// The label of the duration; without one, the duration is not shown.
    pub(crate) duration_label: Option<&'a str>,
    pub(crate) hints: Vec<String>,
    /// Number of programs to name; with 0, the details of execs are not shown.
    pub(crate) programs: usize,
    /// Commands to run next.
    pub(crate) next: Vec<String>,
}

impl Summary<'_> {
    /// Returns aligned lines for people.
    pub(crate) fn text(&self, parts: &VerbParts<'_>) -> String {
        let Self { file, statistics, completeness, .. } = self;
        let mut table = TextTable::default();
        if let Some(label) = parts.duration_label {
            table.line(label, brief(self.duration_ns()));
        }
        table.verdict(completeness);
        parts.hints.iter().for_each(|hint| table.sentence("hint", hint));
        table.kinds(statistics);
        table.losses(completeness);
        table.rejected(completeness);
        if parts.programs > 0 {
            table.details(statistics, parts.programs);
        }
        table.size(file.bytes(), statistics.events);
        if let Some(path) = file.path() {
            table.line("file", shown(path));
        }
        // Only a regular file can be read later.
        if file.current_path().is_some() {
            parts.next.iter().zip(["next", ""]).for_each(|(command, label)| table.line(label, command));
        }
        table.into_text()
    }

    /// Returns the JSON fields that are common to these verbs.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let Self { file, statistics, completeness, .. } = self;
        let more = json!({
            "file": file.path().map(|path| path.to_string_lossy()),
            "bytes": file.bytes(),
            "bytes_per_event": per_event(file.bytes(), statistics.events),
            "duration_ns": self.duration_ns(),
            "details": details::json(statistics),
        });
        let mut fields = completeness.json();
        fields.extend(more.as_object().cloned().unwrap_or_default());
        fields
    }

    fn duration_ns(&self) -> u64 {
        let end = self.completeness.report.end.map_or(0, |end| end.time.0);
        end.saturating_sub(self.header.meta.start.mono.0)
    }
}

/// Prints a JSON summary: on standard output, or on standard error if `is_stdout_used`.
pub(crate) fn print_json(fields: Map<String, Value>, is_stdout_used: bool) -> Result<(), Failure> {
    let json = json_text(&Value::Object(fields));
    if is_stdout_used {
        terminal::eprintln(json);
        return Ok(());
    }
    terminal::print(&(json + "\n"))
}
