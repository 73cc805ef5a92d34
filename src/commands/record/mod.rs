//! `pmon record`: records process events to a file, or to a store.

mod directory;
mod file;
mod handover;
mod listener;
mod reload;
mod service;
mod store;
mod summary;
mod trial;

pub(super) use reload::text as reload_text;

use std::ffi::OsString;

use pmon_core::capture::{Meta, SignalTracing};
use pmon_record::{RING_DETAILS, RecordOptions, Scope, Signals, TreeScope};

use crate::args::RecordArgs;
use crate::child::CommandProcess;
use crate::config::RecordConfig;
use crate::control;
use crate::exit::{self, Failure};

/// Runs the verb with its complete command line.
pub(crate) fn run(line: &[OsString]) -> Result<u8, Failure> {
    let config = RecordConfig::read(line)?;
    match &config.args.store.store {
        Some(directory) => store::run(&directory.clone(), config, line),
        None => file::run(&config.args),
    }
}

pub(super) fn options(args: &RecordArgs) -> Result<RecordOptions, Failure> {
    Ok(RecordOptions {
        transport: args.transport,
        ring: args.ring,
        scope: scope(args)?,
        latency: args.latency,
        args_max: if args.no_args { 0 } else { args.args_max },
        redact: args.redact.clone(),
        buffer: args.buffer,
        socket_buffer: args.socket_buffer.max(args.require_buffer.unwrap_or(0)),
        require_buffer: args.require_buffer.unwrap_or(0),
        heartbeat: args.heartbeat,
        containers: Some(args.container_root.clone()).filter(|root| root.as_os_str() != "none"),
        ..RecordOptions::default()
    })
}

/// Returns the events to record.
fn scope(args: &RecordArgs) -> Result<Scope, Failure> {
    let wrong = |why: String| Err(Failure::new(exit::USAGE, why));
    let tree = match args.tree {
        Some(0) if args.command.is_empty() => {
            return wrong("--tree needs a process id, or a command after `--`".into());
        }
        Some(0) => Some(TreeScope::Children),
        pid => pid.map(TreeScope::Process),
    };
    Ok(Scope { kinds: args.only.clone(), uids: args.uid.clone(), cgroup: args.cgroup.clone(), tree })
}

/// Describes how events are received, and whether the senders of signals are.
fn reception(meta: &Meta) -> String {
    let transport = &meta.transport;
    match &meta.signals {
        SignalTracing::On => format!("{transport}, with the senders of signals"),
        SignalTracing::Off { why } if transport.name == RING_DETAILS => {
            format!("{transport}, without the senders of signals: {why}")
        }
        // The transport explains it.
        _ => transport.to_string(),
    }
}

/// Waits for the command of a recording that has ended, and returns the exit code of both.
fn wait_for_command(
    result: Result<u8, Failure>,
    child: Option<CommandProcess>,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    match (result, child) {
        (result, None) => result,
        (Ok(code), Some(mut child)) => Ok(match control::wait_for(&mut child, signals)? {
            exit::DONE => code,
            failed => failed,
        }),
        (Err(failure), Some(mut child)) => {
            // The failure is reported at once, although the command still runs.
            failure.print();
            control::wait_for(&mut child, signals)?;
            Ok(failure.code)
        }
    }
}
