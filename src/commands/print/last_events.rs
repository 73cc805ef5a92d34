//! The last events before now, which `print --follow` begins with.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;
use pmon_analysis::{TimeBound, TimelineItem};
use pmon_core::MonoNs;

use crate::args::PrintArgs;
use crate::captures::{CaptureSource, Captures};
use crate::exit::Failure;
use crate::input::InputItem;
use crate::output::{Render, RenderContext};
use crate::prescan::exits;
use crate::read_ahead::ReadAhead;
use crate::view::{Range, View, filter};

/// Number of events, as `journalctl -f` and `tail -f` have it.
const COUNT: usize = 10;
/// Maximum number of captures in which they are searched.
const MAX_CAPTURES: usize = 2;

/// Keeps the times of the last events that are shown.
#[derive(Clone, Default)]
struct LastTimes(Arc<Mutex<VecDeque<MonoNs>>>);

impl Render for LastTimes {
    fn event(&mut self, item: &TimelineItem, _: RenderContext<'_>, _: &mut Vec<u8>) {
        let Some(event) = &item.event else { return };
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == COUNT {
            times.pop_front();
        }
        times.push_back(event.time);
    }
}

/// Keeps only the last captures, and returns the range that begins with the last events in them
/// that are shown.
pub(super) fn restrict(captures: &mut Captures, args: &PrintArgs) -> Result<Range, Failure> {
    let CaptureSource::Several(list) = captures.source.clone() else { return Ok(Range::default()) };
    let mut range = Range::default();
    for count in 1..=MAX_CAPTURES.min(list.len()) {
        let mut last = list.last_few(count);
        last.order();
        // Of an earlier boot, times by the monotonic clock are not comparable.
        if last.has_reboot() {
            break;
        }
        captures.source = CaptureSource::Several(last);
        let times = last_times(captures, args)?;
        if times.len() == COUNT {
            range.since = times.front().copied().map(TimeBound::Mono);
            break;
        }
    }
    Ok(range)
}

/// Returns the times of the last events that are shown, at most [`COUNT`].
fn last_times(captures: &Captures, args: &PrintArgs) -> Result<VecDeque<MonoNs>, Failure> {
    let input = captures.open()?;
    args.view.selection.process.check_users(input.header())?;
    let times = LastTimes::default();
    let filter = filter(&args.view, Range::default(), input.header());
    let render = Box::new(times.clone());
    let mut view = View::with_renderer(render, filter, input.header(), input.order(), io::sink());
    if args.view.selection.process.tree.is_some()
        && let Some(exits) = exits(captures)?
    {
        view.add_exits(exits);
    }
    ReadAhead::new(input).read(&ProgressBar::hidden(), |item| match item {
        InputItem::Record(record) => view.record(record).map_err(Failure::output),
        InputItem::Segment(header, junction) => view.begin_segment(header, junction).map_err(Failure::output),
        // Damage is reported when the events are printed.
        InputItem::BlockEnd | InputItem::Damage(..) => Ok(()),
    })?;
    view.release().map_err(Failure::output)?;
    let times = times.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(times.clone())
}
