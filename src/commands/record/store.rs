//! Records process events to a store of segments.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pmon_core::capture::Header;
use pmon_record::handover::{Descriptors, Program};
use pmon_record::{Recording, Signals};
use pmon_store::clip::{ClipConfig, ClipService, read_clock};
use pmon_store::{
    Directory, LockedStore, MemoryFilesystem, OpenStoreError, ProcessModel, Recovered, StoreHandle,
    StoreWriter, Triggers,
};

use super::handover::{self, KeptDescriptors, Service, StartedSubscription};
use super::listener::ControlListener;
use super::reload::store_options;
use super::service::{RecorderFacts, ServiceState, StoreService};
use super::summary::StoreSummary;
use crate::child::CommandProcess;
use crate::config::RecordConfig;
use crate::control::{self, ProgressDisplay, RecordingControl, WaitEnd};
use crate::exit::{self, Failure, OrFail as _};
use crate::input::shown;
use crate::output::{harmless, shell_word};
use crate::report::summary::print_json;
use crate::terminal::{self, counted, size};
use crate::time_spec::{brief, local_time};

/// Mode of a store's directory that pmon creates: command lines may contain secrets.
const DIRECTORY_MODE: u32 = 0o700;

/// Records until a signal, the deadline or the end of the command.
pub(super) fn run(directory: &Path, config: RecordConfig, line: &[OsString]) -> Result<u8, Failure> {
    let mut kept = Descriptors::received();
    let program =
        Program::current().or_fail(exit::ENVIRONMENT, "cannot find the program in /proc; mount /proc")?;
    create_directory(directory)?;
    let mut recorder = StoreRecorder { directory, line, config, signals: None, upgrade_error: None };
    loop {
        match recorder.record(kept)? {
            RecorderEnd::Done(code) => return Ok(code),
            RecorderEnd::HandOver(handover) => {
                let (descriptors, mut signals) = *handover;
                // All threads have ended, and every file is complete.
                let Err(error) = program.exec(&descriptors, &mut signals) else { return Ok(exit::DONE) };
                recorder.signals = Some(signals);
                terminal::eprintln(format_args!(
                    "pmon: cannot run {}: {error}; this program goes on",
                    shown(program.path())
                ));
                recorder.upgrade_error = Some(format!("cannot run {}: {error}", shown(program.path())));
                kept = Some(Ok(descriptors));
            }
        }
        // Options that needed a restart are in force from now on. The upgrade has checked them.
        if let Ok(config) = RecordConfig::read(line) {
            recorder.config = config;
        }
    }
}

/// Records to a store.
struct StoreRecorder<'a> {
    directory: &'a Path,
    line: &'a [OsString],
    config: RecordConfig,
    /// The handled signals, if this program was to be replaced and was not.
    signals: Option<Signals>,
    /// Why this program was not replaced by another one.
    upgrade_error: Option<String>,
}

/// Why [`StoreRecorder::record`] has returned.
enum RecorderEnd {
    /// The recording has ended; this is the exit code.
    Done(u8),
    /// Another program shall continue with these descriptors and receive the signals.
    HandOver(Box<(Descriptors, Signals)>),
}

impl StoreRecorder<'_> {
    /// Records until a signal, the deadline, the end of the command, or a request to hand over.
    fn record(&mut self, kept: KeptDescriptors) -> Result<RecorderEnd, Failure> {
        let Self { directory, line, config, signals, .. } = self;
        let (directory, args) = (*directory, &config.args);
        let options = super::options(args)?;
        let mut signals = signals
            .take()
            .map_or_else(Signals::for_service, Ok)
            .or_fail(exit::ENVIRONMENT, "cannot handle signals; check the limit on open files (ulimit -n)")?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let store = LockedStore::open(Arc::new(Directory::new(directory)), &host)?;
        report_recovered(store.recovered(), directory);
        // A flight recorder holds the lock of the directory as well, for its clips.
        let (store, _lock) = match args.store.flight {
            None => (store, None),
            Some(_) => {
                let memory = Arc::new(MemoryFilesystem::new(args.store.flight_memory));
                (LockedStore::open(memory, &host)?, Some(store))
            }
        };

        let started = handover::subscribe(kept, &options, directory, store.recovered(), &args.command)?;
        let StartedSubscription { subscription, header, positions, descriptors } = started;
        control::report_added_listeners(subscription.added_listeners());
        let mut model = ProcessModel::new(header.byte_order, header.meta.ticks_per_second, header.meta.start);
        if positions.is_some()
            && let Err(error) = store.apply_last_segment(&mut model)
        {
            terminal::eprintln(format_args!(
                "pmon: cannot read the last segment: {error}; its processes are unknown"
            ));
        }
        let (mut writer, handle) =
            StoreWriter::begin(store, header.clone(), store_options(&args.store), model, Instant::now())?;
        let wake = signals.wake();
        let (observer, triggers, fired) =
            Triggers::new(config.triggers().to_vec(), header.meta.recorder(), move || wake.wake());
        writer.set_observer(Box::new(observer));
        handover::write_recorder(directory, descriptors.as_ref());
        let began = Instant::now();
        let recording = match &positions {
            Some(positions) => Recording::resume(subscription, writer, &options, positions),
            None => Recording::start(subscription, writer, &options),
        };
        let recording = recording.map_err(control::failure)?;
        let mut child = match CommandProcess::start(&args.command) {
            Ok(child) => child,
            Err(failure) => {
                recording.stopper().stop();
                recording.join().map_err(control::failure)?;
                return Err(failure);
            }
        };
        let clips = clip_service(directory, &handle, &header, args.store.flight.is_some());
        let listener = ControlListener::start(directory, signals.wake());
        let (shown_store, transport) = (shown(directory), &header.meta.transport);
        let how = match (args.store.flight, &positions) {
            (Some(length), _) => {
                format!("keeping the last {} in memory for clips in", brief(length.as_nanos() as u64))
            }
            (None, Some(_)) => "continuing the recording to".to_owned(),
            (None, None) => "recording to".to_owned(),
        };
        let next = match args.store.flight {
            Some(_) => "write a clip with `pmon snapshot --store",
            None => "read it with `pmon print",
        };
        if !args.quiet && !args.json {
            let word = shell_word(directory.as_os_str().as_encoded_bytes());
            terminal::eprintln(format_args!("pmon: {how} {shown_store} by {transport}; {next} {word}`"));
        }
        let manager = Service::started(descriptors.as_ref(), &format!("{how} {shown_store} by {transport}"));

        let deadline = args.duration.and_then(|duration| began.checked_add(duration));
        let upgrade = match () {
            () if !args.command.is_empty() || args.duration.is_some() => {
                Err("a recorder with --for or a command cannot be replaced".to_owned())
            }
            () if args.store.flight.is_some() => {
                Err("the past of a flight recorder is in its memory; restart it instead".to_owned())
            }
            () if descriptors.is_none() => {
                Err("the recording of a part of the events cannot be continued; restart the recorder".into())
            }
            () => Ok(()),
        };
        let (quiet, json, strict) = (args.quiet, args.json, args.strict);
        let is_flight = args.store.flight.is_some();
        let output_is_used = !args.command.is_empty();
        let mut service = StoreService {
            facts: facts(&header, directory, is_flight),
            upgrade,
            line,
            config,
            handle: handle.clone(),
            clips: clips.as_ref().map(ClipService::handle),
            triggers,
            fired,
            listener,
            state: ServiceState::after(self.upgrade_error.take()),
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
        let ended = control.wait(&recording)?;
        let stopper = recording.stopper();
        // A service manager that keeps the descriptors restarts the recorder, or closes them.
        let is_kept = manager.is_there() && descriptors.is_some();
        match ended {
            WaitEnd::HandOver => stopper.detach(),
            WaitEnd::Terminate if is_kept => {
                manager.notify("STOPPING=1");
                stopper.detach();
            }
            WaitEnd::Terminate | WaitEnd::Stop => {
                manager.notify("STOPPING=1");
                manager.forget();
                stopper.stop();
            }
        }
        let joined = control.join(recording);
        // The clips that are still requested contain what was recorded. The store is locked until
        // they are complete.
        clips.into_iter().for_each(ClipService::finish);
        service.finish_clips(&|message| terminal::eprintln(format_args!("pmon: {message}")));
        drop(service);
        let joined = joined.map(|(writer, _)| drop(writer));
        if let (WaitEnd::HandOver, Some(descriptors)) = (ended, descriptors)
            && !signals.is_ending()
        {
            // The next recorder counts what could not be written.
            if let Err(failure) = joined {
                terminal::eprintln(format_args!("pmon: {}", failure.message()));
            }
            return Ok(RecorderEnd::HandOver(Box::new((descriptors, signals))));
        }
        let counters = stopper.counters();
        let result = joined.and_then(|()| {
            let summary =
                StoreSummary::new(directory, is_flight, &counters, handle.status(), began.elapsed());
            if json {
                print_json(summary.json(), output_is_used)?;
            } else if !quiet {
                terminal::eprintln(summary.text().trim_end());
            }
            Ok(if strict { summary.exit_code() } else { exit::DONE })
        });
        super::wait_for_command(result, child, &mut signals).map(RecorderEnd::Done)
    }
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
            "pmon: kept {}: its header is unreadable, but `pmon print` can read its records",
            shown(&directory.join(name))
        ));
    }
    for (name, why) in &recovered.failed {
        terminal::eprintln(format_args!(
            "pmon: cannot recover {}: {}; it stays as it is",
            shown(&directory.join(name)),
            harmless(why)
        ));
    }
}

/// Starts the thread that makes clips. A recorder without it still records.
fn clip_service(
    directory: &Path,
    handle: &StoreHandle,
    header: &Header,
    is_flight: bool,
) -> Option<ClipService> {
    let config = ClipConfig {
        store: Arc::new(handle.clone()),
        output: if is_flight { Arc::new(Directory::new(directory)) } else { handle.filesystem() },
        host: header.meta.host.clone(),
        tool: header.meta.tool.clone(),
        clock: read_clock,
    };
    let failed = |error| {
        terminal::eprintln(format_args!(
            "pmon: cannot make clips: {error}; the recording goes on without them"
        ));
    };
    ClipService::start(config).map_err(failed).ok()
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
