//! `pmon watch`: events as they happen.

use std::io::{self, Stdout};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use pmon_core::capture::Record;
use pmon_core::wire::ByteOrder;
use pmon_record::{RecordOptions, Recording, Sink, SinkError, Subscription};

use crate::args::WatchArgs;
use crate::control::{self, ProgressDisplay, RecordingControl};
use crate::exit::{self, Failure};
use crate::selection::too_long;
use crate::terminal;
use crate::view::{Range, View};

/// What waits for details that do not come is shown after this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs the verb.
pub(crate) fn run(args: &WatchArgs) -> Result<u8, Failure> {
    let mut signals = control::signals()?;
    let out = terminal::output()?;
    // The classic format, unfiltered, shows nothing but events.
    let probe = View::new(&args.view, Range::default(), None, ByteOrder::NATIVE, false, io::sink());
    let needs_details = probe.needs_details();
    let options =
        RecordOptions { details: needs_details, snapshot: needs_details, ..RecordOptions::default() };
    let subscription = Subscription::open(&options)?;
    control::report_added_listeners(subscription.added_listeners());
    let header = subscription.header(&[]);
    let view =
        View::new(&args.view, Range::default(), Some(&header), header.byte_order, terminal::colours(), out);
    // Otherwise pmon would wait for such a process forever, without a message.
    if let Some(why) = args.view.comm.as_ref().and_then(|name| too_long(name.as_bytes())) {
        terminal::eprintln(format_args!("pmon: --comm: {why}"));
    }
    let began = Instant::now();
    let recording =
        Recording::start(subscription, ViewSink::new(view), &options).map_err(control::failure)?;
    let control = RecordingControl {
        signals: &mut signals,
        deadline: args.duration.and_then(|duration| began.checked_add(duration)),
        child: None,
        display: ProgressDisplay::new(false, None),
        is_shown: true,
    };
    let (sink, _) = control.run(recording)?;
    sink.report_unshown();
    Ok(exit::DONE)
}

/// Shows records as they come.
pub(crate) struct ViewSink {
    view: View<Stdout>,
    /// When the last record came.
    last: Instant,
}

impl ViewSink {
    /// What `view` shows.
    pub(crate) fn new(view: View<Stdout>) -> Self {
        Self { view, last: Instant::now() }
    }

    /// Says at the end what the format has no line for.
    pub(crate) fn report_unshown(&self) {
        self.view.report_unshown();
    }

    /// Explains why no event was shown, or none of a requested process.
    pub(crate) fn unmatched(&self) -> Option<String> {
        self.view.unmatched()
    }
}

impl Sink for ViewSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.last = Instant::now();
        self.view.record(record.clone()).map_err(failed)
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        let release_at = self.last + PATIENCE;
        if now >= release_at {
            self.view.release().map_err(failed)?;
        }
        self.view.flush().map_err(failed)?;
        Ok((now < release_at).then_some(release_at))
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.view.release().and_then(|()| self.view.flush()).map_err(failed)
    }
}

fn failed(error: io::Error) -> SinkError {
    SinkError::from_io("write to", "standard output".into(), None, error)
}
