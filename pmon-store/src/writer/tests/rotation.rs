use super::*;

#[test]
fn a_rotation_by_size_age_or_request_loses_nothing() {
    for (options, reason) in [
        (small(), SegmentReason::Size),
        (
            StoreOptions { rotate_every: Duration::from_secs(1), ..StoreOptions::default() },
            SegmentReason::Age,
        ),
        (StoreOptions::default(), SegmentReason::Request),
    ] {
        let mut recorder = TestRecorder::new(options);
        for step in 0..200 {
            if reason == SegmentReason::Request && step % 50 == 20 {
                recorder.handle.request_rotation();
            }
            recorder.step(20);
            recorder.lose(2);
        }
        let (fs, next, finished) = recorder.finish();
        finished.unwrap();
        let contents = read(&fs);
        contents.check_complete(next);
        assert!(contents.segments.len() >= 4, "{reason:?}: {} segments", contents.segments.len());
        assert!(contents.segments.iter().all(|segment| segment.is_clean));
        assert!(contents.reasons()[1..].iter().all(|&found| found == reason));
        assert_eq!(contents.lost_to_storage(), 0);
    }
}

#[test]
fn the_same_recording_gives_the_same_bytes() {
    let files = |seed| {
        let fs = SimulatedFilesystem::default();
        fs.seed_uuids(seed);
        let mut recorder = TestRecorder::on(fs, small());
        recorder.steps(100, 20);
        let (fs, ..) = recorder.finish();
        let names = fs.names().into_iter();
        names.map(|name| (fs.contents(&name), name)).collect::<Vec<_>>()
    };
    let first = files(1);
    assert!(first.len() > 2);
    assert!(first == files(1));
    assert!(first != files(2));
}

#[test]
fn a_segment_ends_soon_after_its_size_is_reached() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(200, 20);
    let (fs, ..) = recorder.finish();
    for entry in fs.list().unwrap().iter().filter(|entry| entry.name.starts_with('h')) {
        assert!(entry.len < (24 << 10) + 4096, "{entry:?}");
    }
}

#[test]
fn a_clock_that_steps_backwards_across_a_rotation_leaves_unique_names_and_the_order() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    for _ in 0..6 {
        recorder.steps(3, 2);
        // Each segment starts within the same second of the wall clock.
        recorder.real_offset -= 60 * MS as i64;
        recorder.handle.request_rotation();
    }
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    contents.check_complete(next);
    let names: BTreeSet<_> = contents.segments.iter().map(|segment| &segment.name).collect();
    assert_eq!(names.len(), contents.segments.len());
    assert!(names.len() >= 6);
}

#[test]
fn a_waiting_thread_sees_when_all_events_so_far_are_in_ended_segments() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.step(5);
    let ticket = recorder.handle.request_rotation();
    assert!(!recorder.handle.wait_ended(ticket, Duration::ZERO));
    recorder.steps(3, 5);
    assert!(recorder.handle.wait_ended(ticket, Duration::ZERO));
    let status = recorder.handle.status();
    assert_eq!((status.segments, status.last_error.clone()), (2, None), "{status:?}");
    assert!(status.current.unwrap().ends_with(".partial"));
}

#[test]
fn late_details_and_the_end_belong_to_the_ending_segment() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.step(5);
    let positions = recorder.positions();
    recorder.writer.record(&Record::Positions(positions.clone())).unwrap();
    let (end, clock) = (recorder.end(), recorder.clock());
    let division = Division { reason: SegmentReason::Request, clock, positions };
    recorder.writer.begin_segment(&division).unwrap();
    recorder.step(7);
    assert_eq!(recorder.writer.segment_due(), None);
    let subject = DetailsSubject::Exec { tgid: Tgid(9), time: MonoNs(5) };
    let details = pmon_core::capture::Details::missed(subject, pmon_core::capture::MissReason::Busy);
    recorder.writer.record_late(&Record::Details(Box::new(details))).unwrap();
    recorder.step(1);
    recorder.writer.end_segment(&end).unwrap();
    recorder.step(1);
    let (fs, next, finished) = recorder.finish();
    finished.unwrap();
    let contents = read(&fs);
    contents.check_complete(next);
    assert_eq!(contents.segments.iter().map(|segment| segment.events).collect::<Vec<_>>(), [10, 18]);
    assert!(contents.segments.iter().all(|segment| segment.is_clean));
}

#[test]
fn a_second_recorder_is_refused() {
    let recorder = TestRecorder::new(small());
    let second =
        StoreWriter::open(Arc::new(recorder.fs.clone()), template(), small(), model(), recorder.base);
    assert!(matches!(second.err(), Some(OpenStoreError::Busy { .. })));
}

#[test]
fn the_next_recorder_continues_the_chain_of_segments() {
    let mut recorder = TestRecorder::new(small());
    recorder.steps(5, 5);
    let (fs, ..) = recorder.finish();
    let store = LockedStore::open(Arc::new(fs.clone()), "h").unwrap();
    let last = store.recovered().last.clone().unwrap();
    assert!(last.ended_cleanly && store.recovered().salvaged.is_empty());
    assert_eq!(last.positions.cpus[0].next, Seq(125));
    let (mut writer, _) = StoreWriter::begin(store, template(), small(), model(), Instant::now()).unwrap();
    writer.finish().unwrap();
    let listing = StoreListing::read(&fs).unwrap();
    assert_eq!(listing.segments.last().unwrap().summary.previous, Some(last.header.uuid));
}
