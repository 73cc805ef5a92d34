//! With `--tmpfs`, programs have private, writable directories.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::guard::{Need, needs};
use crate::harness::ProgramReplay;
use crate::support;
use crate::test_capture::TestCapture;

/// Creates a directory with a file that the program must not see, and returns its path.
fn directory(replay: &ProgramReplay, name: &str, mode: u32) -> PathBuf {
    let path = replay.file(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("hidden"), "original").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

/// A program that writes to both directories, and reports what it finds in them.
const WRITE: &str = r#"
    for dir in "$0" "$1"; do
        test -e "$dir/hidden" && echo hidden
        echo content >"$dir/new" && mkdir "$dir/below" && cat "$dir/new"
        stat -c '%u %a %F' "$dir"
    done
    df -k --output=size "$0" | tail -1
    if test "$0" -ef "$1"; then echo same; fi"#;

#[test]
fn programs_own_private_and_empty_directories() {
    let capture = TestCapture::new();
    for is_root in [false, true] {
        for options in [&[][..], &["--proc", "real"], &["--uid", "1000"]] {
            let Some(replay) = ProgramReplay::of(&capture) else { return };
            let replay = if is_root { replay.with_root() } else { replay };
            // This user may not write to these directories, and must not change them.
            let [first, second] =
                [("first", 0o755), ("second", 0o1777)].map(|(name, mode)| directory(&replay, name, mode));
            let [first_arg, second_arg] = [&first, &second].map(|path| support::arg(path));
            let both = format!("{first_arg},{second_arg}");
            let replay = replay.with(options).with(&["--tmpfs", &both]);
            let ran = replay.program("/bin/sh", &["-c", WRITE, &first_arg, &second_arg], false).expect(0);
            let owner = if options.contains(&"--uid") { 1000 } else { 0 };
            let expected = [
                "content".into(),
                format!("{owner} 755 directory"),
                "content".into(),
                format!("{owner} 1777 directory"),
                "65536".into(),
            ];
            let lines: Vec<_> = ran.out.lines().map(str::trim).collect();
            assert_eq!(lines, expected, "{options:?}, root: {is_root}: {}", ran.err);
            for path in [first, second] {
                let left: Vec<_> =
                    fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                assert_eq!(left, ["hidden"]);
            }
        }
    }
}

#[test]
fn a_daemon_of_an_ordinary_user_writes_to_run_and_var_log() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let replay = replay.with(&["--tmpfs", "/run", "--tmpfs", "/var/log"]);
    let script = "echo $$ >/run/daemon.pid && echo started >/var/log/daemon && ls /run /var/log";
    let ran = replay.program("/bin/sh", &["-c", script], true).expect(0);
    assert_eq!(ran.out, "/run:\ndaemon.pid\n\n/var/log:\ndaemon\n", "{}", ran.err);
    assert!(!fs::exists("/run/daemon.pid").unwrap());
}

/// A program of root that changes its user loses access to directories of root, as without pmon.
#[test]
fn directories_keep_their_permissions_for_other_users() {
    if !needs(&[Need::Root]) {
        return;
    }
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture).map(ProgramReplay::with_root) else { return };
    let path = support::arg(&directory(&replay, "private", 0o755));
    let replay = replay.with(&["--tmpfs", &path]);
    let script = r#"setpriv --reuid 1000 --clear-groups touch "$0/file" 2>&1; touch "$0/own" && ls "$0""#;
    let ran = replay.program("/bin/sh", &["-c", script, &path], true).expect(0);
    assert!(ran.out.contains("Permission denied") && ran.out.ends_with("own\n"), "{}", ran.out);
}

#[test]
fn wrong_directories_are_refused_with_the_reason() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let file = support::arg(&replay.file(crate::harness::CAPTURE));
    for (directories, why) in [
        ("run", "cannot mount a tmpfs on run: the path is relative; give an absolute path"),
        ("/", "cannot mount a tmpfs on /: it would hide all files"),
        ("/proc/sys", "cannot mount a tmpfs on /proc/sys: /proc shows the recorded processes"),
        (&*file, "it is not a directory"),
        ("/run,/no/such", "cannot mount a tmpfs on /no/such: No such file or directory"),
        ("/tmp,/run,/tmp", "cannot mount a tmpfs on /tmp: it is given twice"),
        ("/var/log,/var", "cannot mount a tmpfs on /var/log: it is below /var, which would hide it"),
    ] {
        let ran = support::pmon(&["replay", &file, "--tmpfs", directories, "--", "true"]).expect(2);
        assert!(ran.err.contains(why), "{directories}: {}", ran.err);
    }
    support::pmon(&["replay", &file, "--tmpfs", "/run"]).expect(2);
}
