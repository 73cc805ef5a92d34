use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

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

/// Returns whether the only segment of a store ended cleanly, and whether it has an END.
fn end_of_segment(fs: &SimulatedFilesystem) -> (bool, bool) {
    let names = fs.names();
    let name = names.iter().find(|name| name.starts_with("h-")).unwrap();
    let mut reader = Reader::open_sparse(fs.open(name).unwrap(), |file| file.skip_hole()).unwrap();
    let mut has_end = false;
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { continue };
        has_end |= block.records().any(|record| matches!(record, Record::End(_)));
    }
    (reader.ended_cleanly(), has_end)
}

#[test]
fn a_salvaged_segment_with_an_end_has_not_ended_cleanly() {
    let images = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(50, 5);
    let (taken, mut random) = (images.clone(), Rand32::new(1));
    recorder.fs.watch(move |moment| {
        let mut taken = taken.lock().unwrap();
        taken.push(moment.after_kill(&mut random));
        taken.extend((0..10).map(|_| moment.after_power_loss(&mut random)));
    });
    let (fs, ..) = recorder.finish();
    fs.unwatch();
    let mut unfinished = 0;
    for image in std::mem::take(&mut *images.lock().unwrap()) {
        let (was_clean, has_end) = end_of_segment(&image);
        unfinished += usize::from(has_end && !was_clean);
        let last = recover(&image).last.unwrap();
        assert_eq!((last.ended_cleanly, end_of_segment(&image).0), (was_clean, was_clean));
    }
    assert!(unfinished > 3, "{unfinished}");
}

/// A file that counts the bytes that are read.
struct CountingFile {
    file: Box<dyn StoredFile>,
    read: Rc<Cell<u64>>,
}

impl Read for CountingFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

impl Seek for CountingFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Returns the times of the events from the first block on that can have one at or after `from`,
/// and the number of bytes that were read for them.
fn times_from(fs: &SimulatedFilesystem, name: &str, from: MonoNs) -> (Vec<MonoNs>, u64) {
    let read = Rc::new(Cell::new(0));
    let file = CountingFile { file: fs.open(name).unwrap(), read: read.clone() };
    let mut reader = Reader::open_sparse(file, |file| file.file.skip_hole()).unwrap();
    assert!(reader.seek(from).unwrap(), "there is no index");
    let mut times = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { panic!("damage") };
        for record in block.records() {
            let Record::Event(datagram, _) = record else { continue };
            times.extend(datagram.event(ByteOrder::NATIVE).map(|event| event.time));
        }
    }
    assert!(!reader.ended_cleanly());
    (times, read.get())
}

#[test]
fn a_salvaged_segment_has_an_index() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(2000, 60);
    let fs = recorder.fs.after_kill();
    let name = recover(&fs).last.unwrap().name;
    let bytes = fs.entry(&name).unwrap().len;
    let (all, _) = times_from(&fs, &name, MonoNs(0));
    assert!(all.len() > 1990 * 60 * CPUS, "{}", all.len());
    for percent in [10, 50, 90, 100] {
        let from = all[(all.len() - 1) * percent / 100];
        let (times, read) = times_from(&fs, &name, from);
        let at_or_after = |times: &[MonoNs]| times.iter().filter(|&&time| time >= from).count();
        assert_eq!(at_or_after(&times), at_or_after(&all), "{percent} %");
        let most = bytes * (100 - percent as u64) / 100 + (1 << 20);
        assert!(read < most, "{read} of {bytes} bytes were read from {percent} % on");
    }
}

/// Returns the number of blocks of a file.
fn count_blocks(fs: &SimulatedFilesystem, name: &str) -> usize {
    let mut reader = Reader::open_sparse(fs.open(name).unwrap(), |file| file.skip_hole()).unwrap();
    let mut blocks = 0;
    while let Some(item) = reader.next_item().unwrap() {
        blocks += usize::from(matches!(item, Item::Block(_)));
    }
    blocks
}

#[test]
fn a_journal_of_many_blocks_becomes_one_block_with_one_sync() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(400, 2);
    recorder.steps(5, 0);
    let name = recorder.handle.status().current.unwrap();
    let (fs, next) = (recorder.fs.after_kill(), recorder.next);
    assert!(count_blocks(&fs, &name) > 100, "there is no journal");
    let syncs = fs.count(Operation::Sync);
    let name = recover(&fs).last.unwrap().name;
    // Before the recovery, after the block, before the index, and after it.
    assert_eq!(fs.count(Operation::Sync) - syncs, 4);
    assert!(count_blocks(&fs, &name) <= 3, "{}", count_blocks(&fs, &name));
    read(&fs).check_complete(next);
}

#[test]
fn the_journal_of_a_later_version_is_not_encoded_again() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(100, 2);
    recorder.steps(5, 0);
    let name = recorder.handle.status().current.unwrap();
    let (fs, next) = (recorder.fs.after_kill(), recorder.next);
    // A later minor version in the file's header, and the header's checksum.
    let bytes = fs.contents(&name).unwrap();
    let len = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut header = bytes[..len].to_vec();
    header[10..12].copy_from_slice(&u16::MAX.to_le_bytes());
    let crc = crc32c::crc32c(&header[..len - 4]);
    header[len - 4..].copy_from_slice(&crc.to_le_bytes());
    fs.reopen(&name).unwrap().write_at(&header, 0).unwrap();
    let blocks = count_blocks(&fs, &name);
    let name = recover(&fs).last.unwrap().name;
    assert_eq!(count_blocks(&fs, &name), blocks);
    read(&fs).check_complete(next);
}

#[test]
fn a_sealed_block_is_durable_before_the_recovery_cuts_off_its_journal() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    // These records are in the journal, and durable after a second.
    recorder.steps(50, 5);
    let old = recorder.next;
    recorder.steps(60, 1);
    // They are sealed with newer ones. The block is not durable when the recorder is killed.
    recorder.fs.set_conditions(|disk| disk.sync_takes = Duration::from_secs(5));
    recorder.step(1100);
    recorder.steps(3, 0);
    let fs = recorder.fs.after_kill();
    let images = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (taken, mut random) = (images.clone(), Rand32::new(1));
    fs.watch(move |moment| {
        taken.lock().unwrap().extend((0..12).map(|_| moment.after_power_loss(&mut random)));
    });
    recover(&fs);
    fs.unwatch();
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 50, "{}", images.len());
    for image in images {
        recover(&image);
        let recorded = read_after(&image, true).recorded;
        let is_kept = |cpu: usize| recorded[cpu].contains(&old[cpu].wrapping_sub(1));
        assert!(is_kept(0) && is_kept(1), "{old:?}: {:?}", recorded.map(|numbers| numbers.len()));
    }
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

#[test]
fn a_power_loss_at_the_end_of_a_segment_costs_at_most_the_last_second() {
    let images = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut recorder = TestRecorder::new(StoreOptions::default());
    // All of these records are in the journal, and durable after a second.
    recorder.steps(50, 5);
    let old = recorder.next;
    recorder.steps(50, 1);
    let (taken, mut random) = (images.clone(), Rand32::new(1));
    recorder.fs.watch(move |moment| {
        taken.lock().unwrap().extend((0..40).map(|_| moment.after_power_loss(&mut random)));
    });
    let (fs, ..) = recorder.finish();
    fs.unwatch();
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 100, "{}", images.len());
    for image in images {
        recover(&image);
        let recorded = read_after(&image, true).recorded;
        let is_kept = |cpu: usize| recorded[cpu].contains(&old[cpu].wrapping_sub(1));
        assert!(is_kept(0) && is_kept(1), "{old:?}: {:?}", recorded.map(|numbers| numbers.len()));
    }
}

#[test]
fn a_segment_after_a_failure_has_all_cpus_only_if_the_one_before_has() {
    for has_fence in [false, true] {
        let fs = SimulatedFilesystem::default();
        fs.fail(Operation::Sync, 2, libc::EIO);
        let mut recorder = TestRecorder::on(fs, StoreOptions::default());
        if has_fence {
            let fence =
                Fence { time: recorder.mono(), position: FencePosition::Start, unreached: Vec::new() };
            recorder.writer.record(&Record::Fence(fence)).unwrap();
        }
        recorder.steps(200, 5);
        let last = recover(&recorder.fs.after_kill()).last.unwrap();
        let reason = last.header.meta.segment.as_ref().map(|segment| segment.reason);
        assert_eq!(reason, Some(SegmentReason::Storage));
        assert_eq!(last.has_all_cpus, has_fence);
    }
}

#[test]
fn the_positions_of_an_end_that_is_written_late_are_kept() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(5, 5);
    recorder.fs.set_conditions(|disk| disk.is_read_only = true);
    recorder.steps(100, 5);
    let positions = Positions { source_drops: Some(7), ..recorder.positions() };
    recorder.writer.record(&Record::Positions(positions.clone())).unwrap();
    let end = recorder.end();
    recorder.writer.record(&Record::End(end)).unwrap();
    recorder.fs.set_conditions(|disk| disk.is_read_only = false);
    recorder.writer.finish().unwrap();
    let last = recover(&recorder.fs.after_kill()).last.unwrap();
    assert!(last.ended_cleanly);
    assert_eq!(last.positions, positions);
}
