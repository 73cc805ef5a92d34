//! A program cannot affect processes and files outside its namespaces.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::guard::{Need, needs};
use crate::harness::ProgramReplay;
use crate::test_capture::TestCapture;

/// Daemons signal their process group when they end. The group also contains `pmon`, the shell that
/// started it, and other children of that shell.
#[test]
fn a_signal_to_the_process_group_reaches_only_the_program() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let launcher =
        r#"sleep 1000 & "$0" "$@"; code=$?; kill $! && wait $!; test $? = 143 && echo alive; exit $code"#;
    let replay = replay.launched_by(&["setsid", "-w", "sh", "-c", launcher]);
    for (signal, status) in [("TERM", "143"), ("USR2", "140")] {
        let line =
            format!(r#"sleep 1000 & trap "" {signal}; kill -{signal} 0; wait $!; echo own $?; exit 5"#);
        let ran = replay.program("/bin/sh", &["-c", &line], true).expect(5);
        assert_eq!(ran.out, format!("own {status}\nalive\n"), "{}", ran.err);
    }
}

/// The program is root in its namespaces and can remount its `/proc` writable.
#[test]
fn links_that_a_program_creates_in_proc_are_not_followed() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let victim = replay.file("victim");
    fs::write(&victim, "unharmed").unwrap();
    fs::set_permissions(&victim, PermissionsExt::from_mode(0o666)).unwrap();
    let script = r#"mount -o remount,rw,bind /proc && rm /proc/uptime && ln -s "$0" /proc/uptime && echo linked
        cat /proc/uptime >/dev/null"#;
    let run = |replay: &ProgramReplay| {
        let ran = replay.program("/bin/sh", &["-c", script, victim.to_str().unwrap()], true).expect(1);
        assert_eq!(ran.out, "linked\n", "{ran:#?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "unharmed", "{ran:#?}");
    };
    run(&replay);
    run(&replay.with_root());
}

#[test]
fn the_user_of_uid_has_no_supplementary_groups() {
    if !needs(&[Need::Root]) {
        return;
    }
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let replay = replay.with_root().launched_by(&["setpriv", "--groups", "4,24"]).with(&["--uid", "1000"]);
    let ran = replay.program("/bin/sh", &["-c", "id -u; id -g; id -G"], true).expect(0);
    assert_eq!(ran.out, "1000\n1000\n1000\n", "{}", ran.err);
}
