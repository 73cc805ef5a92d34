//! Warnings at the end of a replay: the ways in which a test can pass although it tests nothing.

use std::io;

use pmon_analysis::TimeBound;
use pmon_core::capture::{Part, RecordingReader as _};
use pmon_fake::{Fault, FaultCount, Kernel, Trigger};
use pmon_interpose::SocketSummary;
use serde_json::{Value, json};

use super::Playback;
use crate::args::{ClockArg, FormatArg, ViewArgs};
use crate::input::shown;
use crate::output::TextStyle;
use crate::output::harmless;
use crate::terminal;
use crate::view::{Range, View};

/// The kind of a warning. Its name is part of the JSON interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WarningCode {
    /// No event matches the selection.
    SelectionEmpty,
    /// A rule of the fault script never fired.
    FaultNeverFired,
    /// A rule of the fault script fired, and each time without an effect on any socket.
    FaultWithoutEffect,
    /// The event at which a loss of the fault script ends never happened.
    FaultNeverEnded,
    /// The program opened no socket on the proc connector.
    NoSocket,
    /// The program opened a socket, and requested events on none.
    NeverSubscribed,
    /// The program opened a socket, and received no event.
    ReceivedNothing,
    /// The first event was emitted before all threads of the program waited.
    NotSettled,
}

impl WarningCode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SelectionEmpty => "selection_empty",
            Self::FaultNeverFired => "fault_never_fired",
            Self::FaultWithoutEffect => "fault_without_effect",
            Self::FaultNeverEnded => "fault_never_ended",
            Self::NoSocket => "no_socket",
            Self::NeverSubscribed => "never_subscribed",
            Self::ReceivedNothing => "received_nothing",
            Self::NotSettled => "not_settled",
        }
    }
}

/// A warning with its text.
#[derive(Clone, Debug)]
pub(super) struct Warning {
    pub(super) code: WarningCode,
    pub(super) message: String,
}

impl Warning {
    pub(super) fn new(code: WarningCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "code": self.code.name(), "message": self.message })
    }
}

/// Prints each warning on a line of its own.
pub(super) fn print_warnings(warnings: &[Warning]) {
    for warning in warnings {
        terminal::eprintln(format_args!("pmon: {}", harmless(&warning.message)));
    }
}

/// What has happened in a replay.
#[derive(Clone, Debug, Default)]
pub(super) struct Replayed {
    /// Number of events that happened.
    pub(super) events: u64,
    /// Whether all selected events happened.
    pub(super) is_over: bool,
    /// Whether the replay was ended by `--limit`.
    pub(super) is_limit_reached: bool,
    /// How often each rule of the fault script has fired.
    pub(super) faults: Vec<FaultCount>,
}

impl Replayed {
    /// Returns what has happened on a kernel.
    pub(super) fn on(kernel: &Kernel, is_over: bool) -> Self {
        Self {
            events: kernel.events_happened(),
            is_over,
            is_limit_reached: false,
            faults: kernel.fault_counts(),
        }
    }
}

impl Playback<'_> {
    /// Returns the warnings about the selection and the fault script.
    pub(super) fn request_warnings(&self, replayed: &Replayed) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if replayed.events == 0 && replayed.is_over && self.selects() {
            let why = self.unmatched().unwrap_or_else(|| "no event matches the selection".into());
            warnings.push(Warning::new(WarningCode::SelectionEmpty, format!("{}: {why}", self.name)));
        }
        warnings.extend(self.fault_warnings(replayed));
        warnings
    }

    /// Returns a warning for each rule of the fault script that never fired, had no effect, or
    /// never ended.
    pub(super) fn fault_warnings(&self, replayed: &Replayed) -> Vec<Warning> {
        let happened = match replayed.events {
            1 => "only 1 event happened, with number 0".to_owned(),
            events => format!("only {} happened, numbered from 0", terminal::counted(events, "event")),
        };
        let script = self.args.faults.as_deref().map(shown).unwrap_or_default();
        let rules = self.script.rules().iter().enumerate().zip(&replayed.faults);
        rules
            .filter_map(|((index, rule), count)| {
                let (code, what) = match count {
                    count if count.fired == 0 => {
                        (WarningCode::FaultNeverFired, format!("never fired: {happened}"))
                    }
                    count if count.effective == 0 => {
                        let what = "fired without an effect: no socket was affected".to_owned();
                        (WarningCode::FaultWithoutEffect, what)
                    }
                    count if count.is_losing => {
                        let what = "never ended: the event of `lose_until` did not happen".to_owned();
                        (WarningCode::FaultNeverEnded, what)
                    }
                    _ => return None,
                };
                let line = self.script.line(index).map(|line| format!(" at line {line}")).unwrap_or_default();
                Some(Warning::new(code, format!("{script}: the fault{line} (`{rule}`) {what}")))
            })
            .collect()
    }

    /// Returns whether options select some of the events.
    pub(super) fn selects(&self) -> bool {
        self.from.is_some() || self.until.is_some() || self.filter.is_some()
    }

    /// Returns whether a program has tested nothing, which is an error even without `--expect`: no
    /// event matched, or a fault was to come after the last event.
    pub(super) fn tested_nothing(&self, replayed: &Replayed) -> bool {
        let Replayed { events, is_over, .. } = *replayed;
        // If a fault ends the replay, later faults are not reached.
        let ends = self.script.rules().iter().any(|rule| rule.fault == Fault::End);
        let is_late = self.script.rules().iter().any(|rule| match rule.trigger {
            Trigger::At(first) | Trigger::Every { from: first, .. } => first >= events,
            _ => false,
        });
        is_over && (events == 0 && self.selects() || is_late && !ends)
    }

    /// Explains why no event happened, by reading the capture again; `None` if that is impossible.
    fn unmatched(&self) -> Option<String> {
        if self.captures.is_stdin() {
            return None;
        }
        let mut reader = self.captures.open().ok()?.reader;
        let range = Range { since: self.from.map(TimeBound::Mono), until: self.until.map(TimeBound::Mono) };
        let (header, order) = (reader.header().cloned(), reader.byte_order());
        // The JSON format shows all events, also those of threads.
        let args = ViewArgs { format: FormatArg::Json, ..self.args.view.clone() };
        let mut view =
            View::new(&args, TextStyle::plain(ClockArg::Wall), range, header.as_ref(), order, io::sink());
        while let Some(part) = reader.next_part().ok()? {
            if let Part::Block(block) = part {
                block.records().try_for_each(|record| view.record(record)).ok()?;
            }
        }
        view.release().ok()?;
        view.unmatched()
    }
}

/// Returns the warnings about the sockets of the program `name`. `has_foreign_abi` states that a
/// 32-bit program was refused a socket.
pub(super) fn socket_warnings(name: &str, sockets: &SocketSummary, has_foreign_abi: bool) -> Vec<Warning> {
    let total = &sockets.total;
    if sockets.opened == 0 {
        let why = if has_foreign_abi {
            "is a 32-bit program, which can have a proc connector on x86-64 with native sockets only (--sockets)"
        } else {
            "opened no socket on the proc connector"
        };
        return vec![Warning::new(WarningCode::NoSocket, format!("{name} {why}"))];
    }
    let mut warnings = Vec::new();
    if !total.has_subscribed {
        let message = format!(
            "{name} never subscribed to process events (PROC_CN_MCAST_LISTEN): it receives them only while another process listens"
        );
        warnings.push(Warning::new(WarningCode::NeverSubscribed, message));
    }
    if (total.events, total.others, total.overruns) == (0, 0, 0) {
        warnings.push(Warning::new(WarningCode::ReceivedNothing, format!("{name} received no event")));
    }
    warnings
}
