use oorandom::Rand32;

use super::*;

/// Opens a store after a crash, and returns what was recovered.
fn recover(fs: &SimulatedFilesystem) -> Recovered {
    LockedStore::open(Arc::new(fs.clone()), "h").unwrap().recovered().clone()
}

#[test]
fn a_killed_recorder_leaves_a_segment_that_is_salvaged_without_loss() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(50, 5);
    recorder.steps(5, 0);
    let (fs, next) = (recorder.fs.after_kill(), recorder.next);
    let recovered = recover(&fs);
    let last = recovered.last.unwrap();
    assert_eq!(recovered.salvaged, std::slice::from_ref(&last.name));
    assert!(!last.ended_cleanly && !last.name.ends_with(".partial"));
    assert_eq!(last.positions.cpus.iter().map(|cpu| cpu.next.0).collect::<Vec<_>>(), next);
    let contents = read(&fs);
    contents.check_complete(next);
    let entry = fs.entry(&last.name).unwrap();
    assert!(entry.len < 64 << 10, "the journal was moved: {entry:?}");
}

#[test]
fn a_crash_at_any_operation_leaves_a_store_that_recovers() {
    for (seed, is_power_loss) in [(1, false), (2, true), (3, true)] {
        let images = Arc::new(std::sync::Mutex::new(Vec::new()));
        let fs = SimulatedFilesystem::default();
        let mut random = Rand32::new(seed);
        let taken = images.clone();
        fs.watch(move |moment| {
            if random.rand_range(0..4) == 0 {
                let image = if is_power_loss {
                    moment.after_power_loss(&mut random)
                } else {
                    moment.after_kill(&mut random)
                };
                taken.lock().unwrap().push(image);
            }
        });
        let mut recorder =
            TestRecorder::on(fs, StoreOptions { rotate_size: 8 << 10, ..StoreOptions::default() });
        recorder.steps(200, 12);
        recorder.fs.unwatch();
        drop(recorder);
        let images = std::mem::take(&mut *images.lock().unwrap());
        assert!(images.len() > 50, "{}", images.len());
        for (number, image) in images.iter().enumerate() {
            // The recovery itself is interrupted, too.
            let mut random = Rand32::new(number as u64);
            let crashed = Arc::new(std::sync::Mutex::new(None));
            let (slot, at) = (crashed.clone(), random.rand_range(0..4));
            let mut operations = 0;
            image.watch(move |moment| {
                if operations == at {
                    *slot.lock().unwrap() = Some(moment.after_kill(&mut random));
                }
                operations += 1;
            });
            recover(image);
            image.unwatch();
            let recovered = read_after(image, is_power_loss);
            assert!(image.names().iter().all(|name| !name.ends_with(".partial")));
            if let Some(crashed) = crashed.lock().unwrap().take() {
                recover(&crashed);
                let again = read_after(&crashed, is_power_loss);
                assert_eq!(again.recorded, recovered.recorded, "image {number} of seed {seed}");
            }
        }
    }
}

#[test]
fn files_without_records_are_removed_and_those_without_a_header_are_kept() {
    let fs = SimulatedFilesystem::default();
    let mut recorder = TestRecorder::on(fs, StoreOptions::default());
    recorder.steps(10, 5);
    let name = recorder.handle.status().current.unwrap();
    let fs = recorder.fs.after_kill();
    fs.reopen(&name).unwrap().write_at(&[0xff; 64], 0).unwrap();
    fs.create("h-20261129T081500Z.pmon.partial").unwrap();
    fs.create("h-20261129T081501Z.pmon.partial").unwrap().write_at(b"garbage", 0).unwrap();
    fs.create("other-20261129T081501Z.pmon.partial").unwrap().write_at(b"garbage", 0).unwrap();
    let recovered = recover(&fs);
    assert_eq!((recovered.salvaged.len(), recovered.set_aside.len(), recovered.failed.len()), (0, 1, 0));
    let names: Vec<_> = fs.names().into_iter().collect();
    assert_eq!(names, [recovered.set_aside[0].clone(), "other-20261129T081501Z.pmon.partial".into()]);
}

#[test]
fn a_finished_segment_that_was_not_renamed_gets_its_name() {
    let fs = SimulatedFilesystem::default();
    fs.fail(Operation::Rename, 0, libc::EIO);
    fs.fail(Operation::Rename, 0, libc::EIO);
    let mut recorder = TestRecorder::on(fs, StoreOptions::default());
    recorder.steps(10, 5);
    let (fs, next, finished) = recorder.finish();
    assert!(finished.is_err());
    let fs = fs.after_kill();
    let recovered = recover(&fs);
    assert!(recovered.last.unwrap().ended_cleanly);
    read(&fs).check_complete(next);
}
