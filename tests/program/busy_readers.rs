//! Programs that pause in calls that neither receive nor wait for files: they handle an event.

use crate::harness::ProgramReplay;
use crate::test_capture::TestCapture;

/// Fast readers wait for a reader that pauses for less than a second.
#[test]
fn a_reader_that_pauses_loses_nothing() {
    let capture = TestCapture::with_processes(300);
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("busy_reader", &["pause"]).expect(0);
    let each = format!("{} events\n", capture.lines().len());
    assert_eq!(ran.out, each.repeat(3), "{}", ran.err);
}

#[test]
fn a_program_that_works_on_the_last_event_is_not_ended() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let last = capture.lines().len().to_string();
    for work in ["sleep", "pipe", "child"] {
        let ran = replay.client("busy_reader", &[work, &last]).expect(0);
        assert_eq!(ran.out, "worked\n", "{work}: {}", ran.err);
    }
}
