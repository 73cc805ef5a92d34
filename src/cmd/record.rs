//! `pmon record`: events into a file.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Zoned;
use pmon_core::capture::{Header, Meta};
use pmon_core::wire::Kind;
use pmon_record::{
    CaptureFile, Options, Recording, Scope, StoreError, Subscription, Target, Transport, Tree,
};

use crate::args::{self, RecordArgs};
use crate::child::Child;
use crate::control::{self, Control, Display};
use crate::exit::{self, Failure};
use crate::input::is_stdio;
use crate::summary::Summary;
use crate::tape::Tape;
use crate::term;

/// Captures of one second with names of their own.
const NAMES: u32 = 100;

/// Runs the verb.
pub(crate) fn run(args: &RecordArgs) -> Result<u8, Failure> {
    let to_stdout = args.output.as_deref().is_some_and(is_stdio);
    check_stdout(args, to_stdout)?;
    // Until a FIFO has a reader, signals end the program.
    let path = args.output.as_ref().filter(|_| !to_stdout);
    let reader = path.map(|path| Target::File(path.clone()).wait_for_reader()).transpose()?;
    let mut signals = control::signals()?;
    let options = options(args)?;
    let subscription = Subscription::open(&options)?;
    let header = subscription.header(&args.command);
    let file = create(args, to_stdout, &header)?;
    drop(reader);
    if !args.quiet && !args.json {
        term::say(format_args!("pmon: recording by {}", header.meta.transport));
    }
    let (tape, handle) = Tape::new(file, &header);
    let began = Instant::now();
    let recording = Recording::start(subscription, tape, &options).map_err(control::failure)?;
    let mut child = match Child::start(&args.command) {
        Ok(child) => child,
        Err(failure) => {
            handle.discard();
            recording.stopper().stop();
            recording.join().map_err(control::failure)?;
            return Err(failure);
        }
    };

    let bytes = || handle.bytes();
    let display = Display::new(!args.quiet && child.is_none(), Some(&bytes));
    let control = Control {
        signals: &mut signals,
        deadline: args.duration.and_then(|duration| began.checked_add(duration)),
        child: child.as_mut(),
        display,
    };
    let result = control.run(recording).and_then(|(tape, _)| {
        let command = child.as_ref().map(Child::pid);
        let finding = tape.examiner.finish(true);
        let (file, tally) = (&tape.file, &tape.tally);
        let summary = Summary { file, tally, finding: &finding, header: &header, options: &options, command };
        say(args, to_stdout, &summary)?;
        Ok(if args.strict { finding.exit_code() } else { exit::DONE })
    });
    // Whoever read a stream has gone: that is no error, but nothing complete either.
    let result = result.map_err(|failure| match failure.code {
        exit::DONE if args.strict => Failure { code: exit::INCOMPLETE, ..failure },
        _ => failure,
    });
    match (result, child) {
        (result, None) => result,
        (Ok(code), Some(mut child)) => Ok(match control::wait_for(&mut child, &mut signals)? {
            exit::DONE => code,
            failed => failed,
        }),
        (Err(failure), Some(mut child)) => {
            // The failure is said at once; the command runs on as if nobody had recorded it.
            failure.say();
            control::wait_for(&mut child, &mut signals)?;
            Ok(failure.code)
        }
    }
}

/// Says what was recorded, where it is wanted.
fn say(args: &RecordArgs, to_stdout: bool, summary: &Summary<'_>) -> Result<(), Failure> {
    if !args.json {
        if !args.quiet {
            term::say(summary.text().trim_end());
        }
        return Ok(());
    }
    let json = format!("{:#}", summary.json());
    if to_stdout || !args.command.is_empty() {
        term::say(json);
        return Ok(());
    }
    let mut out = stdout().lock();
    writeln!(out, "{json}").and_then(|()| out.flush()).map_err(Failure::output)
}

fn options(args: &RecordArgs) -> Result<Options, Failure> {
    Ok(Options {
        transport: match args.transport {
            args::Transport::Auto => Transport::Auto,
            args::Transport::RingDetails => Transport::RingDetails,
            args::Transport::Ring => Transport::Ring,
            args::Transport::Recvmmsg => Transport::Recvmmsg,
        },
        ring: args.ring,
        scope: scope(args)?,
        latency: args.latency,
        args_max: if args.no_args { 0 } else { args.args_max },
        redact: args.redact.clone(),
        buffer: args.buffer,
        socket_buffer: args.socket_buffer.max(args.require_buffer.unwrap_or(0)),
        require_buffer: args.require_buffer.unwrap_or(0),
        heartbeat: args.heartbeat,
        ..Options::default()
    })
}

/// What is to be recorded.
fn scope(args: &RecordArgs) -> Result<Scope, Failure> {
    let wrong = |why: String| Err(Failure::new(exit::USAGE, why));
    if let Some(kind) = args.only.iter().find(|kind| matches!(kind, Kind::Ack | Kind::Unknown)) {
        return wrong(format!(
            "events of kind `{kind}` cannot be chosen: each that there is, is recorded in any case"
        ));
    }
    let tree = match args.tree {
        Some(0) if args.command.is_empty() => {
            return wrong("--tree takes a process id, or a command behind `--`".into());
        }
        Some(0) => Some(Tree::Children),
        pid => pid.map(Tree::Process),
    };
    Ok(Scope { kinds: args.only.clone(), uids: args.uid.clone(), cgroup: args.cgroup.clone(), tree })
}

fn check_stdout(args: &RecordArgs, to_stdout: bool) -> Result<(), Failure> {
    if to_stdout && !args.command.is_empty() {
        return Err(Failure::new(
            exit::USAGE,
            "`-o -` does not go with a command: both would write to standard output; name a file, or a FIFO",
        ));
    }
    if to_stdout && stdout().is_terminal() {
        return Err(Failure::new(
            exit::USAGE,
            "a capture is binary, and standard output is a terminal: pipe it, as in `pmon record -o - | pmon print -`",
        ));
    }
    Ok(())
}

fn create(args: &RecordArgs, to_stdout: bool, header: &Header) -> Result<CaptureFile, Failure> {
    let at = |path: PathBuf| CaptureFile::create(&Target::File(path), header, args.force);
    Ok(match &args.output {
        Some(_) if to_stdout => CaptureFile::create(&Target::Stdout, header, args.force)?,
        Some(path) => at(path.clone())?,
        None => {
            let mut names = (1..NAMES).map(|n| default_name(&header.meta, &Zoned::now(), n));
            loop {
                match at(names.next().unwrap_or_default()) {
                    Err(
                        StoreError::Exists { .. } | StoreError::Unfinished { .. } | StoreError::Busy { .. },
                    ) if names.len() > 0 => {}
                    created => break created?,
                }
            }
        }
    })
}

/// `pmon-HOST-TIME.pmon`, with a number behind it from the second on.
fn default_name(meta: &Meta, now: &Zoned, n: u32) -> PathBuf {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let host: String = meta.host.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let number = if n == 1 { String::new() } else { format!("-{n}") };
    Path::new(&format!("pmon-{host}-{}{number}.pmon", now.strftime("%Y%m%d-%H%M%S"))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_that_a_shell_or_a_folder_would_mind() {
        let meta = Meta { host: "a/b c".into(), ..Meta::default() };
        let now = "2026-01-02T03:04:05[UTC]".parse().expect("a time");
        assert_eq!(default_name(&meta, &now, 1).to_str(), Some("pmon-a_b_c-20260102-030405.pmon"));
        assert_eq!(default_name(&meta, &now, 2).to_str(), Some("pmon-a_b_c-20260102-030405-2.pmon"));
    }
}
