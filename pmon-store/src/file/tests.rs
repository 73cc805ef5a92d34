mod disk;
mod faults;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::thread;
use std::time::Duration;

use pmon_core::capture::{End, Item, MAX_BLOCK, Meta, Reader, ScopeInfo};
use pmon_core::wire::ByteOrder;
use tempfile::TempDir;

use super::*;

fn header() -> Header {
    Header { uuid: [7; 16], byte_order: ByteOrder::NATIVE, meta: Meta::default() }
}

fn target(directory: &TempDir) -> (CaptureTarget, PathBuf, PathBuf) {
    let path = directory.path().join("a.pmon");
    (CaptureTarget::File(path.clone()), path, directory.path().join("a.pmon.partial"))
}

fn record_note(file: &mut CaptureFile, text: &str) {
    file.record(&Record::Scope(ScopeInfo { text: text.into() })).unwrap();
}

fn finish(mut file: CaptureFile) {
    file.record(&Record::End(End::default())).unwrap();
    file.finish().unwrap();
}

/// Returns the texts of the notes in a capture, and whether it ended cleanly.
fn notes(input: impl Read) -> (Vec<String>, bool) {
    let mut reader = Reader::open(input).unwrap();
    let mut texts = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Block(block) => texts.extend(block.records().filter_map(|record| match record {
                Record::Scope(scope) => Some(scope.text),
                _ => None,
            })),
            Item::Damage(damage) => panic!("{damage:?}"),
        }
    }
    (texts, reader.ended_cleanly())
}

#[test]
fn a_capture_is_partial_until_it_is_finished_and_private() {
    let directory = TempDir::new().unwrap();
    let (target, path, partial) = target(&directory);
    let mut file = CaptureFile::create(&target, &header(), false).unwrap();
    assert_eq!((file.path(), file.current_path()), (Some(&*path), Some(&*partial)));
    assert_eq!(fs::metadata(&partial).unwrap().permissions().mode() & 0o777, 0o600);
    record_note(&mut file, "one");
    assert!(!path.exists());
    finish(file);
    assert!(!partial.exists());
    assert_eq!(notes(fs::File::open(&path).unwrap()), (vec!["one".into()], true));
}

#[test]
fn an_existing_file_is_refused_unless_forced() {
    let directory = TempDir::new().unwrap();
    let (target, path, partial) = target(&directory);
    fs::write(&path, "old").unwrap();
    assert!(matches!(CaptureFile::create(&target, &header(), false), Err(CaptureFileError::Exists { .. })));
    fs::rename(&path, &partial).unwrap();
    assert!(matches!(
        CaptureFile::create(&target, &header(), false),
        Err(CaptureFileError::Unfinished { .. })
    ));
    assert_eq!(fs::read_to_string(&partial).unwrap(), "old");

    fs::write(&path, "old").unwrap();
    finish(CaptureFile::create(&target, &header(), true).unwrap());
    assert!(notes(fs::File::open(&path).unwrap()).1);
}

#[test]
fn a_capture_of_another_recorder_is_not_replaced() {
    let directory = TempDir::new().unwrap();
    let (target, path, _) = target(&directory);
    let mut first = CaptureFile::create(&target, &header(), false).unwrap();
    record_note(&mut first, "first");
    for force in [false, true] {
        assert!(matches!(CaptureFile::create(&target, &header(), force), Err(CaptureFileError::Busy { .. })));
    }
    finish(first);
    assert_eq!(notes(fs::File::open(&path).unwrap()), (vec!["first".into()], true));
}

#[test]
fn discarding_a_capture_restores_the_files_that_it_would_have_replaced() {
    let directory = TempDir::new().unwrap();
    let (target, path, partial) = target(&directory);
    fs::write(&path, "old").unwrap();
    fs::write(&partial, "evidence").unwrap();
    CaptureFile::create(&target, &header(), true).unwrap().discard().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_to_string(&partial).unwrap(), "evidence");
    finish(CaptureFile::create(&target, &header(), true).unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no other file is left");
}

#[test]
fn a_capture_that_cannot_be_created_leaves_no_file() {
    let directory = TempDir::new().unwrap();
    let (target, ..) = target(&directory);
    let huge = Header { meta: Meta { command: vec![vec![0; 2 << 20]], ..Meta::default() }, ..header() };
    assert!(matches!(CaptureFile::create(&target, &huge, false), Err(CaptureFileError::Encode(_))));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_link_at_the_partial_name_is_not_followed() {
    let directory = TempDir::new().unwrap();
    let (target, _, partial) = target(&directory);
    let victim = directory.path().join("victim");
    std::os::unix::fs::symlink(&victim, &partial).unwrap();
    assert!(matches!(
        CaptureFile::create(&target, &header(), false),
        Err(CaptureFileError::Unfinished { .. })
    ));
    finish(CaptureFile::create(&target, &header(), true).unwrap());
    assert!(!victim.exists());
}

#[test]
fn a_file_created_meanwhile_is_not_replaced_and_the_capture_is_kept() {
    let directory = TempDir::new().unwrap();
    let (target, path, partial) = target(&directory);
    let mut file = CaptureFile::create(&target, &header(), false).unwrap();
    record_note(&mut file, "kept");
    fs::write(&path, "other").unwrap();
    file.record(&Record::End(End::default())).unwrap();
    assert!(matches!(file.finish(), Err(SinkError::Exists { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "other");
    assert_eq!(notes(fs::File::open(&partial).unwrap()), (vec!["kept".into()], true));
}

#[test]
fn records_are_journaled_within_50_ms_and_the_next_seal_ends_the_journal() {
    let directory = TempDir::new().unwrap();
    let (target, path, partial) = target(&directory);
    let mut file = CaptureFile::create(&target, &header(), false).unwrap();
    for (count, text) in ["one", "two", "three"].into_iter().enumerate() {
        record_note(&mut file, text);
        // Each tick is 50 ms or more after the one before, however fast the test runs.
        file.tick(Instant::now() + Duration::from_millis(50) * (count as u32 + 1)).unwrap();
        // A reader finds these notes if the recorder is killed now.
        let (texts, clean) = notes(fs::File::open(&partial).unwrap());
        assert_eq!((texts.len(), texts.last().map(String::as_str), clean), (count + 1, Some(text), false));
    }
    let meta = fs::metadata(&partial).unwrap();
    assert!(meta.len() > MAX_BLOCK as u64, "the journal follows a hole");
    assert!(meta.blocks() * 512 < 1 << 20, "the hole takes no space");

    let later = Instant::now() + Duration::from_secs(3601);
    file.tick(later).unwrap();
    // The journal stays until the block is durable.
    let began = Instant::now();
    while fs::metadata(&partial).unwrap().len() != file.bytes() || file.bytes() > MAX_BLOCK as u64 {
        assert!(began.elapsed() < Duration::from_secs(20), "the journal is not cut off");
        thread::sleep(Duration::from_millis(5));
        file.tick(later).unwrap();
    }
    assert_eq!(fs::metadata(&partial).unwrap().len(), file.bytes(), "a sealed capture has no journal");
    assert_eq!(notes(fs::File::open(&partial).unwrap()).0.len(), 3);
    record_note(&mut file, "four");
    finish(file);
    assert_eq!(
        notes(fs::File::open(&path).unwrap()),
        (["one", "two", "three", "four"].map(String::from).into(), true)
    );
}

#[test]
fn a_fifo_receives_records_without_delay() {
    let directory = TempDir::new().unwrap();
    let (target, path, partial) = target(&directory);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = thread::spawn({
        let path = path.clone();
        move || notes(fs::File::open(path).unwrap())
    });
    let waiting = target.wait_for_reader(until(Duration::from_secs(20))).unwrap();
    let mut file = CaptureFile::create(&target, &header(), false).unwrap();
    drop(waiting);
    assert_eq!(file.current_path(), None);
    let began = Instant::now();
    let before = file.bytes();
    record_note(&mut file, "one");
    file.tick(began).unwrap();
    file.tick(began + Duration::from_millis(50)).unwrap();
    assert!(file.bytes() > before, "the record is written within 50 ms");
    record_note(&mut file, "two");
    finish(file);
    assert_eq!(reader.join().unwrap(), (vec!["one".into(), "two".into()], true));
    assert!(path.exists() && !partial.exists());
}

#[test]
fn a_reader_that_closes_a_fifo_ends_the_recording() {
    let directory = TempDir::new().unwrap();
    let (target, path, _) = target(&directory);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = thread::spawn(move || drop(fs::File::open(path).unwrap()));
    drop(target.wait_for_reader(until(Duration::from_secs(20))).unwrap());
    let mut file = match CaptureFile::create(&target, &header(), false) {
        Ok(file) => file,
        // The reader was faster, which is correct as well.
        Err(CaptureFileError::NoReader { .. }) => return reader.join().unwrap(),
        Err(CaptureFileError::Io { source, .. }) => {
            return assert_eq!(source.kind(), io::ErrorKind::BrokenPipe);
        }
        Err(error) => panic!("{error}"),
    };
    reader.join().unwrap();
    record_note(&mut file, "one");
    let error = file.finish().unwrap_err();
    assert!(error.is_closed_pipe(), "{error}");
}

/// Returns a wait function that stops after `limit` in total.
fn until(limit: Duration) -> impl FnMut(Duration) -> bool {
    let began = Instant::now();
    move |time| {
        thread::sleep(time);
        began.elapsed() < limit
    }
}

#[test]
fn waiting_for_the_reader_of_a_fifo_ends_at_the_limit() {
    let directory = TempDir::new().unwrap();
    let (target, path, _) = target(&directory);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let waited = target.wait_for_reader(until(Duration::from_millis(50)));
    assert!(matches!(waited, Err(CaptureFileError::NoReader { .. })));
    let file = CaptureFile::create(&target, &header(), false);
    assert!(matches!(file, Err(CaptureFileError::NoReader { .. })), "creating the capture does not wait");
    assert!(
        CaptureTarget::File(directory.path().join("none")).wait_for_reader(|_| panic!()).unwrap().is_none()
    );
}

#[test]
fn a_new_file_replaces_no_kind_of_file() {
    let directory = TempDir::new().unwrap();
    let (target, path, partial) = target(&directory);
    let CaptureTarget::File(name) = target else { unreachable!() };
    let target = CaptureTarget::NewFile(name);
    let victim = directory.path().join("victim");
    for name in [&path, &partial] {
        let things: [&dyn Fn(); 6] = [
            &|| assert!(Command::new("mkfifo").arg(name).status().unwrap().success()),
            &|| std::os::unix::fs::symlink("/dev/null", name).unwrap(),
            &|| std::os::unix::fs::symlink(&victim, name).unwrap(),
            &|| drop(std::os::unix::net::UnixListener::bind(name).unwrap()),
            &|| fs::write(name, "mine").unwrap(),
            &|| fs::create_dir(name).unwrap(),
        ];
        for make in things {
            make();
            assert!(target.wait_for_reader(|_| panic!("a new file has no reader")).unwrap().is_none());
            let began = Instant::now();
            let refused = CaptureFile::create(&target, &header(), false);
            assert!(matches!(
                refused,
                Err(CaptureFileError::Exists { .. }
                    | CaptureFileError::Unfinished { .. }
                    | CaptureFileError::Io { .. })
            ));
            assert!(began.elapsed() < Duration::from_secs(5) && !victim.exists());
            let _ = fs::remove_file(name).or_else(|_| fs::remove_dir(name));
        }
    }
    finish(CaptureFile::create(&target, &header(), false).unwrap());
    assert!(notes(fs::File::open(&path).unwrap()).1);
}

#[test]
fn a_special_file_is_written_to_only_if_it_accepts_a_stream() {
    let directory = TempDir::new().unwrap();
    let (target, path, _) = target(&directory);
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(CaptureFile::create(&target, &header(), true), Err(CaptureFileError::Io { .. })));
    finish(CaptureFile::create(&CaptureTarget::File("/dev/null".into()), &header(), false).unwrap());
    let block = fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.path());
    if let Some(path) = block.into_iter().find(|path| SpecialFile::of(path) == Some(SpecialFile::BlockDevice))
    {
        let file = CaptureFile::create(&CaptureTarget::File(path), &header(), false);
        assert!(matches!(file, Err(CaptureFileError::BlockDevice { .. })), "without --force");
    }
}

#[test]
fn the_error_of_a_full_device_names_the_capture() {
    let file = CaptureFile::create(&CaptureTarget::File("/dev/full".into()), &header(), false);
    let Err(CaptureFileError::Io { source, .. }) = file else { panic!("written to a full device") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    let error =
        SinkError::from_io("write to", "a".into(), pmon_record::KeptRecords::In("a.partial".into()), source);
    assert!(error.to_string().contains("a.partial"), "{error}");
}

#[test]
fn a_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let file = CaptureFile::create(&CaptureTarget::File(directory.path().into()), &header(), true);
    assert!(matches!(file, Err(CaptureFileError::Io { .. })));
}
