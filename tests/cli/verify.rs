//! Tests the verdicts and exit codes of `pmon verify`.

use pmon_core::capture::{End, Record};
use pmon_core::wire::EventBody;
use pmon_core::{MonoNs, Task};
use serde_json::{Value, json};

use crate::support::*;

/// Returns 60 renames and a matching end.
fn renames() -> Vec<Record<'static>> {
    let body = |n: u32| EventBody::Comm { task: Task::new(20, 20), comm: comm(format!("f{n}").as_bytes()) };
    let mut records: Vec<_> = (0..60).map(|n| event(n.into(), 0, n, body(n))).collect();
    records.push(Record::End(End { time: MonoNs(START + 60_000), events: 60, ..End::default() }));
    records
}

#[track_caller]
fn verify(bytes: &[u8], code: i32) -> Value {
    let dir = Dir::new();
    pmon(&["verify", "--json", &dir.file("x.pmon", bytes)]).expect(code).json()
}

#[test]
fn a_complete_capture_is_complete() {
    let dir = Dir::new();
    let bytes = capture(&renames(), 20);
    let ran = pmon(&["verify", &dir.file("x.pmon", &bytes)]).expect(0);
    assert_eq!(ran.err, "");
    for line in ["verdict      complete", "events       60", "lost         0 events"] {
        assert!(ran.out.lines().any(|found| found == line), "{line:?} not in\n{}", ran.out);
    }
    let found = verify(&bytes, 0);
    assert_eq!((&found["verdict"], &found["events"]["total"]), (&json!("complete"), &json!(60)));
    let ran = pmon_with_input(&["verify", "-"], &bytes).expect(0);
    assert!(ran.out.contains("standard input"), "{ran:?}");
}

#[test]
fn a_lossy_capture_is_lossy() {
    let dir = Dir::new();
    let bytes = capture(&git_status_records(), 5);
    let ran = pmon(&["verify", &dir.file("x.pmon", &bytes)]).expect(3);
    for line in [
        "verdict      complete except 123 events lost in 1 interval (socket)",
        "witness      the source dropped 123 events; 123 are missing in its numbers",
    ] {
        assert!(ran.out.lines().any(|found| found == line), "{line:?} not in\n{}", ran.out);
    }
    let found = verify(&bytes, 3);
    let by_cause = json!({
        "backpressure": 0, "kernel_memory": 0, "restart": 0, "ring": 0, "socket": 123, "storage": 0, "unknown": 0,
    });
    assert_eq!(found["lost"], json!({ "total": 123, "gaps": 1, "by_cause": by_cause }));
    assert_eq!((&found["verdict"], &found["blind_ns"]), (&json!("lossy"), &json!(0)));
    assert_eq!((&found["rejected"], &found["problems"]), (&json!(0), &json!([])));
    assert_eq!(found["witness"], json!({ "drops": 123, "gaps": 123 }));
}

#[test]
fn a_blind_capture_is_blind() {
    let mut records = renames();
    records.insert(30, blind(29, 30));
    records.pop();
    records.push(Record::End(End { events: 60, blind_ns: 1_000, ..End::default() }));
    let found = verify(&capture(&records, 20), 3);
    assert_eq!((&found["verdict"], &found["blind_ns"]), (&json!("blind"), &json!(1_000)));
    assert_eq!(found["summary"], "blind for 1us, else complete");
}

#[test]
fn a_capture_without_an_end_is_unsealed() {
    let mut records = renames();
    records.pop();
    let whole = parts(&records, 20);
    let found = verify(&whole[..4].concat(), 3);
    assert_eq!((&found["verdict"], &found["clean_end"]), (&json!("unsealed"), &json!(false)));
    assert_eq!(found["complete_up_to"], "2026-01-02T03:04:05.000059000Z");
    assert_eq!(found["complete_up_to_mono_ns"], START + 59_000);
}

#[test]
fn a_missing_block_is_detected_anywhere() {
    // The parts are the header, four blocks, the last of which has the end, and the index.
    let whole = parts(&renames(), 20);
    assert_eq!(whole.len(), 6);
    for cut in 1..5 {
        for sealed in [true, false] {
            let mut left = whole.clone();
            if !sealed {
                left.truncate(4);
            }
            if cut >= left.len() {
                continue;
            }
            left.remove(cut);
            // Without an end, a missing last block cannot be detected.
            let (verdict, code) = if !sealed && cut == 3 { ("unsealed", 3) } else { ("damaged", 4) };
            let found = verify(&left.concat(), code);
            assert_eq!(found["verdict"], verdict, "block {cut}, sealed: {sealed}: {found:#}");
            let records = if cut == 4 { 1 } else { 20 };
            if verdict == "damaged" {
                assert_eq!(found["damage"]["records"], records, "block {cut}, sealed: {sealed}: {found:#}");
            }
            if cut == 2 {
                assert_eq!(found["missing"], 20, "{found:#}");
                assert_eq!(found["complete_up_to"], "2026-01-02T03:04:05.000019000Z");
            }
        }
    }
}

#[test]
fn reordered_or_duplicated_blocks_are_detected() {
    let whole = parts(&renames(), 20);
    let mut swapped = whole.clone();
    swapped.swap(1, 2);
    assert_eq!(verify(&swapped.concat(), 4)["verdict"], "damaged");
    let mut twice = whole.clone();
    twice.insert(2, whole[2].clone());
    assert_eq!(verify(&twice.concat(), 0)["events"]["total"], 60);
}

#[test]
fn a_contradictory_capture_is_damaged() {
    let mut records = renames();
    records.remove(30);
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&records, 20));
    let found = pmon(&["verify", "--json", &file]).expect(4).json();
    assert_eq!((&found["verdict"], &found["missing"]), (&json!("damaged"), &json!(1)));
    let ran = pmon(&["verify", &file]).expect(4);
    for problem in [
        "problem      1 missing on cpu 0 from seq 30 on, and no loss says so",
        "problem      events: the end says 60, and there are 59",
    ] {
        assert!(ran.out.lines().any(|found| found == problem), "{problem:?} not in\n{}", ran.out);
    }
    pmon(&["info", &file]).expect(4);
}

#[test]
fn a_truncated_capture_is_not_complete() {
    let dir = Dir::new();
    let whole = capture(&renames(), 20);
    assert_eq!(verify(&whole, 0)["verdict"], "complete");
    for len in (0..20).map(|nth| whole.len() - 1 - 7 * nth * nth % whole.len()) {
        let ran = pmon(&["verify", &dir.file("x.pmon", &whole[..len])]);
        assert!([Some(3), Some(4), Some(5)].contains(&ran.code), "{len} of {}: {ran:?}", whole.len());
    }
}

#[test]
fn self_generated_events_are_counted_separately_and_hidden() {
    let mut records = renames();
    records.insert(60, heartbeat(60, 60));
    records.pop();
    records.push(Record::End(End { events: 61, ..End::default() }));
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&records, 20));
    for verb in ["verify", "info"] {
        let found = pmon(&[verb, "--json", &file]).expect(0).json();
        assert_eq!((&found["events"]["total"], &found["events"]["own"]), (&json!(60), &json!(1)), "{verb}");
    }
    for format in ["text", "json", "classic"] {
        let lines = |more: &[&str]| {
            let args = [&["print", &file, "--format", format], more].concat();
            let date = usize::from(format == "text");
            pmon(&args).expect(0).out.lines().count() - date
        };
        assert_eq!((lines(&[]), lines(&["--own"])), (60, 61), "{format}");
    }
}
