//! What was used until an exit.

use pmon_core::Task;
use pmon_core::capture::Usage;

use crate::{execs, recorded, the};
use pmon_testkit::capture::CaptureContents;

/// The usage of the process that burnt, and of its threads; and what it says itself of its CPU time, in us.
fn burnt(args: &[&str]) -> Option<(Usage, Vec<Usage>, u64)> {
    let program = execs();
    let (capture, said) = recorded(&[], &[&[program.as_str(), "burn"], args].concat())?;
    let tgid = the(&capture, "execs").subject.tgid();
    let usages = |is_leader| {
        let of = move |(task, usage): &(Task, Usage)| {
            (task.tgid == tgid && task.is_leader() == is_leader).then_some(*usage)
        };
        capture.usages.iter().filter_map(of)
    };
    let [process] = usages(true).collect::<Vec<_>>()[..] else { panic!("{:?}", capture.usages) };
    assert_eq!(Some(process.start_ticks), the(&capture, "execs").start_ticks);
    check_every_exit(&capture);
    Some((process, usages(false).collect(), said.trim().parse().unwrap()))
}

/// Every exit has its usage.
#[track_caller]
fn check_every_exit(capture: &CaptureContents) {
    let exits = capture.events().filter(|event| event.kind() == pmon_core::wire::EventKind::Exit).count();
    assert_eq!(capture.usages.len(), exits);
}

/// What the process says of itself shortly before its end is nearly all.
#[track_caller]
fn assert_close(usage: &Usage, said_us: u64) {
    let (least, most) = (said_us.saturating_sub(5_000), said_us + 100_000);
    assert!((least..most).contains(&usage.cpu_us), "{usage:?}, {said_us} us by its own word");
}

#[test]
fn a_process_with_one_thread_used_what_it_says() {
    let Some((process, threads, said)) = burnt(&["0", "40"]) else { return };
    assert_close(&process, said);
    assert!(threads.is_empty() && process.threads == 0 && !process.at_least, "{process:?}");
    assert!((40 << 10..80 << 10).contains(&process.max_rss_kib), "{process:?}");
    assert!(process.minor_faults > 40, "{process:?}");
}

#[test]
fn threads_that_ended_before_are_in_the_sum_of_their_process() {
    let Some((process, threads, said)) = burnt(&["4", "30"]) else { return };
    assert_close(&process, said);
    assert_eq!((threads.len(), process.threads), (4, 0));
    for thread in &threads {
        assert!((25_000..130_000).contains(&thread.cpu_us) && thread.max_rss_kib == 0, "{thread:?}");
    }
    assert!(process.cpu_us >= threads.iter().map(|thread| thread.cpu_us).sum::<u64>(), "{process:?}");
}

#[test]
fn threads_that_end_with_their_process_are_in_its_sum() {
    let Some((process, threads, said)) = burnt(&["3", "30", "--linger"]) else { return };
    assert_eq!(threads.len(), 3);
    assert_close(&process, said);
    assert!((30 << 10..80 << 10).contains(&process.max_rss_kib), "{process:?}");
}

/// Returns the peak memory in KiB of a `grep` that `execs take` runs: as recorded, and as `grep`
/// itself printed it.
fn grep(options: &[&str]) -> Option<(u64, u64)> {
    let program = execs();
    let take = [&[program.as_str(), "take", "300"], options].concat();
    let (capture, said) =
        recorded(&[], &[&take[..], &["--", "grep", "VmHWM", "/proc/self/status"]].concat())?;
    let tgid = the(&capture, "grep").subject.tgid();
    let exit = |(task, usage): &(Task, Usage)| (task.tgid == tgid).then_some(usage.max_rss_kib);
    let said = said.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    Some((capture.usages.iter().find_map(exit).unwrap(), said))
}

#[test]
fn the_most_memory_of_a_program_is_not_that_of_the_one_before_it_or_of_its_parent() {
    for options in [&[][..], &["--keep"]] {
        let Some((recorded, said)) = grep(options) else { return };
        // Between the output and the exit, the peak can only grow.
        assert!((said..said + 1024).contains(&recorded), "{recorded} KiB, {said} by its own word");
        assert!(said < 64 << 10, "{said}");
    }
}

#[test]
fn memory_that_was_given_back_counts() {
    let Some((capture, _)) = recorded(&[], &[&execs(), "take", "100", "--keep", "--", "/bin/true"]) else {
        return;
    };
    let most = |name| {
        let tgid = the(&capture, name).subject.tgid();
        let of = |(task, usage): &(Task, Usage)| (task.tgid == tgid).then_some(usage.max_rss_kib);
        capture.usages.iter().find_map(of).unwrap()
    };
    assert!((100 << 10..140 << 10).contains(&most("execs")), "{}", most("execs"));
    assert!((500..20 << 10).contains(&most("true")), "{}", most("true"));
}

#[test]
fn what_goes_to_storage_is_counted() {
    let dir = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let to = format!("of={}", dir.path().join("x").display());
    let Some((capture, _)) = recorded(&[], &["dd", "if=/dev/zero", &to, "bs=64k", "count=16", "conv=fsync"])
    else {
        return;
    };
    let tgid = the(&capture, "dd").subject.tgid();
    let usage = capture.usages.iter().find(|(task, _)| task.tgid == tgid).map(|(_, usage)| *usage).unwrap();
    let accounted = std::path::Path::new("/proc/self/io").exists();
    assert!(!accounted || usage.write_bytes >= 1 << 20, "{usage:?}");
}
