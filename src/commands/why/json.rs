//! Explanations as JSON, one object per process.

use std::io::{self, Write};

use pmon_analysis::life::{Ancestor, LifeExec};
use serde_json::{Map, Value, json};

use super::Explanation;
use crate::output::json_line;
use crate::query::{Cause, FollowedLife, process_json, program_json, time};

/// Writes the explained processes, and then the other matches.
pub(super) fn write(explanation: &Explanation, out: &mut impl Write) -> io::Result<()> {
    for (number, of) in explanation.matches.iter().enumerate() {
        let fields = match number < explanation.explained {
            true => explained(explanation, of),
            false => {
                let mut fields = process(explanation, of);
                fields.insert("kind".into(), "match".into());
                fields
            }
        };
        writeln!(out, "{}", json_line(&Value::Object(fields)))?;
    }
    Ok(())
}

fn explained(explanation: &Explanation, of: &FollowedLife) -> Map<String, Value> {
    let of = explanation.latest(of);
    let mut fields = followed(explanation, of);
    fields.insert("kind".into(), "why".into());
    fields.insert("matches".into(), explanation.count.into());
    let ancestors = of.life.ancestors().map(|ancestor| ancestor_json(explanation, ancestor, of.boot));
    fields.insert("ancestors".into(), ancestors.collect());
    fields
}

/// Returns the fields of a process with its execs and its children.
fn followed(explanation: &Explanation, of: &FollowedLife) -> Map<String, Value> {
    let mut fields = process(explanation, of);
    let execs = of.life.execs.iter().map(|exec| exec_json(explanation, exec, of.boot));
    fields.insert("execs".into(), execs.collect());
    fields.insert("omitted_execs".into(), of.life.omitted_execs.into());
    let cause = explanation.causes.get(of.life.id);
    fields.insert("child_count".into(), cause.map(|cause| cause.child_count).into());
    fields.insert("first_children".into(), children_json(explanation, cause));
    fields
}

fn process(explanation: &Explanation, of: &FollowedLife) -> Map<String, Value> {
    let clock = explanation.clock(of.boot).cloned().unwrap_or_default();
    process_json(&of.life, &clock, &explanation.host)
}

/// Returns an ancestor. Its program is the one that it ran when it forked the process below it.
fn ancestor_json(explanation: &Explanation, ancestor: &Ancestor, boot: usize) -> Value {
    let known = explanation.causes.get(ancestor.id).and_then(|cause| cause.life.as_ref());
    let mut fields = known.map(|known| followed(explanation, known)).unwrap_or_default();
    fields.extend(program_json(ancestor.program.get(), ancestor.comm()));
    let clock = explanation.clock(boot);
    let start = ancestor.start.and_then(|start| clock?.at(start));
    for (name, value) in [
        ("kind", "ancestor".into()),
        ("process_id", ancestor.id.0.into()),
        ("pid", ancestor.pid.into()),
        ("start_time", time(start)),
        ("uid", ancestor.uid.map(|(real, _)| real).into()),
        ("euid", ancestor.uid.map(|(_, effective)| effective).into()),
    ] {
        fields.insert(name.into(), value);
    }
    Value::Object(fields)
}

fn exec_json(explanation: &Explanation, exec: &LifeExec, boot: usize) -> Value {
    let mut fields = program_json(exec.program.get(), None);
    let real_ns = explanation.clock(boot).and_then(|clock| clock.at(exec.time));
    fields.insert("time".into(), time(real_ns));
    fields.remove("comm");
    Value::Object(fields)
}

fn children_json(explanation: &Explanation, cause: Option<&Cause>) -> Value {
    let children = cause.iter().flat_map(|cause| &cause.children).map(|child| {
        let start = child.life.start.and_then(|start| explanation.clock(child.boot)?.at(start));
        let mut fields = program_json(child.life.program.get(), child.life.comm());
        fields.insert("process_id".into(), child.life.id.0.into());
        fields.insert("pid".into(), child.life.pid.into());
        fields.insert("start_time".into(), time(start));
        Value::Object(fields)
    });
    json!(children.collect::<Vec<_>>())
}
