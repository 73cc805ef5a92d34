use super::*;

#[test]
fn the_store_never_takes_more_than_its_limit() {
    for max_use in [256 << 10, 512 << 10] {
        let options =
            StoreOptions { max_use: Some(max_use), rotate_size: 64 << 10, ..StoreOptions::default() };
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
    let options = StoreOptions { keep_free: Some(keep), ..small() };
    let mut recorder = TestRecorder::new(options);
    recorder.fs.set_conditions(|disk| disk.capacity = Some(1 << 20));
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
        max_age: Some(max_age),
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
fn foreign_files_are_neither_counted_nor_removed() {
    let fs = SimulatedFilesystem::default();
    for name in ["notes.txt", "other-20261129T081502Z.pmon", "x.pmon"] {
        fs.create(name).unwrap().write_at(&[1; 300 << 10], 0).unwrap();
    }
    let options = StoreOptions { max_use: Some(256 << 10), rotate_size: 64 << 10, ..StoreOptions::default() };
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
    let options = StoreOptions { max_use: Some(300 << 10), ..small() };
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
    let mut recorder = TestRecorder::new(StoreOptions { max_use: Some(max_use), ..small() });
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
