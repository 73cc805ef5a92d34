//! How a replay ends, and how programs do: with the program's status, and nothing left behind.

use std::fs;
use std::time::{Duration, Instant};

use crate::day::Day;
use crate::stage::Replay;
use crate::support::RunOutput;

/// Of a client with these options: its status, and the first lines of what it prints, the last of which is that of an event.
#[track_caller]
fn ended(options: &[&str], args: &[&str], status: i32, events: usize) -> Option<RunOutput> {
    let day = Day::new();
    let ran = Replay::of(&day)?.with(options).client("end", args).expect(status);
    let wanted = ["ack".to_owned()].into_iter().chain(day.lines()).take(events);
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{ran:#?}");
    Some(ran)
}

const ALL: usize = usize::MAX;
const SOON: &[&str] = &["--timeout", "200ms"];

#[test]
fn sigint_ends_a_program_that_does_not_handle_it() {
    ended(&[], &["default"], 130, ALL);
}

#[test]
fn sigterm_follows_where_sigint_is_ignored() {
    let began = Instant::now();
    ended(SOON, &["deaf"], 0, ALL);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[test]
fn sigkill_follows_where_both_are_ignored() {
    ended(SOON, &["deafer"], 137, ALL);
}

#[test]
fn a_crash_is_told_by_its_signal() {
    ended(&[], &["crash", "5"], 139, 5);
}

#[test]
fn a_program_that_has_had_enough_ends_the_replay() {
    ended(&[], &["exit", "7"], 4, 7);
}

#[test]
fn a_closed_socket_is_closed() {
    ended(&[], &["close", "6"], 3, 6);
}

#[test]
fn the_end_of_file_is_the_end() {
    ended(&["--at-end", "eof"], &["default"], 0, ALL);
}

#[test]
fn silence_ends_at_the_timeout() {
    ended(&["--at-end", "silence", "--timeout", "200ms"], &["deaf"], 0, ALL);
}

#[test]
fn an_alarm_interrupts_a_wait() {
    silent("alarm", "eintr");
}

#[test]
fn a_receive_timeout_ends_a_wait() {
    silent("timeout", "timeout");
}

#[test]
fn a_receive_timeout_may_be_beyond_all_time() {
    silent("ever", "eintr");
}

#[test]
fn a_negative_receive_timeout_is_over_at_once() {
    silent("past", "timeout");
}

/// In the silence after the last event, it prints that, and ends.
#[track_caller]
fn silent(mode: &str, last: &str) {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let count = (day.lines().len() + 1).to_string();
    let ran = replay.with(&["--at-end", "silence"]).client("interrupt", &[mode, &count]).expect(0);
    assert_eq!(ran.out.lines().last(), Some(last), "{ran:#?}");
    assert_eq!(ran.out.lines().count(), day.lines().len() + 2);
}

/// A daemon of two processes: one that listens, and one that starts it anew when it ends, but for Ctrl-C.
#[test]
fn who_has_forked_the_listener_hears_of_the_end_as_well() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("end", &["worker"]).expect(0);
    let wanted = [vec!["ack".to_owned()], day.lines(), vec!["stopped".to_owned()]].concat();
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), wanted, "{}", ran.err);
}

/// It never sleeps, so whether it wants more cannot be seen; that is taken for granted after a while.
#[test]
fn a_thread_that_spins_does_not_keep_it_from_ending() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day).map(|replay| replay.with(SOON)) else { return };
    let ran = replay.client("threads", &["spin"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), day.lines(), "{ran:#?}");
}

/// Once the client has its handlers.
#[test]
fn sigterm_to_pmon_ends_even_who_ignores_it() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let script = r#""$0" "$@" & until grep -qs ack out-*; do sleep 0.01; done; kill $!; wait $!"#;
    let replay = replay.with(SOON).with(&["--at-end", "silence"]).under(&["sh", "-c", script]);
    let began = Instant::now();
    let line = r#""$0" deafer; sleep 1000"#;
    replay.program("/bin/sh", &["-c", line, &replay.path("end")], true);
    assert!(began.elapsed() < Duration::from_secs(9), "it has waited for the sleep");
}

/// Nothing but pmon's own doing must reach a program that was started from a script, in the background.
#[test]
fn sigint_is_not_inherited_as_ignored() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let script = &["sh", "-c", r#"trap "" INT; exec "$0" "$@""#];
    let ran = replay.under(script).client("end", &["default"]).expect(130);
    assert_eq!(ran.out.lines().count(), day.lines().len() + 1);
}

#[test]
fn a_daemon_reads_to_the_end() {
    daemon("daemon");
}

#[test]
fn so_does_one_that_forks_before_it_has_a_socket() {
    daemon("early");
}

#[track_caller]
fn daemon(mode: &str) {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let file = replay.file("daemon");
    replay.client("end", &[mode, file.to_str().unwrap()]).expect(0);
    let written = fs::read_to_string(file).unwrap();
    assert_eq!(written.lines().skip(1).collect::<Vec<_>>(), day.lines());
}

/// As under `record -- CMD`.
#[test]
fn what_wants_no_events_is_run_all_the_same() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    for (program, args, status) in [
        ("/bin/sh", &["-c", "exit 5"][..], 5),
        ("/bin/sh", &["-c", "kill -TERM $$"], 143),
        ("/nonexistent", &[], 127),
        ("/etc/passwd", &[], 126),
    ] {
        assert_eq!(replay.program(program, args, false).expect(status).out, "");
    }
}

#[test]
fn of_a_pipeline_the_whole_is_shown() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let line = r#""$0" recv | wc -l; exit 6"#;
    let client = replay.path("receive");
    let ran = replay.program("/bin/sh", &["-c", line, &client], true).expect(6);
    assert_eq!(ran.out.trim(), (day.lines().len() + 1).to_string(), "{ran:#?}");
}
