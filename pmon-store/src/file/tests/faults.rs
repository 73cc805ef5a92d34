//! Captures on a disk that fails, fills up, or is slow.

use oorandom::Rand32;

use super::disk::{FaultyDisk, FaultyDiskState};
use super::*;

/// Maximum time until a record is in the journal, ticks included.
const JOURNAL_DELAY: Duration = Duration::from_millis(100);
/// Maximum age of records that are not durable, once a running sync succeeds.
const SYNC_DELAY: Duration = Duration::from_millis(800);
/// A hole with space for the blocks of these tests.
const SMALL_HOLE: Option<u64> = Some(1 << 20);
const STEP: Duration = Duration::from_millis(20);

/// A capture recorded in virtual time: numbered notes, each with its time.
struct FaultyDiskRecorder {
    file: CaptureFile,
    disk: Arc<FaultyDisk>,
    partial: PathBuf,
    path: PathBuf,
    now: Instant,
    /// Time of each note.
    taken: Vec<Instant>,
    random: Rand32,
    _directory: TempDir,
}

impl FaultyDiskRecorder {
    fn new(state: FaultyDiskState) -> Self {
        Self::try_new(state).unwrap()
    }

    fn try_new(state: FaultyDiskState) -> Result<Self, CaptureFileError> {
        let directory = TempDir::new().unwrap();
        let (target, path, partial) = target(&directory);
        let (file, disk) = FaultyDisk::create(&target, state)?;
        let (now, random) = (Instant::now(), Rand32::new(7));
        Ok(Self { file, disk, partial, path, now, taken: Vec::new(), random, _directory: directory })
    }

    /// Records a note of about `bytes` bytes, which do not compress.
    fn note(&mut self, bytes: usize) -> Result<(), SinkError> {
        let mut text = format!("{} ", self.taken.len());
        while text.len() < bytes {
            text.push_str(&format!("{:08x}", self.random.rand_u32()));
        }
        self.file.received_at(self.now);
        self.taken.push(self.now);
        self.file.record(&Record::Scope(ScopeInfo { text }))
    }

    /// Advances the time a little, and records `notes` notes of this size.
    fn step(&mut self, notes: u32, bytes: usize) -> Result<(), SinkError> {
        self.now += STEP;
        (0..notes).try_for_each(|_| self.note(bytes))?;
        self.file.tick(self.now).map(drop)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.file.record(&Record::End(End::default()))?;
        self.file.finish()
    }

    /// Returns the number of notes that were recorded at least `age` before `at`.
    fn older_than(&self, age: Duration, at: Instant) -> usize {
        self.taken.partition_point(|&taken| taken + age <= at)
    }

    /// Checks that a killed recorder leaves consecutive numbers from 0 and no damage. Returns their
    /// count, and whether the capture ended cleanly.
    fn found(&self) -> (usize, bool) {
        let name = if self.partial.exists() { &self.partial } else { &self.path };
        let (texts, clean) = notes(fs::File::open(name).unwrap());
        for (number, text) in texts.iter().enumerate() {
            assert!(text.starts_with(&format!("{number} ")), "note {number} is {text:.20}");
        }
        (texts.len(), clean)
    }

    /// Checks that only the newest notes are lost, and that the file does not read as complete.
    fn check_cut(&self) {
        let (found, clean) = self.found();
        assert!(!self.path.exists() && self.partial.exists() && !clean);
        assert!(found >= self.older_than(JOURNAL_DELAY, self.now), "{found} of {}", self.taken.len());
    }

    /// Checks that a kill now costs at most the last 100 ms.
    fn check_kill(&self) {
        let (found, _) = self.found();
        assert!(found >= self.older_than(JOURNAL_DELAY, self.now), "{found} of {}", self.taken.len());
    }
}

#[test]
fn any_failed_sync_fails_the_recording() {
    // The first sync is at the start, then those of the recording, and the last one at the end.
    let syncs = {
        let mut recorder =
            FaultyDiskRecorder::new(FaultyDiskState { hole: SMALL_HOLE, ..FaultyDiskState::default() });
        (0..150).try_for_each(|_| recorder.step(3, 30)).unwrap();
        recorder.finish().unwrap();
        recorder.disk.state().syncs
    };
    assert!(syncs > 3, "{syncs}");
    for number in 1..4 {
        let fails_at_sync = Some((number, libc::EIO));
        let mut recorder = FaultyDiskRecorder::new(FaultyDiskState {
            fails_at_sync,
            hole: SMALL_HOLE,
            ..FaultyDiskState::default()
        });
        let recorded = (0..150).try_for_each(|_| recorder.step(3, 30));
        let failure = recorded.and_then(|()| recorder.finish()).unwrap_err();
        assert!(matches!(failure, SinkError::Unsynced { .. }), "{failure}");
        recorder.check_cut();
        // The kernel has reported the failure. Later syncs succeed, but the data is lost.
        assert!(matches!(recorder.finish(), Err(SinkError::Unsynced { .. })));
        recorder.check_cut();
    }
}

#[test]
fn a_failed_sync_at_the_end_fails_the_recording_even_if_the_last_one_succeeds() {
    // The second sync begins during the recording and is still running at the end; the third is at
    // the end.
    for (number, error) in [(1, libc::EIO), (1, libc::ENOSPC), (2, libc::EIO)] {
        let fails_at_sync = Some((number, error));
        let mut recorder = FaultyDiskRecorder::new(FaultyDiskState {
            fails_at_sync,
            hole: SMALL_HOLE,
            ..FaultyDiskState::default()
        });
        recorder.disk.state().is_stuck = true;
        (0..40).try_for_each(|_| recorder.step(3, 30)).unwrap();
        let release = thread::spawn({
            let disk = recorder.disk.clone();
            move || {
                thread::sleep(Duration::from_millis(50));
                disk.release();
            }
        });
        let failure = recorder.finish().unwrap_err();
        release.join().unwrap();
        assert!(
            matches!(&failure, SinkError::Unsynced { source, .. } if source.raw_os_error() == Some(error)),
            "{failure}"
        );
        let text = failure.to_string();
        assert!(text.contains(".partial") && text.contains("older ones are kept there"), "{text}");
        recorder.check_cut();
        assert_eq!(recorder.found().0, recorder.taken.len());
    }
}

#[test]
fn a_failed_rename_leaves_the_capture_complete_under_its_partial_name() {
    let mut recorder = FaultyDiskRecorder::new(FaultyDiskState {
        fails_at_rename: Some(libc::EACCES),
        hole: SMALL_HOLE,
        ..FaultyDiskState::default()
    });
    recorder.step(1, 30).unwrap();
    let failure = recorder.finish().unwrap_err().to_string();
    assert!(failure.contains("rename it to") && failure.contains("is kept as"), "{failure}");
    assert!(failure.ends_with(".partial"), "{failure}");
    assert_eq!(recorder.found(), (1, true));

    let mut recorder =
        FaultyDiskRecorder::new(FaultyDiskState { hole: SMALL_HOLE, ..FaultyDiskState::default() });
    recorder.disk.state().fails_at_directory = Some(libc::EIO);
    let failure = recorder.finish().unwrap_err();
    assert!(matches!(failure, SinkError::Unnamed { .. }) && recorder.path.exists(), "{failure}");

    let fails_at_directory = Some(libc::EIO);
    let begun = FaultyDiskRecorder::try_new(FaultyDiskState {
        fails_at_directory,
        hole: SMALL_HOLE,
        ..FaultyDiskState::default()
    });
    assert!(matches!(begun, Err(CaptureFileError::Io { .. })));
}

#[test]
fn a_file_that_replaced_the_partial_capture_does_not_get_its_name() {
    let mut recorder =
        FaultyDiskRecorder::new(FaultyDiskState { hole: SMALL_HOLE, ..FaultyDiskState::default() });
    fs::remove_file(&recorder.partial).unwrap();
    assert!(matches!(recorder.finish(), Err(SinkError::Replaced { .. })));
    let mut recorder =
        FaultyDiskRecorder::new(FaultyDiskState { hole: SMALL_HOLE, ..FaultyDiskState::default() });
    fs::remove_file(&recorder.partial).unwrap();
    fs::write(&recorder.partial, "forged").unwrap();
    assert!(matches!(recorder.finish(), Err(SinkError::Replaced { .. })));
    assert!(!recorder.path.exists());
}

#[test]
fn a_disk_that_becomes_full_at_any_step_leaves_complete_blocks() {
    for has_no_punch in [false, true] {
        let mut ends = [0; 2];
        // From less than the header to everything: each step of a recording reaches the end of the
        // disk.
        for pages in (0..20).chain([24, 30, 36, 39, 60, 80]) {
            let state = FaultyDiskState {
                pages: Some(pages),
                has_no_punch,
                hole: SMALL_HOLE,
                ..FaultyDiskState::default()
            };
            let Ok(mut recorder) = FaultyDiskRecorder::try_new(state) else {
                assert_eq!(pages, 0, "a header fits");
                continue;
            };
            // Small records, large ones, and enough at once for a block.
            let steps = (0..60).try_for_each(|step| match step % 20 {
                7 => recorder.step(1, 9000),
                13 => recorder.step(2100, 8),
                _ => recorder.step(2, 20),
            });
            match steps.and_then(|()| recorder.finish()) {
                Ok(()) => ends[1] += 1,
                Err(failure) => {
                    assert!(matches!(failure, SinkError::Full { .. }), "{failure}");
                    assert!(failure.to_string().contains("no space left for"), "{failure}");
                    recorder.check_cut();
                    ends[0] += 1;
                }
            }
        }
        assert!(ends[0] > 5 && ends[1] > 1, "{ends:?}");
    }
}

#[test]
fn a_file_size_limit_or_a_disk_without_holes_only_disables_the_journal() {
    let mib = 1 << 20;
    for state in [
        FaultyDiskState { limit: Some(64 << 10), ..FaultyDiskState::default() },
        FaultyDiskState { limit: Some(mib), ..FaultyDiskState::default() },
        FaultyDiskState { limit: Some(17 * mib), ..FaultyDiskState::default() },
        FaultyDiskState { limit: Some(18 * mib), ..FaultyDiskState::default() },
        FaultyDiskState { limit: Some(24 * mib), ..FaultyDiskState::default() },
        FaultyDiskState { has_no_holes: true, ..FaultyDiskState::default() },
    ] {
        let mut recorder = FaultyDiskRecorder::new(state);
        for step in 0..40 {
            recorder.step(3, 30).unwrap();
            if step % 8 == 7 {
                recorder.check_kill();
            }
        }
        recorder.finish().unwrap();
        assert_eq!(recorder.found(), (120, true));
    }
    for limit in (0..20).map(|n| n * 700) {
        let state = FaultyDiskState { limit: Some(limit), hole: SMALL_HOLE, ..FaultyDiskState::default() };
        let Ok(mut recorder) = FaultyDiskRecorder::try_new(state) else {
            assert_eq!(limit, 0, "a header fits");
            continue;
        };
        let steps = (0..400).try_for_each(|_| recorder.step(3, 30));
        let failure = steps.and_then(|()| recorder.finish()).unwrap_err();
        assert!(matches!(failure, SinkError::Full { .. }), "{failure}");
        recorder.check_cut();
    }
}

#[test]
fn a_slow_sync_does_not_delay_records() {
    let mut recorder =
        FaultyDiskRecorder::new(FaultyDiskState { hole: SMALL_HOLE, ..FaultyDiskState::default() });
    recorder.disk.state().is_stuck = true;
    // The journal gets old, blocks become full, and no sync ends.
    for step in 0..150 {
        recorder.step(if step % 50 == 49 { 9000 } else { 20 }, 12).unwrap();
        if step % 10 == 9 {
            recorder.check_kill();
        }
    }
    assert_eq!(recorder.disk.truncations(), 0, "the journal is needed until a sync has ended");
    recorder.disk.release();
    // The journal is cut off although records keep arriving.
    let mut steps = 0;
    while recorder.disk.truncations() == 0 {
        thread::sleep(Duration::from_millis(1));
        recorder.step(1, 12).unwrap();
        steps += 1;
        assert!(steps < 5000, "the journal is not cut off");
    }
    recorder.check_kill();
    recorder.finish().unwrap();
    assert_eq!(recorder.found(), (recorder.taken.len(), true));
}

#[test]
fn a_full_hole_waits_for_the_sync_and_no_record_is_lost() {
    let mut recorder =
        FaultyDiskRecorder::new(FaultyDiskState { hole: SMALL_HOLE, ..FaultyDiskState::default() });
    (0..60).try_for_each(|_| recorder.step(5, 30)).unwrap();
    recorder.disk.state().is_stuck = true;
    let release = thread::spawn({
        let disk = recorder.disk.clone();
        move || {
            thread::sleep(Duration::from_millis(200));
            disk.release();
        }
    });
    // These records do not fit into the hole.
    (0..12).try_for_each(|_| recorder.step(1, 240 << 10)).unwrap();
    release.join().unwrap();
    recorder.check_kill();
    recorder.finish().unwrap();
    assert_eq!(recorder.found(), (recorder.taken.len(), true));
}

#[test]
fn synced_records_survive_a_power_loss_at_any_moment() {
    let mut checks = 0;
    for seed in 0..5 {
        let mut random = Rand32::new(seed);
        let takes = [0, 1, 3][random.rand_range(0..3) as usize];
        let state = FaultyDiskState {
            sync_takes: Duration::from_millis(takes),
            hole: SMALL_HOLE,
            ..FaultyDiskState::default()
        };
        let mut recorder = FaultyDiskRecorder::new(state);
        // The time of each operation.
        let mut done: Vec<Instant> = Vec::new();
        for _ in 0..random.rand_range(60..250) {
            let notes = match random.rand_range(0..60) {
                0 => 9000,
                1 => 2100,
                2..40 => random.rand_range(0..20),
                _ => 0,
            };
            recorder.step(notes, 10).unwrap();
            done.resize(recorder.disk.progress().0, recorder.now);
            if takes > 0 && random.rand_range(0..8) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            // Either a block that replaces an old journal was just sealed, or it is any other
            // moment.
            if notes < 9000 && random.rand_range(0..50) > 0 {
                continue;
            }
            recorder.check_kill();
            for chance in [0, 5, 5] {
                let (_, durable) = recorder.disk.progress();
                let image = recorder.disk.after_power_loss(|| random.rand_range(0..10) < chance);
                let synced_at = durable.checked_sub(1).map(|last| done[last]);
                let safe = synced_at.map_or(0, |at| recorder.older_than(SYNC_DELAY, at));
                let found = intact(&image);
                let is_safe = found.iter().copied().take(safe).eq(0..safe);
                assert!(is_safe, "seed {seed}: of {safe}, {} were found", found.len());
                checks += 1;
            }
        }
    }
    assert!(checks > 30, "{checks}");
}

/// Returns the numbers of the readable notes of a capture, which may be damaged.
fn intact(image: &[u8]) -> Vec<usize> {
    let mut reader = Reader::open(image).unwrap();
    let mut numbers = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Block(block) = item {
            numbers.extend(block.records().filter_map(|record| match record {
                Record::Scope(scope) => scope.text.split(' ').next()?.parse::<usize>().ok(),
                _ => None,
            }));
        }
    }
    numbers
}

#[test]
fn a_block_that_overwrites_the_journal_is_in_the_file_at_any_moment() {
    // The hole is smaller than any block of these records.
    let state = FaultyDiskState { hole: Some(4 << 10), ..FaultyDiskState::default() };
    let mut recorder = FaultyDiskRecorder::new(state);
    for _ in 0..30 {
        recorder.step(1, 9000).unwrap();
    }
    recorder.step(1, 4 << 20 >> 5).unwrap();
    (0..3).try_for_each(|_| recorder.step(0, 0)).unwrap();
    let journaled = recorder.taken.len();
    let (before, _) = recorder.disk.progress();
    (0..33).try_for_each(|_| recorder.note(4 << 20 >> 5)).unwrap();
    let (after, _) = recorder.disk.progress();
    assert!(after - before >= 2, "the block is written twice");
    for end in before..=after {
        let found = intact(&recorder.disk.image_after(end));
        assert!(found.len() >= journaled, "{} of {journaled} after operation {end}", found.len());
    }
    recorder.finish().unwrap();
    assert_eq!(recorder.found(), (recorder.taken.len(), true));
}
