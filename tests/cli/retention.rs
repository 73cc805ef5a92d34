//! Tests the limits of a store.

use std::fs;

use serde_json::json;

use crate::live::*;
use crate::recorder::can_record_to_a_store;
use crate::support::*;

#[test]
fn vacuum_removes_the_oldest_segments_or_shows_them() {
    pmon(&["vacuum", "/nowhere", "--max-use", "1G"]).expect(6);
    pmon(&["vacuum", "/tmp"]).expect(2);
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    for _ in 0..3 {
        pmon(&["record", "--store", &store, "-q", "--for", "50ms"]).expect(0);
    }
    dir.file("store/notes.txt", b"precious");
    let vacuum = |more: &[&str], code| pmon(&[&["vacuum", &store][..], more].concat()).expect(code);
    let segments = || {
        let names =
            fs::read_dir(&store).expect("the store").map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".pmon")).count()
    };
    // A limit that cannot be met removes nothing, and the message says which limit can.
    for (more, advice) in [
        (&["--max-use", "1"][..], "raise the limit"),
        (&["--max-use", "1", "--max-age", "1d"], "raise the limit"),
        (&["--keep-free", "8000000G"], "lower the limit"),
        (&["--max-use", "1", "--dry-run"], "raise the limit"),
    ] {
        let refused = vacuum(more, 7);
        assert!(refused.err.contains("cannot meet --") && refused.err.contains(advice), "{refused:?}");
        assert!(refused.out.contains(" 0 segments"), "{refused:?}");
        assert_eq!(segments(), 3);
    }
    vacuum(&["--max-age", "0s"], 2);
    assert!(vacuum(&["--max-age", "500ms"], 2).err.contains("at least 1s"));
    let report = vacuum(&["--max-use", "1", "--json"], 7).json();
    assert_eq!((&report["kept_segments"], &report["within_limits"]), (&json!(3), &json!(false)));
    let least = report["unmeetable"][0]["reachable_bytes"].as_u64().expect("a number").to_string();
    assert_eq!(report["unmeetable"][0]["limit"], "--max-use");
    let planned = vacuum(&["--max-use", &least, "--dry-run"], 0);
    assert!(
        planned.out.contains("would remove 2 segments") && planned.out.contains("--max-use"),
        "{planned:?}"
    );
    assert_eq!(segments(), 3);
    assert!(vacuum(&["--max-use", "1G", "--max-age", "1d"], 0).out.contains("removed 0 segments"));
    let report = vacuum(&["--max-use", &least, "--json"], 0).json();
    assert_eq!((&report["kept_segments"], &report["within_limits"]), (&json!(1), &json!(true)), "{report:#}");
    assert_eq!(
        (segments(), fs::read(dir.path("store/notes.txt")).expect("the file")),
        (1, b"precious".to_vec())
    );
}

/// Returns the host as it stands in the names of a store.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_kept = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    name.chars().map(|letter| if is_kept(letter) { letter } else { '_' }).collect()
}

#[test]
fn a_limit_that_cannot_be_met_is_refused_before_subscribing() {
    let dir = Dir::new();
    fs::create_dir(dir.path("store")).expect("a directory");
    let clip = format!("store/{}-20260101T000000Z-x.clip.pmon", host());
    dir.file(&clip, &vec![0; 2 << 20]);
    let record = |limit: &[&str]| {
        let store = arg(&dir.path("store"));
        // This user may not use the ring, so the subscription fails.
        as_nobody(
            &dir,
            &[&["record", "--store", &store, "--transport", "ring", "--for", "1ms"], limit].concat(),
        )
    };
    fs::set_permissions(dir.path("store"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("open");
    let Some(refused) = record(&["--max-use", "1M"]) else { return };
    let refused = refused.expect(7);
    assert!(
        refused.err.contains("no room for a segment") && refused.err.contains("--max-use"),
        "{refused:?}"
    );
    let unlimited = record(&[]).expect("runs");
    assert!(unlimited.code == Some(6) && unlimited.err.contains("ring"), "{unlimited:?}");
}
