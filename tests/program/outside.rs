//! What a program does to others from inside: nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::day::Day;
use crate::guard::{Need, needs};
use crate::stage::Replay;

/// As daemons do when they end. Its group has `pmon` in it, whoever has started that, and whatever else they have started.
#[test]
fn a_signal_to_the_group_reaches_only_the_programs() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let around =
        r#"sleep 1000 & "$0" "$@"; code=$?; kill $! && wait $!; test $? = 143 && echo witness; exit $code"#;
    let replay = replay.under(&["setsid", "-w", "sh", "-c", around]);
    for (signal, status) in [("TERM", "143"), ("USR2", "140")] {
        let line =
            format!(r#"sleep 1000 & trap "" {signal}; kill -{signal} 0; wait $!; echo its own $?; exit 5"#);
        let ran = replay.program("/bin/sh", &["-c", &line], true).expect(5);
        assert_eq!(ran.out, format!("its own {status}\nwitness\n"), "{}", ran.err);
    }
}

/// It is root in its namespaces, and can make `/proc` writable.
#[test]
fn what_a_program_plants_in_proc_is_not_followed() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let victim = replay.file("victim");
    fs::write(&victim, "unharmed").unwrap();
    fs::set_permissions(&victim, PermissionsExt::from_mode(0o666)).unwrap();
    let plant = r#"mount -o remount,rw,bind /proc && rm /proc/uptime && ln -s "$0" /proc/uptime && echo planted
        cat /proc/uptime >/dev/null"#;
    let run = |replay: &Replay| {
        let ran = replay.program("/bin/sh", &["-c", plant, victim.to_str().unwrap()], true).expect(1);
        assert_eq!(ran.out, "planted\n", "{ran:#?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "unharmed", "{ran:#?}");
    };
    run(&replay);
    run(&replay.by_root());
}

#[test]
fn a_chosen_user_is_in_no_groups_but_one() {
    if !needs(&[Need::Root]) {
        return;
    }
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let replay = replay.by_root().under(&["setpriv", "--groups", "4,24"]).with(&["--uid", "1000"]);
    let ran = replay.program("/bin/sh", &["-c", "id -u; id -g; id -G"], true).expect(0);
    assert_eq!(ran.out, "1000\n1000\n1000\n", "{}", ran.err);
}
