//! Readers that follow a store while it is written.

use std::collections::BTreeMap;

use pmon_core::capture::{Part, RecordingReader as _, Unobserved, UnobservedReason};

use super::*;
use crate::disk::Filesystem;
use crate::reader::{SegmentList, SegmentReader};

/// What a follower has read.
struct Follower {
    reader: SegmentReader,
    /// The numbers of the events of each CPU, in the order in which they were read.
    numbers: [Vec<u32>; CPUS],
    unobserved: Vec<Unobserved>,
    skipped: usize,
    damaged: usize,
    segments: usize,
}

impl Follower {
    /// Begins to follow the captures so far.
    fn new(filesystem: Arc<dyn Filesystem>, now: Instant) -> Self {
        let list = SegmentList::of_store(filesystem.clone(), None).unwrap();
        let mut reader = SegmentReader::open(list.clone()).unwrap();
        reader.follow(Some((filesystem, &list)), now);
        Self {
            reader,
            numbers: Default::default(),
            unobserved: Vec::new(),
            skipped: 0,
            damaged: 0,
            segments: 1,
        }
    }

    /// Reads what is there, and looks for more.
    fn read(&mut self, now: Instant) {
        while let Some(part) = self.reader.next_part().unwrap() {
            match part {
                Part::Block(block) => {
                    for record in block.records() {
                        let Record::Event(datagram, _) = record else { continue };
                        let event = datagram.event(ByteOrder::NATIVE).unwrap();
                        self.numbers[event.cpu.0 as usize].push(event.seq.0);
                    }
                }
                Part::Damage(_) => self.damaged += 1,
                Part::Segment => {
                    self.segments += 1;
                    self.unobserved.extend(self.reader.junction().unobserved);
                }
            }
        }
        self.skipped += self.reader.take_skipped().len();
        self.reader.refresh(now).unwrap();
    }

    /// Reads until nothing new is found.
    fn read_rest(&mut self, mut now: Instant) {
        for _ in 0..100 {
            now += Duration::from_millis(100);
            self.read(now);
        }
    }
}

impl TestRecorder {
    fn follower(&self) -> Follower {
        Follower::new(Arc::new(self.fs.clone()), self.base + self.now)
    }

    /// Continues after the recorder was killed or has ended, with a new one.
    fn restart(self) -> Self {
        let start = self.clock();
        let Self { fs, now, next, times, base, .. } = self;
        drop(self.writer);
        let mut header = template();
        header.meta.start = start;
        let (filesystem, now_at) = (Arc::new(fs.clone()), base + now);
        let (writer, handle, _) = StoreWriter::open(filesystem, header, small(), model(), now_at).unwrap();
        let (totals, real_offset) = (End::default(), 0);
        Self { fs, writer, handle, base, now, next, times, totals, real_offset, seed: 1 }
    }
}

/// Returns the numbers of a CPU from its first event on.
fn numbers(cpu: usize, next: [u32; CPUS]) -> Vec<u32> {
    let first = [100_u32, u32::MAX - 50][cpu];
    (0..next[cpu].wrapping_sub(first)).map(|count| first.wrapping_add(count)).collect()
}

fn check_all(follower: &Follower, next: [u32; CPUS]) {
    for cpu in 0..CPUS {
        assert!(follower.numbers[cpu] == numbers(cpu, next), "CPU {cpu}: {:?}", follower.numbers[cpu]);
    }
    assert_eq!((follower.damaged, follower.skipped), (0, 0));
}

#[test]
fn a_follower_reads_each_event_once_and_in_order_over_rotations() {
    for sync_takes in [Duration::ZERO, Duration::from_millis(900)] {
        // Few events stay in the journal, many are sealed at once.
        let mut recorder =
            TestRecorder::new(StoreOptions { rotate_size: 96 << 10, ..StoreOptions::default() });
        recorder.fs.set_conditions(|disk| disk.sync_takes = sync_takes);
        let mut follower = recorder.follower();
        for step in 0..500 {
            recorder.step(match step % 100 {
                70 => 2500,
                71..90 => 40,
                _ => 2,
            });
            follower.read(recorder.base + recorder.now);
            if step % 160 == 150 {
                recorder.divide(SegmentReason::Request);
            }
        }
        let (base, now, next) = (recorder.base, recorder.now, recorder.next);
        let (.., finished) = recorder.finish();
        finished.unwrap();
        follower.read_rest(base + now);
        assert!(follower.segments > 4, "{}", follower.segments);
        assert!(follower.unobserved.is_empty());
        check_all(&follower, next);
        assert!(follower.reader.has_ended());
    }
}

#[test]
fn records_of_the_journal_are_read_within_three_steps() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    let mut follower = recorder.follower();
    let mut recorded = BTreeMap::new();
    for step in 0..400_u32 {
        recorder.step(1);
        recorded.insert(step, recorder.next[0] - 1);
        follower.read(recorder.base + recorder.now);
        if let Some(earlier) = step.checked_sub(3) {
            assert!(follower.numbers[0].last() >= recorded.get(&earlier), "step {step}");
        }
    }
}

#[test]
fn a_follower_goes_on_with_the_next_recorder_after_a_clean_end_and_after_a_kill() {
    let mut recorder = TestRecorder::new(small());
    let mut follower = recorder.follower();
    let mut reasons = Vec::new();
    for is_killed in [true, false, true] {
        for _ in 0..40 {
            recorder.step(6);
            follower.read(recorder.base + recorder.now);
        }
        // Everything is in the journal when the recorder is killed.
        recorder.steps(4, 0);
        if !is_killed {
            let (positions, end) = (recorder.positions(), recorder.end());
            recorder.writer.record(&Record::Positions(positions)).unwrap();
            recorder.writer.record(&Record::End(end)).unwrap();
            recorder.writer.finish().unwrap();
        }
        reasons.push(if is_killed { UnobservedReason::Killed } else { UnobservedReason::Stopped });
        recorder = recorder.restart();
    }
    recorder.steps(60, 6);
    let (base, now, next) = (recorder.base, recorder.now, recorder.next);
    recorder.finish().2.unwrap();
    follower.read_rest(base + now);
    check_all(&follower, next);
    assert_eq!(follower.unobserved.iter().map(|span| span.reason).collect::<Vec<_>>(), reasons);
}

#[test]
fn a_follower_that_is_slower_than_retention_states_what_was_pruned() {
    let options = StoreOptions { limits: at_most(1 << 20), ..StoreOptions::default() };
    let mut recorder = TestRecorder::new(options);
    let mut follower = recorder.follower();
    recorder.steps(10, 20);
    follower.read(recorder.base + recorder.now);
    while recorder.handle.status().pruned < 3 {
        recorder.steps(20, 200);
    }
    let (base, now, next) = (recorder.base, recorder.now, recorder.next);
    recorder.finish().2.unwrap();
    follower.read_rest(base + now);
    let [pruned] = &follower.unobserved[..] else { panic!("{:?}", follower.unobserved) };
    assert_eq!((pruned.reason, follower.damaged), (UnobservedReason::Pruned, 0));
    assert!(pruned.length_ns() > 0);
    // The file that was open is read to its end, and then those that are left.
    for cpu in 0..CPUS {
        let (read, all) = (&follower.numbers[cpu], numbers(cpu, next));
        let gaps = read.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
        assert_eq!((gaps, read.first(), read.last()), (1, all.first(), all.last()), "CPU {cpu}");
    }
}

#[test]
fn damage_that_stays_is_returned_once_and_the_rest_is_read() {
    let mut recorder = TestRecorder::new(StoreOptions::default());
    recorder.steps(8, 2500);
    let name = recorder.handle.status().current.unwrap();
    // The first block is damaged on the disk, and the recorder goes on.
    recorder.fs.reopen(&name).unwrap().write_at(&[0xff; 100], 3000).unwrap();
    let mut follower = recorder.follower();
    for _ in 0..300 {
        recorder.step(5);
        follower.read(recorder.base + recorder.now);
    }
    let (base, now) = (recorder.base, recorder.now);
    let last = recorder.next[0].wrapping_sub(1);
    recorder.finish().2.unwrap();
    follower.read_rest(base + now);
    assert!((1..=2).contains(&follower.damaged), "{}", follower.damaged);
    assert_eq!(follower.numbers[0].last(), Some(&last));
    let is_increasing = follower.numbers[0].windows(2).all(|pair| pair[0] < pair[1]);
    assert!(is_increasing, "an event was read twice");
}

#[test]
fn a_follower_waits_for_the_header_of_a_new_segment() {
    let mut recorder = TestRecorder::new(small());
    let mut follower = recorder.follower();
    recorder.steps(10, 5);
    let now = recorder.base + recorder.now;
    let (fs, ..) = recorder.finish();
    // A recorder has created its file, and has not written to it yet.
    let disk = fs.create("h-20261129T081600Z.pmon.partial").unwrap();
    for interval in 0..20 {
        follower.read(now + interval * Duration::from_millis(100));
    }
    assert_eq!((follower.segments, follower.skipped), (1, 0));
    let mut header = Header { uuid: [9; 16], ..template() };
    header.meta.start.mono = MonoNs(60_000 * MS);
    disk.write_at(pmon_core::capture::Encoder::new(&header).unwrap().header(), 0).unwrap();
    follower.read_rest(now + Duration::from_secs(2));
    assert_eq!((follower.segments, follower.skipped), (2, 0));
}
