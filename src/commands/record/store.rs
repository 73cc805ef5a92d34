//! Records process events to a store of segments.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pmon_core::capture::Header;
use pmon_record::{Counters, Recording, Signals, Subscription};
use pmon_store::control::{ControlServer, ControlSocket, IncomingRequest};
use pmon_store::{Directory, LockedStore, OpenStoreError, ProcessModel, Recovered, StoreHandle, StoreWriter};

use super::reload::store_options;
use super::service::{RecorderFacts, ServiceState, StoreService};
use super::summary::StoreSummary;
use crate::child::CommandProcess;
use crate::config::RecordConfig;
use crate::control::{self, ProgressDisplay, RecordingControl};
use crate::exit::{self, Failure, OrFail as _};
use crate::input::shown;
use crate::output::harmless;
use crate::terminal::{self, counted, size};
use crate::time_spec::local_time;

/// Mode of a store's directory that pmon creates: command lines may contain secrets.
const DIRECTORY_MODE: u32 = 0o700;

/// Records until a signal, the deadline, the end of the command or a request.
pub(super) fn run(directory: &Path, config: RecordConfig, line: &[OsString]) -> Result<u8, Failure> {
    let args = &config.args;
    let (quiet, strict) = (args.quiet, args.strict);
    let command = args.command.clone();
    let options = super::options(args)?;
    let mut signals = Signals::for_service()
        .or_fail(exit::ENVIRONMENT, "cannot handle signals; check the limit on open files (ulimit -n)")?;
    create_directory(directory)?;
    let store = LockedStore::open(Arc::new(Directory::new(directory)))?;
    let is_talkative = !quiet && !args.json;
    report_recovered(store.recovered(), directory);

    let subscription = Subscription::open(&options)?;
    let header = subscription.header(&command);
    let model = ProcessModel::new(header.byte_order, header.meta.ticks_per_second, header.meta.start);
    let (writer, handle) = StoreWriter::begin(store, header.clone(), store_options(&args.store), model);
    control::report_added_listeners(subscription.added_listeners());
    let began = Instant::now();
    let recording = Recording::start(subscription, writer, &options).map_err(control::failure)?;
    let mut child = match CommandProcess::start(&command) {
        Ok(child) => child,
        Err(failure) => {
            recording.stopper().stop();
            recording.join().map_err(control::failure)?;
            return Err(failure);
        }
    };
    let (server, incoming) = match control_server(directory, &signals) {
        Ok((server, incoming)) => (Some(server), Some(incoming)),
        Err(error) => {
            terminal::eprintln(format_args!(
                "pmon: cannot listen for `pmon snapshot` and `pmon control`: {error}; the recording goes on without it"
            ));
            (None, None)
        }
    };
    if is_talkative {
        let transport = &header.meta.transport;
        terminal::eprintln(format_args!(
            "pmon: recording to {} by {transport}; read it with `pmon print {}`",
            shown(directory),
            shown(directory)
        ));
    }

    let deadline = args.duration.and_then(|duration| began.checked_add(duration));
    let json = args.json;
    let mut service = StoreService {
        facts: facts(&header, directory, args.store.flight.is_some()),
        line,
        config,
        handle: handle.clone(),
        clips: None,
        incoming,
        state: ServiceState::default(),
    };
    let output = || describe(&handle);
    let mut control = RecordingControl {
        signals: &mut signals,
        deadline,
        display: ProgressDisplay::new(!quiet && child.is_none(), Some(&output)),
        child: child.as_mut(),
        is_shown: false,
        service: Some(&mut service),
    };
    let result = control.wait(&recording).and_then(|_end| {
        let counters = recording.counters();
        control.stop(recording).map(|_| counters)
    });
    drop(server);
    let result = result.and_then(|counters: Counters| {
        let summary = StoreSummary::new(directory, &counters, handle.status(), began.elapsed());
        if json {
            crate::report::summary::print_json(summary.json(), !command.is_empty())?;
        } else if !quiet {
            terminal::eprintln(summary.text().trim_end());
        }
        Ok(if strict { summary.exit_code() } else { exit::DONE })
    });
    super::wait_for_command(result, child, &mut signals)
}

/// Creates the store's directory if it does not exist.
fn create_directory(directory: &Path) -> Result<(), Failure> {
    let created = DirBuilder::new().mode(DIRECTORY_MODE).create(directory);
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Err(Failure::new(
            exit::STORAGE,
            format_args!("cannot {what} the store {}: {error}", shown(directory)),
        ))
    };
    match (created, fs::metadata(directory)) {
        (_, Ok(meta)) if meta.is_dir() => Ok(()),
        (_, Ok(_)) => failed("use", &"it is not a directory; name another one"),
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
            failed("create", &format_args!("{error}; create its parent directory first"))
        }
        (Err(error), _) | (Ok(()), Err(error)) => failed("create", &error),
    }
}

impl From<OpenStoreError> for Failure {
    fn from(error: OpenStoreError) -> Self {
        let remedy = match &error {
            OpenStoreError::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => "; run as its owner, or name another directory",
                io::ErrorKind::ReadOnlyFilesystem => {
                    "; mount the filesystem for writing, or name another directory"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
                _ => "",
            },
            _ => "",
        };
        Self::new(exit::STORAGE, format_args!("{error}{remedy}"))
    }
}

/// Reports that the previous recorder did not end cleanly.
fn report_recovered(recovered: &Recovered, directory: &Path) {
    for name in &recovered.salvaged {
        let end = recovered.last.as_ref().filter(|last| &last.name == name).map(|last| {
            let start = last.header.meta.start;
            let mono = last.positions.cpus.iter().map(|cpu| cpu.time.0).max().unwrap_or(start.mono.0);
            let passed = mono.saturating_sub(start.mono.0);
            format!(" at {}", local_time(start.real_ns.saturating_add(passed as i64)))
        });
        terminal::eprintln(format_args!(
            "pmon: recovered {}: its recorder did not end cleanly; the segment ends{}",
            shown(&directory.join(name)),
            end.unwrap_or_else(|| " early".into())
        ));
    }
    for name in &recovered.set_aside {
        terminal::eprintln(format_args!(
            "pmon: kept {} aside: it contains no readable record",
            shown(&directory.join(name))
        ));
    }
}

/// Starts the control socket.
fn control_server(
    directory: &Path,
    signals: &Signals,
) -> io::Result<(ControlServer, std::sync::mpsc::Receiver<IncomingRequest>)> {
    let wake = signals.wake();
    ControlServer::start(ControlSocket::bind(directory)?, move || wake.wake())
}

fn facts(header: &Header, directory: &Path, is_flight: bool) -> RecorderFacts {
    RecorderFacts {
        tool: header.meta.tool.clone(),
        started_ns: header.meta.start.real_ns,
        store: directory.canonicalize().unwrap_or_else(|_| directory.to_owned()),
        is_flight,
        transport: harmless(&header.meta.transport.to_string()),
    }
}

/// Describes the store for the status line.
fn describe(handle: &StoreHandle) -> String {
    let status = handle.status();
    format!("{} in {}", size(status.used), counted(status.segments as u64, "segment"))
}
