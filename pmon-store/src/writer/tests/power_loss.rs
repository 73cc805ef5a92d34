//! Power losses while blocks wait for a sync.

use oorandom::Rand32;

use super::*;

/// Returns the highest number of each CPU up to which all numbers of a store are recorded.
fn recorded_up_to(fs: &SimulatedFilesystem, mut next: [u32; CPUS]) -> [u32; CPUS] {
    for segment in StoreListing::read(fs).unwrap().segments {
        let file = fs.open(&segment.entry.name).unwrap();
        let mut reader = Reader::open_sparse(file, |file| file.skip_hole()).unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            let Item::Block(block) = item else { continue };
            for record in block.records() {
                let Record::Event(datagram, _) = record else { continue };
                let event = datagram.event(ByteOrder::NATIVE).unwrap();
                let next = &mut next[event.cpu.0 as usize];
                *next = next.wrapping_add(u32::from(event.seq.0 == *next));
            }
        }
    }
    next
}

#[test]
fn blocks_that_wait_for_a_sync_are_kept_after_the_promised_time() {
    const SYNC: Duration = Duration::from_millis(900);
    let promised = Duration::from_secs(1) + 2 * SYNC + 2 * STEP;
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.fs.set_conditions(|disk| disk.sync_takes = SYNC);
    let (first, images) = (recorder.next, Arc::new(std::sync::Mutex::new(Vec::new())));
    let mut received = Vec::new();
    // A slow block, whose first records only the journal has kept for seconds. Then blocks become
    // full, and wait in memory for the sync of the first one.
    for step in 0..260 {
        if step == 125 {
            let (taken, mut random) = (images.clone(), Rand32::new(1));
            recorder.fs.watch(move |moment| {
                let loses_power = random.rand_range(0..2) == 0;
                if loses_power {
                    taken.lock().unwrap().push((moment.now(), moment.after_power_loss(&mut random)));
                }
            });
        }
        recorder.step(match step {
            ..130 => 60,
            130 | 134 | 138 => 8200,
            _ => 2,
        });
        received.push((recorder.fs.now(), recorder.next));
    }
    recorder.fs.unwatch();
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 5, "{}", images.len());
    for (now, image) in images {
        LockedStore::open(Arc::new(image.clone()), "h").unwrap();
        let old = received.iter().rev().find(|(at, _)| *at + promised <= now).map(|(_, next)| *next);
        let (found, old) = (recorded_up_to(&image, first), old.unwrap_or(first));
        let is_kept = |cpu: usize| found[cpu].wrapping_sub(first[cpu]) >= old[cpu].wrapping_sub(first[cpu]);
        assert!(is_kept(0) && is_kept(1), "at {now:?}: {found:?} of {old:?}, from {first:?}");
    }
}
