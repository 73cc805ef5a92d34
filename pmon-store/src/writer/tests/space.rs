//! A disk that other programs fill, or that the store itself fills.

use super::*;

const CAPACITY: u64 = 1 << 20;
const KEEP_FREE: u64 = 512 << 10;

fn keeping(keep_free: Option<u64>, options: StoreOptions) -> StoreOptions {
    StoreOptions { limits: RetentionLimits { keep_free, ..options.limits }, ..options }
}

/// Returns a recorder whose store takes a few hundred KiB of a disk of [`CAPACITY`], of which
/// [`KEEP_FREE`] must stay free.
fn recorder() -> TestRecorder {
    let mut recorder = TestRecorder::new(keeping(Some(KEEP_FREE), small()));
    recorder.fs.set_conditions(|disk| disk.capacity = Some(CAPACITY));
    recorder.steps(200, 20);
    recorder
}

fn finished(recorder: &TestRecorder) -> Vec<String> {
    recorder.fs.names().into_iter().filter(|name| name.ends_with(".pmon")).collect()
}

/// Lets other programs take `bytes`, or as many as there are.
fn fill(recorder: &TestRecorder, bytes: u64) {
    recorder.fs.set_conditions(|disk| disk.used_by_others = 0);
    let available = recorder.fs.available_bytes();
    recorder.fs.set_conditions(|disk| disk.used_by_others = bytes.min(available));
}

#[test]
fn no_segment_is_removed_if_that_cannot_meet_the_limit() {
    let mut recorder = recorder();
    let before = finished(&recorder);
    assert!(before.len() > 4, "{before:?}");
    for _ in 0..3 {
        fill(&recorder, CAPACITY);
        recorder.steps(200, 20);
        let status = recorder.handle.status();
        assert!(status.current.is_none() && status.last_error.is_some(), "{status:?}");
        let now = finished(&recorder);
        assert!(before.iter().all(|name| now.contains(name)), "{before:?}, {now:?}");
        fill(&recorder, 0);
        recorder.steps(60, 1);
        assert!(recorder.handle.status().current.is_some());
    }
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    assert!(contents.lost_to_storage() > 1000);
    contents.check_complete(next);
}

#[test]
fn the_newest_segments_stay_while_others_fill_the_disk_slowly() {
    let mut recorder = recorder();
    let kept = recorder.writer.options.kept();
    for step in 0..=256 {
        fill(&recorder, step * CAPACITY / 256);
        recorder.steps(4, 20);
    }
    assert!(recorder.handle.status().pruned > 0);
    let names = finished(&recorder);
    let bytes: u64 = names.iter().map(|name| recorder.fs.entry(name).unwrap().usage()).sum();
    assert!(bytes >= kept / 2 && bytes < 4 * kept, "{bytes} of {kept}");
    // What is there is not replaced by less again and again.
    recorder.steps(400, 20);
    assert_eq!(finished(&recorder), names);
    fill(&recorder, 0);
    recorder.steps(100, 20);
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    assert!(names.iter().all(|name| contents.segments.iter().any(|segment| segment.name == *name)));
    contents.check_complete(next);
}

#[test]
fn a_store_that_fills_its_disk_replaces_a_small_part_of_itself_at_a_time() {
    for keep_free in [None, Some(64 << 10)] {
        let capacity = 1 << 20;
        let mut recorder = TestRecorder::new(keeping(keep_free, StoreOptions::default()));
        recorder.fs.set_conditions(|disk| disk.capacity = Some(capacity));
        while recorder.handle.status().pruned == 0 {
            recorder.steps(10, 60);
            assert!(recorder.now < Duration::from_secs(300), "the disk is never full");
        }
        let mut least = u64::MAX;
        for _ in 0..500 {
            recorder.step(60);
            let names = finished(&recorder);
            least = least.min(names.iter().map(|name| recorder.fs.entry(name).unwrap().usage()).sum());
        }
        assert!(least > capacity / 2, "{least} of {capacity}");
        let (fs, next, finished) = recorder.finish();
        finished.unwrap();
        let contents = read(&fs);
        assert_eq!(contents.lost_to_storage(), 0);
        contents.check_complete(next);
    }
}
