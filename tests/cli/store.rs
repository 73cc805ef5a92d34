//! Tests that the verbs read a store, several files and one capture alike.

use std::fs;
use std::path::{Path, PathBuf};

use pmon_core::capture::{CpuPosition, SegmentInfo, SegmentReason};
use pmon_core::{Cpu, MonoNs, Seq};
use pmon_testkit::segments::{StoredSegment, divide};
use serde_json::{Value, json};

use crate::support::*;

/// A recording as one capture, and as a store of its segments.
struct Recording {
    dir: Dir,
    whole: String,
    segments: Vec<StoredSegment>,
}

impl Recording {
    fn new(args: &[&str], cuts: &[usize]) -> Self {
        let dir = Dir::new();
        let whole = arg(&dir.path("whole.pmon"));
        pmon(&[&["synth", "-q", "-o", &whole], args].concat()).expect(0);
        let segments = divide(&fs::read(&whole).unwrap(), cuts);
        let this = Self { dir, whole, segments };
        fs::create_dir(this.dir.path("store")).unwrap();
        this.segments.iter().for_each(|segment| fs::write(this.file(segment), &segment.bytes).unwrap());
        this
    }

    fn file(&self, segment: &StoredSegment) -> PathBuf {
        self.dir.path("store").join(&segment.name)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.file(&self.segments[number])
    }

    fn store(&self) -> String {
        arg(&self.dir.path("store"))
    }

    fn verify(&self, code: i32) -> Value {
        pmon(&["verify", "--json", &self.store()]).expect(code).json()
    }

    /// Returns the findings of a verification, without the fields for people.
    fn findings(&self, code: i32) -> Vec<Value> {
        let found = self.verify(code)["findings"].as_array().unwrap().clone();
        found
            .into_iter()
            .map(|mut found| {
                found.as_object_mut().unwrap().remove("text");
                found
            })
            .collect()
    }
}

/// Returns ascending pseudo-random numbers below `below`.
fn cuts(seed: u64, count: usize, below: usize) -> Vec<usize> {
    let mut random = oorandom::Rand64::new(seed.into());
    let mut cuts: Vec<_> = (0..count).map(|_| random.rand_range(1..below as u64) as usize).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn without(value: &Value, fields: &[&str]) -> Value {
    let mut value = value.clone();
    fields.iter().for_each(|field| drop(value.as_object_mut().unwrap().remove(*field)));
    value
}

const OF_SEGMENTS: [&str; 10] = [
    "segments",
    "segment",
    "pruned",
    "unobserved_ns",
    "unobserved_intervals",
    "absent",
    "spans",
    "span_count",
    "findings",
    "finding_count",
];

#[test]
fn the_segments_of_any_recording_are_read_like_the_whole() {
    for seed in 0..6 {
        let (number, loss) = (seed.to_string(), ["0%", "1%"][seed as usize % 2]);
        let args = ["-n", "3k", "--loss", loss, "--seed", &number];
        let recording = Recording::new(&args, &cuts(seed, 1 + 3 * seed as usize, 3000));
        let store = recording.store();
        for format in ["text", "json", "csv", "classic"] {
            let print = |path: &str| pmon(&["print", path, "--format", format, "--clock", "mono"]).expect(0);
            let (whole, parts) = (print(&recording.whole), print(&store));
            assert!(whole.out == parts.out, "seed {seed}, {format}");
            assert_eq!(whole.err, parts.err.replace(&store, &recording.whole));
        }
        let code = if loss == "0%" { 0 } else { 3 };
        let whole = pmon(&["verify", "--json", &recording.whole]).expect(code).json();
        let parts = recording.verify(code);
        assert_eq!(without(&parts, &OF_SEGMENTS), whole, "seed {seed}");
        assert_eq!(parts["segments"], json!(recording.segments.len()));
        assert_eq!(parts["findings"], json!([]));
        let same = pmon(&["diff", &recording.whole, &store]).expect(0);
        assert!(same.out.contains("identical"), "{same:?}");
        let mut files: Vec<_> =
            recording.segments.iter().map(|segment| arg(&recording.file(segment))).collect();
        files.reverse();
        let again = arg(&recording.dir.path("again.pmon"));
        let mut replay = vec!["replay", "--record", &again];
        replay.extend(files.iter().map(String::as_str));
        pmon(&replay).expect(0);
        pmon(&["diff", &recording.whole, &again]).expect(0);
        pmon(&["verify", &again]).expect(code);
    }
}

#[test]
fn info_counts_a_store_like_the_whole_and_shows_its_segments() {
    let recording = Recording::new(&["-n", "2k"], &[500, 1000, 1500]);
    let fields = ["events", "details", "lost", "snapshot_processes", "verdict", "host"];
    let whole = pmon(&["info", "--json", &recording.whole]).expect(0).json();
    let parts = pmon(&["info", "--json", &recording.store()]).expect(0).json();
    fields.iter().for_each(|field| assert_eq!(whole[field], parts[field], "{field}"));
    let text = pmon(&["info", &recording.store()]).expect(0).out;
    assert!(text.contains("segments     4, "), "{text}");
}

#[test]
fn each_segment_verifies_alone_and_states_that_it_is_one_of_several() {
    let recording = Recording::new(&["-n", "2k", "--loss", "1%"], &[300, 900, 1700]);
    for segment in &recording.segments {
        let file = arg(&recording.file(segment));
        let found = pmon(&["verify", "--json", &file]);
        let found = found.json();
        assert!(["complete", "lossy"].contains(&found["verdict"].as_str().unwrap()), "{found:#}");
        assert!(pmon(&["verify", &file]).out.contains("one of a recording"));
    }
}

#[test]
fn a_store_whose_older_segments_were_removed_is_complete_since_its_only_segment() {
    let recording = Recording::new(&["-n", "2k"], &[1000, 1500]);
    (0..2).for_each(|number| fs::remove_file(recording.path(number)).unwrap());
    let found = recording.verify(0);
    assert_eq!((&found["pruned"], &found["segments"]), (&json!(true), &json!(1)));
    let text = pmon(&["verify", &recording.store()]).expect(0).out;
    assert!(text.contains("complete since") && !text.contains("one of a recording"), "{text}");
}

#[test]
fn a_loss_before_the_first_event_of_a_cpu_shows_in_a_segment_alone() {
    let recording = Recording::new(&["-n", "2k"], &[1000]);
    let mut header = recording.segments[1].header.clone();
    let position = &mut header.meta.segment.as_mut().unwrap().positions[0];
    position.next.0 = position.next.0.wrapping_sub(3);
    let bytes = with_header(&recording.segments[1].bytes, &header);
    fs::write(recording.path(1), bytes).unwrap();
    let found = pmon(&["verify", "--json", &arg(&recording.path(1))]).expect(4).json();
    assert_eq!(found["missing"], 3);
}

/// Replaces the header of a capture.
fn with_header(bytes: &[u8], header: &pmon_core::capture::Header) -> Vec<u8> {
    let len = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let encoder = pmon_core::capture::Encoder::new(header).unwrap();
    [encoder.header(), &bytes[len..]].concat()
}

#[test]
fn a_missing_segment_in_the_middle_is_named_with_its_events() {
    let recording = Recording::new(&["-n", "4k"], &[1000, 2000, 3000]);
    let removed = pmon(&["verify", "--json", &arg(&recording.path(1))]).expect(0).json();
    fs::remove_file(recording.path(1)).unwrap();
    let found = recording.findings(3);
    let [after, before] = [0, 2].map(|number| recording.segments[number].name.clone());
    let events = &removed["events"]["total"];
    assert_eq!(found, [json!({ "kind": "missing", "after": after, "before": before, "events": events })]);
    let text = pmon(&["verify", &recording.store()]).expect(3).out;
    assert!(text.contains("then unobserved until") && text.contains("segments are missing"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let shown = pmon(&["print", &recording.store()]).expect(0).out;
    assert_eq!(shown.matches("unobserved for").count(), 1, "{shown}");
}

#[test]
fn after_pruning_a_store_is_complete_since_a_time() {
    let recording = Recording::new(&["-n", "4k"], &[1000, 2000, 3000]);
    fs::remove_file(recording.path(0)).unwrap();
    let found = recording.verify(0);
    assert_eq!((&found["pruned"], &found["findings"]), (&json!(true), &json!([])));
    assert!(found["summary"].as_str().unwrap().starts_with("complete since 20"), "{found:#}");
}

#[test]
fn a_duplicate_is_named_and_counted_once() {
    let recording = Recording::new(&["-n", "2k"], &[700]);
    let other = recording.dir.path("store").join("synthetic-20990101T000000Z.pmon");
    fs::copy(recording.path(1), &other).unwrap();
    let found = recording.findings(0);
    let same_as = &recording.segments[1].name;
    assert_eq!(
        found,
        [json!({ "kind": "duplicate", "name": "synthetic-20990101T000000Z.pmon", "same_as": same_as })]
    );
    assert_eq!(recording.verify(0)["events"]["total"], 2000);
}

#[test]
fn swapped_names_are_named_and_the_order_is_that_of_the_headers() {
    let recording = Recording::new(&["-n", "4k", "--rate", "100"], &[1000, 2000, 3000]);
    let spare = recording.dir.path("spare");
    fs::rename(recording.path(1), &spare).unwrap();
    fs::rename(recording.path(2), recording.path(1)).unwrap();
    fs::rename(&spare, recording.path(2)).unwrap();
    let found = recording.findings(0);
    let kinds: Vec<_> = found.iter().map(|found| &found["kind"]).collect();
    assert_eq!(kinds, ["misnamed", "misnamed"]);
    pmon(&["diff", &recording.whole, &recording.store()]).expect(0);
}

#[test]
fn a_killed_recorder_and_numbers_that_contradict_are_reported() {
    let recording = Recording::new(&["-n", "4k"], &[1000, 2000, 3000]);
    let bytes = &recording.segments[1].bytes;
    fs::write(recording.path(1), &bytes[..bytes.len() - 600]).unwrap();
    let found = recording.verify(4);
    assert_eq!(found["verdict"], "damaged");
    assert_eq!(found["findings"][0]["kind"], "unclean");
    // The next segment begins with a lower number.
    fs::write(recording.path(1), bytes).unwrap();
    let mut header = recording.segments[2].header.clone();
    header.meta.segment.as_mut().unwrap().positions[0].next.0 -= 1;
    fs::write(recording.path(2), with_header(&recording.segments[2].bytes, &header)).unwrap();
    let found = recording.verify(4);
    assert!(found["problems"][0].as_str().unwrap().contains("comes after a later one"), "{found:#}");
}

#[test]
fn segments_of_two_hosts_are_kept_apart() {
    let recording = Recording::new(&["-n", "2k"], &[1000]);
    let name = recording.segments[0].name.replace("synthetic", "other");
    fs::copy(recording.path(0), recording.dir.path("store").join(name)).unwrap();
    for verb in ["print", "verify", "info", "replay"] {
        let refused = pmon(&[verb, &recording.store()]).expect(2);
        assert!(refused.err.contains("of 2 hosts (other, synthetic): select one with --host"), "{refused:?}");
        let refused = pmon(&[verb, &recording.store(), "--host", "third"]).expect(2);
        assert!(refused.err.contains("no segment of the host third"), "{refused:?}");
    }
    pmon(&["verify", &recording.store(), "--host", "synthetic"]).expect(0);
}

#[test]
fn foreign_files_links_and_fifos_are_ignored_and_never_block() {
    let recording = Recording::new(&["-n", "2k"], &[1000]);
    let store = recording.dir.path("store");
    let name = |number: u32| format!("synthetic-20990101T00000{number}Z.pmon");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        store.join(name(0)),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink("/dev/zero", store.join(name(1))).unwrap();
    fs::create_dir(store.join(name(2))).unwrap();
    (0..3000).for_each(|number| fs::write(store.join(format!("{number}.pmon")), "foreign").unwrap());
    recording.verify(0);
    let empty = recording.dir.path("empty");
    fs::create_dir(&empty).unwrap();
    assert!(pmon(&["verify", &arg(&empty)]).expect(5).err.contains("the directory is empty"));
    fs::write(empty.join("night.pmon"), "foreign").unwrap();
    let refused = pmon(&["print", &arg(&empty)]).expect(5);
    assert!(refused.err.contains("to read night.pmon, name the file"), "{refused:?}");
}

#[test]
fn an_unreadable_segment_is_skipped_and_reported() {
    let recording = Recording::new(&["-n", "2k"], &[500, 1000]);
    fs::write(recording.path(1), "no capture").unwrap();
    let shown = pmon(&["print", &recording.store()]).expect(4);
    assert!(shown.err.contains("not a pmon capture; skipped"), "{shown:?}");
    let found = recording.findings(4);
    assert!(found.iter().any(|found| found["kind"] == "unreadable"), "{found:?}");
}

#[test]
fn an_unreadable_segment_is_left_out_of_excerpts_and_of_relative_times() {
    let recording = Recording::new(&["-n", "4k", "--rate", "1000"], &[1000, 2000, 3000]);
    let (store, clip) = (recording.store(), arg(&recording.dir.path("clip.pmon")));
    let host = recording.segments[0].name.split_once("-2026").unwrap().0;
    fs::write(recording.dir.path("store").join(format!("{host}-20200101T000000Z.pmon")), "").unwrap();
    let range = ["--since", "+500ms", "--until", "+3s"];
    let lines = |path: &str, range: &[&str], code| {
        pmon(&[&["print", path, "--format", "json"], range].concat()).expect(code).json_lines()
    };
    // The oldest file is no capture, so it does not define the start.
    let within = lines(&recording.whole, &range, 0);
    assert!(within.len() > 100);
    assert!(lines(&store, &range, 4) == within);
    fs::write(recording.path(2), "no capture").unwrap();
    let left = lines(&store, &range, 4);
    let cut = pmon(&[&["cut", &store, "-o", &clip], &range[..]].concat()).expect(4);
    assert!(cut.err.contains("not a pmon capture; skipped"), "{cut:?}");
    assert!(lines(&clip, &[], 0) == left && left.len() < within.len());
    let verified = pmon(&["verify", "--json", &clip]).expect(3).json();
    assert_eq!(verified["verdict"], "blind", "{verified}");
}

#[test]
fn a_range_reads_only_the_segments_that_it_needs() {
    let recording = Recording::new(&["-n", "20k", "--rate", "1000"], &cuts(1, 9, 20_000));
    let count = recording.segments.len();
    for range in [["--since", "+10s", "--until", "+12s"], ["--since", "-3s", "--until", "-1s"]] {
        let print = |path: &str| {
            let args = ["--format", "json"];
            let lines = pmon(&[&["print", path], &range[..], &args].concat()).expect(0).json_lines();
            lines.iter().map(|line| json!([line["seq"], line["cpu"], line["kind"]])).collect::<Vec<_>>()
        };
        let whole = print(&recording.whole);
        assert!(whole.len() > 100);
        assert_eq!(whole, print(&recording.store()), "{range:?}");
    }
    // The first and the last segment state the extent; an unreadable one elsewhere is not opened.
    fs::write(recording.path(count - 2), "no capture").unwrap();
    let shown = pmon(&["print", &recording.store(), "--since", "+1s", "--until", "+2s"]).expect(0);
    assert_eq!(shown.err, "");
}

#[test]
fn several_files_must_be_regular_files() {
    let recording = Recording::new(&["-n", "1k"], &[500]);
    let file = arg(&recording.path(0));
    for (other, why) in
        [("-", "standard input cannot be one of several"), (&recording.store(), "is a directory")]
    {
        assert!(pmon(&["verify", &file, other]).expect(2).err.contains(why));
    }
    assert!(!Path::new("missing.pmon").exists());
    assert!(pmon(&["verify", &file, "missing.pmon"]).expect(6).err.contains("cannot open missing.pmon"));
}

/// Changes the header of a segment's file.
fn edit(recording: &Recording, number: usize, edit: impl FnOnce(&mut pmon_core::capture::Meta)) {
    let segment = &recording.segments[number];
    let mut header = segment.header.clone();
    edit(&mut header.meta);
    fs::write(recording.file(segment), with_header(&segment.bytes, &header)).unwrap();
}

/// Lets a new recorder begin a segment `late_ns` after the end of the one before it.
fn restart(meta: &mut pmon_core::capture::Meta, late_ns: u64) {
    meta.segment = Some(SegmentInfo { reason: SegmentReason::Start, positions: vec![] });
    meta.start.mono.0 += late_ns;
    meta.start.real_ns += late_ns as i64;
}

#[test]
fn a_time_without_a_recorder_is_unobserved() {
    let recording = Recording::new(&["-n", "3k", "--rate", "1000"], &[1000, 2000]);
    edit(&recording, 1, |meta| restart(meta, 1_000_000));
    let found = recording.verify(3);
    let spans = found["spans"].as_array().unwrap();
    let states: Vec<_> = spans.iter().map(|span| &span["state"]).collect();
    assert_eq!(states, ["observed", "unobserved", "observed"]);
    assert_eq!((&spans[1]["reason"], &found["unobserved_ns"]), (&json!("stopped"), &json!(1_000_000)));
    assert_eq!((&found["verdict"], &found["findings"]), (&json!("blind"), &json!([])));
    let text = pmon(&["verify", &recording.store()]).expect(3).out;
    let sentence = text.replace("\n             ", " ");
    assert!(sentence.contains("verdict      complete from 2026-01-01 00:00:00 UTC to"), "{text}");
    assert!(sentence.contains("(the recorder was stopped), complete to 2026-01-01 00:00:0"), "{text}");
    let shown = pmon(&["print", &recording.store(), "--format", "json"]).expect(0).json_lines();
    let spans: Vec<_> = shown.iter().filter(|line| line["kind"] == "unobserved").collect();
    assert_eq!((spans.len(), &spans[0]["cause"]), (1, &json!("stopped")));
}

#[test]
fn a_store_is_read_across_a_reboot_and_replayed_within_a_boot() {
    let recording = Recording::new(&["-n", "3k", "--rate", "1000"], &[2000]);
    edit(&recording, 0, |meta| meta.boot_id = "first".into());
    edit(&recording, 1, |meta| {
        restart(meta, 60_000_000_000);
        meta.boot_id = "second".into();
        meta.start.mono.0 = 5_000_000_000;
    });
    let found = recording.verify(3);
    let length = found["unobserved_ns"].as_u64().unwrap();
    assert!((60_000_000_000..61_000_000_000).contains(&length), "{length}");
    let shown = pmon(&["print", &recording.store()]).expect(0).out;
    assert!(shown.lines().count() > 1000);
    let refused = pmon(&["replay", &recording.store()]).expect(2);
    assert!(refused.err.contains("the machine was booted within the recording"), "{refused:?}");
    pmon(&["replay", &recording.store(), "--to", "+500ms"]).expect(0);
}

#[test]
fn events_at_the_damaged_end_of_a_segment_are_said_to_be_missing_there() {
    let recording = Recording::new(&["-n", "3k"], &[1000, 2000]);
    let [first, second, ..] = &recording.segments[..] else { panic!("three segments") };
    let mut bytes = first.bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(recording.path(0), bytes).unwrap();
    let found = recording.verify(4);
    let text = found["findings"][0]["text"].as_str().unwrap();
    let place = format!("missing in the damaged {}, or between it and {}", first.name, second.name);
    assert!(found["findings"][0]["kind"] == "absent" && text.contains(&place), "{found:#}");
}

#[test]
fn a_killed_recorder_is_named_and_what_it_did_not_write_is_counted() {
    let recording = Recording::new(&["-n", "3k"], &[1000, 2000]);
    let bytes = &recording.segments[0].bytes;
    fs::write(recording.path(0), &bytes[..bytes.len() - 24]).unwrap();
    let name = &recording.segments[0].name;
    assert_eq!(recording.findings(0), [json!({ "kind": "unclean", "name": name, "events": 0 })]);
    edit(&recording, 1, |meta| meta.segment.as_mut().unwrap().positions[0].next.0 += 7);
    let found = recording.findings(4);
    assert_eq!(found[0], json!({ "kind": "unclean", "name": name, "events": 7 }));
}

#[test]
fn forged_headers_neither_loop_nor_take_much_memory() {
    let recording = Recording::new(&["-n", "3k"], &[1000, 2000]);
    let last = recording.segments[2].header.uuid;
    edit(&recording, 0, |meta| meta.previous = Some(last));
    edit(&recording, 1, |meta| {
        let cpu = |cpu: u32| CpuPosition {
            cpu: Cpu(cpu.wrapping_mul(50_021)),
            next: Seq(u32::MAX),
            time: MonoNs(u64::MAX),
        };
        meta.segment.as_mut().unwrap().positions = (0..30_000).map(cpu).collect();
        meta.host = "synthetic".into();
        meta.boot_id = "b".repeat(300_000);
    });
    edit(&recording, 2, |meta| meta.boot_id = "c".repeat(300_000));
    let ran = pmon(&["verify", "--json", &recording.store()]);
    assert!([3, 4].contains(&ran.code.unwrap()), "{ran:?}");
    pmon(&["print", &recording.store()]);
}

#[test]
fn a_segment_that_is_being_written_is_read_and_named() {
    let recording = Recording::new(&["-n", "2k"], &[1000]);
    let path = recording.path(1);
    let partial = arg(&path) + ".partial";
    fs::rename(&path, &partial).unwrap();
    let bytes = &recording.segments[1].bytes;
    fs::write(&partial, &bytes[..bytes.len() - 24]).unwrap();
    let shown = pmon(&["print", &recording.store()]).expect(0);
    assert!(shown.err.contains("not ended cleanly; complete up to"), "{shown:?}");
    let found = recording.verify(3);
    assert!(found["summary"].as_str().unwrap().contains("the recorder did not end cleanly"), "{found:#}");
    // A recorder has only just created the next segment.
    fs::write(recording.dir.path("store").join("synthetic-20990101T000000Z.pmon.partial"), "").unwrap();
    pmon(&["print", &recording.store(), "--since", "-1ms"]).expect(0);
}
