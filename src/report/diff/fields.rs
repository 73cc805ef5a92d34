//! The fields in which two records differ.

use std::fmt::Display;

use pmon_analysis::diff::{ComparedRecord, DiffOptions};
use pmon_core::capture::RecordedDatagram;
use pmon_core::wire::{ByteOrder, Event};

/// A field that differs.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// The two values, if they are short.
    pub(super) values: Option<(String, String)>,
}

/// Returns the fields in which two records differ, with their JSON names.
pub(super) fn fields(
    items: [&ComparedRecord; 2],
    orders: [ByteOrder; 2],
    options: DiffOptions,
) -> Vec<Field> {
    let mut fields = Vec::new();
    match items {
        [ComparedRecord::Loss(a), ComparedRecord::Loss(b)] => {
            compare(&mut fields, "cpu", a.cpu, b.cpu);
            compare(&mut fields, "count", a.count, b.count);
            if !options.renumbered {
                compare(&mut fields, "first_seq", a.first, b.first);
                compare(&mut fields, "last_seq", a.last, b.last);
                compare(&mut fields, "after_mono_ns", a.after, b.after);
                compare(&mut fields, "before_mono_ns", a.before, b.before);
            }
        }
        [ComparedRecord::Blind(a), ComparedRecord::Blind(b)] => {
            compare(&mut fields, "after_mono_ns", a.from, b.from);
            compare(&mut fields, "before_mono_ns", a.until, b.until);
        }
        [ComparedRecord::Loss(_) | ComparedRecord::Blind(_), _]
        | [_, ComparedRecord::Loss(_) | ComparedRecord::Blind(_)] => {
            compare(&mut fields, "kind", kind(items[0], orders[0]), kind(items[1], orders[1]));
        }
        [a, b] => {
            if let (Some(a), Some(b)) = (event(a, orders[0]), event(b, orders[1])) {
                compare_events(&mut fields, &a, &b, options);
            }
            // All decoded fields are equal, but the bytes of the datagrams are not.
            if fields.is_empty() {
                fields.push(Field { name: "frame", values: None });
            }
        }
    }
    fields
}

fn compare_events(fields: &mut Vec<Field>, a: &Event, b: &Event, options: DiffOptions) {
    compare(fields, "mono_ns", a.time, b.time);
    compare(fields, "cpu", a.cpu, b.cpu);
    if !options.renumbered {
        compare(fields, "seq", a.seq, b.seq);
    }
    if a.kind() != b.kind() {
        compare(fields, "kind", a.kind(), b.kind());
    } else if a.body != b.body {
        fields.push(Field { name: "content", values: None });
    }
}

fn compare<T: PartialEq + Display>(fields: &mut Vec<Field>, name: &'static str, a: T, b: T) {
    if a != b {
        fields.push(Field { name, values: Some((a.to_string(), b.to_string())) });
    }
}

fn event(item: &ComparedRecord, order: ByteOrder) -> Option<Event> {
    match item {
        ComparedRecord::Event(event) => Some(*event),
        ComparedRecord::Raw(bytes) => RecordedDatagram::Raw(bytes).event(order),
        ComparedRecord::Loss(_) | ComparedRecord::Blind(_) => None,
    }
}

fn kind(item: &ComparedRecord, order: ByteOrder) -> &'static str {
    match item {
        ComparedRecord::Loss(_) => "loss",
        ComparedRecord::Blind(_) => "blind",
        item => event(item, order).map_or("unknown", |event| event.kind().name()),
    }
}
