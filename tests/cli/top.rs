//! Tests `pmon top` on the running kernel, and on a terminal.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::live::*;
use crate::support::*;

/// Starts `pmon top --json`, and waits for the first interval.
fn top(args: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = command(&[&["top", "--json"], args].concat());
    command.stdout(Stdio::piped());
    let mut child = start(command);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    while next_line(&mut lines)["kind"] != "interval" {}
    (child, lines)
}

#[track_caller]
fn next_line(lines: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    assert!(lines.read_line(&mut line).expect("a line") > 0, "pmon has ended");
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn processes_that_live_for_5_ms_are_all_counted() {
    // Another transport can miss the name of such a process.
    if !needs(&[Need::Recording(&["--transport", "ring+details"])]) {
        return;
    }
    let dir = Dir::new();
    let program = dir.path("pmon-short");
    copy_program("/bin/sleep", &program);
    let (mut child, mut lines) = top(&["--interval", "100ms", "--comm", "pmon-short"]);
    for _ in 0..25 {
        let run = || Command::new(&program).arg("0.005").spawn().expect("it runs");
        let running: Vec<_> = (0..8).map(|_| run()).collect();
        running.into_iter().for_each(|mut child| assert!(child.wait().expect("it ends").success()));
    }
    let (mut started, mut ended, mut intervals) = (0, 0, 0);
    while ended < 200 {
        let line = next_line(&mut lines);
        if line["kind"] == "interval" {
            intervals += 1;
            continue;
        }
        assert_eq!((&line["key"], &line["failures"]), (&"pmon-short".into(), &0.into()));
        started += line["started"].as_u64().expect("a number");
        ended += line["ended"].as_u64().expect("a number");
        let p50 = line["duration_p50_ns"].as_u64();
        assert!(p50.is_none_or(|p50| p50 > 4_900_000), "{line}");
    }
    assert_eq!((started, ended), (200, 200));
    assert!(intervals > 1, "25 times 5 ms take longer than an interval");
    send(&child, Signal::INT);
    assert_eq!(child.wait().expect("pmon ends").code(), Some(0));
}

#[test]
fn a_running_process_shows_its_cpu_time_and_a_closed_pipe_ends_top() {
    if !can_record() {
        return;
    }
    // It is older than the recording, and has used CPU time before.
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh runs");
    let (mut child, mut lines) = top(&["--interval", "200ms", "--idle", "--pid", &busy.id().to_string()]);
    let (group, interval) = loop {
        let (group, interval) = (next_line(&mut lines), next_line(&mut lines));
        assert_eq!((&group["key"], &group["running"]), (&"sh".into(), &1.into()));
        assert_eq!((&group["started"], &interval["kind"]), (&0.into(), &"interval".into()));
        // On a busy machine, it may not run in each interval.
        if group["cpu_ns"].as_u64().is_some_and(|cpu| cpu > 0) {
            break (group, interval);
        }
    };
    busy.kill().expect("it runs");
    busy.wait().expect("it ends");
    let (cpu, length) = (group["cpu_ns"].as_u64().expect("a number"), interval["length_ns"].as_u64());
    assert!(cpu <= length.expect("a number") + 20_000_000, "{group} {interval}");
    drop(lines);
    assert_eq!(child.wait().expect("pmon ends").code(), Some(0));
}

#[test]
fn the_number_of_intervals_and_the_time_end_top() {
    if !can_record() {
        return;
    }
    let blocks = |args: &[&str]| {
        let ran = pmon(&[&["top"], args].concat()).expect(0);
        assert!(!ran.out.contains('\x1b'), "{}", ran.out);
        ran.out.lines().filter(|line| line.starts_with("STARTS")).count()
    };
    assert_eq!(blocks(&["-n", "2", "--interval", "100ms"]), 2);
    // The last interval is shorter.
    assert_eq!(blocks(&["--for", "200ms", "--interval", "1h"]), 1);
    let short = pmon(&["top", "--interval", "1ms"]).expect(2);
    assert!(short.err.contains("--interval is too short for a live display"), "{}", short.err);
}

/// A shell on a terminal of tmux.
struct Terminal {
    dir: Dir,
}

impl Terminal {
    /// Starts a shell on a terminal of 80 columns and 20 rows. Skips the test and returns `None` if
    /// tmux is not installed.
    fn start() -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            skip("there is no `tmux`");
            return None;
        }
        let this = Self { dir: Dir::new() };
        this.tmux(&["new-session", "-d", "-x", "80", "-y", "20", "env", "PS1=ready> ", "TZ=UTC", "sh"]);
        this.wait_for("ready>");
        Some(this)
    }

    /// Runs a command of tmux, and returns its output.
    #[track_caller]
    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.dir.path("socket")).args(["-f", "/dev/null"]).args(args);
        command.env_remove("TMUX").stdin(Stdio::null());
        RunOutput::new(command.output().expect("tmux runs")).expect(0).out
    }

    /// Runs `pmon` with these arguments in the shell, and writes its process ID to a file.
    fn run(&self, variables: &str, args: &str) {
        let (pmon, pid) = (env!("CARGO_BIN_EXE_pmon"), arg(&self.dir.path("pid")));
        let line = format!("clear; {variables} sh -c 'echo $$ > {pid}; exec {pmon} {args}'");
        self.tmux(&["send-keys", &line, "Enter"]);
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> Vec<String> {
        self.tmux(&["capture-pane", "-p"]).lines().map(str::to_owned).collect()
    }

    /// Returns the screen once it no longer changes: tmux can show a part of what was written.
    fn whole_screen(&self) -> Vec<String> {
        let last = std::cell::RefCell::new(self.screen());
        wait_until(|| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let screen = self.screen();
            last.replace(screen.clone()) == screen
        });
        last.into_inner()
    }

    /// Waits until a line of the screen contains this text.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let began = std::time::Instant::now();
        while !self.screen().iter().any(|line| line.contains(text)) {
            assert!(began.elapsed().as_secs() < 20, "no {text:?} in {:#?}", self.screen());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits until the shell runs, with a usable terminal and nothing of `pmon top` on it.
    #[track_caller]
    fn expect_restored(&self) {
        self.wait_for("ready>");
        self.keys(&["stty -a | grep -o -e '[-]*icanon' -e '[-]*echo '; echo done=$?", "Enter"]);
        self.wait_for("done=0");
        let screen = self.screen();
        assert!(screen.iter().any(|line| line == "icanon"), "{screen:#?}");
        assert!(screen.iter().any(|line| line.trim_end() == "echo"), "{screen:#?}");
        assert!(!screen.iter().any(|line| line.contains("STARTS")), "{screen:#?}");
        assert_eq!(
            self.tmux(&["display-message", "-p", "#{cursor_flag}#{wrap_flag}#{alternate_on}"]),
            "110\n"
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        let _ = command.arg("-S").arg(self.dir.path("socket")).arg("kill-server").output();
    }
}

/// Writes a capture of ten seconds in which many processes run.
fn synthetic(dir: &Dir) -> String {
    let file = arg(&dir.path("x.pmon"));
    pmon(&["synth", "-o", &file, "--events", "10k", "--rate", "1000", "--seed", "7"]).expect(0);
    file
}

#[test]
fn arrow_keys_move_through_a_recording_on_a_terminal() {
    let Some(terminal) = Terminal::start() else { return };
    let file = synthetic(&terminal.dir);
    terminal.run("", &format!("top {file} --at +5s --sort key"));
    terminal.wait_for("2026-01-01 00:00:05.000, 1.00s: ");
    terminal.keys(&["Left", "Left"]);
    terminal.wait_for("2026-01-01 00:00:03.000, ");
    terminal.keys(&["Right"]);
    terminal.wait_for("2026-01-01 00:00:04.000, ");
    let screen = terminal.whole_screen();
    assert_eq!(screen.len(), 20, "{screen:#?}");
    assert!(screen[3].starts_with("STARTS ENDS FAILED") && screen[3].ends_with(" COMM"), "{screen:#?}");
    assert!(screen[19].starts_with("q quit  h help  s sort: key  b by: comm  left, right time  1/"));
    let plain = pmon(&["top", &file, "--at", "+4s", "--sort", "key", "--limit", "15"]).expect(0).out;
    let plain: Vec<_> = plain.lines().collect();
    assert_eq!(screen[..19], plain[..19], "{screen:#?}");
    terminal.keys(&["b", "Down"]);
    terminal.wait_for("b by: exe  left, right time  2/");
    terminal.keys(&["h"]);
    terminal.wait_for("previous or next interval of the recording");
    terminal.keys(&["Escape"]);
    terminal.wait_for("/usr/bin/");
    terminal.tmux(&["resize-window", "-x", "50", "-y", "10"]);
    let narrow =
        |screen: &[String]| screen.len() == 10 && screen[3].ends_with(" EXE") && !screen[3].contains("MEM");
    wait_until(|| narrow(&terminal.screen()) && terminal.screen()[9].starts_with("q quit"));
    terminal.keys(&["q"]);
    terminal.expect_restored();
}

#[test]
fn a_terminal_is_restored_after_signals_and_a_stop() {
    let Some(terminal) = Terminal::start() else { return };
    let file = synthetic(&terminal.dir);
    for signal in [Some("TERM"), Some("INT"), Some("HUP"), None] {
        terminal.run("NO_COLOR=1", &format!("top {file}"));
        terminal.wait_for("q quit");
        let with_styles = terminal.tmux(&["capture-pane", "-p", "-e"]);
        assert!(!with_styles.contains("\x1b[7m") && !with_styles.contains("\x1b[1m"), "{with_styles}");
        match signal {
            Some(signal) => {
                let kill = Command::new("sh")
                    .args(["-c", "kill -$0 $(cat $1)", signal, &arg(&terminal.dir.path("pid"))])
                    .status();
                assert!(kill.expect("sh runs").success());
            }
            None => {
                terminal.keys(&["C-z"]);
                terminal.expect_restored();
                terminal.keys(&["fg", "Enter"]);
                terminal.wait_for("q quit");
                terminal.keys(&["C-c"]);
            }
        }
        terminal.expect_restored();
    }
}

#[test]
fn a_dumb_terminal_gets_plain_text_of_its_width() {
    let Some(terminal) = Terminal::start() else { return };
    let file = synthetic(&terminal.dir);
    terminal.run("TERM=dumb", &format!("top {file} --by args --limit 5"));
    terminal.wait_for("more groups; use --limit");
    terminal.wait_for("ready>");
    let screen = terminal.screen();
    let at = screen.iter().position(|line| line.starts_with("STARTS")).expect("a table");
    assert!(screen[at..].iter().skip(1).take(5).all(|line| line.len() > 60), "no line wraps: {screen:#?}");
    assert!(screen[at + 6].contains("more groups"), "{screen:#?}");
}

#[test]
fn the_live_display_can_be_paused_and_ended() {
    if !can_record() {
        return;
    }
    let Some(terminal) = Terminal::start() else { return };
    terminal.run("", "top --interval 100ms --idle");
    terminal.wait_for(" running, ");
    terminal.keys(&["Space"]);
    terminal.wait_for("PAUSED");
    let paused = terminal.whole_screen();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(terminal.screen(), paused);
    terminal.keys(&["Space"]);
    wait_until(|| terminal.screen()[0] != paused[0]);
    terminal.keys(&["q"]);
    terminal.expect_restored();
}
