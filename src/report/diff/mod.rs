//! The result of `diff` in words and in JSON.

mod fields;
mod line;

use std::fmt::Write as _;

use pmon_analysis::WallClock;
use pmon_analysis::diff::{
    CauseDifferences, ComparedRecord, DiffCounts, DiffOptions, DiffOutcome, DiffReport, DiffStream,
    Difference, LossInterval, Side, TooFarApart,
};
use pmon_core::wire::ByteOrder;
use serde_json::{Map, Value, json};

use crate::input::ReadOutcome;
use crate::report::verdict::causes;
use crate::terminal::{counted, grouped};
use fields::fields;

/// One of the two compared captures.
pub(crate) struct ComparedCapture {
    pub(crate) name: String,
    pub(crate) order: ByteOrder,
    pub(crate) wall: WallClock,
    pub(crate) outcome: ReadOutcome,
}

/// The result of a comparison.
pub(crate) struct Comparison {
    pub(crate) options: DiffOptions,
    pub(crate) captures: [ComparedCapture; 2],
    pub(crate) finding: DiffReport,
}

impl Comparison {
    /// Whether one of the captures is damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.captures.iter().any(|capture| capture.outcome.damaged > 0)
    }

    /// Returns the result as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let intact = if self.is_damaged() { "in the intact part: " } else { "" };
        let _ = writeln!(text, "{intact}{}", self.headline());
        if let DiffOutcome::Different(difference) = &self.finding.outcome {
            self.explain(&mut text, difference);
        }
        if self.finding.outcome != DiffOutcome::Identical {
            let _ = writeln!(text, "equal before that: {}", amount(&self.finding.equal));
            for side in [Side::A, Side::B] {
                let all = amount(&self.finding.totals[side as usize]);
                let _ = writeln!(text, "all of {}: {all}", self.name(side));
            }
        }
        for note in self.notes() {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }

    /// Returns the result as JSON.
    pub(crate) fn json(&self) -> Value {
        let (verdict, difference, apart) = match &self.finding.outcome {
            DiffOutcome::Identical => ("identical", None, None),
            DiffOutcome::Different(difference) => ("different", Some(self.difference_json(difference)), None),
            DiffOutcome::TooFarApart(apart) => ("too_far_apart", None, Some(apart_json(apart))),
        };
        let causes = self.finding.causes.as_ref().map(|causes| {
            let (a, b) = &causes.first;
            json!({ "losses": causes.losses, "first": { "a": line::loss_json(a), "b": line::loss_json(b) } })
        });
        json!({
            "verdict": verdict,
            "summary": self.headline(),
            "by_cpu": self.options.by_cpu,
            "renumbered": self.options.renumbered,
            "a": self.capture_json(Side::A),
            "b": self.capture_json(Side::B),
            "equal": amount_json(&self.finding.equal),
            "difference": difference,
            "apart": apart,
            "other_causes": causes,
            "notes": self.notes(),
        })
    }

    fn capture(&self, side: Side) -> &ComparedCapture {
        &self.captures[side as usize]
    }

    /// Returns the name of a capture, which is made unique if both have the same name.
    fn name(&self, side: Side) -> String {
        let [a, b] = &self.captures;
        match side {
            _ if a.name != b.name => self.capture(side).name.clone(),
            Side::A => format!("{} (first)", a.name),
            Side::B => format!("{} (second)", b.name),
        }
    }

    fn headline(&self) -> String {
        match &self.finding.outcome {
            DiffOutcome::Identical => format!("identical: {}", amount(&self.finding.equal)),
            DiffOutcome::Different(difference) => format!("they differ at {}", position(difference)),
            DiffOutcome::TooFarApart(apart) => format!(
                "given up: {} is {} ahead{}, of {} that had to be held; they differ, or are too far apart to tell",
                self.name(apart.ahead),
                counted(apart.held, "record"),
                of_stream(apart.stream),
                grouped(apart.held_in_all)
            ),
        }
    }

    fn explain(&self, text: &mut String, difference: &Difference) {
        let names = [Side::A, Side::B].map(|side| self.name(side));
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        for (side, item) in [(Side::A, &difference.a), (Side::B, &difference.b)] {
            let line = match item {
                Some(item) => line::text(item, self.capture(side)),
                None => "nothing more".into(),
            };
            let _ = writeln!(text, "  {:width$}  {line}", names[side as usize]);
        }
        for field in self.fields(difference) {
            if let Some((a, b)) = &field.values {
                let _ = writeln!(text, "  {}: {a} and {b}", field.name);
            } else {
                let _ = writeln!(text, "  {}: differs", field.name);
            }
        }
    }

    fn fields(&self, difference: &Difference) -> Vec<fields::Field> {
        let both = difference.a.as_ref().zip(difference.b.as_ref());
        let orders = [self.captures[0].order, self.captures[1].order];
        both.map(|(a, b)| fields([a, b], orders, self.options)).unwrap_or_default()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(CauseDifferences { losses, first: (a, b) }) = &self.finding.causes {
            let losses = match losses {
                1 => "1 loss has".into(),
                losses => format!("{} losses have", grouped(*losses)),
            };
            let LossInterval { cpu, first, last, .. } = a;
            let (ours, theirs) = (causes(&a.causes), causes(&b.causes));
            notes.push(format!(
                "{losses} other causes; the first: cpu {cpu}, seq {first}..{last}: {ours} in {}, {theirs} in {}",
                self.name(Side::A),
                self.name(Side::B)
            ));
        }
        if self.captures[0].order != self.captures[1].order {
            notes.push(
                "their datagrams are in different byte orders: only --renumbered can match them".into(),
            );
        }
        for side in [Side::A, Side::B] {
            if !self.capture(side).outcome.clean_end {
                notes.push(format!("{} was not ended cleanly", self.name(side)));
            }
        }
        notes
    }

    fn capture_json(&self, side: Side) -> Value {
        let capture = self.capture(side);
        let mut fields = amount_json(&self.finding.totals[side as usize]);
        fields.insert("file".into(), capture.name.clone().into());
        fields.insert("clean_end".into(), capture.outcome.clean_end.into());
        fields.insert("damaged_parts".into(), capture.outcome.damaged.into());
        Value::Object(fields)
    }

    fn difference_json(&self, difference: &Difference) -> Value {
        let line = |side, item: &Option<ComparedRecord>| {
            item.as_ref().map(|item| line::json(item, self.capture(side)))
        };
        let fields: Vec<_> = self.fields(difference).iter().map(|field| field.name).collect();
        json!({
            "lane": stream_json(difference.stream),
            "equal": amount_json(&difference.before),
            "a": line(Side::A, &difference.a),
            "b": line(Side::B, &difference.b),
            "fields": fields,
        })
    }
}

/// Describes a number of records, for example `10 events, 2 losses of 33 events`.
fn amount(counts: &DiffCounts) -> String {
    let mut text = counted(counts.events, "event");
    if counts.losses > 0 {
        let what = if counts.losses == 1 { "loss" } else { "losses" };
        let _ = write!(text, ", {} {what} of {}", grouped(counts.losses), counted(counts.lost, "event"));
    }
    if counts.blind > 0 {
        let _ = write!(text, ", {}", counted(counts.blind, "blind interval"));
    }
    text
}

fn amount_json(counts: &DiffCounts) -> Map<String, Value> {
    let numbers = [
        ("events", counts.events),
        ("losses", counts.losses),
        ("lost", counts.lost),
        ("blind_intervals", counts.blind),
    ];
    numbers.into_iter().map(|(name, number)| (name.to_owned(), number.into())).collect()
}

/// Describes the position of a difference.
fn position(difference: &Difference) -> String {
    let before = &difference.before;
    let is_event = |item: &Option<ComparedRecord>| {
        matches!(item, Some(ComparedRecord::Event(_) | ComparedRecord::Raw(_)))
    };
    let is_loss = |item: &Option<ComparedRecord>| matches!(item, Some(ComparedRecord::Loss(_)));
    let is_any = |is: fn(&Option<ComparedRecord>) -> bool| is(&difference.a) || is(&difference.b);
    let what = match () {
        () if difference.stream == DiffStream::Blind => {
            return format!("blind interval {}", grouped(before.blind + 1));
        }
        () if is_any(is_event) => format!("event {}", grouped(before.events + 1)),
        () if is_any(is_loss) => {
            format!("loss {}, after {}", grouped(before.losses + 1), counted(before.events, "event"))
        }
        () => {
            format!("blind interval {}, after {}", grouped(before.blind + 1), counted(before.events, "event"))
        }
    };
    what + &of_stream(difference.stream)
}

fn of_stream(stream: DiffStream) -> String {
    match stream {
        DiffStream::All => String::new(),
        DiffStream::Cpu(cpu) => format!(" of cpu {cpu}"),
        DiffStream::Unattributed => " of those whose CPU is not known".into(),
        DiffStream::Blind => " in blind intervals".into(),
    }
}

fn stream_json(stream: DiffStream) -> Value {
    match stream {
        DiffStream::All => json!({ "kind": "all", "cpu": null }),
        DiffStream::Cpu(cpu) => json!({ "kind": "cpu", "cpu": cpu.0 }),
        DiffStream::Unattributed => json!({ "kind": "strange", "cpu": null }),
        DiffStream::Blind => json!({ "kind": "blind", "cpu": null }),
    }
}

fn apart_json(apart: &TooFarApart) -> Value {
    let ahead = match apart.ahead {
        Side::A => "a",
        Side::B => "b",
    };
    json!({
        "lane": stream_json(apart.stream),
        "ahead": ahead,
        "held": apart.held,
        "held_in_all": apart.held_in_all,
    })
}
