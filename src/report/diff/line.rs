//! One record of a comparison, as a line and as an object.

use jiff::tz::TimeZone;
use pmon_analysis::diff::{Item, Stretch};
use pmon_analysis::{Occurrence, Processes};
use pmon_core::MonoNs;
use pmon_core::capture::Frame;
use serde_json::{Map, Value, json};

use super::Capture;
use crate::output::{Json, Render, Scene, Text};
use crate::terminal::counted;

/// The record, for people.
pub(super) fn text(item: &Item, capture: &Capture) -> String {
    if let Item::Loss(stretch) = item {
        let Stretch { cpu, first, last, count, after, before, .. } = **stretch;
        let [after, before] = [after, before].map(|time| wall_time(time, capture));
        let lost = counted(count, "event");
        return format!("{after}  -- {lost} lost on cpu {cpu} (seq {first}..{last}), before {before} --");
    }
    let line = rendered(item, capture, &mut Text::of_events_alone(TimeZone::system()));
    match occurrence(item, capture).and_then(|occurrence| occurrence.event) {
        Some(event) => format!("cpu {} seq {}  {line}", event.cpu, event.seq),
        None => line,
    }
}

/// The record, for programs.
pub(super) fn json(item: &Item, capture: &Capture) -> Value {
    match item {
        Item::Loss(stretch) => loss_json(stretch),
        item => serde_json::from_str(&rendered(item, capture, &mut Json::new())).unwrap_or_default(),
    }
}

/// A loss of any causes.
pub(super) fn loss_json(stretch: &Stretch) -> Value {
    let by_cause = stretch.causes.by_cause().map(|(cause, count)| (cause.name().into(), count.into()));
    json!({
        "kind": "loss",
        "cpu": stretch.cpu.0,
        "count": stretch.count,
        "first_seq": stretch.first.0,
        "last_seq": stretch.last.0,
        "by_cause": by_cause.collect::<Map<String, Value>>(),
        "after_mono_ns": stretch.after.0,
        "before_mono_ns": stretch.before.0,
    })
}

fn wall_time(time: MonoNs, capture: &Capture) -> String {
    let processes = Processes::new();
    let scene = Scene { processes: &processes, wall: &capture.wall, start: MonoNs(0) };
    let mut out = Vec::new();
    Text::of_events_alone(TimeZone::system()).time(time, scene, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn rendered(item: &Item, capture: &Capture, render: &mut dyn Render) -> String {
    let processes = Processes::new();
    let scene = Scene { processes: &processes, wall: &capture.wall, start: MonoNs(0) };
    let mut out = Vec::new();
    if let Some(occurrence) = occurrence(item, capture) {
        render.event(&occurrence, scene, &mut out);
    } else if let Item::Blind(blind) = item {
        render.blind(blind, scene, &mut out);
    }
    String::from_utf8_lossy(&out).trim_end().to_owned()
}

fn occurrence(item: &Item, capture: &Capture) -> Option<Occurrence> {
    let (event, raw) = match item {
        Item::Event(event) => (Some(*event), None),
        Item::Raw(bytes) => (Frame::Raw(bytes).event(capture.order), Some(bytes.clone())),
        Item::Loss(_) | Item::Blind(_) => return None,
    };
    Some(Occurrence { event, raw, details: None, usage: None })
}
