//! Tests the excerpts that `pmon cut` writes, against `pmon print` of the same range.

use std::collections::BTreeSet;
use std::fs;

use pmon_testkit::segments::divide;
use serde_json::Value;

use crate::support::*;

/// A synthetic recording, as one capture and as a store of its segments.
struct Recording {
    dir: Dir,
    whole: String,
    store: String,
}

impl Recording {
    fn new(args: &[&str], divisions: &[usize]) -> Self {
        let dir = Dir::new();
        let (whole, store) = (arg(&dir.path("whole.pmon")), arg(&dir.path("store")));
        pmon(&[&["synth", "-q", "-o", &whole], args].concat()).expect(0);
        fs::create_dir(&store).unwrap();
        for segment in divide(&fs::read(&whole).unwrap(), divisions) {
            fs::write(dir.path("store").join(&segment.name), &segment.bytes).unwrap();
        }
        Self { dir, whole, store }
    }

    /// Cuts a range with these options, and returns the path of the excerpt and the report.
    fn cut(&self, source: &str, options: &[&str]) -> (String, Value) {
        let clip = arg(&self.dir.path("clip.pmon"));
        let report =
            pmon(&[&["cut", source, "-o", &clip, "--force", "--json"], options].concat()).expect(0).json();
        (clip, report)
    }
}

fn print(source: &str, options: &[&str]) -> String {
    pmon(&[&["print", source, "--format", "json"], options].concat()).expect(0).out
}

#[test]
fn an_excerpt_prints_the_lines_of_its_range() {
    let recording =
        Recording::new(&["-n", "60000", "--rate", "20k", "--loss", "1%"], &[4000, 21_000, 40_000]);
    let mut verdicts = BTreeSet::new();
    for range in [["--since", "+500ms", "--until", "+2s"], ["--since", "-1s", "--until", "-200ms"]] {
        let expected = print(&recording.whole, &range);
        assert!(expected.lines().count() > 1000);
        for source in [&recording.whole, &recording.store] {
            let (clip, report) = recording.cut(source, &range);
            assert!(print(&clip, &[]) == expected, "{range:?} of {source}");
            let (verdict, code) =
                if expected.contains(r#""kind":"loss""#) { ("lossy", 3) } else { ("complete", 0) };
            assert_eq!(report["verdict"], verdict, "{range:?} of {source}");
            let verified = pmon(&["verify", "--json", &clip]).expect(code).json();
            assert_eq!(verified["lost"]["total"], report["lost"]);
            assert_eq!(
                (&verified["problems"], &verified["verdict"]),
                (&Value::Array(vec![]), &verdict.into())
            );
            verdicts.insert(verdict);
        }
    }
    assert!(verdicts.contains("lossy"));
}

#[test]
fn an_excerpt_is_complete_if_its_range_is() {
    let recording = Recording::new(&["-n", "30000", "--rate", "10k"], &[9000, 20_000]);
    let (clip, report) = recording.cut(&recording.store, &["--since", "+1s", "--until", "+2s"]);
    assert_eq!((&report["verdict"], &report["missing"]), (&"complete".into(), &"".into()));
    assert_eq!(pmon(&["verify", "--json", &clip]).expect(0).json()["verdict"], "complete");
    // An excerpt of an excerpt.
    let inner = ["--since", "+200ms", "--until", "+500ms"];
    let expected = print(&clip, &inner);
    let (again, _) = {
        let outer = arg(&recording.dir.path("outer.pmon"));
        fs::rename(&clip, &outer).unwrap();
        recording.cut(&outer, &inner)
    };
    assert!(print(&again, &[]) == expected);
    // Times that the source does not cover.
    let (_, report) = recording.cut(&recording.whole, &["--since", "+2s", "--until", "+20s"]);
    assert_eq!(
        (&report["verdict"], &report["unobserved"][0]["reason"]),
        (&"blind".into(), &"stopped".into())
    );
}

#[test]
fn a_selection_prints_the_lines_that_print_selects() {
    let recording = Recording::new(&["-n", "20000", "--rate", "10k"], &[9000]);
    let range = ["--since", "+500ms", "--until", "+1500ms"];
    for selection in [vec!["--kind", "exec,exit"], vec!["--comm", "sed"], vec!["--pid", "1"]] {
        let options = [&range[..], &selection].concat();
        let (clip, report) = recording.cut(&recording.whole, &options);
        assert!(print(&clip, &[]) == print(&recording.whole, &options), "{selection:?}");
        assert!(!report["scope"].as_str().unwrap().is_empty());
        let verified = pmon(&["verify", "--json", &clip]).expect(0).json();
        assert_eq!(verified["verdict"], "complete", "{selection:?}: {verified}");
    }
}

#[test]
fn an_existing_file_and_an_unsuitable_source_are_refused() {
    let recording = Recording::new(&["-n", "1000"], &[]);
    let clip = arg(&recording.dir.path("clip.pmon"));
    pmon(&["cut", &recording.whole, "-o", &clip, "-q"]).expect(0);
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&clip).unwrap()) & 0o777, 0o600);
    let before = fs::read(&clip).unwrap();
    let refused = pmon(&["cut", &recording.whole, "-o", &clip]).expect(7);
    assert!(refused.err.contains("exists: choose another name"), "{}", refused.err);
    assert_eq!(fs::read(&clip).unwrap(), before);
    let missing = arg(&recording.dir.path("missing.pmon"));
    pmon(&["cut", &missing, "-o", &clip, "--force"]).expect(6);
    assert_eq!(fs::read(&clip).unwrap(), before);
    pmon(&["cut", "-", "-o", &clip, "--force"]).expect(2);
    let text = recording.dir.file("text", b"no capture");
    pmon(&["cut", &text, "-o", &clip, "--force"]).expect(5);
    assert_eq!(fs::read(&clip).unwrap(), before);
    assert!(!recording.dir.path("clip.pmon.partial").exists());
    // The damaged source is used as far as it is intact.
    let mut damaged = fs::read(&recording.whole).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let damaged = recording.dir.file("damaged.pmon", &damaged);
    pmon(&["cut", &damaged, "-o", &clip, "--force"]).expect(4);
}
