use std::io::Read as _;

use super::*;
use crate::segment::{StoreMachine, vacuum};

#[test]
fn the_store_never_takes_more_than_its_limit() {
    for max_use in [256 << 10, 512 << 10] {
        let options =
            StoreOptions { limits: at_most(max_use), rotate_size: 64 << 10, ..StoreOptions::default() };
        let mut recorder = TestRecorder::new(options);
        recorder.fs.take_extremes();
        recorder.steps(600, 60);
        let status = recorder.handle.status();
        assert!(status.pruned > 0 && status.used <= max_use, "{status:?}");
        let (fs, next, finished) = recorder.finish();
        finished.unwrap();
        let extremes = fs.take_extremes();
        assert!(extremes.most_used <= max_use, "{extremes:?} of {max_use}");
        assert!(extremes.most_used > max_use / 2, "{extremes:?} of {max_use}");
        let contents = read(&fs);
        assert_eq!(contents.lost_to_storage(), 0);
        assert!(contents.recorded[0].contains(&(next[0] - 1)));
    }
}

#[test]
fn space_is_kept_free_while_another_writer_fills_the_disk() {
    let keep = 128 << 10;
    let options = StoreOptions {
        limits: RetentionLimits { keep_free: Some(keep), ..RetentionLimits::default() },
        ..small()
    };
    for has_no_holes in [false, true] {
        let fs = SimulatedFilesystem::default();
        fs.set_conditions(|disk| (disk.capacity, disk.has_no_holes) = (Some(1 << 20), has_no_holes));
        check_free_space(TestRecorder::on(fs, options), keep);
    }
}

fn check_free_space(mut recorder: TestRecorder, keep: u64) {
    recorder.steps(200, 20);
    for step in 0..100 {
        recorder.fs.set_conditions(|disk| disk.used_by_others = step * 8192);
        recorder.fs.take_extremes();
        recorder.step(20);
        recorder.step(20);
        assert!(recorder.fs.take_extremes().least_available >= keep, "step {step}");
    }
    assert!(recorder.handle.status().pruned > 0);
    recorder.fs.set_conditions(|disk| disk.used_by_others = 0);
    recorder.steps(100, 20);
    let (fs, _, finished) = recorder.finish();
    finished.unwrap();
    read(&fs);
}

#[test]
fn segments_older_than_the_maximum_age_are_removed() {
    let max_age = Duration::from_secs(5);
    let options = StoreOptions {
        rotate_every: Duration::from_secs(1),
        limits: RetentionLimits { max_age: Some(max_age), ..RetentionLimits::default() },
        ..StoreOptions::default()
    };
    let mut recorder = TestRecorder::new(options);
    // The clock is recorded once; a wall clock that steps removes nothing of this boot.
    recorder.steps(1000, 1);
    recorder.writer.record(&Record::Clock(recorder.clock())).unwrap();
    recorder.real_offset = 1 << 60;
    recorder.writer.record(&Record::Clock(recorder.clock())).unwrap();
    recorder.steps(10, 1);
    let segments = recorder.handle.status().segments;
    assert!((6..=8).contains(&segments), "{segments}");
}

#[test]
fn the_oldest_finished_segment_is_removed_first() {
    let by_age = RetentionLimits { max_age: Some(Duration::from_secs(1)), ..RetentionLimits::default() };
    for limits in [at_most(256 << 10), by_age] {
        let mut recorder = TestRecorder::new(StoreOptions { limits, ..small() });
        recorder.fs.set_conditions(|disk| disk.sync_takes = Duration::from_millis(100));
        let removed = Arc::new(std::sync::Mutex::new(0));
        let count = removed.clone();
        recorder.fs.watch(move |moment| {
            if moment.operation == Operation::Remove && !moment.name.ends_with(".partial") {
                let listing = StoreListing::read(&moment.filesystem()).unwrap();
                let oldest = listing.segments.iter().find(|segment| !segment.is_partial).unwrap();
                assert_eq!(oldest.entry.name, moment.name);
                *count.lock().unwrap() += 1;
            }
        });
        // Segments of the same second have names that do not sort by time.
        recorder.steps(500, 60);
        recorder.fs.unwatch();
        assert!(*removed.lock().unwrap() > 5, "{}", removed.lock().unwrap());
    }
}

#[test]
fn foreign_files_are_neither_counted_nor_removed() {
    let fs = SimulatedFilesystem::default();
    for name in ["notes.txt", "other-20261129T081502Z.pmon", "x.pmon"] {
        fs.create(name).unwrap().write_at(&[1; 300 << 10], 0).unwrap();
    }
    let options =
        StoreOptions { limits: at_most(256 << 10), rotate_size: 64 << 10, ..StoreOptions::default() };
    let mut recorder = TestRecorder::on(fs, options);
    recorder.steps(500, 30);
    assert!(recorder.handle.status().pruned > 0);
    assert_eq!(recorder.handle.status().lost_to_storage, 0);
    for name in ["notes.txt", "other-20261129T081502Z.pmon", "x.pmon"] {
        assert!(recorder.fs.names().contains(name));
    }
}

#[test]
fn a_segment_that_another_process_removed_is_no_error() {
    let options = StoreOptions { limits: at_most(300 << 10), ..small() };
    let mut recorder = TestRecorder::new(options);
    recorder.steps(200, 20);
    let oldest = recorder.handle.status().oldest.unwrap();
    recorder.fs.delete(&oldest);
    recorder.steps(500, 20);
    let status = recorder.handle.status();
    assert!(status.last_error.is_none() && status.pruned > 0, "{status:?}");
}

#[test]
fn a_file_beside_the_segments_takes_the_room_of_the_oldest_ones() {
    let max_use = 300 << 10;
    let mut recorder = TestRecorder::new(StoreOptions { limits: at_most(max_use), ..small() });
    recorder.steps(500, 20);
    let filesystem = recorder.handle.filesystem();
    let before = recorder.handle.status().pruned;
    let clip = filesystem.create("h-20261129T081502Z-crash.clip.pmon").unwrap();
    clip.write_at(&[1; 100 << 10], 0).unwrap();
    recorder.steps(13, 0);
    assert!(recorder.handle.status().pruned > before);
    assert!(recorder.fs.take_extremes().most_used <= max_use);
    let refused = clip.write_at(&[1; 600 << 10], 0).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn clips_leave_half_of_the_room_to_segments() {
    let max_use = 400 << 10;
    let mut recorder = TestRecorder::new(StoreOptions { limits: at_most(max_use), ..small() });
    recorder.steps(300, 20);
    let filesystem = recorder.handle.filesystem();
    let mut taken = 0;
    let refused = loop {
        let clip = filesystem.create(&format!("h-20261129T081502Z-{taken}.clip.pmon.partial")).unwrap();
        if let Err(error) = clip.write_at(&[1; 30 << 10], 0) {
            break error;
        }
        filesystem
            .rename(
                &format!("h-20261129T081502Z-{taken}.clip.pmon.partial"),
                &format!("h-20261129T081502Z-{taken}.clip.pmon"),
            )
            .unwrap();
        taken += 1;
    };
    assert!(refused.to_string().contains("half of --max-use"), "{refused}");
    assert_eq!(taken, max_use / 2 / (32 << 10));
    recorder.steps(500, 20);
    let status = recorder.handle.status();
    assert!(status.last_error.is_none() && status.used <= max_use, "{status:?}");
    let (fs, ..) = recorder.finish();
    assert_eq!(read(&fs).lost_to_storage(), 0);
}

#[test]
fn clips_leave_half_of_the_filesystem_to_segments() {
    let capacity = 1 << 20;
    for keep_free in [None, Some(256 << 10)] {
        let limits = RetentionLimits { keep_free, ..RetentionLimits::default() };
        let fs = SimulatedFilesystem::default();
        fs.set_conditions(|disk| disk.capacity = Some(capacity));
        let mut recorder = TestRecorder::on(fs, StoreOptions { limits, ..small() });
        while recorder.handle.status().pruned == 0 {
            recorder.steps(10, 60);
            assert!(recorder.now < Duration::from_secs(300), "the disk is never full");
        }
        let filesystem = recorder.handle.filesystem();
        let clip = filesystem.create("h-20261129T081502Z-big.clip.pmon.partial").unwrap();
        let mut taken = 0;
        let refused = loop {
            match clip.write_at(&[1; 4 << 10], taken) {
                Ok(written) => taken += written as u64,
                Err(error) => break error,
            }
            assert!(taken < capacity, "nothing stops the clip");
        };
        assert!(refused.to_string().contains("half of the space"), "{refused}");
        let space = capacity - keep_free.unwrap_or(0);
        assert!((space / 4..=space / 2).contains(&taken), "{taken} of {space}");
        recorder.steps(100, 20);
        let status = recorder.handle.status();
        assert!(status.last_error.is_none() && status.used >= space / 2, "{status:?}");
    }
}

#[test]
fn damaged_files_of_the_store_make_room_for_segments() {
    let max_use = 400 << 10;
    let fs = SimulatedFilesystem::default();
    let names = |day: u32, host: &str| {
        [format!("{host}-202601{day:02}T000000Z.pmon"), format!("{host}-202601{day:02}T120000Z.damaged.pmon")]
    };
    for name in (1..=4).flat_map(|day| names(day, "h").into_iter().chain(names(day, "other"))) {
        fs.create(&name).unwrap().write_at(&[1; 40 << 10], 0).unwrap();
    }
    let mut recorder = TestRecorder::on(fs, StoreOptions { limits: at_most(max_use), ..small() });
    let mut left = 8;
    while left > 0 {
        recorder.steps(10, 60);
        assert!(recorder.now < Duration::from_secs(60), "{left} files stay");
        let names: Vec<_> = (1..=4).flat_map(|day| names(day, "h")).collect();
        let there: Vec<_> = names.iter().map(|name| recorder.fs.names().contains(name)).collect();
        // The oldest ones go first.
        assert!(there.is_sorted(), "{there:?}");
        let count = there.iter().filter(|&&is_there| is_there).count();
        assert!(count <= left, "{count} of {left}");
        left = count;
    }
    let status = recorder.handle.status();
    assert!(status.last_error.is_none() && status.used <= max_use, "{status:?}");
    assert_eq!(recorder.fs.names().iter().filter(|name| name.starts_with("other")).count(), 8);
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    assert_eq!(contents.lost_to_storage(), 0);
    contents.check_complete(next);
}

#[test]
fn a_maximum_size_that_no_removal_meets_removes_nothing() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(300, 20);
    let clip = recorder.handle.filesystem().create("h-20261129T081502Z-x.clip.pmon").unwrap();
    clip.write_at(&[1; 200 << 10], 0).unwrap();
    let segments = |fs: &SimulatedFilesystem| -> Vec<String> {
        fs.names().into_iter().filter(|name| name.ends_with(".pmon") && !name.contains("clip")).collect()
    };
    let before = segments(&recorder.fs);
    assert!(before.len() > 4, "{before:?}");
    let options = StoreOptions { limits: at_most(200 << 10), ..small() };
    // A running recorder that gets the limit keeps them all.
    recorder.handle.set_options(options);
    recorder.steps(100, 1);
    let status = recorder.handle.status();
    assert!(status.current.is_none() && status.last_error.unwrap().contains("--max-use"));
    let now = segments(&recorder.fs);
    assert!(before.iter().all(|name| now.contains(name)), "{before:?}, {now:?}");
    // A recorder that starts with it is refused.
    let (fs, ..) = recorder.finish();
    let (before, filesystem) = (fs.names(), Arc::new(fs.clone()));
    let refused = StoreWriter::open(filesystem, template(), options, model(), Instant::now()).err().unwrap();
    assert!(matches!(refused, OpenStoreError::NoRoom { max_use: 0x32000, .. }), "{refused}");
    assert_eq!(fs.names(), before);
}

#[test]
fn headers_are_read_again_only_after_a_new_segment_has_appeared() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(200, 20);
    let names: Vec<_> = recorder.fs.names().into_iter().filter(|name| name.ends_with(".pmon")).collect();
    let [first, second, third, ..] = &names[..] else { panic!("{names:?}") };
    // Without its header, the second file is no segment.
    recorder.fs.reopen(second).unwrap().write_at(&[0; 64], 0).unwrap();
    recorder.fs.delete(first);
    recorder.steps(20, 0);
    assert_eq!(recorder.handle.status().oldest.as_ref(), Some(second));
    recorder.fs.create("h-20261129T081502Z.pmon").unwrap();
    recorder.steps(20, 0);
    assert_eq!(recorder.handle.status().oldest.as_ref(), Some(third));
}

#[test]
fn a_store_is_counted_with_the_headers_that_were_read_when_it_was_opened() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(200, 20);
    let (fs, ..) = recorder.finish();
    let store = LockedStore::open(Arc::new(fs.clone()), "h").unwrap();
    let oldest = fs.names().into_iter().find(|name| name.ends_with(".pmon")).unwrap();
    fs.reopen(&oldest).unwrap().write_at(&[0; 64], 0).unwrap();
    let (_writer, handle) = StoreWriter::begin(store, template(), small(), model(), Instant::now()).unwrap();
    assert_eq!(handle.status().oldest, Some(oldest));
}

#[test]
fn vacuum_counts_what_the_recorder_counts() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(200, 20);
    let foreign = recorder.fs.names().into_iter().find(|name| name.ends_with(".pmon")).unwrap();
    let (mut file, mut bytes) = (recorder.fs.open(&foreign).unwrap(), Vec::new());
    file.read_to_end(&mut bytes).unwrap();
    let mut header = Header::read(&mut &bytes[..]).unwrap().unwrap();
    header.meta.machine_id = "other".into();
    let encoder = pmon_core::capture::Encoder::new(&header).unwrap();
    recorder.fs.create("other-20261129T081502Z.pmon").unwrap().write_at(encoder.header(), 0).unwrap();
    for (name, len) in [("h-20261129T081502Z-crash.clip.pmon", 5000), ("other-20261129T081502Z-x.pmon", 999)]
    {
        recorder.fs.create(name).unwrap().write_at(&vec![1; len], 0).unwrap();
    }
    let (fs, ..) = recorder.finish();
    let store = LockedStore::open(Arc::new(fs.clone()), "h").unwrap();
    let limits = RetentionLimits::default();
    let machine = StoreMachine::of(&template().meta);
    let vacuumed = vacuum(&fs, limits, &machine, 0, true).unwrap();
    let limited = LimitedFilesystem::new(Arc::new(fs), &template().meta, &small(), store.listing).unwrap();
    let counted = limited.summary();
    assert_eq!((vacuumed.used, vacuumed.kept), (counted.used, counted.sealed));
    assert!(counted.sealed > 2);
}
