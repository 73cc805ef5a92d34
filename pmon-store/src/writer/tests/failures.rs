use super::*;

const OPERATIONS: [Operation; 8] = [
    Operation::Create,
    Operation::Write,
    Operation::SetLen,
    Operation::PunchHole,
    Operation::Sync,
    Operation::Rename,
    Operation::Remove,
    Operation::SyncDirectory,
];

const ERRNOS: [i32; 7] =
    [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EFBIG, libc::EROFS, libc::EACCES, libc::EMFILE];

/// Records with rotations, losses and a blind span.
fn record(recorder: &mut TestRecorder) {
    for step in 0..140 {
        recorder.step(12);
        if step % 30 == 7 {
            recorder.lose(3);
        }
        if step == 70 {
            recorder.blind();
        }
    }
}

#[test]
fn an_error_of_any_operation_is_counted_and_the_recording_goes_on() {
    let options = StoreOptions { limits: at_most(1 << 20), ..small() };
    let mut failures = 0;
    for operation in OPERATIONS {
        let count = {
            let mut recorder = TestRecorder::new(options);
            record(&mut recorder);
            recorder.finish().0.count(operation) as u32
        };
        // The first operations and the last ones, and a sample of those between.
        let samples = (0..count).filter(|n| *n < 8 || count - n < 8 || n % 23 == 0);
        for (number, skip) in samples.enumerate() {
            let errno = ERRNOS[number % ERRNOS.len()];
            let fs = SimulatedFilesystem::default();
            fs.fail(operation, skip, errno);
            let mut recorder = TestRecorder::on(fs, options);
            record(&mut recorder);
            let fault = format!("errno {errno} of {operation:?} {skip}");
            let (fs, next, finished) = recorder.finish();
            let contents = std::panic::catch_unwind(|| read(&fs)).unwrap_or_else(|_| panic!("{fault}"));
            let is_pruned = contents.segments[0].header.meta.previous.is_some();
            if finished.is_ok() {
                std::panic::catch_unwind(|| contents.check_complete(next))
                    .unwrap_or_else(|_| panic!("{fault}"));
                assert!(contents.blinds >= 1 || is_pruned, "{fault}");
            }
            failures += 1;
        }
    }
    assert!(failures > 40, "{failures}");
}

#[test]
fn a_full_disk_costs_counted_events_and_recording_resumes_when_there_is_room() {
    let mut recorder = TestRecorder::new(small());
    recorder.fs.set_conditions(|disk| disk.capacity = Some(400 << 10));
    recorder.steps(50, 20);
    recorder.fs.set_conditions(|disk| disk.used_by_others = 400 << 10);
    recorder.steps(100, 20);
    let status = recorder.handle.status();
    assert!(status.last_error.is_some() && status.lost_to_storage > 1000, "{status:?}");
    recorder.blind();
    recorder.lose(7);
    recorder.fs.set_conditions(|disk| disk.used_by_others = 0);
    recorder.steps(100, 20);
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    assert!(contents.reasons().contains(&SegmentReason::Storage));
    assert_eq!(contents.blinds, 1);
    assert_eq!(contents.by_cause.of(LossCause::Socket), 7);
    assert!(contents.lost_to_storage() > 1000);
    contents.check_complete(next);
}

#[test]
fn events_of_a_full_disk_at_the_end_are_lost_and_reported() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(5, 20);
    recorder.fs.set_conditions(|disk| disk.capacity = Some(0));
    recorder.steps(50, 20);
    assert!(recorder.handle.status().lost_to_storage > 0);
    let (_, _, finished) = recorder.finish();
    assert!(finished.is_err());
}

#[test]
fn a_failed_sync_closes_the_segment_and_the_next_one_continues_without_loss() {
    let fs = SimulatedFilesystem::default();
    fs.fail(Operation::Sync, 2, libc::EIO);
    let mut recorder = TestRecorder::on(fs, StoreOptions::default());
    recorder.steps(200, 5);
    assert!(recorder.handle.status().last_error.is_some());
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    contents.check_complete(next);
    assert_eq!(contents.reasons(), [SegmentReason::Start, SegmentReason::Storage]);
    assert_eq!(contents.segments.iter().map(|segment| segment.is_clean).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_removed_segment_is_counted_as_lost() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(10, 5);
    recorder.handle.request_rotation();
    recorder.steps(10, 5);
    let name = recorder.handle.status().current.unwrap();
    recorder.fs.delete(&name);
    recorder.steps(100, 5);
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    contents.check_complete(next);
    assert!(contents.lost_to_storage() >= 100, "{}", contents.lost_to_storage());
}

#[test]
fn a_limit_on_file_sizes_makes_segments_smaller() {
    let fs = SimulatedFilesystem::default();
    fs.set_conditions(|disk| disk.size_limit = Some(64 << 10));
    let mut recorder = TestRecorder::on(fs, StoreOptions::default());
    recorder.steps(400, 20);
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    contents.check_complete(next);
    assert_eq!(contents.lost_to_storage(), 0);
    assert!(contents.segments.len() > 2 && contents.segments.iter().all(|segment| segment.is_clean));
}

#[test]
fn a_directory_that_cannot_be_synced_is_reported_and_no_failure() {
    let fs = SimulatedFilesystem::default();
    fs.set_conditions(|disk| disk.has_no_directory_sync = true);
    let mut recorder = TestRecorder::on(fs, small());
    recorder.steps(200, 10);
    assert!(recorder.handle.status().unsynced_directory.is_some());
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    contents.check_complete(next);
    assert_eq!(contents.lost_to_storage(), 0);
}

#[test]
fn a_deleted_directory_costs_counted_events_until_it_is_back() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(50, 10);
    recorder.fs.set_conditions(|disk| disk.is_deleted = true);
    recorder.steps(100, 10);
    recorder.fs.set_conditions(|disk| disk.is_deleted = false);
    recorder.steps(100, 10);
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    contents.check_complete(next);
    assert!(contents.lost_to_storage() > 0);
}

#[test]
fn a_segment_that_could_not_be_renamed_is_finished_while_the_recorder_runs() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(5, 5);
    // The end of the segment, and its salvage.
    recorder.fs.fail(Operation::Rename, 0, libc::EIO);
    recorder.fs.fail(Operation::Rename, 0, libc::EIO);
    recorder.divide(SegmentReason::Request);
    recorder.steps(20, 5);
    let partials =
        |fs: &SimulatedFilesystem| fs.names().iter().filter(|name| name.ends_with(".partial")).count();
    assert_eq!(partials(&recorder.fs), 2, "{:?}", recorder.fs.names());
    recorder.steps(100, 5);
    assert_eq!(partials(&recorder.fs), 1, "{:?}", recorder.fs.names());
    let (fs, ..) = recorder.finish();
    assert_eq!(partials(&fs), 0);
}
