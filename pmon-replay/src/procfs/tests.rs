use std::fs;

use pmon_analysis::TimelineItem;
use pmon_core::capture::{Credentials, Details, DetailsSubject, MissReason, ProcessContext, Usage};
use pmon_core::wire::{Comm, Event, EventBody};
use pmon_core::{Cpu, Seq, Task};

use super::*;

/// `/proc/<pid>/stat` of a `cat` on Linux 6.18.
const STAT: &str = "19911 (cat) R 19908 19908 16691 0 -1 4194304 101 0 0 0 0 0 0 0 20 0 1 0 2310942 3133440 418 \
    18446744073709551615 93826475114496 93826475134377 140724375330336 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 93826475150384 \
    93826475152000 93827378339840 140724375337680 140724375337718 140724375337718 140724375338987 0\n";
/// The first lines of its `status`.
const STATUS: &str = "Name:\tcat\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t19911\nNgid:\t0\nPid:\t19911\nPPid:\t19908\n\
    TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t \nNStgid:\t19911\nNSpid:\t19911\nNSpgid:\t19908\n\
    NSsid:\t16691\nKthread:\t0\nVmPeak:\t       0 kB\n";
const LABELS: &str = "Name Umask State Tgid Ngid Pid PPid TracerPid Uid Gid FDSize Groups NStgid NSpid NSpgid NSsid Kthread \
    VmPeak VmSize VmLck VmPin VmHWM VmRSS RssAnon RssFile RssShmem VmData VmStk VmExe VmLib VmPTE VmSwap HugetlbPages CoreDumping \
    THP_enabled untag_mask Threads SigQ SigPnd ShdPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp \
    Seccomp_filters Speculation_Store_Bypass SpeculationIndirectBranch Cpus_allowed Cpus_allowed_list Mems_allowed \
    Mems_allowed_list voluntary_ctxt_switches nonvoluntary_ctxt_switches";

fn procfs(entries: &[OwnedRecord]) -> CaptureProcfs {
    let start =
        ClockAnchor { mono: MonoNs(5_000_000_000), boot_ns: 7_500_000_000, real_ns: 1_000_007_400_000_000 };
    let mut procfs =
        CaptureProcfs::new(Meta { ticks_per_second: 100, cpus_online: 2, start, ..Meta::default() });
    entries.iter().for_each(|record| procfs.apply(record));
    procfs
}

fn cat() -> Details {
    Details {
        miss: None,
        ppid: Some(19_908),
        start_ticks: Some(700),
        ids: Some(Credentials::default()),
        comm: Some("cat".into()),
        exe: Some("/usr/bin/cat".into()),
        cwd: Some("/root".into()),
        cgroup: Some("1:cpu:/\n0::/".into()),
        args: Some("cat\0a b\0".into()),
        context: Some(ProcessContext {
            session: 16_691,
            group: 19_908,
            login_uid: 1000,
            pid_namespace: 4_026_531_836,
            pid: 19_911,
            cgroup: 1,
        }),
        ..Details::missed(
            DetailsSubject::Exec { tgid: Tgid(19_911), time: MonoNs(5_000_000_000) },
            MissReason::Gone,
        )
    }
}

fn event(body: EventBody, details: Option<Details>) -> OwnedRecord {
    let event = Event { time: MonoNs(5_000_000_000), seq: Seq(0), cpu: Cpu(0), body };
    OwnedRecord::Event(TimelineItem {
        event: Some(event),
        raw: None,
        details: details.map(Box::new),
        usage: None,
    })
}

fn exec(details: Option<Details>) -> OwnedRecord {
    event(EventBody::Exec { task: Task::new(19_911, 19_911) }, details)
}

fn thread(tid: u32) -> OwnedRecord {
    event(EventBody::Fork { parent: Task::new(19_908, 19_908), child: Task::new(tid, 19_911) }, None)
}

fn exit() -> OwnedRecord {
    event(EventBody::Exit { task: Task::new(19_911, 19_911), code: 9, signal: 17, parent: None }, None)
}

fn rename(tid: u32, name: &str) -> OwnedRecord {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name.as_bytes());
    event(EventBody::Comm { task: Task::new(tid, 19_911), comm }, None)
}

fn node(procfs: &CaptureProcfs, path: &str) -> Option<ProcEntry> {
    procfs.entries(19_911).into_iter().find_map(|(at, node)| (at == path).then_some(node))
}

fn file(procfs: &CaptureProcfs, path: &str) -> String {
    match node(procfs, path) {
        Some(ProcEntry::File(content)) => String::from_utf8(content).unwrap(),
        other => panic!("{path}: {other:?}"),
    }
}

fn link(procfs: &CaptureProcfs, path: &str) -> Option<String> {
    match node(procfs, path) {
        Some(ProcEntry::Link(target)) => Some(String::from_utf8(target).unwrap()),
        _ => None,
    }
}

/// Returns the fields after the name. The first one is field number 3.
fn fields(stat: &str) -> Vec<&str> {
    stat[stat.rfind(')').unwrap() + 2..].trim_end().split(' ').collect()
}

fn labels(status: &str) -> Vec<&str> {
    status.lines().map(|line| line.split_once(":\t").unwrap().0).collect()
}

#[test]
fn recorded_fields_of_stat_equal_the_kernels() {
    let procfs = procfs(&[exec(Some(cat()))]);
    let stat = file(&procfs, "stat");
    assert!(stat.starts_with("19911 (cat) S ") && stat.ends_with(" 0\n"));
    let (ours, theirs) = (fields(&stat), fields(STAT));
    assert_eq!((ours.len(), theirs.len()), (50, 50));
    // Parent to flags, priority to `itrealvalue`, memory limit, signals to exit signal, policy,
    // exit code.
    for numbers in [4..=9, 18..=21, 25..=25, 31..=38, 40..=44, 52..=52] {
        for number in numbers {
            assert_eq!(ours[number - 3], theirs[number - 3], "field {number}");
        }
    }
    assert_eq!(ours[22 - 3], "700");
}

#[test]
fn recorded_lines_of_status_equal_the_kernels() {
    let status = file(&procfs(&[exec(Some(cat()))]), "status");
    assert!(status.starts_with(STATUS), "{status}");
    assert_eq!(labels(&status), LABELS.split(' ').collect::<Vec<_>>());
    assert!(
        status.contains("\nThreads:\t1\n")
            && status.contains("\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n")
    );
}

#[test]
fn other_files_show_recorded_data() {
    let procfs = procfs(&[exec(Some(cat()))]);
    assert_eq!(file(&procfs, "cmdline"), "cat\0a b\0");
    assert_eq!(file(&procfs, "comm"), "cat\n");
    assert_eq!(file(&procfs, "cgroup"), "1:cpu:/\n0::/\n");
    assert_eq!(file(&procfs, "loginuid"), "1000");
    assert_eq!(link(&procfs, "exe").as_deref(), Some("/usr/bin/cat"));
    assert_eq!(link(&procfs, "cwd").as_deref(), Some("/root"));
    assert_eq!(link(&procfs, "ns/pid").as_deref(), Some("pid:[4026531836]"));
    let facts = procfs.task(19_911).unwrap();
    assert_eq!((facts.owner, facts.group, facts.session), ((0, 0), 19_908, 16_691));
}

#[test]
fn a_name_may_contain_any_bytes() {
    let procfs = procfs(&[exec(Some(cat())), rename(19_911, "a) b\n\\c")]);
    assert!(file(&procfs, "stat").starts_with("19911 (a) b\n\\c) S 19908 "));
    assert!(file(&procfs, "status").starts_with("Name:\ta) b\\n\\\\c\nUmask:"));
}

#[test]
fn a_zombie_has_no_memory_and_no_files() {
    let procfs = procfs(&[exec(Some(cat())), exit()]);
    let stat = file(&procfs, "stat");
    assert!(stat.starts_with("19911 (cat) Z 19908 19908 16691 ") && stat.ends_with(" 9\n"), "{stat}");
    let status = file(&procfs, "status");
    assert!(status.contains("State:\tZ (zombie)\n") && status.contains("FDSize:\t0\n"));
    let expected: Vec<_> = LABELS
        .split(' ')
        .filter(|label| {
            !["Umask", "HugetlbPages", "CoreDumping", "THP_enabled", "untag_mask"].contains(label)
                && !label.starts_with("Vm")
                && !label.starts_with("Rss")
        })
        .collect();
    assert_eq!(labels(&status), expected);
    assert_eq!(file(&procfs, "cmdline"), "");
    assert_eq!((link(&procfs, "exe"), link(&procfs, "cwd"), link(&procfs, "root")), (None, None, None));
    assert_eq!(node(&procfs, "fd"), Some(ProcEntry::Directory));
}

#[test]
fn a_zombie_shows_its_resource_usage() {
    let usage = Usage {
        user_us: 120_000,
        system_us: 30_000,
        minor_faults: 7,
        major_faults: 8,
        read_bytes: 9,
        ..Usage::default()
    };
    let mut exit = exit();
    if let OwnedRecord::Event(item) = &mut exit {
        item.usage = Some(Box::new(usage));
    }
    let procfs = procfs(&[exec(Some(cat())), exit]);
    assert_eq!(fields(&file(&procfs, "stat"))[7..15], ["7", "0", "8", "0", "12", "3", "0", "0"]);
    assert!(file(&procfs, "io").contains("\nread_bytes: 9\nwrite_bytes: 0\n"));
}

#[test]
fn threads_are_in_the_task_directory_and_found_by_their_ids() {
    let mut procfs = procfs(&[exec(Some(cat())), thread(20_000), rename(20_000, "worker")]);
    assert_eq!(procfs.pids(), [19_911]);
    assert_eq!(file(&procfs, "task/20000/comm"), "worker\n");
    assert_eq!(file(&procfs, "task/19911/comm"), "cat\n");
    assert!(
        file(&procfs, "task/20000/status").contains("\nTgid:\t19911\nNgid:\t0\nPid:\t20000\nPPid:\t19908\n")
    );
    assert_eq!(fields(&file(&procfs, "task/20000/stat"))[38 - 3], "-1");
    assert_eq!(file(&procfs, "task/20000/cmdline"), "cat\0a b\0");
    assert_eq!(procfs.task(20_000), procfs.task(19_911));
    let own = procfs.entries(20_000).into_iter().find(|(path, _)| path == "comm");
    assert_eq!(own, Some(("comm".into(), ProcEntry::File(b"worker\n".to_vec()))));
    // The exit of the first thread does not change the other threads.
    procfs.apply(&exit());
    let state = |procfs: &CaptureProcfs, path| fields(&file(procfs, path))[0].to_owned();
    assert_eq!((state(&procfs, "stat"), state(&procfs, "task/20000/stat")), ("Z".into(), "S".into()));
    assert!(file(&procfs, "status").contains("\nThreads:\t2\n"));
}

#[test]
fn a_directory_comes_before_its_entries() {
    let procfs = procfs(&[exec(Some(cat())), thread(20_000)]);
    let mut directories = vec![String::new()];
    for (path, node) in procfs.entries(19_911) {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(directories.iter().any(|directory| directory == parent), "{path}");
        if node == ProcEntry::Directory {
            assert!(!directories.contains(&path), "{path}");
            directories.push(path);
        }
    }
    assert_eq!(directories, ["", "fd", "fdinfo", "ns", "task", "task/19911", "task/20000"]);
}

#[test]
fn an_exec_without_details_shows_placeholders() {
    let procfs = procfs(&[exec(None)]);
    assert!(file(&procfs, "stat").starts_with("19911 (?) S 0 0 0 "));
    assert_eq!((file(&procfs, "comm"), file(&procfs, "cmdline")), ("?\n".into(), String::new()));
    assert_eq!(file(&procfs, "cgroup"), "0::/\n");
    assert_eq!((link(&procfs, "exe"), link(&procfs, "cwd"), link(&procfs, "ns/pid")), (None, None, None));
    assert_eq!(procfs.task(19_911).map(|task| task.owner), Some((65_534, 65_534)));
}

#[test]
fn a_kernel_thread_looks_like_one() {
    let subject = DetailsSubject::Snapshot { tgid: Tgid(19_911) };
    let (ppid, comm, cgroup) = (Some(2), Some("kworker/0:1H-kblockd".into()), Some("0::/".into()));
    let kthread = Details {
        ppid,
        comm,
        cgroup,
        ..Details { miss: None, ..Details::missed(subject, MissReason::Gone) }
    };
    let procfs = procfs(&[OwnedRecord::Details(Box::new(kthread))]);
    assert!(file(&procfs, "stat").starts_with("19911 (kworker/0:1H-kblockd) S 2 0 0 0 -1 2097152 "));
    let status = file(&procfs, "status");
    assert!(status.contains("\nKthread:\t1\n") && status.contains("SigIgn:\tffffffffffffffff\n"));
    assert!(status.contains("Umask:") && !status.contains("Vm"));
    assert_eq!((link(&procfs, "exe"), link(&procfs, "cwd").as_deref()), (None, Some("/")));
}

#[test]
fn status_shows_the_ids_in_both_namespaces() {
    let mut inner = cat();
    inner.context = inner.context.map(|of| ProcessContext { pid: 7, ..of });
    let procfs = procfs(&[exec(Some(inner)), thread(20_000)]);
    assert!(file(&procfs, "status").contains("\nNStgid:\t19911\t7\nNSpid:\t19911\t7\n"));
    assert!(file(&procfs, "task/20000/status").contains("\nNStgid:\t19911\t7\nNSpid:\t20000\n"));
}

#[test]
fn uptime_and_boot_time_are_those_of_the_capture() {
    let mut procfs = procfs(&[]);
    assert_eq!(procfs.uptime(), Some(Duration::from_millis(7_500)));
    // Seconds are rounded down.
    assert_eq!(procfs.boot_time(), Some(999_999));
    let later = Event {
        time: MonoNs(6_000_000_000),
        seq: Seq(0),
        cpu: Cpu(0),
        body: EventBody::Sid { task: Task::new(1, 1) },
    };
    procfs.apply(&OwnedRecord::Event(TimelineItem {
        event: Some(later),
        raw: None,
        details: None,
        usage: None,
    }));
    assert_eq!(procfs.uptime(), Some(Duration::from_millis(8_500)));
    // The machine was suspended for one minute.
    let anchor =
        ClockAnchor { mono: MonoNs(6_000_000_000), boot_ns: 68_500_000_000, real_ns: 1_000_068_400_000_000 };
    procfs.apply(&OwnedRecord::Clock(anchor));
    assert_eq!(procfs.uptime(), Some(Duration::from_millis(68_500)));
    assert_eq!(CaptureProcfs::new(Meta::default()).uptime(), None);
}

#[test]
fn an_unknown_id_has_no_process() {
    let procfs = procfs(&[exec(Some(cat()))]);
    assert_eq!((procfs.task(1), procfs.entries(1)), (None, Vec::new()));
}

/// The layout of the files is the same on all current kernels.
#[test]
fn the_layouts_equal_those_of_the_running_kernel() {
    let procfs = procfs(&[exec(Some(cat()))]);
    let live = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap();
    assert_eq!(fields(&file(&procfs, "stat")).len(), fields(&live("stat")).len());
    let keys =
        |text: &str| text.lines().map(|line| line.split_once(": ").unwrap().0.to_owned()).collect::<Vec<_>>();
    assert_eq!(keys(&file(&procfs, "io")), keys(&live("io")));
    assert_eq!(file(&procfs, "statm").split(' ').count(), live("statm").split(' ').count());
    let columns = |text: &str| -> Vec<(String, usize)> {
        text.lines().map(|line| (line[..26].to_owned(), line.len())).collect()
    };
    assert_eq!(columns(&file(&procfs, "limits")), columns(&live("limits")));
    let status = (file(&procfs, "status"), live("status"));
    let (ours, theirs) = (labels(&status.0), labels(&status.1));
    let ours: Vec<_> = ours.into_iter().filter(|label| theirs.contains(label)).collect();
    let theirs: Vec<_> = theirs.into_iter().filter(|label| ours.contains(label)).collect();
    assert_eq!(ours, theirs);
    assert!(ours.len() > 40, "{ours:?}");
}

/// Each entry alone, and each listing, agree with all entries.
#[test]
fn single_entries_and_listings_equal_all_entries() {
    let kernel_thread = Details { exe: None, args: None, ppid: Some(2), ..cat() };
    let kernel_thread = Details { subject: DetailsSubject::Snapshot { tgid: Tgid(19_911) }, ..kernel_thread };
    for records in [
        vec![exec(Some(cat()))],
        vec![exec(Some(cat())), thread(19_912), thread(19_913)],
        vec![exec(Some(cat())), exit()],
        vec![exec(None)],
        vec![OwnedRecord::Details(Box::new(kernel_thread))],
    ] {
        let procfs = procfs(&records);
        for id in [19_911, 19_912] {
            let entries = procfs.entries(id);
            for (path, entry) in &entries {
                assert_eq!(procfs.entry(id, path).as_ref(), Some(entry), "{path}");
            }
            let directories = entries.iter().filter(|(_, entry)| *entry == ProcEntry::Directory);
            for directory in directories.map(|(path, _)| &**path).chain([""]) {
                let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
                let names = entries.iter().filter_map(|(path, entry)| {
                    let name = path.strip_prefix(&prefix)?;
                    (!name.contains('/')).then(|| (name.to_owned(), entry.kind()))
                });
                assert_eq!(procfs.list(id, directory), names.collect::<Vec<_>>(), "{directory}");
            }
        }
        for path in
            ["none", "comm/below", "task/1", "task/019911", "task/19911/fd", "ns/net", "cwd/etc", "task/"]
        {
            assert_eq!(procfs.entry(19_911, path), None, "{path}");
        }
        assert!(procfs.entry(7, "").is_none() && procfs.list(7, "").is_empty());
    }
}
