//! A live recording that is replayed and recorded again has the same events, byte for byte.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use pmon::Rerecorder;
use pmon_core::Tgid;
use pmon_core::capture::{Details, Header, Item, Loss, Reader, Record};
use pmon_record::{RecordOptions, Recording, SubscribeError, Subscription};
use pmon_replay::Replay;
use pmon_store::{CaptureFile, CaptureTarget};

/// The contents that must be equal.
#[derive(Debug, Default, PartialEq)]
struct EventContents {
    datagrams: Vec<Vec<u8>>,
    losses: Vec<Loss>,
}

fn content(path: &Path) -> (Header, EventContents, Vec<Details>) {
    let mut reader = Reader::open(File::open(path).unwrap()).unwrap();
    let header = reader.header().cloned().unwrap();
    let (mut content, mut details) = (EventContents::default(), Vec::new());
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { panic!("damage") };
        for record in block.records() {
            match record {
                Record::Event(frame, _) => {
                    frame.with_bytes(header.byte_order, |bytes| content.datagrams.push(bytes.to_vec()));
                }
                Record::Loss(loss) => content.losses.push(loss),
                Record::Details(record) => details.push(*record),
                _ => {}
            }
        }
    }
    assert!(reader.ended_cleanly());
    (header, content, details)
}

/// Records some processes, and then more events at once than a small buffer holds. Skips the test
/// and returns `false` if this user cannot record.
fn record(path: &Path) -> bool {
    let options = RecordOptions { socket_buffer: 64 << 10, ..RecordOptions::default() };
    let subscription = match Subscription::open(&options) {
        Ok(subscription) => subscription,
        Err(error @ SubscribeError::Socket { .. }) => panic!("{error}"),
        Err(error) => {
            pmon_testkit::guard::skip(&error.to_string());
            return false;
        }
    };
    let header = subscription.header(&[]);
    let file = CaptureFile::create(&CaptureTarget::File(path.into()), &header, false).unwrap();
    let recording = Recording::start(subscription, file, &options).unwrap();
    let script = "i=0; while [ $i -lt 100 ]; do /bin/true; (exit 3); i=$((i+1)); done";
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
    for _ in 0..20_000 {
        rustix::thread::set_name(c"storm").unwrap();
    }
    recording.stopper().stop();
    recording.join().unwrap();
    true
}

fn replay_into(from: &Path, to: &Path, header: &Header) {
    let mut replay = Replay::new(Reader::open(File::open(from).unwrap()).unwrap()).pass_records();
    let file = CaptureFile::create(&CaptureTarget::File(to.into()), header, false).unwrap();
    let mut rerecorder = Rerecorder::new(file, Tgid(header.meta.recorder_pid));
    while rerecorder.take(&mut replay, None).unwrap() {}
    rerecorder.finish(replay.now()).unwrap();
}

#[test]
fn a_recording_of_a_replay_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.pmon"), folder.path().join("second.pmon"));
    if !record(&first) {
        return;
    }
    let (header, recorded, details) = content(&first);
    replay_into(&first, &second, &header);
    let (_, again, details_again) = content(&second);
    assert!(recorded.datagrams.len() > 600, "{} datagrams", recorded.datagrams.len());
    assert!(details.len() > 100);
    assert_eq!(recorded, again);
    assert_eq!(details, details_again);
}
