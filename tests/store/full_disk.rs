//! A small filesystem that another writer fills and empties.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use oorandom::Rand32;
use pmon_testkit::guard::{Need, needs};
use rustix::fs::statvfs;

use crate::load::{last_line, seconds, store_load};
use crate::private_tmpfs::PrivateTmpfs;

const MIB: u64 = 1 << 20;
/// Time between two samples of the usage.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);

/// Returns the bytes on disk of the files in a directory.
fn used(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.blocks() * 512).sum()
}

/// Fills the filesystem and empties it again until `is_over`.
fn fill_and_empty(directory: &Path, is_over: &AtomicBool) {
    let mut random = Rand32::new(5);
    let path = directory.join("other");
    let chunk = vec![1; MIB as usize];
    while !is_over.load(Ordering::Relaxed) {
        let mut file = File::create(&path).unwrap();
        for _ in 0..random.rand_range(8..64) {
            // The filesystem is full, which is the purpose.
            let _ = file.write_all(&chunk);
            thread::sleep(Duration::from_millis(random.rand_range(1..30).into()));
        }
        thread::sleep(Duration::from_millis(random.rand_range(100..1500).into()));
        file.set_len(0).unwrap();
        thread::sleep(Duration::from_millis(random.rand_range(100..800).into()));
    }
    let _ = fs::remove_file(path);
}

#[test]
fn a_store_on_a_full_disk_keeps_its_limits_and_counts_what_it_loses() {
    if !needs(&[Need::Root, Need::Command("a private tmpfs", &["unshare", "--mount", "true"])]) {
        return;
    }
    let (max_use, keep_free) = (6 * MIB, 8 * MIB);
    let tmpfs = PrivateTmpfs::new("64m");
    let store = tmpfs.path().join("store");
    let steps = (seconds(10).as_millis() / 20).to_string();
    let (limit, free) = (max_use.to_string(), keep_free.to_string());
    let mut command = store_load(&store, &["--steps", &steps, "--events", "2000", "--rotate-every", "1"]);
    command.args(["--max-use", &limit, "--keep-free", &free, "--real-time", "--failing"]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let recorder = scope.spawn(|| {
            let output = command.output().unwrap();
            is_over.store(true, Ordering::Relaxed);
            output
        });
        scope.spawn(|| fill_and_empty(tmpfs.path(), &is_over));
        let (mut most, mut samples, mut low_since) = (0, 0, None);
        while !is_over.load(Ordering::Relaxed) {
            let (used, free) = (used(&store), statvfs(tmpfs.path()).unwrap());
            most = most.max(used);
            samples += 1;
            assert!(used <= max_use, "{used} bytes were used, more than {max_use}");
            // The store gives back the space that meets the limit, and then takes no more.
            let free = free.f_bavail * free.f_frsize;
            let is_low = free < keep_free && free + used > keep_free + MIB;
            low_since = is_low.then(|| low_since.unwrap_or_else(Instant::now));
            let low_for = low_since.map_or(Duration::ZERO, |since| since.elapsed());
            assert!(low_for < Duration::from_secs(3), "{used} bytes are kept although the disk is full");
            thread::sleep(SAMPLE_INTERVAL);
        }
        let summary = last_line(&recorder.join().unwrap());
        // More than the newest segments, which stay. A busy machine records too little for more.
        assert!(samples > 100 && most > MIB / 2, "{samples} samples, at most {most} bytes");
        assert!(!summary.contains(" 0 pruned"), "{summary}");
        assert!(!summary.contains(" 0 lost to storage"), "{summary}");
    });
}
