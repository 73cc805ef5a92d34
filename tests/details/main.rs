//! What a capture tells of each program and of each end: all of it, exactly, and of the right process.
//!
//! `cargo test --test details`, after `cargo build --example execs`. Recorded by the ring; where there is none to be had, a test says so
//! and passes.

mod cgroups;
mod ends;
mod hostile;
mod secrets;
mod usage;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Records what a program does; `None` where there is no ring to be had, which is said. The details are those of that program and of its
/// descendants: others here may run programs at any time.
fn recorded(options: &[&str], program: &[&str]) -> Option<(CaptureContents, String)> {
    with_transport(RING, || {
        let (dir, _guard) = live_test()?;
        let (capture, said) = record_program(&dir, options, program);
        capture.check();
        assert_eq!(capture.totals().lost.total(), 0);
        Some((own(capture), said))
    })
}

/// Without the details of others' programs; of a part of the events, nothing is of others.
fn own(mut capture: CaptureContents) -> CaptureContents {
    if capture.is_partial {
        return capture;
    }
    let own = descendants(&capture);
    capture.details.retain(|details| own.contains(&details.subject.tgid()));
    capture
}

/// The recorder, and whoever descends from it.
fn descendants(capture: &CaptureContents) -> HashSet<Tgid> {
    let mut forks: Vec<_> = capture
        .events()
        .filter_map(|event| match event.body {
            EventBody::Fork { parent, child } => Some((event.time, parent.tgid, child.tgid)),
            _ => None,
        })
        .collect();
    // Those of different CPUs come in order only up to some microseconds.
    forks.sort();
    let mut found = HashSet::from([capture.recorder()]);
    for (_, parent, child) in forks {
        if found.contains(&parent) {
            found.insert(child);
        }
    }
    found
}

/// Returns the path of the tool `execs`.
fn execs() -> String {
    programs::tool("execs").to_str().unwrap().to_owned()
}

/// The details of the only exec of a program of that name.
#[track_caller]
fn the<'a>(capture: &'a CaptureContents, name: &str) -> &'a Details {
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

/// What is at that path when all links have been followed.
fn real(path: &str) -> String {
    fs::canonicalize(path).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn in_a_storm_of_ten_thousand_programs_each_has_its_own_arguments() {
    let script = "\"$@\" & \"$@\" & wait";
    let program = execs();
    let Some((capture, _)) = recorded(&[], &["sh", "-c", script, "sh", &program, "storm", "5000"]) else {
        return;
    };
    let mut seen: HashMap<u32, u32> = HashMap::new();
    for details in capture.details.iter().filter(|details| details.comm.as_deref() == Some(b"true")) {
        assert_eq!(details.miss, None, "{details:?}");
        let argv = argv(details);
        let [name, number, words, nothing] = argv[..] else { panic!("{details:?}") };
        assert_eq!((name, words, nothing), (&b"/bin/true"[..], &b"b c"[..], &b""[..]));
        let number = str::from_utf8(number).unwrap().parse().unwrap();
        *seen.entry(number).or_default() += 1;
    }
    assert!((0..5000).all(|number| seen.get(&number) == Some(&2)) && seen.len() == 5000);
    // Of every exec there are details, right behind it.
    assert!(capture.details.iter().all(|details| details.miss.is_none() && details.context.is_some()));
}

#[test]
fn whoever_runs_a_program_and_where_is_known() {
    let dir = TempDir::new().unwrap();
    let here = dir.path().canonicalize().unwrap();
    let program = ["sh", "-c", r#"cd "$0"; sleep 0"#, here.to_str().unwrap()];
    let Some((capture, _)) = recorded(&[], &program) else { return };
    let (sh, sleep) = (the(&capture, "sh"), the(&capture, "sleep"));
    assert_eq!(sleep.ppid, Some(sh.subject.tgid().0));
    assert_eq!(sleep.parent_start_ticks, sh.start_ticks);
    assert_eq!(sh.ppid, Some(capture.recorder().0));
    assert_eq!(text(&sleep.exe), real("/bin/sleep"));
    assert_eq!(text(&sleep.cwd), here.to_str().unwrap());
    assert!(text(&sleep.filename).ends_with("/sleep"));
    let ids = sleep.ids.unwrap();
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!(((ids.uid, ids.gid), (ids.euid, ids.egid)), (me, me));
    let (member, of_sh) = (sleep.context.unwrap(), sh.context.unwrap());
    assert_eq!(member.pid, sleep.subject.tgid().0, "as in the first PID namespace");
    assert_eq!((member.session, member.group), (of_sh.session, of_sh.group));
    assert_eq!(member.session, own_session());
    let login = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    assert_eq!(member.login_uid, login.trim().parse().unwrap_or(u32::MAX));
    assert_eq!(u64::from(member.pid_namespace), namespace());
    assert_eq!(sleep.start_ticks.unwrap() / 1000, ticks_now() / 1000, "within ten seconds");
    let lines = fs::read_to_string("/proc/self/cgroup").unwrap();
    if let Some(line) = lines.lines().find(|line| line.starts_with("0::")) {
        assert_eq!(text(&sleep.cgroup), line);
    }
}

/// The test's own session; 0 where no one since the kernel's start has made one.
fn own_session() -> u32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, behind_the_name) = stat.rsplit_once(") ").unwrap();
    behind_the_name.split(' ').nth(3).unwrap().parse().unwrap()
}

fn namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").unwrap().ino()
}

fn ticks_now() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    (uptime.split(' ').next().unwrap().parse::<f64>().unwrap() * 100.0) as u64
}

#[test]
fn arguments_are_bytes_and_not_text() {
    let dir = TempDir::new().unwrap();
    let odd = dir.path().join("run");
    fs::write(&odd, b"#!/bin/sh\nexec true '\xff\xfe' '' 'new\nline' '\xe2\x82'\n").unwrap();
    let Some((capture, _)) = recorded(&[], &["sh", odd.to_str().unwrap()]) else { return };
    let expected: [&[u8]; 5] = [b"true", b"\xff\xfe", b"", b"new\nline", b"\xe2\x82"];
    assert_eq!(argv(the(&capture, "true")), expected);
}

#[test]
fn arguments_that_are_too_long_are_cut_and_marked() {
    // 128 KiB, in four arguments.
    let word = "x".repeat((32 << 10) - 8);
    let program = ["true", &word, &word, &word, &word];
    let whole: usize = program.iter().map(|word| word.len() + 1).sum();
    let all = program.join("\0") + "\0";
    for (options, kept) in [(&[][..], 4096), (&["--args-max", "100"], 100), (&["--args-max", "128K"], whole)]
    {
        let Some((capture, _)) = recorded(options, &program) else { return };
        let details = the(&capture, "true");
        assert!(details.args.as_deref() == Some(&all.as_bytes()[..kept]), "{options:?}");
        assert_eq!(details.args_len, (kept < whole).then_some(whole as u64), "{options:?}");
    }
}

#[test]
fn a_program_run_by_another_thread_is_its_processes() {
    let program = execs();
    let Some((capture, _)) = recorded(&[], &[&program, "thread", "/bin/true", "from a thread"]) else {
        return;
    };
    let (execs, details) = (the(&capture, "execs"), the(&capture, "true"));
    assert_eq!(details.subject.tgid(), execs.subject.tgid());
    assert_eq!(details.start_ticks, execs.start_ticks);
    assert_eq!(argv(details), [&b"/bin/true"[..], b"from a thread"]);
}

#[test]
fn a_program_run_by_its_descriptor_has_the_path_of_its_file() {
    let program = execs();
    let Some((capture, _)) = recorded(&[], &[&program, "descriptor", "/bin/true", "x"]) else { return };
    let of_true = |details: &&Details| text(&details.exe) == real("/bin/true");
    let details = capture.details.iter().find(of_true).expect("an exec of true");
    assert_eq!(argv(details), [&b"/bin/true"[..], b"x"]);
    assert!(text(&details.filename).starts_with("/dev/fd/"), "{details:?}");
    assert_eq!(details.miss, None);
}

#[test]
fn a_script_is_known_by_its_file_name_and_its_interpreter() {
    let dir = TempDir::new().unwrap();
    let (script, link) = (dir.path().join("a script"), dir.path().join("link"));
    fs::write(&script, "#!/bin/sh -e\nexit 0\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(&script, &link).unwrap();
    let link = link.to_str().unwrap();
    let Some((capture, _)) = recorded(&[], &[link, "x"]) else { return };
    let details = the(&capture, "link");
    assert_eq!(text(&details.filename), link);
    assert_eq!(text(&details.exe), real("/bin/sh"));
    assert_eq!(argv(details), [&b"/bin/sh"[..], b"-e", link.as_bytes(), b"x"]);
}

#[test]
fn a_program_that_was_deleted_is_marked() {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().canonicalize().unwrap().join("copy");
    fs::copy("/bin/sleep", &copy).unwrap();
    let script = r#"exec 3< "$0"; rm "$0"; exec /proc/self/fd/3 0"#;
    let Some((capture, _)) = recorded(&[], &["sh", "-c", script, copy.to_str().unwrap()]) else { return };
    let deleted = format!("{} (deleted)", copy.display());
    assert!(capture.details.iter().any(|details| text(&details.exe) == deleted), "{:#?}", capture.details);
}

#[test]
fn a_process_in_a_pid_namespace_has_its_id_there_and_the_hosts() {
    let program = ["unshare", "--pid", "--fork", "sh", "-c", "/bin/true in; :"];
    if !needs(&[Need::Command("PID namespaces", &program)]) {
        return;
    }
    let Some((capture, _)) = recorded(&[], &program) else { return };
    let (sh, details) = (the(&capture, "sh"), the(&capture, "true"));
    let (init, member) = (sh.context.unwrap(), details.context.unwrap());
    assert_eq!((init.pid, member.pid), (1, 2));
    assert!(details.subject.tgid().0 > 2 && details.ppid == Some(sh.subject.tgid().0));
    assert_eq!(init.pid_namespace, member.pid_namespace);
    assert_ne!(u64::from(member.pid_namespace), namespace());
    assert_eq!(argv(details), [&b"/bin/true"[..], b"in"]);
}

#[test]
fn proc_tells_what_the_ring_tells_of_where_a_process_belongs() {
    let program = ["unshare", "--pid", "--fork", "setsid", "sleep", "0.2"];
    if !needs(&[Need::Command("PID namespaces", &program)]) {
        return;
    }
    let mut told = Vec::new();
    for transport in [RING, &["--transport", "recvmmsg"]] {
        let recorded =
            with_transport(transport, || Some(own(record_program(&live_test()?.0, &[], &program).0)));
        let Some(capture) = recorded else { return };
        let sleep = the(&capture, "sleep");
        let (member, tgid) = (sleep.context.unwrap(), sleep.subject.tgid().0);
        assert_eq!((member.session, member.group, member.pid), (tgid, tgid, 1), "{transport:?}");
        assert_ne!(u64::from(member.pid_namespace), namespace(), "{transport:?}");
        told.push((member.login_uid, member.cgroup));
    }
    assert_eq!(told[0], told[1]);
}

#[test]
fn a_program_that_runs_as_its_owner_has_both_users() {
    if !needs(&[Need::Root]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = dir.path().join("owned");
    fs::copy("/bin/true", &copy).unwrap();
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o4755)).unwrap();
    let copy = copy.to_str().unwrap();
    let Some((capture, _)) = recorded(&[], &["setpriv", "--reuid=65534", "--clear-groups", copy]) else {
        return;
    };
    let ids = the(&capture, "owned").ids.unwrap();
    assert_eq!((ids.uid, ids.euid), (65534, 0));
}

#[test]
fn what_is_secret_does_not_reach_the_disk() {
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
            // `/proc` may have been too late.
            let Some(details) = ran.filter(|details| details.exe.is_some()) else { continue };
            let args: Vec<_> = details.argv().skip(1).map(|word| String::from_utf8_lossy(word)).collect();
            assert_eq!(args.join(" "), shown, "{transport:?} {options:?}");
            assert_eq!(details.args.is_none(), shown.is_empty());
        }
    }
}

#[test]
fn environment_variables_do_not_reach_the_disk() {
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
        assert_eq!(argv(the(&capture, "sleep")), [&b"/bin/sleep"[..], b"0.2"], "{transport:?}");
        assert!(!contents.contains(secret), "{transport:?}");
        let strings = capture.details.iter().flat_map(Details::strings).flatten();
        assert!(
            strings.into_iter().all(|text| !String::from_utf8_lossy(text).contains(secret)),
            "{transport:?}"
        );
    }
}

/// All that `pmon print` and `pmon info` tell of the captures in a folder.
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
    // Not one entry of an exec fits.
    let Some((capture, _)) = recorded(&["--ring", "4K"], &["sh", "-c", "sleep 0.2; sleep 0.2"]) else {
        return;
    };
    let sleeps: Vec<_> =
        capture.details.iter().filter(|details| details.comm.as_deref() == Some(b"sleep")).collect();
    assert_eq!(sleeps.len(), 2, "{:#?}", capture.details);
    // That is what `/proc` does not have.
    assert!(
        sleeps.iter().all(|details| details.filename.is_none() && argv(details) == [&b"sleep"[..], b"0.2"])
    );
    assert!(capture.ring.is_some_and(|ring| ring.cpus.iter().map(|cpu| cpu.spilled).sum::<u64>() >= 3));
}

#[test]
fn of_each_exec_there_are_details_once_and_right_behind_it() {
    let Some((capture, _)) = recorded(&[], &["sh", "-c", "sh -c 'exec sh -c \"exec true\"'; /bin/true"])
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
    let mut told: Vec<(Tgid, _)> = capture
        .details
        .iter()
        .map(|details| match details.subject {
            DetailsSubject::Exec { tgid, time } => (tgid, time),
            DetailsSubject::Snapshot { .. } => unreachable!(),
        })
        .collect();
    execs.sort();
    told.sort();
    assert_eq!(execs, told);
}

#[test]
fn what_a_cgroup_does_is_recorded_alone_and_named() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(mount) = mount.and_then(|line| line.split(' ').nth(4)) else {
        return skip("there are no cgroups of version 2");
    };
    let group = Group(PathBuf::from(mount).join(format!("pmon-test-{}", std::process::id())));
    let below = group.0.join("below");
    if let Err(error) = fs::create_dir_all(&below) {
        return skip(&format!("this user cannot make a cgroup: {error}"));
    }
    let script = format!(
        "/bin/true outside; sh -c 'echo $$ > {}/cgroup.procs; /bin/true inside; exec sleep 0'",
        below.display()
    );
    let name = format!("/{}", group.0.file_name().unwrap().to_str().unwrap());
    for scope in [name.as_str(), group.0.to_str().unwrap()] {
        let Some((capture, _)) = recorded(&["--cgroup", scope], &["sh", "-c", &script]) else { return };
        assert!(capture.is_partial && capture.report.excluded > 0);
        let words: Vec<_> = capture.details.iter().map(|details| argv(details).join(&b' ')).collect();
        assert_eq!(words, [&b"/bin/true inside"[..], b"sleep 0"]);
        assert!(capture.details.iter().all(|details| text(&details.cgroup) == format!("0::{name}/below")));
    }
}

/// A cgroup, and one below it, that are removed.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0.join("below"));
        let _ = fs::remove_dir(&self.0);
    }
}
