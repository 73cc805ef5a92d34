//! Continues the recording of an earlier recorder of the store, and passes the recording on to the
//! next one.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pmon_core::capture::{Header, Positions, SegmentInfo, SegmentReason};
use pmon_record::handover::{Descriptors, HandoverError, ServiceManager};
use pmon_record::{RecordOptions, Subscription};
use pmon_store::{LastSegment, RECORDER_NAME, Recovered};

use crate::exit::Failure;
use crate::terminal;

/// Descriptors of an earlier recorder, if this process received any.
pub(super) type KeptDescriptors = Option<Result<Descriptors, HandoverError>>;

/// A subscription, and where its recording begins.
pub(super) struct StartedSubscription {
    pub(super) subscription: Subscription,
    pub(super) header: Header,
    /// Where the last segment of the store ends, if the recording continues it.
    pub(super) positions: Option<Positions>,
    /// The descriptors for the next recorder; `None` if they cannot be kept.
    pub(super) descriptors: Option<Descriptors>,
}

/// Continues with kept descriptors if they are those of the recorder of the store's last segment.
/// Otherwise reports why not, and subscribes. A flight recorder neither continues nor keeps them:
/// no segment says where its recording ends.
pub(super) fn subscribe(
    kept: KeptDescriptors,
    options: &RecordOptions,
    directory: &Path,
    recovered: &Recovered,
    is_flight: bool,
    command: &[OsString],
) -> Result<StartedSubscription, Failure> {
    let file = directory.join(RECORDER_NAME);
    let adopt = |kept: Result<Descriptors, HandoverError>| match kept {
        Ok(kept) if is_flight => {
            kept.discard();
            Err("cannot continue the recording with kept descriptors: \
                 a flight recorder begins with an empty memory"
                .into())
        }
        kept => adopt(kept, options, &file, recovered.last.as_ref()),
    };
    let adopted = kept.and_then(|kept| match adopt(kept) {
        Ok(adopted) => Some(adopted),
        Err(why) => {
            terminal::eprintln(format_args!("pmon: {why}; the time until now is unobserved"));
            None
        }
    });
    let (mut subscription, last) = match adopted {
        Some((subscription, last)) => (subscription, Some(last)),
        None => (Subscription::open(options)?, None),
    };
    let mut header = subscription.header(command);
    if let Some(last) = last {
        header.meta.previous = Some(last.header.uuid);
        let positions = last.positions.cpus.clone();
        header.meta.segment = Some(SegmentInfo { reason: SegmentReason::Restart, positions });
    }
    let can_continue = options.scope.is_all() && !is_flight;
    let descriptors = if can_continue { subscription.descriptors(options).ok() } else { None };
    if last.is_none() {
        // Until the first segment exists, the last one is not of this subscription.
        let _ = fs::remove_file(&file);
    }
    Ok(StartedSubscription {
        subscription,
        header,
        positions: last.map(|last| last.positions.clone()),
        descriptors,
    })
}

fn adopt<'a>(
    kept: Result<Descriptors, HandoverError>,
    options: &RecordOptions,
    file: &Path,
    last: Option<&'a LastSegment>,
) -> Result<(Subscription, &'a LastSegment), String> {
    let kept = kept.map_err(|error| error.to_string())?;
    let is_last = fs::read_to_string(file).is_ok_and(|text| text.trim_end() == kept.socket_id());
    let Some(last) = last.filter(|_| is_last) else {
        kept.discard();
        return Err("cannot continue the recording with kept descriptors: \
                    the last segment of the store is not of their recorder"
            .into());
    };
    if !last.has_all_cpus {
        kept.discard();
        return Err("cannot continue the recording with kept descriptors: \
                    their recorder was killed before its first fence was written"
            .into());
    }
    let subscription = Subscription::adopt(options, kept).map_err(|error| error.to_string())?;
    Ok((subscription, last))
}

/// Records which socket the segments from now on belong to, so that kept descriptors of another
/// recorder are not taken for those of this one.
///
/// Call this function once the store has a segment of this recorder. If it ends before, the next
/// recorder does not continue.
pub(super) fn write_recorder(directory: &Path, descriptors: Option<&Descriptors>) {
    let file = &directory.join(RECORDER_NAME);
    let temporary = file.with_extension("new");
    let write = |id: &str| {
        let _ = fs::remove_file(&temporary);
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        writeln!(new, "{id}")?;
        fs::rename(&temporary, file)
    };
    let written = descriptors.map(|descriptors| write(descriptors.socket_id()));
    if !matches!(written, Some(Ok(()))) {
        // Without the file, the next recorder does not continue.
        let _ = fs::remove_file(&temporary);
        let _ = fs::remove_file(file);
    }
}

/// The service manager, if it receives messages.
pub(super) struct Service(Option<ServiceManager>);

impl Service {
    /// Makes the service manager keep the descriptors, and reports that the recording has begun.
    pub(super) fn started(descriptors: Option<&Descriptors>, status: &str) -> Self {
        let started = || -> io::Result<Option<ServiceManager>> {
            let Some(manager) = ServiceManager::from_environment()? else { return Ok(None) };
            match descriptors {
                Some(descriptors) => manager.keep(descriptors)?,
                None => manager.forget()?,
            }
            manager.notify(&format!("READY=1\nSTATUS={status}"))?;
            Ok(Some(manager))
        };
        Self(started().unwrap_or_else(|error| {
            terminal::eprintln(format_args!("pmon: cannot notify the service manager: {error}"));
            None
        }))
    }

    /// Whether a service manager keeps the descriptors.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Reports a state, such as `STOPPING=1`.
    pub(super) fn notify(&self, state: &str) {
        if let Some(manager) = &self.0 {
            // A service manager that has gone needs no message.
            let _ = manager.notify(state);
        }
    }

    /// Makes the service manager close the descriptors.
    pub(super) fn forget(&self) {
        if let Some(manager) = &self.0 {
            let _ = manager.forget();
        }
    }
}
