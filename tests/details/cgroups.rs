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
use pmon_testkit::recorder::{RecorderProcess, record_command, with_transport};

/// A version 2 cgroup, removed on drop with all cgroups in it.
pub(crate) struct TestCgroup(PathBuf);

impl TestCgroup {
    /// Creates a cgroup. Skips the test and returns `None` if that is not possible.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount =
            mounts.lines().find(|line| line.contains(" - cgroup2 ") && line.split(' ').nth(3) == Some("/"));
        let Some(mount) = mount.and_then(|line| line.split(' ').nth(4)) else {
            skip("there are no cgroups of version 2");
            return None;
        };
        let this = Self(PathBuf::from(mount).join(format!("pmon-test-{name}-{}", std::process::id())));
        match fs::create_dir(&this.0) {
            Ok(()) => Some(this),
            Err(error) => {
                skip(&format!("this user cannot create a cgroup: {error}"));
                None
            }
        }
    }

    /// Returns the path of the cgroup's directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the name of the cgroup's directory.
    pub(crate) fn name(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        remove_tree(&self.0);
    }
}

fn remove_tree(cgroup: &Path) {
    for child in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&child.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

/// Runs `/bin/true MARK` in a cgroup.
#[track_caller]
pub(crate) fn run_in(cgroup: &Path, mark: &str) {
    let script = r#"echo $$ > "$0/cgroup.procs" && exec /bin/true "$1""#;
    let status = Command::new("sh").args(["-c", script]).arg(cgroup).arg(mark).status().unwrap();
    assert!(status.success(), "{cgroup:?}");
}

/// Returns the details of the program that was run with `mark`.
#[track_caller]
pub(crate) fn marked<'a>(capture: &'a CaptureContents, mark: &str) -> &'a Details {
    let has_mark = |details: &&Details| argv(details) == [b"/bin/true", mark.as_bytes()];
    capture.details.iter().find(has_mark).unwrap_or_else(|| panic!("no exec of {mark}"))
}

#[test]
fn the_path_of_a_cgroup_that_is_removed_at_once_is_recorded() {
    with_transport(RING, || {
        let Some((dir, _guard)) = live_test() else { return };
        let Some(base) = TestCgroup::new("short") else { return };
        let recorder = RecorderProcess::start(&dir, &[]);
        let unusual: [&[u8]; 4] = [b"a b", b"\xff\x01", "d\u{e9}\u{202e}".as_bytes(), &[b'n'; 255]];
        let names = (0..100).map(|n| format!("s{n}").into_bytes()).chain(unusual.map(<[u8]>::to_vec));
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
fn a_cgroup_path_that_is_too_long_is_missing_with_the_reason() {
    with_transport(RING, || {
        let Some((dir, _guard)) = live_test() else { return };
        let Some(base) = TestCgroup::new("deep") else { return };
        let recorder = RecorderProcess::start(&dir, &[]);
        let name = OsString::from_vec(vec![b'd'; 250]);
        // The paths exceed the limit of a system call, so open each directory relative to its
        // parent.
        let mut opened = vec![File::open(&base.0).unwrap()];
        let by_fd =
            |file: &File| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        for depth in 1..=18 {
            let child = by_fd(opened.last().unwrap()).join(&name);
            fs::create_dir(&child).unwrap();
            opened.push(File::open(&child).unwrap());
            run_in(&by_fd(opened.last().unwrap()), &format!("depth-{depth}"));
        }
        while opened.pop().is_some() {
            let Some(parent) = opened.last() else { break };
            fs::remove_dir(by_fd(parent).join(&name)).unwrap();
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
fn record_in_namespace(transport: &'static [&'static str]) -> Option<(String, Details)> {
    with_transport(transport, || {
        let (dir, _guard) = live_test()?;
        let base = TestCgroup::new("namespace")?;
        let file = dir.path().join("namespace.pmon");
        let recorder = record_command(&["--force"], &file);
        let script = r#"echo $$ > "$0/cgroup.procs" && exec unshare -C "$@""#;
        let mut unshare = Command::new("sh");
        unshare.args(["-c", script]).arg(&base.0).arg(recorder.get_program()).args(recorder.get_args());
        // The details thread reads `/proc`, so the program must run for a while.
        let output = unshare.args(["--", "sh", "-c", "/bin/true mark; exec sleep 0.3"]).output().unwrap();
        if String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
            skip("there are no cgroup namespaces");
            return None;
        }
        assert!(output.status.success(), "{output:?}");
        let capture = CaptureContents::read(&file);
        let details = capture.details.iter().find(|details| argv(details) == [&b"sleep"[..], b"0.3"]);
        Some((base.name().to_owned(), details.unwrap().clone()))
    })
}

#[test]
fn a_recorder_in_a_cgroup_namespace_records_paths_from_the_initial_root() {
    let Some((name, details)) = record_in_namespace(RING) else { return };
    assert_eq!((details.miss, text(&details.cgroup)), (None, &*format!("0::/{name}")));
}

#[test]
fn a_path_that_is_relative_to_a_cgroup_namespace_is_not_recorded() {
    let Some((_, details)) = record_in_namespace(&["--transport", "recvmmsg"]) else { return };
    assert_eq!((details.miss, details.cgroup.as_ref()), (Some(MissReason::Denied), None));
    assert_eq!(argv(&details), [&b"sleep"[..], b"0.3"]);
}

#[test]
fn proc_and_the_ring_report_the_same_cgroup_path() {
    let check = |transport| {
        with_transport(transport, || {
            let (dir, _guard) = live_test()?;
            let base = TestCgroup::new("both")?;
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
    if check(RING).is_some() {
        check(&["--transport", "recvmmsg"]);
    }
}
