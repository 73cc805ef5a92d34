//! `pmon prove`: states whether no process of a kind ran.

mod digest;
mod search;
mod unknown;

use std::fmt::Write as _;

use pmon_analysis::Verdict;
use pmon_analysis::coverage::GapReason;
use pmon_analysis::life::Ancestor;
use serde_json::{Value, json};

use self::digest::digests;
use self::search::{FoundProcess, Search};
use crate::args::ProveArgs;
use crate::captures::Captures;
use crate::exit::{self, Failure};
use crate::output::{json_line, printable};
use crate::prescan::{open_range, scanned_starts};
use crate::query::{command_line, process_json, time};
use crate::report::verdict::Completeness;
use crate::selection::describe;
use crate::terminal::{self, counted, grouped};
use crate::time_spec::local_time;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Proven,
    Ran,
    Unknown,
}

/// Runs the verb.
pub(crate) fn run(args: &ProveArgs) -> Result<u8, Failure> {
    if args.process.is_all() {
        let why = "there is no condition, so every process would count; add one, for example --exe nc";
        return Err(Failure::new(exit::USAGE, why));
    }
    let files = std::slice::from_ref(&args.source.file);
    let mut captures = Captures::find(files, args.source.host.as_deref())?;
    let moments = [args.time.since, args.time.until];
    let (input, range) = open_range(&mut captures, ["--since", "--until"], moments)?;
    let Some(header) = input.header() else {
        let why = format!("{}: the header is damaged, so its processes are unknown", input.name());
        return Err(Failure::new(exit::REFUSED, why));
    };
    args.process.check_users(Some(header))?;
    let mut search = Search::new(header, range, &args.process);
    search.tracker.expect_scan(scanned_starts(&captures)?);
    let host = header.meta.host.clone();
    let recorder = input.is_recorded_by;
    let (completeness, _) = input.examine(|item| search.observe(&item))?;
    search.finish();
    let reasons = reasons(&search, &completeness, recorder);
    let answer = match (search.found_count, reasons.is_empty()) {
        (1.., _) => Answer::Ran,
        (0, true) => Answer::Proven,
        (0, false) => Answer::Unknown,
    };
    let text = match args.json {
        true => json(args, &captures, &search, answer, &reasons, &host)?,
        false => text(args, &search, answer, &reasons, &host),
    };
    terminal::print(&text)?;
    Ok(match answer {
        Answer::Proven => exit::DONE,
        Answer::Ran => exit::RAN,
        Answer::Unknown => exit::INCOMPLETE,
    })
}

/// Returns why the answer can be wrong, in words.
fn reasons(search: &Search, completeness: &Completeness, recorder: Option<u32>) -> Vec<String> {
    let report = &completeness.report;
    let mut reasons: Vec<_> = search.coverage.gaps().iter().map(gap).collect();
    let unlisted = search.coverage.count() - search.coverage.gaps().len() as u64;
    if unlisted > 0 {
        reasons.push(counted(unlisted, "further gap"));
    }
    reasons.extend(completeness.scope().map(|scope| format!("recorded were only {scope}")));
    // Gaps outside of the range of time do not matter, unless the checks found more than the
    // recorder has noted.
    let is_open = search.is_open_ended() && (recorder.is_some() || report.verdict() == Verdict::Unsealed);
    let has_noted_all = report.absent == 0
        && report.forks.missing == 0
        && report.lost.total() == search.noted_losses
        && !matches!(report.verdict(), Verdict::Damaged);
    if is_open || !has_noted_all {
        reasons.push(match report.verdict() {
            Verdict::Damaged => format!("the recording is damaged: {}", completeness.damage().join(", ")),
            _ => format!("the recording is {}", completeness.sentence()),
        });
    }
    reasons.extend(search.unknown.reasons());
    if search.omitted_execs > 0 {
        reasons
            .push(format!("{} of long-lived processes are not kept", counted(search.omitted_execs, "exec")));
    }
    if search.tracker.incomplete() > 0 {
        let items = grouped(search.tracker.incomplete());
        reasons.push(format!("{items} processes or texts were dropped for lack of memory"));
    }
    reasons
}

fn gap(gap: &pmon_analysis::coverage::Gap) -> String {
    let at = |real_ns: Option<i64>| real_ns.map_or_else(|| "an unknown time".into(), local_time);
    let span = format!("from {} to {}", at(gap.real_ns.0), at(gap.real_ns.1));
    match gap.reason {
        GapReason::Lost { cpu, events, cause } => {
            format!("{} lost on cpu {cpu} {span} ({})", counted(events, "event"), cause.name())
        }
        GapReason::Blind => format!("the kernel did not emit all events {span}"),
        GapReason::Unobserved(reason) => {
            format!("no recording {span}: {}", crate::report::verdict::unobserved_reason(reason))
        }
        GapReason::BeforeStart => format!("the recording begins at {}", at(gap.real_ns.1)),
        GapReason::AfterEnd => format!("the recording ends at {}", at(gap.real_ns.0)),
        GapReason::Damaged => format!("a damaged part {span}"),
    }
}

/// Describes the conditions.
fn conditions(args: &ProveArgs) -> String {
    let process = &args.process;
    let mut all = describe(&process.condition());
    if !process.pid.is_empty() {
        let pids: Vec<_> = process.pid.iter().map(u32::to_string).collect();
        all.push(format!("with ID {}", pids.join(" or ")));
    }
    all.extend(process.tree.map(|root| format!("in the tree of {root}")));
    all.join(" and ")
}

fn text(args: &ProveArgs, search: &Search, answer: Answer, reasons: &[String], host: &str) -> String {
    let conditions = conditions(args);
    let (host, range) = (printable(host.as_bytes()), search.span());
    let screen = terminal::output_width();
    let mut text = String::new();
    let _ = match answer {
        Answer::Proven => writeln!(
            text,
            "proven: no process {conditions} ran on {host}\n{range}\nchecked: {}, {}",
            counted(search.processes, "process"),
            counted(search.execs, "exec")
        ),
        Answer::Ran => writeln!(
            text,
            "it ran: {} {conditions} on {host}\n{range}",
            counted(search.found_count, "process")
        ),
        Answer::Unknown => {
            writeln!(text, "cannot tell whether a process {conditions} ran on {host}\n{range}")
        }
    };
    for found in &search.found {
        let at = found.real_ns.map_or_else(|| "unknown time".into(), local_time);
        let line = format!("{at}  {}  {}", found.life.pid, found.command());
        let _ = writeln!(text, "\n{}", terminal::cut(&line, screen));
        for ancestor in found.life.ancestors() {
            let line = format!("  started by {}  {}", ancestor.pid, command_of(ancestor));
            let _ = writeln!(text, "{}", terminal::cut(&line, screen));
        }
    }
    let hidden = search.found_count.saturating_sub(search.found.len() as u64);
    if hidden > 0 {
        let _ = writeln!(text, "\nand {} more", counted(hidden, "process"));
    }
    if !reasons.is_empty() && answer == Answer::Ran {
        text.push_str("\nThere may be more:\n");
    }
    for reason in reasons {
        let _ = writeln!(text, "- {reason}");
    }
    text
}

fn command_of(ancestor: &Ancestor) -> String {
    command_line(ancestor.program.get(), ancestor.comm())
}

impl FoundProcess {
    fn command(&self) -> String {
        command_line(self.program.get(), self.life.comm())
    }
}

fn json(
    args: &ProveArgs,
    captures: &Captures,
    search: &Search,
    answer: Answer,
    reasons: &[String],
    host: &str,
) -> Result<String, Failure> {
    let answer = match answer {
        Answer::Proven => "proven",
        Answer::Ran => "ran",
        Answer::Unknown => "unknown",
    };
    let found: Vec<Value> = search
        .found
        .iter()
        .map(|found| {
            let mut fields = process_json(&found.life, &found.wall, host);
            let chain: Vec<_> = found
                .life
                .ancestors()
                .map(|of| json!({ "process_id": of.id.0, "pid": of.pid, "command": command_of(of) }))
                .collect();
            fields.insert("matched_time".into(), time(found.real_ns));
            fields.insert("matched_command".into(), found.command().into());
            fields.insert("ancestors".into(), chain.into());
            Value::Object(fields)
        })
        .collect();
    let (from, until) = search.real_span();
    let value = json!({
        "kind": "proof",
        "statement": "never",
        "answer": answer,
        "host": host,
        "conditions": conditions(args),
        "from": time(from),
        "until": time(until),
        "processes": search.processes,
        "execs": search.execs,
        "found": found,
        "found_count": search.found_count,
        "reasons": reasons,
        "files": digests(captures)?,
    });
    Ok(json_line(&value) + "\n")
}
