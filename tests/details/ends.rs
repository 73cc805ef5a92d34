//! Tests which exit ends a process, and with which status: the one that `wait(2)` returns,
//! whichever thread exits last.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pmon_analysis::{DetailsJoiner, OwnedRecord, ProcessExit, ProcessTable};
use pmon_core::capture::{Item, ProcessState, Reader, Usage};
use pmon_core::wire::EventBody;
use pmon_core::{MonoNs, Task};

use crate::{RING, execs};
use pmon_testkit::live::live_test;
use pmon_testkit::recorder::RecorderProcess;
use pmon_testkit::recorder::with_transport;

const RECVMMSG: &[&str] = &["--transport", "recvmmsg"];

const WAYS: [&str; 5] = ["exit", "kill", "fault", "alone", "exec"];

/// An exit and its effect on the process.
struct Exit {
    time: MonoNs,
    task: Task,
    usage: Option<Usage>,
    meaning: ProcessExit,
}

/// Returns the exits and the fork times of a capture.
fn exits(file: &Path) -> (Vec<Exit>, Vec<(Task, MonoNs)>) {
    let mut reader = Reader::open(File::open(file).unwrap()).unwrap();
    let (mut joiner, mut processes) = (DetailsJoiner::new(reader.byte_order()), ProcessTable::new());
    let (mut exits, mut forks) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { panic!("damage") };
        for record in block.records() {
            joiner.push(record);
            while let Some(entry) = joiner.pop() {
                processes.apply(&entry);
                let OwnedRecord::Event(occurrence) = &entry else { continue };
                let Some(event) = occurrence.event else { continue };
                match event.body {
                    EventBody::Fork { child, .. } => forks.push((child, event.time)),
                    EventBody::Exit { task, .. } => exits.push(Exit {
                        time: event.time,
                        task,
                        usage: occurrence.usage.as_deref().copied(),
                        meaning: processes.last_exit().unwrap(),
                    }),
                    _ => {}
                }
            }
        }
    }
    (exits, forks)
}

/// Maximum number of recordings. A lost event makes the ends unknown, and an ordinary user's socket
/// buffer is small.
const TRIES: usize = 5;

/// Ends processes in each way, `often` times with and without a running first thread.
fn all_ways(transport: &'static [&'static str], often: usize, has_ring: bool) {
    let has_lost_none = (0..TRIES).any(|_| try_all_ways(transport, often, has_ring));
    assert!(has_lost_none, "events were lost in {TRIES} of {TRIES} recordings");
}

/// Makes one recording; returns `false` if events were lost.
fn try_all_ways(transport: &'static [&'static str], often: usize, has_ring: bool) -> bool {
    with_transport(transport, || {
        let Some((dir, _guard)) = live_test() else { return true };
        let recorder = RecorderProcess::start(&dir, &[]);
        let file = recorder.file.clone();
        let program = execs();
        let mut children = Vec::new();
        for together in [false, true].repeat(often) {
            for way in WAYS {
                let mut command = Command::new(&program);
                command.args(["end", way]).args(together.then_some("--together"));
                command.current_dir(dir.path()).stderr(Stdio::null());
                children.push((way, together, command.spawn().unwrap()));
            }
        }
        let ends: Vec<_> = children
            .into_iter()
            .map(|(way, together, mut child)| (way, together, child.id(), child.wait().unwrap().into_raw()))
            .collect();
        let capture = recorder.finish();
        capture.check();
        if capture.totals().lost.total() > 0 {
            return false;
        }

        let (exits, forks) = exits(&file);
        for (way, together, pid, raw) in ends {
            let what = format!("{way}, together: {together}, process {pid}");
            let started = forks.iter().find(|(task, _)| task.tid.0 == pid).unwrap().1;
            let of: Vec<_> = exits.iter().filter(|exit| exit.task.tgid.0 == pid).collect();
            let ended: Vec<_> = of.iter().filter(|exit| exit.meaning != ProcessExit::GoesOn).collect();
            let [end] = ended[..] else { panic!("{what}: {} ends", ended.len()) };
            assert_eq!(end.meaning, ProcessExit::Ended { status: raw as u32 }, "{what}");
            assert!(together || end.time.0 - started.0 > 145_000_000, "{what}");
            assert_eq!(end.usage.is_some(), has_ring, "{what}");
            if let Some(usage) = end.usage {
                // The recorded state does not depend on the analysis.
                assert_eq!(usage.process, ProcessState::Ended { status: raw as u32 }, "{what}");
                assert!((500..60_000).contains(&usage.max_rss_kib), "{what}: {usage:?}");
                assert!(usage.process_cpu_us >= usage.cpu_us, "{what}: {usage:?}");
            }
        }
        true
    })
}

#[test]
fn a_process_ends_with_its_last_thread_as_wait_says() {
    all_ways(RING, 3, true);
}

#[test]
fn without_the_ring_a_process_ends_with_its_last_thread_as_wait_says() {
    all_ways(RECVMMSG, 3, false);
}
