//! `pmon watch`: shows process events as they happen.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use pmon_core::wire::ByteOrder;
use pmon_record::{RecordOptions, Recording, Subscription};

use crate::args::WatchArgs;
use crate::control::{self, ProgressDisplay, RecordingControl};
use crate::exit::{self, Failure};
use crate::input::ReadOutcome;
use crate::selection::{self, too_long};
use crate::terminal;
use crate::view::{Range, View, ViewSink};

/// Runs the verb.
pub(crate) fn run(args: &WatchArgs) -> Result<u8, Failure> {
    selection::check(&args.view.selection)?;
    let mut signals = control::signals()?;
    let out = terminal::output()?;
    // The classic format without a filter needs no details.
    let style = args.text.style();
    let probe = View::new(&args.view, style, Range::default(), None, ByteOrder::NATIVE, io::sink());
    let needs_details = probe.needs_details();
    let options =
        RecordOptions { details: needs_details, snapshot: needs_details, ..RecordOptions::default() };
    let subscription = Subscription::open(&options)?;
    control::report_added_listeners(subscription.added_listeners());
    let header = subscription.header(&[]);
    let view = View::new(&args.view, style, Range::default(), Some(&header), header.byte_order, out);
    // No process can have such a name, so pmon would show nothing without a message.
    if let Some(why) = args.view.selection.process.comm.as_ref().and_then(|name| too_long(name.as_bytes())) {
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
        service: None,
    };
    let (sink, _) = control.run(recording)?;
    sink.view.into_outcome(ReadOutcome { clean_end: true, ..ReadOutcome::default() }, None).report();
    Ok(exit::DONE)
}
