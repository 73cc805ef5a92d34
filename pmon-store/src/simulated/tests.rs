//! The model's own promises: what survives, what does not, and what it costs.

use std::collections::BTreeSet;

use super::*;
use crate::disk::Filesystem;

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

/// Returns the contents that a file can have after a power loss.
fn possible(fs: &SimulatedFilesystem, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..500).map(|seed| fs.after_power_loss(&mut Rand32::new(seed)).contents(name)).collect()
}

#[test]
fn unsynced_pages_may_be_old_or_new_one_by_one() {
    let fs = SimulatedFilesystem::default();
    let file = fs.create("a").unwrap();
    file.write_at(&[1; 1024], 0).unwrap();
    file.sync().unwrap();
    fs.sync_directory().unwrap();
    file.write_at(&[2; 1024], 0).unwrap();
    let [one, two] = [vec![1; 512], vec![2; 512]];
    let expected = [[&one, &one], [&one, &two], [&two, &one], [&two, &two]]
        .map(|halves| Some(halves.map(|half| half.as_slice()).concat()));
    assert_eq!(possible(&fs, "a"), expected.into());
    assert_eq!(fs.after_kill().contents("a"), Some(vec![2; 1024]));
    file.sync().unwrap();
    assert_eq!(possible(&fs, "a"), [Some(vec![2; 1024])].into());
}

#[test]
fn a_length_may_be_any_since_the_last_sync_and_no_byte_that_was_cut_off_reappears() {
    let fs = SimulatedFilesystem::default();
    let file = fs.create("a").unwrap();
    file.write_at(&[1; 600], 0).unwrap();
    file.sync().unwrap();
    fs.sync_directory().unwrap();
    file.set_len(100).unwrap();
    file.set_len(600).unwrap();
    let cut = [[1; 100].as_slice(), &[0; 500]].concat();
    assert_eq!(possible(&fs, "a"), [Some(vec![1; 600]), Some(vec![1; 100]), Some(cut)].into());
}

#[test]
fn names_are_lost_from_the_end_until_the_directory_is_synced() {
    let fs = SimulatedFilesystem::default();
    let file = fs.create("a.partial").unwrap();
    file.write_at(b"text", 0).unwrap();
    file.sync().unwrap();
    let names = |fs: &SimulatedFilesystem| -> BTreeSet<BTreeSet<String>> {
        (0..100).map(|seed| fs.after_power_loss(&mut Rand32::new(seed)).names()).collect()
    };
    assert_eq!(names(&fs), [[].into(), ["a.partial".into()].into()].into(), "a file sync includes no name");
    fs.sync_directory().unwrap();
    fs.rename("a.partial", "a").unwrap();
    fs.create("b").unwrap();
    let [partial, a, b] = ["a.partial", "a", "b"].map(String::from);
    assert_eq!(names(&fs), [[partial].into(), [a.clone()].into(), [a, b].into()].into());
    assert_eq!(errno(fs.rename("a", "b")), Some(libc::EEXIST));
    fs.remove("a").unwrap();
    assert_eq!(errno(fs.remove("a")), Some(libc::ENOENT));
    assert!(names(&fs).iter().flatten().any(|name| name == "a.partial"), "a removed file can come back");
}

#[test]
fn a_sync_makes_durable_what_was_written_before_it_began() {
    let fs = SimulatedFilesystem::default();
    fs.set_conditions(|conditions| conditions.sync_takes = Duration::from_millis(50));
    let file = fs.create("a").unwrap();
    fs.sync_directory().unwrap();
    file.write_at(&[1; 512], 0).unwrap();
    let mut syncs = fs.sync_runner(Box::new({
        let file = file.clone();
        move || file.sync()
    }));
    let syncs = syncs.as_mut().unwrap();
    syncs.begin();
    file.write_at(&[2; 512], 0).unwrap();
    assert!(syncs.poll().is_none());
    assert!(possible(&fs, "a").contains(&Some(Vec::new())), "the sync has not ended");
    fs.set_now(fs.now() + Duration::from_millis(50));
    syncs.poll().unwrap().unwrap();
    assert_eq!(possible(&fs, "a"), [Some(vec![1; 512]), Some(vec![2; 512])].into());
    let before = fs.now();
    file.sync().unwrap();
    assert_eq!(fs.now(), before + Duration::from_millis(50), "a sync that is waited for takes its time");
}

#[test]
fn a_failed_sync_is_reported_once_and_its_data_is_lost() {
    for drops_pages in [false, true] {
        let fs = SimulatedFilesystem::default();
        fs.set_conditions(|conditions| conditions.drops_pages = drops_pages);
        let file = fs.create("a").unwrap();
        fs.sync_directory().unwrap();
        file.write_at(&[1; 512], 0).unwrap();
        fs.fail(Operation::Sync, 0, libc::EIO);
        assert_eq!(errno(file.sync()), Some(libc::EIO));
        assert_eq!(fs.contents("a"), Some(vec![u8::from(!drops_pages); 512]));
        file.write_at(&[3; 512], 512).unwrap();
        file.sync().unwrap();
        let expected = [[0; 512], [3; 512]].concat();
        assert_eq!(possible(&fs, "a"), [Some(expected)].into());
    }
}

#[test]
fn space_is_counted_in_units_with_that_of_others_and_of_open_files() {
    let fs = SimulatedFilesystem::default();
    fs.set_conditions(|conditions| {
        (conditions.capacity, conditions.used_by_others) = (Some(10 * UNIT), 4 * UNIT)
    });
    let file = fs.create("a").unwrap();
    file.write_at(&[1; 10], 5 * UNIT).unwrap();
    assert_eq!((fs.used(), fs.available_bytes()), (UNIT, 5 * UNIT), "a hole takes no space");
    assert_eq!(file.write_at(&[1; 9 * UNIT as usize], 0).unwrap() as u64, 6 * UNIT, "one unit was there");
    assert_eq!(errno(file.write_at(b"1", 6 * UNIT)), Some(libc::ENOSPC));
    fs.set_conditions(|conditions| conditions.used_by_others = UNIT);
    file.punch_hole(10, 3 * UNIT).unwrap();
    assert_eq!(fs.available_bytes(), 5 * UNIT);
    assert_eq!(fs.take_extremes(), Extremes { most_used: 6 * UNIT, least_available: 0 });
    fs.remove("a").unwrap();
    assert_eq!((fs.used(), fs.available_bytes(), fs.open_files()), (0, 5 * UNIT, 1));
    drop(file);
    assert_eq!((fs.available_bytes(), fs.open_files()), (9 * UNIT, 0));
    fs.set_conditions(|conditions| conditions.size_limit = Some(100));
    let file = fs.create("b").unwrap();
    assert_eq!(file.write_at(&[1; 200], 0).unwrap(), 100);
    assert_eq!(errno(file.write_at(b"1", 100)), Some(libc::EFBIG));
}

#[test]
fn the_watcher_sees_every_change_before_it_happens() {
    let fs = SimulatedFilesystem::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    fs.watch({
        let seen = seen.clone();
        move |moment| {
            let killed = moment.after_kill(&mut Rand32::new(moment.number));
            seen.lock().unwrap().push((moment.operation, killed.contents("a")));
        }
    });
    let file = fs.create("a").unwrap();
    file.write_at(&[1; 8192], 0).unwrap();
    fs.remove("a").unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], (Operation::Create, None));
    let partial = seen[1].1.as_ref().unwrap().len();
    assert!(seen[1].0 == Operation::Write && partial % 4096 == 0, "a write may be interrupted");
    assert_eq!(seen[2], (Operation::Remove, Some(vec![1; 8192])));
}
