//! Records process events to a store of segments.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use pmon_analysis::process::ProcessModel;
use pmon_core::capture::Header;
use pmon_record::handover::{Descriptors, Program};
use pmon_record::{Recording, Signals, Stopper};
use pmon_store::clip::{ClipConfig, ClipService, read_clock};
use pmon_store::{
    Directory, LockedStore, MemoryFilesystem, StoreHandle, StoreMachine, StoreWriter, TriggerFired, Triggers,
    TriggersHandle,
};

use super::directory;
use super::handover::{self, KeptDescriptors, Service, StartedSubscription};
use super::listener::ControlListener;
use super::reception;
use super::reload::store_options;
use super::service::{RecorderFacts, ServiceState, StoreService};
use super::summary::StoreSummary;
use crate::args::RecordArgs;
use crate::child::CommandProcess;
use crate::config::RecordConfig;
use crate::control::{self, ProgressDisplay, RecordingControl, WaitEnd};
use crate::exit::{self, Failure, OrFail as _};
use crate::input::shown;
use crate::output::{harmless, shell_word};
use crate::report::summary::print_json;
use crate::terminal::{self, counted, size};
use crate::time_spec::brief;

/// Records until a signal, the deadline or the end of the command.
pub(super) fn run(directory: &Path, config: RecordConfig, line: &[OsString]) -> Result<u8, Failure> {
    let mut kept = Descriptors::received();
    let program =
        Program::current().or_fail(exit::ENVIRONMENT, "cannot find the program in /proc; mount /proc")?;
    directory::create(directory)?;
    let mut recorder = StoreRecorder {
        directory,
        line,
        program: program.path(),
        config,
        signals: None,
        upgrade_error: None,
    };
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
    /// The file of the program that replaces this one on request.
    program: &'a Path,
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
        let mut signals = self
            .signals
            .take()
            .map_or_else(Signals::for_service, Ok)
            .or_fail(exit::ENVIRONMENT, "cannot handle signals; check the limit on open files (ulimit -n)")?;
        let started = self.start(kept, &signals)?;
        let Self { directory, config, .. } = self;
        let (directory, args) = (*directory, &config.args);
        let mut child = match CommandProcess::start(&args.command) {
            Ok(child) => child,
            Err(failure) => {
                started.recording.stopper().stop();
                started.recording.join().map_err(control::failure)?;
                return Err(failure);
            }
        };
        let StartedRecording { recording, handle, header, descriptors, began, .. } = started;
        let is_flight = args.store.flight.is_some();
        let clips = clip_service(directory, &handle, &header, is_flight);
        let listener = ControlListener::start(directory, signals.wake());
        let activity = activity(args, started.is_continued);
        let status = format!("{activity} {} by {}", shown(directory), reception(&header.meta));
        if !args.quiet && !args.json {
            let next = next_command(args, directory);
            terminal::eprintln(format_args!("pmon: {status}; {next}"));
        }
        let manager = Service::started(descriptors.as_ref(), &status);

        let deadline = args.duration.and_then(|duration| began.checked_add(duration));
        let (quiet, json, strict) = (args.quiet, args.json, args.strict);
        let output_is_used = !args.command.is_empty();
        let mut service = StoreService {
            facts: facts(&header, directory, is_flight),
            upgrade: check_upgrade(args, descriptors.as_ref()),
            line: self.line,
            program: self.program,
            config,
            handle: handle.clone(),
            clips: clips.as_ref().map(ClipService::handle),
            triggers: started.triggers,
            fired: started.fired,
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
        stop(ended, &stopper, &manager, descriptors.is_some());
        let joined = control.join(recording);
        let print = |message| terminal::eprintln(format_args!("pmon: {message}"));
        // Triggers have fired by the last events as well.
        service.request_clips_of_triggers(&print);
        // The clips that are still requested contain what was recorded. The store is locked until
        // they are complete.
        clips.into_iter().for_each(ClipService::finish);
        service.finish_clips(&print);
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

    /// Opens the store, subscribes to the events, and starts the threads that record.
    fn start(&self, kept: KeptDescriptors, signals: &Signals) -> Result<StartedRecording, Failure> {
        let (directory, args) = (self.directory, &self.config.args);
        let options = super::options(args)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let store = directory::open(directory, &host)?;
        let (store, lock) = match args.store.flight {
            None => (store, None),
            Some(_) => {
                let memory = Arc::new(MemoryFilesystem::new(args.store.flight_memory));
                (LockedStore::open(memory, &host)?, Some(store))
            }
        };
        let is_flight = args.store.flight.is_some();
        let store_options = store_options(&args.store);
        store.check_room(&StoreMachine::local(), &store_options)?;
        let recovered = store.recovered();
        let started = handover::subscribe(kept, &options, directory, recovered, is_flight, &args.command)?;
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
            StoreWriter::begin(store, header.clone(), store_options, model, Instant::now())?;
        let wake = signals.wake();
        let (observer, triggers, fired) =
            Triggers::new(self.config.triggers().to_vec(), header.meta.recorder(), move || wake.wake());
        writer.set_observer(Box::new(observer));
        handover::write_recorder(directory, descriptors.as_ref());
        let began = Instant::now();
        let recording = match &positions {
            Some(positions) => Recording::resume(subscription, writer, &options, positions),
            None => Recording::start(subscription, writer, &options),
        };
        Ok(StartedRecording {
            recording: recording.map_err(control::failure)?,
            handle,
            header,
            is_continued: positions.is_some(),
            descriptors,
            triggers,
            fired,
            began,
            _lock: lock,
        })
    }
}

/// A recording to a store whose threads run.
struct StartedRecording {
    recording: Recording<StoreWriter>,
    handle: StoreHandle,
    header: Header,
    /// Whether it continues the recording of an earlier recorder.
    is_continued: bool,
    /// The descriptors for the next recorder; `None` if they cannot be kept.
    descriptors: Option<Descriptors>,
    triggers: TriggersHandle,
    /// Clips that triggers request.
    fired: Receiver<TriggerFired>,
    began: Instant,
    /// The directory of a flight recorder, which is locked because it writes clips there.
    _lock: Option<LockedStore>,
}

/// Stops the recording. If another recorder can continue it, the descriptors stay open.
fn stop(ended: WaitEnd, stopper: &Stopper, manager: &Service, has_descriptors: bool) {
    match ended {
        WaitEnd::HandOver => stopper.detach(),
        // A service manager that keeps the descriptors restarts the recorder, or closes them.
        WaitEnd::Terminate if has_descriptors && manager.is_there() => {
            manager.notify("STOPPING=1");
            stopper.detach();
        }
        WaitEnd::Terminate | WaitEnd::Stop => {
            manager.notify("STOPPING=1");
            manager.forget();
            stopper.stop();
        }
    }
}

/// Describes what the recorder does. `is_continued` states whether it continues an earlier one.
fn activity(args: &RecordArgs, is_continued: bool) -> String {
    match args.store.flight {
        Some(length) => {
            format!("keeping the last {} in memory for clips in", brief(length.as_nanos() as u64))
        }
        None if is_continued => "continuing the recording to".into(),
        None => "recording to".into(),
    }
}

/// Returns the command that gives access to the recording.
fn next_command(args: &RecordArgs, directory: &Path) -> String {
    let word = shell_word(directory.as_os_str().as_encoded_bytes());
    match args.store.flight {
        Some(_) => format!("write a clip with `pmon snapshot --store {word}`"),
        None => format!("read it with `pmon print {word}`"),
    }
}

/// Returns why the recorder cannot be replaced by another program, if it cannot.
fn check_upgrade(args: &RecordArgs, descriptors: Option<&Descriptors>) -> Result<(), String> {
    if !args.command.is_empty() || args.duration.is_some() {
        Err("a recorder with --for or a command cannot be replaced".into())
    } else if args.store.flight.is_some() {
        Err("the past of a flight recorder is in its memory; restart it instead".into())
    } else if descriptors.is_none() {
        Err("the recording of a part of the events cannot be continued; restart the recorder".into())
    } else {
        Ok(())
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
    };
    let failed = |error| {
        terminal::eprintln(format_args!(
            "pmon: cannot make clips: {error}; the recording goes on without them"
        ));
    };
    ClipService::start(config, read_clock).map_err(failed).ok()
}

fn facts(header: &Header, directory: &Path, is_flight: bool) -> RecorderFacts {
    RecorderFacts {
        tool: header.meta.tool.clone(),
        started_ns: header.meta.start.real_ns,
        store: directory.canonicalize().unwrap_or_else(|_| directory.to_owned()),
        is_flight,
        transport: harmless(&reception(&header.meta)),
    }
}

/// Describes the store for the status line.
fn describe(handle: &StoreHandle) -> String {
    let status = handle.status();
    format!("{} in {}", size(status.used), counted(status.segments as u64, "segment"))
}
