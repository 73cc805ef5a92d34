use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::disk::{Directory, LOCK_NAME};

/// Records to a real directory for some rotations, in virtual time.
fn record(writer: &mut StoreWriter, steps: u32) {
    let (base, mut random) = (Instant::now(), oorandom::Rand32::new(1));
    let mut next = 0;
    for step in 0..steps {
        for _ in 0..60 {
            let task = Task { tid: Tid(1), tgid: Tgid(1) };
            let comm = Comm(std::array::from_fn(|_| random.rand_range(1..256) as u8));
            let time = MonoNs(u64::from(next) * 1000);
            let event = Event { time, seq: Seq(next), cpu: Cpu(0), body: EventBody::Comm { task, comm } };
            next += 1;
            writer.record(&RecordedDatagram::Event(event).into()).unwrap();
        }
        writer.tick(base + step * STEP).unwrap();
        if let Some(reason) = writer.segment_due() {
            let cpus = vec![CpuPosition { cpu: Cpu(0), next: Seq(next), time: MonoNs(0) }];
            let positions = Positions { time: MonoNs(0), cpus, source_drops: None };
            let clock = ClockAnchor { mono: MonoNs(u64::from(next) * 1000), boot_ns: 0, real_ns: REAL };
            writer.record(&Record::Positions(positions.clone())).unwrap();
            writer.begin_segment(&Division { reason, clock, positions }).unwrap();
            writer.end_segment(&End::default()).unwrap();
        }
    }
    writer.finish().unwrap();
}

#[test]
fn samples_of_a_real_directory_never_exceed_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Directory::new(directory.path().join("store")));
    let max_use = 1 << 20;
    let options = StoreOptions { limits: at_most(max_use), ..StoreOptions::default() };
    let (mut writer, handle, _) =
        StoreWriter::open(store.clone(), template(), options, model(), Instant::now()).unwrap();
    let (is_done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let files = store.list().unwrap();
                let bytes = files.iter().map(FileEntry::usage).sum::<u64>();
                let all = bytes + store.directory().unwrap().bytes;
                // A list that was read while a file grew or got another name states no moment.
                if files == store.list().unwrap() {
                    most.fetch_max(all, Ordering::Relaxed);
                }
            }
        });
        record(&mut writer, 1500);
        is_done.store(true, Ordering::Relaxed);
    });
    let status = handle.status();
    let most = most.load(Ordering::Relaxed);
    assert!(status.pruned > 0 && status.last_error.is_none(), "{status:?}");
    assert!((max_use / 2..=max_use).contains(&most), "{most}");
    let listing = StoreListing::read(&*store).unwrap();
    assert!(listing.segments.iter().all(|segment| !segment.is_partial));
    assert_eq!(listing.others.iter().map(|entry| &*entry.name).collect::<Vec<_>>(), [LOCK_NAME]);
}

#[test]
fn a_segment_begins_as_soon_as_a_directory_that_was_moved_away_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let store = Arc::new(Directory::new(&path));
    let base = Instant::now();
    let (mut writer, handle, _) =
        StoreWriter::open(store, template(), StoreOptions::default(), model(), base).unwrap();
    let at = |ms| base + Duration::from_millis(ms);
    let record = |writer: &mut StoreWriter| writer.record(&Record::Clock(template().meta.start)).unwrap();
    record(&mut writer);
    writer.tick(base).unwrap();
    std::fs::rename(&path, parent.path().join("moved")).unwrap();
    // The sync of the segment's name fails before the directory is checked.
    record(&mut writer);
    while handle.status().current.is_some() {
        assert!(base.elapsed() < Duration::from_secs(20), "the sync does not fail");
        writer.tick(at(800)).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    writer.tick(at(1000)).unwrap();
    let status = handle.status();
    assert!(path.join(status.current.expect("a segment")).exists());
    writer.finish().unwrap();
}
