//! Trees as JSON, one object per branch, each before its children.

use pmon_analysis::WallClock;
use pmon_analysis::life::{Branch, FoldedLives, ForestNode};
use serde_json::{Value, json};

use super::Trees;
use crate::output::json_line;
use crate::query::{ProcessLines, program_json, time};

/// Returns the trees, one line a branch.
pub(super) fn lines(trees: Trees, depth: usize) -> Vec<u8> {
    let Trees { branches, clocks, host } = trees;
    let (mut processes, mut out) = (ProcessLines::new(host), Vec::new());
    let mut rest: Vec<_> = branches.into_iter().rev().map(|branch| (0, branch)).collect();
    while let Some((level, branch)) = rest.pop() {
        if level >= depth {
            continue;
        }
        let (value, children) = match branch {
            Branch::Node(node) => {
                let is_written = push_process(&mut processes, &mut out, &node, &clocks, level);
                let value = (!is_written).then(|| ancestor_json(&node, &clocks));
                (value, node.into_children())
            }
            Branch::Folded(folded) => (Some(folded_json(&folded, &clocks)), folded.into_children()),
        };
        if let Some(mut value) = value {
            value["depth"] = level.into();
            out.extend_from_slice(json_line(&value).as_bytes());
            out.push(b'\n');
        }
        rest.extend(children.into_iter().rev().map(|branch| (level + 1, branch)));
    }
    out
}

/// Appends the line of a process that ran in the range. Returns `false` if it is only an ancestor.
fn push_process(
    lines: &mut ProcessLines,
    out: &mut Vec<u8>,
    node: &ForestNode,
    clocks: &[WallClock],
    level: usize,
) -> bool {
    let (Some(row), Some(clock)) = (&node.row, clocks.get(node.start().0)) else { return false };
    let lasted_ns = row.lasted_ns.map_or_else(|| "null".into(), |ns| ns.to_string());
    lines.push(out, &row.life, clock, &[("lasted_ns", lasted_ns), ("depth", level.to_string())]);
    true
}

fn ancestor_json(node: &ForestNode, clocks: &[WallClock]) -> Value {
    let (boot, start) = node.start();
    let Some((ancestor, _)) = &node.ancestor else { return json!({ "kind": "ancestor", "pid": node.pid() }) };
    let mut fields = program_json(ancestor.program.get(), ancestor.comm());
    fields.insert("kind".into(), "ancestor".into());
    fields.insert("process_id".into(), ancestor.id.0.into());
    fields.insert("pid".into(), ancestor.pid.into());
    let clock = clocks.get(boot);
    fields.insert("start_time".into(), time(start.and_then(|start| clock?.at(start))));
    Value::Object(fields)
}

fn folded_json(folded: &FoldedLives, clocks: &[WallClock]) -> Value {
    let (boot, start) = folded.first;
    let longest = folded.longest.as_ref().map(|row| {
        let mut fields = program_json(row.life.program.get(), row.life.comm());
        fields.insert("process_id".into(), row.life.id.0.into());
        fields.insert("pid".into(), row.life.pid.into());
        fields.insert("lasted_ns".into(), row.lasted_ns.into());
        Value::Object(fields)
    });
    json!({
        "kind": "folded",
        "comm": folded.name.as_deref().map(String::from_utf8_lossy),
        "count": folded.count,
        "failed": folded.failed,
        "running": folded.running,
        "lasted_ns": folded.lasted_ns,
        "cpu_ns": folded.cpu_ns,
        "first_start_time": time(start.and_then(|start| clocks.get(boot)?.at(start))),
        "longest": longest,
    })
}
