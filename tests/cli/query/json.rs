//! Compares the JSON of each verb with the tables in `docs/query.md`.

use std::collections::BTreeMap;

use super::*;

/// The cells of the first table that a manual has below a heading or a sentence.
fn rows(manual: &'static str, after: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, rest) = manual.split_once(after).unwrap_or_else(|| panic!("{after:?} is in the manual"));
    let lines = rest.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let lines = lines.take_while(|line| line.starts_with('|'));
    lines.map(|line| line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect())
}

/// The fields that the manual lists below a heading or a sentence, with their types and whether
/// they can be null. The columns of the table `processes` are fields of a process.
fn documented(after: &str) -> BTreeMap<String, (String, bool)> {
    let mut fields = BTreeMap::new();
    if after == PROCESS {
        for cells in rows(include_str!("../../../docs/sql.md"), "\n### `processes`\n") {
            let [name, kind, _] = cells[..] else { panic!("three cells: {cells:?}") };
            let kind = match kind {
                "text" => "string",
                "0 or 1" => "boolean",
                "JSON array" => "array of strings",
                kind => kind,
            };
            let name = name.trim_matches('`').to_owned();
            let is_known = ["process_id", "pid", "ended", "threads"].contains(&name.as_str());
            fields.insert(name, (kind.to_owned(), !is_known));
        }
    }
    for cells in rows(include_str!("../../../docs/query.md"), after) {
        let [names, kind, _, null] = cells[..] else { panic!("four cells: {cells:?}") };
        for name in names.split(", ") {
            fields.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), !null.is_empty()));
        }
    }
    assert!(!fields.is_empty(), "{after:?} has a table");
    fields
}

fn has_type(value: &Value, kind: &str) -> bool {
    let is_all = |is: fn(&Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(is));
    match kind {
        "any" => true,
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "time" => value.as_str().is_some_and(|time| time.len() == 30 && time.ends_with('Z')),
        "array of strings" => is_all(Value::is_string),
        "array of objects" => is_all(Value::is_object),
        kind => panic!("no type {kind}"),
    }
}

/// Checks that the lines of a kind have exactly the fields of these tables.
#[track_caller]
fn check(ran: &RunOutput, kind: &str, tables: &[&str]) {
    let fields: BTreeMap<_, _> = tables.iter().flat_map(|table| documented(table)).collect();
    let lines: Vec<_> = ran.json_lines().into_iter().filter(|line| line["kind"] == kind).collect();
    assert!(!lines.is_empty(), "no line of the kind {kind}: {}", ran.out);
    for line in lines {
        let line = line.as_object().expect("an object");
        let names: Vec<_> = line.keys().collect();
        assert_eq!(names, fields.keys().collect::<Vec<_>>(), "{kind}");
        for (name, (of, can_be_null)) in &fields {
            let value = &line[name];
            assert!(
                if value.is_null() { *can_be_null } else { has_type(value, of) },
                "{kind}.{name}: {value}"
            );
        }
    }
}

const PROCESS: &str = "\n### `process`\n";
const GROUP: &str = "\n### `group`\n";

#[test]
fn each_line_has_the_documented_fields() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let run = |words: &[&str]| pmon(&[&[words[0], &file], &words[1..], &["--json"]].concat()).expect(0);
    let found = run(&["find", ""]);
    check(&found, "process", &[PROCESS]);
    check(&found, "coverage", &["\n### `coverage`\n"]);
    check(&run(&["ps", "--at", "+2s"]), "process", &[PROCESS, "\n`ps` adds:\n"]);
    let tree = run(&["tree", "--since", "+4s", "--fold", "1"]);
    check(&tree, "process", &[PROCESS, "\n`tree` adds:\n"]);
    let ended = [fork(1_000, 1, 10, (20, 20)), fork(2_000, 2, 20, (21, 21)), exit(3_000, 3, (20, 20), 0)];
    let records: Vec<_> = [found_shell(), ended.to_vec(), vec![end(9_000_000, 4)]].concat();
    let late = dir.file("late.pmon", &ticking_capture(&records));
    let tree = pmon(&["tree", &late, "--since", "+5s", "--json"]).expect(0);
    check(&tree, "ancestor", &["\n### `ancestor` of `tree`\n"]);
    check(&run(&["tree", "--fold", "1"]), "folded", &["\n### `folded`\n"]);
    let why = run(&["why", "cc"]);
    check(&why, "why", &[PROCESS, "\n### `why` and `match`\n"]);
    check(&why, "match", &[PROCESS]);
    for by in ["comm", "exe", "args", "user", "unit", "container", "parent", "subtree"] {
        check(&run(&["stats", "--by", by]), "group", &[GROUP, "\n`stats` adds:\n"]);
        let top = run(&["top", "--interval", "10s", "--by", by]);
        check(&top, "group", &[GROUP, "\n`top` adds:\n"]);
        check(&top, "interval", &["\n### `interval`\n"]);
    }
    for (name, code) in [("nc", 3), ("cc", 1)] {
        let proof = pmon(&["prove", &file, "--never", "--exe", name, "--json"]).expect(code);
        check(&proof, "proof", &["\n### `proof`\n"]);
    }
}

fn found_shell() -> Vec<Record<'static>> {
    vec![found(1, 0, "/sbin/init", 100), found(10, 1, "sh", 50_000), scan(0, 2, SnapshotReason::Start)]
}

#[test]
fn ancestors_and_gaps_have_the_documented_fields() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let why = pmon(&["why", &file, "cc", "--json"]).expect(0).json_lines().remove(0);
    let explained = documented("\n### `why` and `match`\n");
    let all = documented(PROCESS).into_keys().chain(explained.into_keys());
    let mut all: Vec<_> = all.filter(|name| !["matches", "ancestors"].contains(&name.as_str())).collect();
    all.sort();
    for ancestor in why["ancestors"].as_array().expect("a list") {
        assert_eq!(ancestor["kind"], "ancestor");
        assert_eq!(ancestor.as_object().expect("an object").keys().cloned().collect::<Vec<_>>(), all);
    }
    let mut records = build();
    records.insert(5, loss(1, 10, 12));
    let file = dir.file("lossy.pmon", &ticking_capture(&records));
    let gaps = coverage(&pmon(&["find", &file, "", "--json"]).expect(0))["gaps"].clone();
    let mut names: Vec<_> = gaps[0].as_object().expect("a gap").keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["cause", "cpu", "events", "from", "reason", "until"]);
}
