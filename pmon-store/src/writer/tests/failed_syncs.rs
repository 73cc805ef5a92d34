//! Syncs that fail and are repeated: the kernel reports a failure once, and no later sync writes
//! the pages that have failed.

use oorandom::Rand32;

use super::*;

/// Checks that no event of a store whose segments are all finished is lost by a power loss.
fn check_durable(fs: &SimulatedFilesystem, fault: &str) {
    let before = read(fs).recorded;
    assert!(fs.names().iter().all(|name| !name.ends_with(".partial")), "{fault}: {:?}", fs.names());
    let mut random = Rand32::new(1);
    for _ in 0..8 {
        let image = fs.after_power_loss(&mut random);
        LockedStore::open(Arc::new(image.clone()), "h").unwrap();
        let after = read_after(&image, true).recorded;
        for cpu in 0..CPUS {
            let lost = before[cpu].difference(&after[cpu]).count();
            assert_eq!(lost, 0, "{fault}: a power loss costs {lost} events of CPU {cpu}");
        }
    }
}

fn record(recorder: &mut TestRecorder) {
    recorder.steps(70, 8);
    recorder.divide(SegmentReason::Request);
    recorder.steps(70, 8);
}

#[test]
fn a_segment_whose_sync_has_failed_is_durable_once_it_is_finished() {
    let count = {
        let mut recorder = TestRecorder::new(StoreOptions::default());
        record(&mut recorder);
        recorder.finish().0.count(Operation::Sync) as u32
    };
    // The failure of one sync, and that of its repetitions as well.
    for (skip, failures) in (0..count).map(|skip| (skip, skip % 3 + 1)) {
        let fs = SimulatedFilesystem::default();
        (0..failures).for_each(|_| fs.fail(Operation::Sync, skip, libc::EIO));
        let mut recorder = TestRecorder::on(fs, StoreOptions::default());
        record(&mut recorder);
        // The attempts to finish a segment are repeated.
        recorder.steps(320, 1);
        // The end itself is not repeated: the command reports its failure.
        recorder.fs.cancel_failures();
        let (fs, next, finished) = recorder.finish();
        let fault = format!("{failures} failures from sync {skip} on");
        assert!(finished.is_ok() && fs.failed_syncs() > 0, "{fault}: {finished:?}");
        read(&fs).check_complete(next);
        check_durable(&fs, &fault);
    }
}

#[test]
fn a_recovery_whose_sync_has_failed_is_durable_when_it_is_repeated() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(60, 5);
    // A sealed block that is not synced when the recorder is killed.
    recorder.step(1100);
    recorder.steps(3, 1);
    let killed = recorder.fs.after_kill();
    let syncs = {
        let fs = killed.after_kill();
        LockedStore::open(Arc::new(fs.clone()), "h").unwrap();
        (fs.count(Operation::Sync) - killed.count(Operation::Sync)) as u32
    };
    assert!(syncs >= 3, "{syncs}");
    for skip in 0..syncs {
        let fs = killed.after_kill();
        fs.fail(Operation::Sync, skip, libc::EIO);
        let recover = || LockedStore::open(Arc::new(fs.clone()), "h").unwrap().recovered().clone();
        let (first, again) = (recover(), recover());
        assert_eq!(fs.failed_syncs(), 1);
        // If the sync of the block fails that replaces the journal, the journal stays.
        assert!(skip > 0 || first.failed.len() == 1, "sync {skip}");
        assert_eq!(first.salvaged.len() + again.salvaged.len(), 1);
        check_durable(&fs, &format!("sync {skip} of the recovery"));
    }
}

#[test]
fn a_recorder_that_is_killed_after_a_failed_sync_leaves_its_segments_to_the_recovery() {
    for skip in 0..4 {
        let fs = SimulatedFilesystem::default();
        (0..40).for_each(|_| fs.fail(Operation::Sync, skip, libc::EIO));
        let mut recorder = TestRecorder::on(fs, StoreOptions::default());
        recorder.steps(250, 5);
        assert!(recorder.fs.failed_syncs() > 1);
        let fs = recorder.fs.after_kill();
        LockedStore::open(Arc::new(fs.clone()), "h").unwrap();
        check_durable(&fs, &format!("all syncs from {skip} on"));
    }
}

#[test]
fn a_name_whose_sync_has_failed_is_durable_once_the_segment_is_finished() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(70, 8);
    let name = recorder.handle.status().current.unwrap().replace(".partial", "");
    recorder.fs.fail(Operation::SyncDirectory, 0, libc::EIO);
    // Without a next segment, only the end of this one syncs the directory.
    (0..8).for_each(|_| recorder.fs.fail(Operation::Create, 0, libc::EACCES));
    recorder.divide(SegmentReason::Request);
    recorder.steps(20, 0);
    assert!(recorder.handle.status().last_error.is_some());
    recorder.steps(80, 0);
    let mut random = Rand32::new(1);
    for _ in 0..20 {
        let names = recorder.fs.after_power_loss(&mut random).names();
        assert!(names.contains(&name), "{names:?}");
    }
}
