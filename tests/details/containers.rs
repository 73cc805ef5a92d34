//! Tests that the names of a container are recorded: bundles below a directory of the test, and a
//! cgroup of version 2 with the name of a container.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::RING;
use crate::cgroups::{TestCgroup, marked, run_in};
use pmon_testkit::guard;
use pmon_testkit::live::live_test;
use pmon_testkit::recorder::{RecorderProcess, with_transport};

const ID: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
const ANNOTATIONS: &str = "{\"io.kubernetes.cri.container-name\":\"web\",\"io.kubernetes.cri.sandbox-name\":\"web-0\",\
     \"io.kubernetes.cri.sandbox-namespace\":\"shop\",\"io.kubernetes.cri.image-name\":\"nginx:secret\"}";

/// Creates the bundle of the container below a new root.
fn bundle() -> TempDir {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("run/containerd/io.containerd.runtime.v2.task/k8s.io").join(ID);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.json"), format!("{{\"annotations\":{ANNOTATIONS}}}")).unwrap();
    root
}

/// Records programs in a container and outside of it. Returns the names of both.
fn record(options: &[&str], root: &Path) -> Option<[Option<String>; 2]> {
    let (dir, _guard) = live_test()?;
    let base = TestCgroup::new("names")?;
    let cgroup = base.path().join(format!("cri-containerd-{ID}.scope"));
    fs::create_dir(&cgroup).unwrap();
    let options = [&["--container-root", root.to_str().unwrap()], options].concat();
    let recorder = RecorderProcess::start(&dir, &options);
    // The first programs can come before the answer.
    (0..20).for_each(|_| run_in(&cgroup, "before"));
    run_in(&cgroup, "inside");
    assert!(Command::new("/bin/true").arg("outside").status().unwrap().success());
    let capture = recorder.finish();
    let names = |mark| {
        let names = marked(&capture, mark).container.as_deref().map(String::from_utf8_lossy);
        names.map(|names| names.replace('\0', "|"))
    };
    Some([names("inside"), names("outside")])
}

/// Compares the names of a program in the container. Repeats the recording if the names came too
/// late, on a busy machine.
fn check(options: &[&str], root: &Path, expected: Option<&str>) {
    let attempt = || {
        with_transport(RING, || match record(options, root) {
            Some([None, _]) if expected.is_some() => Err("the names came too late".to_owned()),
            Some([inside, outside]) => {
                assert_eq!((inside.as_deref(), outside), (expected, None));
                Ok(())
            }
            None => Ok(()),
        })
    };
    guard::retry(attempt).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn the_names_in_the_bundle_of_a_container_are_recorded() {
    check(&[], bundle().path(), Some("web|web-0|shop|nginx:secret|"));
}

#[test]
fn names_of_containers_are_redacted_and_can_be_left_out() {
    check(&["--redact", "secret"], bundle().path(), Some("web|web-0|shop|nginx:[redacted]|"));
    check(&[], Path::new("none"), None);
}
