//! Tests which exit ends a process, and that its status is the one that `wait(2)` returns,
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
use pmon_testkit::guard;
use pmon_testkit::live::live_test;
use pmon_testkit::recorder::{RecorderProcess, with_transport};

const RECVMMSG: &[&str] = &["--transport", "recvmmsg"];

/// The ways in which the tool `execs` ends a process.
const WAYS: [&str; 5] = ["exit", "kill", "fault", "alone", "exec"];

/// An exit and its effect on the process.
struct RecordedExit {
    time: MonoNs,
    task: Task,
    usage: Option<Usage>,
    meaning: ProcessExit,
}

/// Returns the exits and the fork times of a capture.
fn exits(file: &Path) -> (Vec<RecordedExit>, Vec<(Task, MonoNs)>) {
    let mut reader = Reader::open(File::open(file).unwrap()).unwrap();
    let (mut joiner, mut processes) = (DetailsJoiner::new(reader.byte_order()), ProcessTable::new());
    let (mut exits, mut forks) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { panic!("damage") };
        for record in block.records() {
            joiner.push(record);
            while let Some(entry) = joiner.pop() {
                processes.apply(&entry);
                let OwnedRecord::Event(item) = &entry else { continue };
                let Some(event) = item.event else { continue };
                match event.body {
                    EventBody::Fork { child, .. } => forks.push((child, event.time)),
                    EventBody::Exit { task, .. } => exits.push(RecordedExit {
                        time: event.time,
                        task,
                        usage: item.usage.as_deref().copied(),
                        meaning: processes.last_exit().unwrap(),
                    }),
                    _ => {}
                }
            }
        }
    }
    (exits, forks)
}

/// Ends processes in each way, `often` times with and without a running first thread. Repeats the
/// recording if events were lost: then the ends are unknown, and an ordinary user's socket buffer
/// is small.
fn check_all_ways(transport: &'static [&'static str], often: usize, has_ring: bool) {
    let attempt = || record_all_ways(transport, often, has_ring);
    guard::retry(attempt).unwrap_or_else(|why| panic!("{why}"));
}

/// Makes one recording; fails if events were lost.
fn record_all_ways(transport: &'static [&'static str], often: usize, has_ring: bool) -> Result<(), String> {
    with_transport(transport, || {
        let Some((dir, _guard)) = live_test() else { return Ok(()) };
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
            return Err("events were lost".to_owned());
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
        Ok(())
    })
}

#[test]
fn a_process_ends_with_its_last_thread_and_the_status_of_wait() {
    check_all_ways(RING, 3, true);
}

#[test]
fn without_the_ring_a_process_ends_with_its_last_thread_and_the_status_of_wait() {
    check_all_ways(RECVMMSG, 3, false);
}
