//! Details of programs and exits in captures: complete, exact, and attributed to the right process.
//!
//! `cargo test --test details`. Most tests record with the ring, and are skipped where it is
//! missing.

mod cgroups;
mod containers;
mod ends;
mod hostile;
mod secrets;
mod signals;
mod usage;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cgroups::TestCgroup;
use pmon_core::Tgid;
use pmon_core::capture::{Details, DetailsSubject};
use pmon_core::wire::EventBody;
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::guard::{Need, needs, skip};
use pmon_testkit::live::live_test;
use pmon_testkit::programs;
use pmon_testkit::recorder::{record_command, record_program, with_transport};
use tempfile::TempDir;

const RING: &[&str] = &["--transport", "ring+details"];

/// Records a program with the ring. Returns the capture and the program's output. Other processes
/// may execute programs, too: the capture keeps only the details of this program and its
/// descendants. Skips the test and returns `None` without a ring.
fn record_details(options: &[&str], program: &[&str]) -> Option<(CaptureContents, String)> {
    with_transport(RING, || {
        let (dir, _guard) = live_test()?;
        let (capture, output) = record_program(&dir, options, program);
        capture.check();
        assert_eq!(capture.totals().lost.total(), 0);
        Some((own(capture), output))
    })
}

/// Removes the details of other processes. A recording of a part of the events has none.
fn own(mut capture: CaptureContents) -> CaptureContents {
    if capture.is_partial {
        return capture;
    }
    let own = descendants(&capture);
    capture.details.retain(|details| own.contains(&details.subject.tgid()));
    capture
}

/// Returns the recorder and its descendants.
fn descendants(capture: &CaptureContents) -> HashSet<Tgid> {
    let mut forks: Vec<_> = capture
        .events()
        .filter_map(|event| match event.body {
            EventBody::Fork { parent, child } => Some((event.time, parent.tgid, child.tgid)),
            _ => None,
        })
        .collect();
    // The order of events of different CPUs is exact only to some microseconds.
    forks.sort();
    let mut tree = HashSet::from([capture.recorder()]);
    for (_, parent, child) in forks {
        if tree.contains(&parent) {
            tree.insert(child);
        }
    }
    tree
}

/// Returns the path of the tool `execs`.
fn execs() -> String {
    programs::tool("execs").to_str().unwrap().to_owned()
}

/// Returns the details of the only exec of a program of that name.
#[track_caller]
fn details_of<'a>(capture: &'a CaptureContents, name: &str) -> &'a Details {
    let mut of_name =
        capture.details.iter().filter(|details| details.comm.as_deref() == Some(name.as_bytes()));
    let details = of_name.next().unwrap_or_else(|| panic!("no exec of {name}: {:#?}", capture.details));
    assert!(of_name.next().is_none(), "more than one exec of {name}");
    assert_eq!(details.miss, None, "{details:?}");
    details
}

fn argv(details: &Details) -> Vec<&[u8]> {
    details.argv().collect()
}

fn text(bytes: &Option<Vec<u8>>) -> &str {
    str::from_utf8(bytes.as_deref().unwrap_or(b"nothing")).unwrap()
}

/// Resolves all links of a path.
fn resolve(path: &str) -> String {
    fs::canonicalize(path).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn each_of_ten_thousand_short_programs_has_its_own_arguments() {
    let script = "\"$@\" & \"$@\" & wait";
    let program = execs();
    let Some((capture, _)) = record_details(&[], &["sh", "-c", script, "sh", &program, "storm", "5000"])
    else {
        return;
    };
    let mut seen: HashMap<u32, u32> = HashMap::new();
    for details in capture.details.iter().filter(|details| details.comm.as_deref() == Some(b"true")) {
        assert_eq!(details.miss, None, "{details:?}");
        let argv = argv(details);
        let [name, number, words, empty] = argv[..] else { panic!("{details:?}") };
        assert_eq!((name, words, empty), (&b"/bin/true"[..], &b"b c"[..], &b""[..]));
        let number = str::from_utf8(number).unwrap().parse().unwrap();
        *seen.entry(number).or_default() += 1;
    }
    assert!((0..5000).all(|number| seen.get(&number) == Some(&2)) && seen.len() == 5000);
    // Every exec has details, which immediately follow it.
    assert!(capture.details.iter().all(|details| details.miss.is_none() && details.context.is_some()));
}

#[test]
fn the_user_the_parent_and_the_directory_of_a_program_are_recorded() {
    let dir = TempDir::new().unwrap();
    let here = dir.path().canonicalize().unwrap();
    let program = ["sh", "-c", r#"cd "$0"; sleep 0"#, here.to_str().unwrap()];
    let Some((capture, _)) = record_details(&[], &program) else { return };
    let (sh, sleep) = (details_of(&capture, "sh"), details_of(&capture, "sleep"));
    assert_eq!(sleep.ppid, Some(sh.subject.tgid().0));
    assert_eq!(sleep.parent_start_ticks, sh.start_ticks);
    assert_eq!(sh.ppid, Some(capture.recorder().0));
    assert_eq!(text(&sleep.exe), resolve("/bin/sleep"));
    assert_eq!(text(&sleep.cwd), here.to_str().unwrap());
    assert!(text(&sleep.filename).ends_with("/sleep"));
    let ids = sleep.ids.unwrap();
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!(((ids.uid, ids.gid), (ids.euid, ids.egid)), (me, me));
    let (context, of_sh) = (sleep.context.unwrap(), sh.context.unwrap());
    assert_eq!(context.pid, sleep.subject.tgid().0, "its ID in the initial PID namespace");
    assert_eq!((context.session, context.group), (of_sh.session, of_sh.group));
    assert_eq!(context.session, own_session());
    let login = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    assert_eq!(context.login_uid, login.trim().parse().unwrap_or(u32::MAX));
    assert_eq!(u64::from(context.pid_namespace), namespace());
    assert_eq!(sleep.start_ticks.unwrap() / 1000, ticks_now() / 1000, "within ten seconds");
    let lines = fs::read_to_string("/proc/self/cgroup").unwrap();
    if let Some(line) = lines.lines().find(|line| line.starts_with("0::")) {
        assert_eq!(text(&sleep.cgroup), line);
    }
}

/// Returns the test's session; 0 if none was created since the kernel's start.
fn own_session() -> u32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_the_name) = stat.rsplit_once(") ").unwrap();
    after_the_name.split(' ').nth(3).unwrap().parse().unwrap()
}

fn namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").unwrap().ino()
}

fn ticks_now() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    (uptime.split(' ').next().unwrap().parse::<f64>().unwrap() * 100.0) as u64
}

#[test]
fn arguments_are_bytes_not_text() {
    let dir = TempDir::new().unwrap();
    let odd = dir.path().join("run");
    fs::write(&odd, b"#!/bin/sh\nexec true '\xff\xfe' '' 'new\nline' '\xe2\x82'\n").unwrap();
    let Some((capture, _)) = record_details(&[], &["sh", odd.to_str().unwrap()]) else { return };
    let expected: [&[u8]; 5] = [b"true", b"\xff\xfe", b"", b"new\nline", b"\xe2\x82"];
    assert_eq!(argv(details_of(&capture, "true")), expected);
}

#[test]
fn arguments_that_are_too_long_are_truncated_and_marked() {
    // 128 KiB, in four arguments.
    let word = "x".repeat((32 << 10) - 8);
    let program = ["true", &word, &word, &word, &word];
    let whole: usize = program.iter().map(|word| word.len() + 1).sum();
    let all = program.join("\0") + "\0";
    for (options, kept) in [(&[][..], 4096), (&["--args-max", "100"], 100), (&["--args-max", "128K"], whole)]
    {
        let Some((capture, _)) = record_details(options, &program) else { return };
        let details = details_of(&capture, "true");
        assert!(details.args.as_deref() == Some(&all.as_bytes()[..kept]), "{options:?}");
        assert_eq!(details.args_len, (kept < whole).then_some(whole as u64), "{options:?}");
    }
}

#[test]
fn a_program_executed_by_another_thread_belongs_to_its_process() {
    let program = execs();
    let Some((capture, _)) = record_details(&[], &[&program, "thread", "/bin/true", "from a thread"]) else {
        return;
    };
    let (execs, details) = (details_of(&capture, "execs"), details_of(&capture, "true"));
    assert_eq!(details.subject.tgid(), execs.subject.tgid());
    assert_eq!(details.start_ticks, execs.start_ticks);
    assert_eq!(argv(details), [&b"/bin/true"[..], b"from a thread"]);
}

#[test]
fn a_program_executed_by_descriptor_has_the_path_of_its_file() {
    let program = execs();
    let Some((capture, _)) = record_details(&[], &[&program, "descriptor", "/bin/true", "x"]) else { return };
    let of_true = |details: &&Details| text(&details.exe) == resolve("/bin/true");
    let details = capture.details.iter().find(of_true).expect("an exec of true");
    assert_eq!(argv(details), [&b"/bin/true"[..], b"x"]);
    assert!(text(&details.filename).starts_with("/dev/fd/"), "{details:?}");
    assert_eq!(details.miss, None);
}

#[test]
fn a_script_has_its_file_name_and_its_interpreter() {
    let dir = TempDir::new().unwrap();
    let (script, link) = (dir.path().join("a script"), dir.path().join("link"));
    fs::write(&script, "#!/bin/sh -e\nexit 0\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(&script, &link).unwrap();
    let link = link.to_str().unwrap();
    let Some((capture, _)) = record_details(&[], &[link, "x"]) else { return };
    let details = details_of(&capture, "link");
    assert_eq!(text(&details.filename), link);
    assert_eq!(text(&details.exe), resolve("/bin/sh"));
    assert_eq!(argv(details), [&b"/bin/sh"[..], b"-e", link.as_bytes(), b"x"]);
}

#[test]
fn a_program_that_was_deleted_is_marked() {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().canonicalize().unwrap().join("copy");
    fs::copy("/bin/sleep", &copy).unwrap();
    let script = r#"exec 3< "$0"; rm "$0"; exec /proc/self/fd/3 0"#;
    let Some((capture, _)) = record_details(&[], &["sh", "-c", script, copy.to_str().unwrap()]) else {
        return;
    };
    let deleted = format!("{} (deleted)", copy.display());
    assert!(capture.details.iter().any(|details| text(&details.exe) == deleted), "{:#?}", capture.details);
}

#[test]
fn a_process_in_a_pid_namespace_has_both_ids() {
    let program = ["unshare", "--pid", "--fork", "sh", "-c", "/bin/true in; :"];
    if !needs(&[Need::Command("PID namespaces", &program)]) {
        return;
    }
    let Some((capture, _)) = record_details(&[], &program) else { return };
    let (sh, details) = (details_of(&capture, "sh"), details_of(&capture, "true"));
    let (init, context) = (sh.context.unwrap(), details.context.unwrap());
    assert_eq!((init.pid, context.pid), (1, 2));
    assert!(details.subject.tgid().0 > 2 && details.ppid == Some(sh.subject.tgid().0));
    assert_eq!(init.pid_namespace, context.pid_namespace);
    assert_ne!(u64::from(context.pid_namespace), namespace());
    assert_eq!(argv(details), [&b"/bin/true"[..], b"in"]);
}

#[test]
fn proc_and_the_ring_report_the_same_process_context() {
    let program = ["unshare", "--pid", "--fork", "setsid", "sleep", "0.2"];
    if !needs(&[Need::Command("PID namespaces", &program)]) {
        return;
    }
    let mut contexts = Vec::new();
    for transport in [RING, &["--transport", "recvmmsg"]] {
        let recorded =
            with_transport(transport, || Some(own(record_program(&live_test()?.0, &[], &program).0)));
        let Some(capture) = recorded else { return };
        let sleep = details_of(&capture, "sleep");
        let (context, tgid) = (sleep.context.unwrap(), sleep.subject.tgid().0);
        assert_eq!((context.session, context.group, context.pid), (tgid, tgid, 1), "{transport:?}");
        assert_ne!(u64::from(context.pid_namespace), namespace(), "{transport:?}");
        contexts.push((context.login_uid, context.cgroup));
    }
    assert_eq!(contexts[0], contexts[1]);
}

#[test]
fn a_setuid_program_has_its_real_and_effective_user() {
    if !needs(&[Need::Root]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = dir.path().join("owned");
    fs::copy("/bin/true", &copy).unwrap();
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o4755)).unwrap();
    let copy = copy.to_str().unwrap();
    let Some((capture, _)) = record_details(&[], &["setpriv", "--reuid=65534", "--clear-groups", copy])
    else {
        return;
    };
    let ids = details_of(&capture, "owned").ids.unwrap();
    assert_eq!((ids.uid, ids.euid), (65534, 0));
}

#[test]
fn redacted_arguments_are_not_written_to_disk() {
    let secret = "s3cr3t-value";
    let command = ["sh", "-c", "/bin/true --token s3cr3t-value --token=s3cr3t-value plain"];
    let both = [
        (&["--redact", "--token[= ]([^ ]+)"][..], "--token [redacted] --token=[redacted] plain"),
        (&["--no-args"], ""),
    ];
    for transport in [RING, &["--transport", "recvmmsg"]] {
        for (options, shown) in both {
            let recorded = with_transport(transport, || {
                let (dir, _guard) = live_test()?;
                let (capture, _) = record_program(&dir, options, &command);
                Some((own(capture), contents(dir.path())))
            });
            let Some((capture, contents)) = recorded else { return };
            assert!(!contents.contains(secret), "{transport:?} {options:?}");
            let header = format!("{:?}", capture.header().meta.command);
            let header_of = |text: &str| format!("{:?}", text.as_bytes());
            assert!(!header.contains(header_of(secret).trim_matches(['[', ']'])), "{header}");
            let ran = capture.details.iter().find(|details| details.comm.as_deref() == Some(b"true"));
            // The process may have exited before its `/proc` was read.
            let Some(details) = ran.filter(|details| details.exe.is_some()) else { continue };
            let args: Vec<_> = details.argv().skip(1).map(|word| String::from_utf8_lossy(word)).collect();
            assert_eq!(args.join(" "), shown, "{transport:?} {options:?}");
            assert_eq!(details.args.is_none(), shown.is_empty());
        }
    }
}

#[test]
fn environment_variables_are_not_written_to_disk() {
    let secret = "s3cr3t-of-the-environment";
    for transport in [RING, &["--transport", "recvmmsg"]] {
        let recorded = with_transport(transport, || {
            let (dir, _guard) = live_test()?;
            let file = dir.path().join("x.pmon");
            let mut command = record_command(&[], &file);
            command.args(["--", "sh", "-c", "/bin/sleep 0.2"]).env("PMON_TEST", secret);
            assert!(command.status().unwrap().success());
            Some((own(CaptureContents::read(&file)), contents(dir.path())))
        });
        let Some((capture, contents)) = recorded else { return };
        assert_eq!(argv(details_of(&capture, "sleep")), [&b"/bin/sleep"[..], b"0.2"], "{transport:?}");
        assert!(!contents.contains(secret), "{transport:?}");
        let strings = capture.details.iter().flat_map(Details::strings).flatten();
        assert!(
            strings.into_iter().all(|text| !String::from_utf8_lossy(text).contains(secret)),
            "{transport:?}"
        );
    }
}

/// Returns everything that `pmon print` and `pmon info` print of the captures in a directory.
fn contents(dir: &Path) -> String {
    let mut text = String::new();
    let captures = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    for path in captures.filter(|path| path.extension().is_some_and(|kind| kind == "pmon")) {
        for args in [&["print", "--format", "json"][..], &["print"], &["info"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_pmon")).args(args).arg(&path).output().unwrap();
            text.push_str(&String::from_utf8_lossy(&output.stdout));
        }
    }
    assert!(text.contains("exec"));
    text
}

#[test]
fn execs_that_spill_are_read_from_proc() {
    // The ring has no room for the entry of an exec.
    let Some((capture, _)) = record_details(&["--ring", "4K"], &["sh", "-c", "sleep 0.2; sleep 0.2"]) else {
        return;
    };
    let sleeps: Vec<_> =
        capture.details.iter().filter(|details| details.comm.as_deref() == Some(b"sleep")).collect();
    assert_eq!(sleeps.len(), 2, "{:#?}", capture.details);
    // `/proc` does not provide the file name.
    assert!(
        sleeps.iter().all(|details| details.filename.is_none() && argv(details) == [&b"sleep"[..], b"0.2"])
    );
    assert!(capture.ring.is_some_and(|ring| ring.cpus.iter().map(|cpu| cpu.spilled).sum::<u64>() >= 3));
}

#[test]
fn each_exec_has_details_exactly_once() {
    let Some((capture, _)) =
        record_details(&[], &["sh", "-c", "sh -c 'exec sh -c \"exec true\"'; /bin/true"])
    else {
        return;
    };
    let own = descendants(&capture);
    let mut execs: Vec<_> = capture
        .events()
        .filter_map(|event| match event.body {
            EventBody::Exec { task } if own.contains(&task.tgid) => Some((task.tgid, event.time)),
            _ => None,
        })
        .collect();
    let mut details: Vec<(Tgid, _)> = capture
        .details
        .iter()
        .map(|details| match details.subject {
            DetailsSubject::Exec { tgid, time } => (tgid, time),
            DetailsSubject::Snapshot { .. } => unreachable!(),
        })
        .collect();
    execs.sort();
    details.sort();
    assert_eq!(execs, details);
}

#[test]
fn a_recording_of_a_cgroup_excludes_other_processes_and_names_the_cgroup() {
    let Some(cgroup) = TestCgroup::new("scope") else { return };
    let child = cgroup.path().join("child");
    fs::create_dir(&child).unwrap();
    let script = format!(
        "/bin/true outside; sh -c 'echo $$ > {}/cgroup.procs; /bin/true inside; exec sleep 0'",
        child.display()
    );
    let name = format!("/{}", cgroup.name());
    for scope in [name.as_str(), cgroup.path().to_str().unwrap()] {
        let Some((capture, _)) = record_details(&["--cgroup", scope], &["sh", "-c", &script]) else { return };
        assert!(capture.is_partial && capture.report.excluded > 0);
        let words: Vec<_> = capture.details.iter().map(|details| argv(details).join(&b' ')).collect();
        assert_eq!(words, [&b"/bin/true inside"[..], b"sleep 0"]);
        assert!(capture.details.iter().all(|details| text(&details.cgroup) == format!("0::{name}/child")));
    }
}
