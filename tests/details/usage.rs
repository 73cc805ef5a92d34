//! Resource usage at an exit.

use pmon_core::Task;
use pmon_core::capture::Usage;

use crate::{details_of, execs, record_details};
use pmon_testkit::capture::CaptureContents;

/// Records `execs burn`. Returns the usage of the process, that of its threads, and the CPU time in
/// us that the process reports itself.
fn record_burn(args: &[&str]) -> Option<(Usage, Vec<Usage>, u64)> {
    let program = execs();
    let (capture, reported) = record_details(&[], &[&[program.as_str(), "burn"], args].concat())?;
    let tgid = details_of(&capture, "execs").subject.tgid();
    let usages = |is_leader| {
        let of = move |(task, usage): &(Task, Usage)| {
            (task.tgid == tgid && task.is_leader() == is_leader).then_some(*usage)
        };
        capture.usages.iter().filter_map(of)
    };
    let [process] = usages(true).collect::<Vec<_>>()[..] else { panic!("{:?}", capture.usages) };
    assert_eq!(Some(process.start_ticks), details_of(&capture, "execs").start_ticks);
    check_every_exit(&capture);
    Some((process, usages(false).collect(), reported.trim().parse().unwrap()))
}

/// Fails the test unless every exit has its usage.
#[track_caller]
fn check_every_exit(capture: &CaptureContents) {
    let exits = capture.events().filter(|event| event.kind() == pmon_core::wire::EventKind::Exit).count();
    assert_eq!(capture.usages.len(), exits);
}

/// Fails the test unless the CPU time is close to what the process reported shortly before its
/// exit.
#[track_caller]
fn assert_close(usage: &Usage, reported_us: u64) {
    let (min, max) = (reported_us.saturating_sub(5_000), reported_us + 100_000);
    assert!((min..max).contains(&usage.cpu_us), "{usage:?}, {reported_us} us reported by the process");
}

#[test]
fn a_process_with_one_thread_used_what_it_reports() {
    let Some((process, threads, reported)) = record_burn(&["0", "40"]) else { return };
    assert_close(&process, reported);
    assert!(threads.is_empty() && process.threads == 0 && !process.at_least, "{process:?}");
    assert!((40 << 10..80 << 10).contains(&process.max_rss_kib), "{process:?}");
    assert!(process.minor_faults > 40, "{process:?}");
}

#[test]
fn the_usage_of_a_process_includes_threads_that_exited_earlier() {
    let Some((process, threads, reported)) = record_burn(&["4", "30"]) else { return };
    assert_close(&process, reported);
    assert_eq!((threads.len(), process.threads), (4, 0));
    for thread in &threads {
        assert!((25_000..130_000).contains(&thread.cpu_us) && thread.max_rss_kib == 0, "{thread:?}");
    }
    assert!(process.cpu_us >= threads.iter().map(|thread| thread.cpu_us).sum::<u64>(), "{process:?}");
}

#[test]
fn the_usage_of_a_process_includes_threads_that_exit_with_it() {
    let Some((process, threads, reported)) = record_burn(&["3", "30", "--linger"]) else { return };
    assert_eq!(threads.len(), 3);
    assert_close(&process, reported);
    assert!((30 << 10..80 << 10).contains(&process.max_rss_kib), "{process:?}");
}

/// Returns the peak memory in KiB of a `grep` that `execs take` runs: as recorded, and as `grep`
/// itself printed it.
fn record_grep(options: &[&str]) -> Option<(u64, u64)> {
    let program = execs();
    let take = [&[program.as_str(), "take", "300"], options].concat();
    let (capture, reported) =
        record_details(&[], &[&take[..], &["--", "grep", "VmHWM", "/proc/self/status"]].concat())?;
    let tgid = details_of(&capture, "grep").subject.tgid();
    let exit = |(task, usage): &(Task, Usage)| (task.tgid == tgid).then_some(usage.max_rss_kib);
    let reported = reported.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    Some((capture.usages.iter().find_map(exit).unwrap(), reported))
}

#[test]
fn the_peak_memory_of_a_program_excludes_earlier_programs_and_its_parent() {
    for options in [&[][..], &["--keep"]] {
        let Some((recorded, reported)) = record_grep(options) else { return };
        // Between the output and the exit, the peak can only grow.
        assert!(
            (reported..reported + 1024).contains(&recorded),
            "{recorded} KiB, {reported} reported by grep"
        );
        assert!(reported < 64 << 10, "{reported}");
    }
}

#[test]
fn the_peak_memory_includes_released_memory() {
    let Some((capture, _)) = record_details(&[], &[&execs(), "take", "100", "--keep", "--", "/bin/true"])
    else {
        return;
    };
    let peak = |name| {
        let tgid = details_of(&capture, name).subject.tgid();
        let of = |(task, usage): &(Task, Usage)| (task.tgid == tgid).then_some(usage.max_rss_kib);
        capture.usages.iter().find_map(of).unwrap()
    };
    assert!((100 << 10..140 << 10).contains(&peak("execs")), "{}", peak("execs"));
    assert!((500..20 << 10).contains(&peak("true")), "{}", peak("true"));
}

#[test]
fn bytes_written_to_storage_are_counted() {
    let dir = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let to = format!("of={}", dir.path().join("x").display());
    let Some((capture, _)) =
        record_details(&[], &["dd", "if=/dev/zero", &to, "bs=64k", "count=16", "conv=fsync"])
    else {
        return;
    };
    let tgid = details_of(&capture, "dd").subject.tgid();
    let usage = capture.usages.iter().find(|(task, _)| task.tgid == tgid).map(|(_, usage)| *usage).unwrap();
    let accounted = std::path::Path::new("/proc/self/io").exists();
    assert!(!accounted || usage.write_bytes >= 1 << 20, "{usage:?}");
}
