use std::io::Read as _;

use super::file::CHUNK;
use super::*;

const KIB: usize = 1 << 10;

fn write_all(disk: &dyn Disk, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        written += disk.write_at(&bytes[written..], at + written as u64)?;
    }
    Ok(())
}

fn content(filesystem: &MemoryFilesystem, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    filesystem.open(name).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn files_behave_like_those_of_a_directory() {
    // A model of the content is a vector of bytes.
    for seed in 0..100 {
        let (filesystem, mut model) = (MemoryFilesystem::new(1 << 30), Vec::new());
        let mut random = oorandom::Rand64::new(seed);
        let disk = filesystem.create("a").unwrap();
        for step in 0..20u8 {
            let at = random.rand_range(0..300 * KIB as u64) as usize;
            let len = random.rand_range(0..150 * KIB as u64) as usize;
            match random.rand_range(0..4) {
                0 => {
                    disk.set_len(at as u64).unwrap();
                    model.resize(at, 0);
                }
                1 => {
                    disk.punch_hole(at as u64, len as u64).unwrap();
                    let end = (at + len).min(model.len());
                    model[at.min(end)..end].fill(0);
                }
                _ => {
                    write_all(&*disk, &vec![step + 1; len], at as u64).unwrap();
                    if len > 0 {
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].fill(step + 1);
                    }
                }
            }
            assert_eq!(content(&filesystem, "a"), model, "seed {seed}, step {step}");
            let entry = filesystem.entry("a").unwrap();
            assert_eq!(entry.len, model.len() as u64);
            assert_eq!(entry.allocated, filesystem.used());
        }
        filesystem.remove("a").unwrap();
        drop(disk);
        assert_eq!(filesystem.used(), 0);
    }
}

#[test]
fn the_memory_never_exceeds_its_limit() {
    let limit = 10 * CHUNK as u64;
    let filesystem = MemoryFilesystem::new(limit);
    let disk = filesystem.create("a").unwrap();
    write_all(&*disk, &vec![1; 9 * CHUNK], 0).unwrap();
    let other = filesystem.create("b").unwrap();
    let error = write_all(&*other, &vec![2; 2 * CHUNK], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!((filesystem.used(), filesystem.available().unwrap()), (limit, 0));
    // A file that is removed while it is read still takes its memory.
    let reader = filesystem.open("a").unwrap();
    filesystem.remove("a").unwrap();
    drop(disk);
    assert_eq!(filesystem.used(), limit);
    drop(reader);
    assert_eq!(filesystem.used(), CHUNK as u64);
    write_all(&*other, &vec![2; 5 * CHUNK], 0).unwrap();
}

#[test]
fn names_are_exclusive_and_the_lock_is_released() {
    let filesystem = MemoryFilesystem::new(1 << 20);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    filesystem.create("a").unwrap();
    filesystem.create("b").unwrap();
    assert_eq!(kind(filesystem.create("a").map(|_| ())), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(filesystem.rename("a", "b")), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(filesystem.rename("c", "d")), io::ErrorKind::NotFound);
    filesystem.rename("a", "c").unwrap();
    let names: Vec<_> = filesystem.list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["b", "c"]);
    let lock = filesystem.lock().unwrap();
    assert_eq!(kind(filesystem.lock().map(|_| ())), io::ErrorKind::WouldBlock);
    assert!(lock.is_held());
    drop(lock);
    assert!(filesystem.lock().is_ok());
}

#[test]
fn a_flight_is_divided_into_segments_of_one_to_ten_seconds() {
    let every = |seconds| flight_options(Duration::from_secs(seconds), 1 << 26).rotate_every.as_millis();
    assert_eq!([10, 64, 300, 3600].map(every), [1000, 2000, 9375, 10_000]);
    let options = flight_options(Duration::from_secs(300), 1 << 26);
    assert_eq!((options.limits.max_use, options.journal), (Some(1 << 26), false));
    assert_eq!(options.limits.max_age, Some(Duration::from_millis(309_375)));
}
