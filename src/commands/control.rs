//! `pmon control`: controls the recorder of a store.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pmon_store::control::{
    ControlClient, ControlError, ErrorCode, Limits, Reply, Request, Status, TriggerStatus,
};

use crate::args::{ControlArgs, ControlRequestArg};
use crate::exit::{self, Failure};
use crate::output::harmless;
use crate::report::text_table::TextTable;
use crate::terminal::{self, counted, grouped, size};
use crate::time_spec::{brief, local_time};

/// Time in which a recorder replies.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a recorder replaces itself.
const UPGRADE_TIME: Duration = Duration::from_secs(30);
/// Time in which a service manager restarts a recorder that has ended.
const RESTART_TIME: Duration = Duration::from_secs(1);
/// Time between two looks at a recorder that replaces itself.
const UPGRADE_POLL: Duration = Duration::from_millis(100);

/// Runs the verb.
pub(crate) fn run(args: &ControlArgs) -> Result<u8, Failure> {
    let send = |message| request(&args.store, &message, TIMEOUT, exit::INTERNAL);
    let reply = match args.request {
        ControlRequestArg::Status => send(Request::Status)?,
        ControlRequestArg::Rotate => send(Request::Rotate)?,
        ControlRequestArg::Reload => send(Request::Reload)?,
        ControlRequestArg::Upgrade => Reply::Status(Box::new(upgrade(&args.store)?)),
    };
    if args.json {
        printed_json(&reply)?;
        return Ok(exit::DONE);
    }
    let text = match &reply {
        Reply::Status(status) if args.request == ControlRequestArg::Upgrade => {
            format!("process {} runs {} now\n", status.pid, status.tool)
        }
        Reply::Status(status) => status_text(status),
        Reply::Rotate(rotate) => match &rotate.ending {
            Some(name) => format!("{name} ends\n"),
            None => "the next segment begins\n".into(),
        },
        Reply::Reload(reload) => super::record::reload_text(reload) + "\n",
        _ => return Err(unexpected(&reply)),
    };
    terminal::print(&text.lines().map(|line| harmless(line) + "\n").collect::<String>())?;
    Ok(exit::DONE)
}

/// Sends a request to the recorder of a store. If the recorder could not do it, the exit code is
/// `failed`.
pub(super) fn request(
    store: &Path,
    message: &Request,
    timeout: Duration,
    failed: u8,
) -> Result<Reply, Failure> {
    match ControlClient::connect(store)?.request(message, timeout)? {
        Reply::Error { code, message } => {
            let exit_code = match code {
                ErrorCode::BadRequest => exit::USAGE,
                ErrorCode::Forbidden | ErrorCode::Busy => exit::ENVIRONMENT,
                _ => failed,
            };
            Err(Failure::new(exit_code, format_args!("the recorder refused the request: {message}")))
        }
        reply => Ok(reply),
    }
}

/// Prints a reply as the recorder has sent it, without characters that control a terminal.
pub(super) fn printed_json(reply: &Reply) -> Result<(), Failure> {
    // JSON escapes control characters; `harmless` escapes those that change the direction of text.
    terminal::print(&(harmless(reply.to_line().trim_end()) + "\n"))
}

pub(super) fn unexpected(reply: &Reply) -> Failure {
    Failure::new(
        exit::INTERNAL,
        format_args!("the recorder sent another reply: {}", reply.to_line().trim_end()),
    )
}

/// Makes the recorder replace itself, and waits until the new program replies.
fn upgrade(store: &Path) -> Result<Status, Failure> {
    let status = || -> Result<Status, Failure> {
        match request(store, &Request::Status, TIMEOUT, exit::INTERNAL)? {
            Reply::Status(status) => Ok(*status),
            reply => Err(unexpected(&reply)),
        }
    };
    let before = status()?;
    // The process is not visible from another PID namespace.
    let is_visible = is_running(before.pid);
    request(store, &Request::Upgrade, TIMEOUT, exit::INTERNAL)?;
    let deadline = Instant::now() + UPGRADE_TIME;
    let mut ended = None;
    loop {
        thread::sleep(UPGRADE_POLL);
        match status() {
            Ok(now) if now.upgrade_error.is_some() && now.started_ns != before.started_ns => {
                let why = now.upgrade_error.unwrap_or_default();
                return Err(Failure::new(
                    exit::INTERNAL,
                    format_args!("the recorder could not be replaced, and goes on: {why}"),
                ));
            }
            Ok(now) if now.started_ns != before.started_ns => return Ok(now),
            Err(_) if is_visible && !is_running(before.pid) => {
                let since: &mut Instant = ended.get_or_insert_with(Instant::now);
                if since.elapsed() > RESTART_TIME {
                    return Err(Failure::new(
                        exit::INTERNAL,
                        format_args!(
                            "the new program has replaced the recorder (process {}) and ended; see its messages, \
                             and start the recorder again",
                            before.pid
                        ),
                    ));
                }
            }
            _ if Instant::now() < deadline => {}
            Ok(_) => {
                return Err(Failure::new(exit::INTERNAL, "the recorder has not replaced itself in 30 s"));
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether a process exists and has not ended.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn status_text(status: &Status) -> String {
    let mut table = TextTable::default();
    table.line("recorder", format!("process {}, {}", status.pid, status.tool));
    table.line("since", local_time(status.started_ns));
    table.line("transport", &status.transport);
    let mode = if status.mode == "flight" { " (in memory)" } else { "" };
    table.line("store", format!("{}{mode}", status.store));
    let segments = counted(status.segments, "segment");
    table.line("size", format!("{}, {segments}", size(status.used_bytes)));
    if let Some(oldest) = &status.oldest {
        table.line("oldest", oldest);
    }
    if let Some(current) = &status.current {
        table.line("current", format!("{current}, {}", size(status.current_bytes)));
    }
    let Limits { rotate_size_bytes, rotate_every_ns, .. } = status.limits;
    table.line("rotation", format!("at {} or {}", size(rotate_size_bytes), brief(rotate_every_ns)));
    table.line("retention", retention_text(&status.limits));
    table.line("events", grouped(status.events));
    let causes: Vec<_> = status.lost.by_cause.iter().map(|(cause, lost)| format!("{cause} {lost}")).collect();
    let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
    table.line("lost", grouped(status.lost.total) + &causes);
    if status.blind_periods > 0 {
        let now = if status.blind { ", and now" } else { "" };
        table.line("blind", counted(status.blind_periods, "period") + now);
    }
    let (fill, lag) = (status.queue_fill * 100.0, brief(status.lag_ns));
    table.line("queue", format!("{fill:.0}% full, lag {lag}"));
    for (number, trigger) in status.triggers.iter().enumerate() {
        let label = if number == 0 { "triggers" } else { "" };
        table.line(label, trigger_text(trigger));
    }
    for (label, error) in [("storage", &status.storage_error), ("upgrade", &status.upgrade_error)] {
        if let Some(error) = error {
            table.sentence(label, error);
        }
    }
    table.into_text()
}

fn trigger_text(trigger: &TriggerStatus) -> String {
    let TriggerStatus { name, fired, merged, suppressed, dropped } = trigger;
    let others = [
        (merged, "more within them"),
        (suppressed, "suppressed by the limit"),
        (dropped, "dropped because too many clips waited"),
    ];
    let others = others.iter().filter(|(count, _)| **count > 0);
    let others: String = others.map(|(count, what)| format!(", {} {what}", grouped(**count))).collect();
    format!("{name}: {}{others}", counted(*fired, "clip"))
}

fn retention_text(limits: &Limits) -> String {
    let size_limit = limits.max_use_bytes.map(|bytes| format!("at most {}", size(bytes)));
    let age_limit = limits.max_age_ns.map(|ns| format!("for {}", brief(ns)));
    let free = limits.keep_free_bytes.map(|bytes| format!("{} kept free", size(bytes)));
    let parts: Vec<_> = [size_limit, age_limit, free].into_iter().flatten().collect();
    if parts.is_empty() { "no limits".into() } else { parts.join(", ") }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::new(exit::ENVIRONMENT, error)
    }
}
