//! Tests the cgroup paths of programs, including short-lived programs and cgroups.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use pmon_core::capture::{Details, MissReason};

use crate::{RING, argv, text};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::guard::skip;
use pmon_testkit::live::live_test;
use pmon_testkit::recorder::RecorderProcess;
use pmon_testkit::recorder::{record_command, with_transport};

/// A version 2 cgroup, removed on drop with everything below it.
struct Base(PathBuf);

impl Base {
    /// Creates a cgroup; skips the test and returns `None` if that is not possible.
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount =
            mounts.lines().find(|line| line.contains(" - cgroup2 ") && line.split(' ').nth(3) == Some("/"));
        let Some(mount) = mount.and_then(|line| line.split(' ').nth(4)) else {
            skip("no cgroups of version 2");
            return None;
        };
        let this = Self(PathBuf::from(mount).join(format!("pmon-test-{name}-{}", std::process::id())));
        match fs::create_dir(&this.0) {
            Ok(()) => Some(this),
            Err(error) => {
                skip(&format!("cannot make a cgroup: {error}"));
                None
            }
        }
    }

    fn name(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&below.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

/// Runs `/bin/true MARK` in a cgroup.
#[track_caller]
fn run_in(cgroup: &Path, mark: &str) {
    let script = r#"echo $$ > "$0/cgroup.procs" && exec /bin/true "$1""#;
    let status = Command::new("sh").args(["-c", script]).arg(cgroup).arg(mark).status().unwrap();
    assert!(status.success(), "{cgroup:?}");
}

/// Returns the details of the program that was run with `mark`.
#[track_caller]
fn marked<'a>(capture: &'a CaptureContents, mark: &str) -> &'a Details {
    let is_it = |details: &&Details| argv(details) == [b"/bin/true", mark.as_bytes()];
    capture.details.iter().find(is_it).unwrap_or_else(|| panic!("no exec of {mark}"))
}

#[test]
fn a_cgroup_that_is_removed_at_once_has_its_path() {
    with_transport(RING, || {
        let Some((dir, _guard)) = live_test() else { return };
        let Some(base) = Base::new("short") else { return };
        let recorder = RecorderProcess::start(&dir, &[]);
        let odd: [&[u8]; 4] = [b"a b", b"\xff\x01", "d\u{e9}\u{202e}".as_bytes(), &[b'n'; 255]];
        let names = (0..100).map(|n| format!("s{n}").into_bytes()).chain(odd.map(<[u8]>::to_vec));
        let names: Vec<_> = names.collect();
        for (n, name) in names.iter().enumerate() {
            let cgroup = base.0.join(OsStr::from_bytes(name));
            fs::create_dir(&cgroup).unwrap();
            run_in(&cgroup, &format!("mark-{n}"));
            fs::remove_dir(&cgroup).unwrap();
        }
        let capture = recorder.finish();
        for (n, name) in names.iter().enumerate() {
            let details = marked(&capture, &format!("mark-{n}"));
            let path = [b"0::/", base.name().as_bytes(), b"/", name].concat();
            assert_eq!((details.miss, details.cgroup.as_ref()), (None, Some(&path)));
        }
    });
}

#[test]
fn a_path_of_a_cgroup_that_is_too_long_is_missed_and_said_to_be() {
    with_transport(RING, || {
        let Some((dir, _guard)) = live_test() else { return };
        let Some(base) = Base::new("deep") else { return };
        let recorder = RecorderProcess::start(&dir, &[]);
        let name = OsString::from_vec(vec![b'd'; 250]);
        // The paths exceed the limit of a system call, so open each directory relative to its
        // parent.
        let mut opened = vec![File::open(&base.0).unwrap()];
        let by_fd =
            |file: &File| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        for depth in 1..=18 {
            let below = by_fd(opened.last().unwrap()).join(&name);
            fs::create_dir(&below).unwrap();
            opened.push(File::open(&below).unwrap());
            run_in(&by_fd(opened.last().unwrap()), &format!("depth-{depth}"));
        }
        while opened.pop().is_some() {
            let Some(above) = opened.last() else { break };
            fs::remove_dir(by_fd(above).join(&name)).unwrap();
        }
        let capture = recorder.finish();
        for depth in 1..=18 {
            let details = marked(&capture, &format!("depth-{depth}"));
            let path = format!("0::/{}{}", base.name(), format!("/{}", name.to_str().unwrap()).repeat(depth));
            let expected =
                if path.len() > 4200 { (Some(MissReason::TooLong), None) } else { (None, Some(path)) };
            assert_eq!(
                (details.miss, details.cgroup.as_ref().map(|_| text(&details.cgroup).to_owned())),
                expected
            );
        }
    });
}

/// Returns the cgroup's name and the details that a recorder in its own cgroup namespace records of
/// a program in the recorder's cgroup.
fn in_a_namespace(transport: &'static [&'static str]) -> Option<(String, Details)> {
    with_transport(transport, || {
        let (dir, _guard) = live_test()?;
        let base = Base::new("namespace")?;
        let file = dir.path().join("namespace.pmon");
        let recorder = record_command(&["--force"], &file);
        let script = r#"echo $$ > "$0/cgroup.procs" && exec unshare -C "$@""#;
        let mut unshare = Command::new("sh");
        unshare.args(["-c", script]).arg(&base.0).arg(recorder.get_program()).args(recorder.get_args());
        // The details thread reads `/proc`, so the program must run for a while.
        let output = unshare.args(["--", "sh", "-c", "/bin/true mark; exec sleep 0.3"]).output().unwrap();
        if String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
            skip("no cgroup namespace can be made");
            return None;
        }
        assert!(output.status.success(), "{output:?}");
        let capture = CaptureContents::read(&file);
        let details = capture.details.iter().find(|details| argv(details) == [&b"sleep"[..], b"0.3"]);
        Some((base.name().to_owned(), details.unwrap().clone()))
    })
}

#[test]
fn a_recorder_in_a_cgroup_namespace_records_paths_from_the_root_of_all() {
    let Some((name, details)) = in_a_namespace(RING) else { return };
    assert_eq!((details.miss, text(&details.cgroup)), (None, &*format!("0::/{name}")));
}

#[test]
fn what_proc_says_in_a_cgroup_namespace_is_not_taken_for_a_path_from_the_root() {
    let Some((_, details)) = in_a_namespace(&["--transport", "recvmmsg"]) else { return };
    assert_eq!((details.miss, details.cgroup.as_ref()), (Some(MissReason::Denied), None));
    assert_eq!(argv(&details), [&b"sleep"[..], b"0.3"]);
}

#[test]
fn proc_tells_the_path_that_the_ring_tells_and_no_more() {
    let told = |transport| {
        with_transport(transport, || {
            let (dir, _guard) = live_test()?;
            let base = Base::new("both")?;
            let recorder = RecorderProcess::start(&dir, &[]);
            let script = r#"echo $$ > "$0/cgroup.procs" && exec sleep 0.3"#;
            assert!(Command::new("sh").args(["-c", script]).arg(&base.0).status().unwrap().success());
            let capture = recorder.finish();
            let mut of = capture.details.iter().filter(|details| argv(details) == [&b"sleep"[..], b"0.3"]);
            let details = of.next().unwrap();
            assert_eq!(text(&details.cgroup), format!("0::/{}", base.name()));
            Some(())
        })
    };
    if told(RING).is_some() {
        told(&["--transport", "recvmmsg"]);
    }
}
