//! A record of a comparison as text and as JSON.

use jiff::tz::TimeZone;
use pmon_analysis::TimelineItem;
use pmon_analysis::diff::{ComparedRecord, LossInterval};
use pmon_core::MonoNs;
use pmon_core::capture::RecordedDatagram;
use serde_json::{Value, json};

use super::ComparedCapture;
use crate::output::{JsonRenderer, Render, RenderContext, TextRenderer};
use crate::report::verdict::causes_json;
use crate::terminal::counted;

/// Formats a record as text.
pub(super) fn text(item: &ComparedRecord, capture: &ComparedCapture) -> String {
    if let ComparedRecord::Loss(stretch) = item {
        let LossInterval { cpu, first, last, count, after, before, .. } = **stretch;
        let [after, before] = [after, before].map(|time| wall_time(time, capture));
        let lost = counted(count, "event");
        return format!("{after}  -- {lost} lost on cpu {cpu} (seq {first}..{last}), before {before} --");
    }
    let line = rendered(item, capture, &mut TextRenderer::without_details(TimeZone::system()));
    match occurrence(item, capture).and_then(|occurrence| occurrence.event) {
        Some(event) => format!("cpu {} seq {}  {line}", event.cpu, event.seq),
        None => line,
    }
}

/// Formats a record as JSON.
pub(super) fn json(item: &ComparedRecord, capture: &ComparedCapture) -> Value {
    match item {
        ComparedRecord::Loss(stretch) => loss_json(stretch),
        item => serde_json::from_str(&rendered(item, capture, &mut JsonRenderer::new())).unwrap_or_default(),
    }
}

/// Formats a loss, with all its causes, as JSON.
pub(super) fn loss_json(stretch: &LossInterval) -> Value {
    json!({
        "kind": "loss",
        "cpu": stretch.cpu.0,
        "count": stretch.count,
        "first_seq": stretch.first.0,
        "last_seq": stretch.last.0,
        "by_cause": causes_json(&stretch.causes),
        "after_mono_ns": stretch.after.0,
        "before_mono_ns": stretch.before.0,
    })
}

fn wall_time(time: MonoNs, capture: &ComparedCapture) -> String {
    let context = RenderContext::of_clock(&capture.wall, MonoNs(0));
    let mut out = Vec::new();
    TextRenderer::without_details(TimeZone::system()).time(time, context, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn rendered(item: &ComparedRecord, capture: &ComparedCapture, render: &mut dyn Render) -> String {
    let context = RenderContext::of_clock(&capture.wall, MonoNs(0));
    let mut out = Vec::new();
    if let Some(occurrence) = occurrence(item, capture) {
        render.event(&occurrence, context, &mut out);
    } else if let ComparedRecord::Blind(blind) = item {
        render.blind(blind, context, &mut out);
    }
    String::from_utf8_lossy(&out).trim_end().to_owned()
}

fn occurrence(item: &ComparedRecord, capture: &ComparedCapture) -> Option<TimelineItem> {
    let (event, raw) = match item {
        ComparedRecord::Event(event) => (Some(*event), None),
        ComparedRecord::Raw(bytes) => {
            (RecordedDatagram::Raw(bytes).event(capture.order), Some(bytes.clone()))
        }
        ComparedRecord::Loss(_) | ComparedRecord::Blind(_) => return None,
    };
    Some(TimelineItem { event, raw, details: None, usage: None })
}
