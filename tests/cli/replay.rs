//! Tests the output, the recordings and the exit codes of `pmon replay`.

use std::fs;
use std::time::{Duration, Instant};

use pmon_core::capture::{End, Record};
use pmon_core::wire::{EventBody, layout};
use pmon_core::{MonoNs, Task};
use serde_json::json;

use crate::support::*;

/// Returns records with a blind time, and with the events around the loss.
fn records_with_blind_time() -> Vec<Record<'static>> {
    let renamed = |us, seq| event(us, 1, seq, EventBody::Comm { task: Task::new(10, 10), comm: comm(b"sh") });
    let mut records = git_status_records();
    let end = records.len() - 1;
    records[end] = end_of(10);
    // Recorders write a loss right before the event that reveals it.
    let lost = records.iter().position(|record| matches!(record, Record::Loss(_))).unwrap();
    let lost = records.remove(lost);
    records.splice(8..8, [blind(3, 4), lost, renamed(4, 133)]);
    records.insert(4, renamed(0, 9));
    records
}

/// Returns the end of a capture with this number of events and 123 lost ones.
fn end_of(events: u64) -> Record<'static> {
    let Record::End(mut last) = end(3_000_000, events) else { panic!("an end") };
    last.blind_ns = 1_000;
    Record::End(last)
}

/// Compares two texts, and fails at the first line that differs.
#[track_caller]
fn same(found: &str, expected: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
}

fn file(dir: &Dir) -> String {
    dir.file("x.pmon", &capture(&records_with_blind_time(), 4))
}

#[test]
fn replay_shows_what_print_shows() {
    let dir = Dir::new();
    let file = file(&dir);
    for args in [
        &["--format", "json", "--own"][..],
        &["--format", "csv"],
        &["--clock", "mono"],
        &["--format", "classic"],
        &["--comm", "git", "--kind", "exit"],
        &["--tree", "20", "--kind", "exit", "--format", "json"],
    ] {
        let [shown, printed] =
            ["replay", "print"].map(|verb| pmon(&[&[verb, &file], args].concat()).expect(0));
        same(&shown.out, &printed.out);
        assert_eq!(shown.err, printed.err, "{args:?}");
    }
    assert_eq!(pmon(&["replay", &file, "--classic"]).out, pmon(&["print", &file, "--format", "classic"]).out);
    let from_pipe = pmon_with_input(&["replay", "-"], &fs::read(&file).unwrap()).expect(0);
    assert_eq!(from_pipe.out, pmon(&["print", &file]).out);
}

#[test]
fn a_recorded_replay_is_the_same_but_for_its_header() {
    let dir = Dir::new();
    let file = file(&dir);
    let [again, more] = ["again.pmon", "more.pmon"].map(|name| arg(&dir.path(name)));
    let ran = pmon(&["replay", &file, "--record", &again]).expect(0);
    // The temporary directory may have a space in its name.
    let quoted = |path: &str| if path.contains(' ') { format!("'{path}'") } else { path.to_owned() };
    let next = format!("next         pmon diff {} {}", quoted(&file), quoted(&again));
    assert!(ran.out.is_empty() && ran.err.contains(&next), "{ran:?}");
    let printed = |file: &str| pmon(&["print", file, "--format", "json"]).out;
    same(&printed(&again), &printed(&file));
    pmon(&["diff", &file, &again]).expect(0);
    let info = pmon(&["info", "--json", &again]).expect(0).json();
    assert_eq!(info["transport"], "replay");
    assert!(info["transport_why"].as_str().unwrap().contains("30313233"), "of which capture: {info:#}");
    assert_ne!(info["uuid"], pmon(&["info", "--json", &file]).json()["uuid"]);
    // Every recording has the same bytes, and an existing file is not replaced.
    pmon(&["replay", &file, "--record", &more]).expect(0);
    assert_eq!(fs::read(&again).unwrap(), fs::read(&more).unwrap());
    let refused = pmon(&["replay", &file, "--record", &more]).expect(7);
    assert!(refused.err.contains("exists"), "{refused:?}");
    let summary = pmon(&["replay", &file, "--record", &more, "--force", "--json"]).expect(0).json();
    assert_eq!((&summary["lost"]["total"], &summary["file"]), (&json!(123), &json!(more)));
}

#[test]
fn a_script_and_a_seed_determine_the_faults() {
    let dir = Dir::new();
    let file = file(&dir);
    let script = dir.file(
        "faults.toml",
        b"[[fault]]\nchance = 0.3\noverrun = \"1..9\"\n\n[[fault]]\nat = 5\nforge = true\n",
    );
    let run = |seed: &str, name: &str| {
        let path = arg(&dir.path(name));
        pmon(&["replay", &file, "--faults", &script, "--seed", seed, "--record", &path]).expect(0);
        fs::read(path).unwrap()
    };
    assert_eq!(run("7", "a"), run("7", "b"));
    assert_ne!(run("7", "c"), run("8", "d"));
    let verdict = pmon(&["verify", "--json", &arg(&dir.path("a"))]).expect(3).json();
    assert!(verdict["lost"]["total"].as_u64().unwrap() > 123 && verdict["rejected"] == 1, "{verdict:#}");
    assert_eq!(verdict["problems"], json!([]));
}

#[test]
fn a_malformed_script_is_refused_with_its_line() {
    let dir = Dir::new();
    let file = file(&dir);
    let script = dir.file("faults.toml", b"[[fault]]\nat = 5\noverrrun = 3\n");
    let ran = pmon(&["replay", &file, "--faults", &script]).expect(2);
    assert!(
        ran.out.is_empty() && ran.err.contains("faults.toml: line 3: unknown field `overrrun`"),
        "{ran:?}"
    );
    let ran = pmon(&["replay", &file, "--faults", &arg(&dir.path("none"))]).expect(6);
    assert!(ran.err.contains("cannot read"), "{ran:?}");
}

#[test]
fn excluded_events_never_happened() {
    let dir = Dir::new();
    // The capture is complete, so a gap would come from the filter.
    let mut records = git_status_records();
    records.retain(|record| !matches!(record, Record::Loss(_) | Record::Witness(_) | Record::End(_)));
    records.push(Record::End(End { time: MonoNs(START + 3_000_000_000), events: 8, ..End::default() }));
    let file = dir.file("x.pmon", &capture(&records, 4));
    let kinds = |args: &[&str]| {
        let path = arg(&dir.path("filtered.pmon"));
        pmon(&[&["replay", &file, "--record", &path, "--force"], args].concat()).expect(0);
        pmon(&["verify", &path]).expect(0);
        let lines = pmon(&["print", &path, "--format", "json"]).json_lines();
        lines.iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&["--kind", "exec"]), ["exec", "exec"]);
    assert_eq!(kinds(&["--tree", "20"]), ["fork", "exec", "fork", "exit", "exit"]);
    assert_eq!(kinds(&["--comm", "git", "--kind", "exec"]), ["exec"]);
    assert_eq!(kinds(&["--from", "+4us", "--to", "2026-01-02T03:04:05.000006Z"]), ["exit", "exit", "exec"]);
}

#[test]
fn speed_1x_takes_the_recorded_time() {
    let dir = Dir::new();
    // Two seconds lie between the last events.
    let file = file(&dir);
    let took = |speed: &str| {
        let began = Instant::now();
        let out = pmon(&["replay", &file, "--speed", speed]).expect(0).out;
        (began.elapsed(), out)
    };
    let (_, expected) = took("instant");
    let (scaled, shown) = took("4x");
    assert!(scaled >= Duration::from_millis(500), "{scaled:?}");
    assert_eq!(shown, expected);
    for speed in ["fast", "0x", "-1x", "1e9x", "x", "10"] {
        let ran = pmon(&["replay", &file, &format!("--speed={speed}")]).expect(2);
        assert!(ran.err.contains("expected `instant`, `step`, or a factor"), "{ran:?}");
    }
}

#[test]
fn speed_step_replays_an_event_per_line() {
    let dir = Dir::new();
    let file = file(&dir);
    let shown = |input: &[u8]| {
        let ran = pmon_with_input(&["replay", &file, "--speed", "step", "--format", "json"], input).expect(0);
        ran.json_lines().len()
    };
    let all = pmon(&["print", &file, "--format", "json"]).json_lines().len();
    assert_eq!(shown(b""), 0);
    assert!(shown(b"\n4\n") < all && shown(b"\n4\n") > shown(b"\n"));
    assert_eq!(shown(b"1000\n"), all);
    let refused = pmon_with_input(&["replay", "-", "--speed", "step"], b"").expect(2);
    assert!(refused.err.contains("name a file"), "{refused:?}");
}

#[test]
fn damage_is_reported_and_the_rest_is_replayed() {
    let dir = Dir::new();
    let mut parts = parts(&records_with_blind_time(), 4);
    let damaged = parts[2].len() - 2;
    parts[2][damaged] ^= 1;
    let file = dir.file("x.pmon", &parts.concat());
    let ran = pmon(&["replay", &file, "--format", "json"]).expect(4);
    assert!(ran.err.contains("damaged") && !ran.out.is_empty(), "{ran:?}");
    let again = arg(&dir.path("again.pmon"));
    pmon(&["replay", &file, "--record", &again]).expect(4);
    assert_eq!(ran.out, pmon(&["print", &again, "--format", "json"]).expect(0).out);
    pmon(&["replay", &dir.file("y", b"something else")]).expect(5);
    pmon(&["replay", &arg(&dir.path("none"))]).expect(6);
}

/// Connects to the socket as soon as it exists, and reads at most `most` datagrams.
fn consume(path: &std::path::Path, most: usize) -> Vec<Vec<u8>> {
    use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType, connect, recv, socket};
    let end = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    let address = SocketAddrUnix::new(path).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while connect(&end, &address).is_err() {
        assert!(Instant::now() < deadline, "no process listens at {}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    let patience = Some(Duration::from_secs(20));
    rustix::net::sockopt::set_socket_timeout(&end, rustix::net::sockopt::Timeout::Recv, patience).unwrap();
    let mut datagrams = Vec::new();
    while datagrams.len() < most {
        let mut buffer = [0; 128];
        let (len, _) = recv(&end, &mut buffer[..], RecvFlags::empty()).unwrap();
        if len == 0 {
            break;
        }
        datagrams.push(buffer[..len].to_vec());
    }
    datagrams
}

#[test]
fn a_connected_program_receives_all_datagrams_and_overruns() {
    let dir = Dir::new();
    let (file, path) = (file(&dir), dir.path("socket"));
    for speed in ["instant", "20x"] {
        let mut command = command(&["replay", &file, "--socket", &arg(&path), "--speed", speed]);
        command.stderr(std::process::Stdio::piped());
        let pmon = start(command);
        let datagrams = consume(&path, usize::MAX);
        let ran = RunOutput::new(pmon.wait_with_output().unwrap()).expect(0);
        assert!(ran.err.contains("replayed 10 events to 1 consumer"), "{ran:?}");
        let overruns =
            datagrams.iter().filter(|bytes| bytes[layout::NLMSG_TYPE] == 4_u16.to_ne_bytes()).count();
        assert_eq!((datagrams.len(), overruns), (11, 1));
        assert!(!path.exists());
    }
    let mut command = command(&["replay", &file, "--socket", &arg(&path)]);
    command.stderr(std::process::Stdio::piped());
    let pmon = start(command);
    assert_eq!(consume(&path, 1).len(), 1);
    RunOutput::new(pmon.wait_with_output().unwrap()).expect(0);
    fs::write(&path, "").unwrap();
    let refused = crate::support::pmon(&["replay", &file, "--socket", &arg(&path)]).expect(7);
    assert!(refused.err.contains("cannot listen at"), "{refused:?}");
}

#[test]
fn a_closed_pipe_ends_the_verb_silently() {
    let dir = Dir::new();
    let file = file(&dir);
    let mut command = command(&["replay", &file]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(std::process::Stdio::piped());
    let ran = RunOutput::new(start(command).wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn wrong_usage_is_explained() {
    let dir = Dir::new();
    let file = file(&dir);
    let again = arg(&dir.path("again.pmon"));
    let needs = |option: &str| format!("{option} needs a program; append one, for example `-- ./monitor`");
    let mut cases = vec![
        (vec!["./monitor"], "write `--` before it: `-- ./monitor`".to_owned()),
        (vec!["./monitor", "-v"], "write `--` before it: `-- ./monitor`".to_owned()),
        (vec!["--"], "no program follows `--`".to_owned()),
        (vec!["--record", &again, "--"], "no program follows `--`".to_owned()),
        (vec!["--uid", "no-such-user", "--", "true"], "no such user in /etc/passwd".to_owned()),
        (vec!["--uid", "4294967296", "--", "true"], "a number from 0 to 4294967295".to_owned()),
        (vec!["--expect", "x", "--record", &again], needs("--expect") + ", and remove --record"),
        (vec!["--settle", "--socket", &again], needs("--settle") + ", and remove --socket"),
        (vec!["--expect", "x", "--record", &again, "--", "true"], "'--record <OUT>' cannot be".to_owned()),
        (vec!["--format", "json", "--", "true"], "cannot be used with".to_owned()),
        (vec!["--update", "--", "true"], "--expect <FILE>".to_owned()),
        (vec!["--speed", "step", "--", "true"], "--speed step cannot be used with a program".to_owned()),
        (vec!["--limit", "0s"], "must be longer than 0".to_owned()),
        (vec!["--no-such-option", "--", "true"], "unexpected argument '--no-such-option'".to_owned()),
        (vec!["--settle"], needs("--settle")),
    ];
    for option in [
        ["--proc", "real"],
        ["--tmpfs", "/run"],
        ["--sockets", "auto"],
        ["--uid", "0"],
        ["--at-end", "eof"],
        ["--timeout", "10s"],
        ["--expect", "golden.txt"],
    ] {
        cases.push((option.to_vec(), needs(option[0])));
    }
    for (args, why) in cases {
        let ran = pmon(&[&["replay", &file], &*args].concat()).expect(2);
        assert!(ran.err.contains(&why) && ran.out.is_empty(), "{args:?}: {ran:?}");
    }
}

#[test]
fn the_limit_ends_a_replay_without_a_program() {
    let dir = Dir::new();
    let file = file(&dir);
    let (socket, again) = (arg(&dir.path("socket")), arg(&dir.path("again.pmon")));
    for options in [&[][..], &["--socket", &socket], &["--record", &again], &["--json"]] {
        let slow = ["replay", &file, "--limit", "200ms", "--speed", "0.000001x"];
        let ran = pmon(&[&slow, options].concat()).expect(10);
        assert!(ran.err.contains("--limit"), "{ran:?}");
    }
    // The events until then are recorded.
    let verdict = pmon(&["verify", &again, "--json"]).json();
    assert_eq!(verdict["clean_end"], true);
    pmon(&["replay", &file, "--limit", "1h"]).expect(0);
}

#[test]
fn requests_without_an_effect_are_in_the_summary() {
    let dir = Dir::new();
    let file = file(&dir);
    let script = dir.file("faults.toml", b"[[fault]]\nat = 1000\nlose = 1\n");
    let again = arg(&dir.path("again.pmon"));
    let report = arg(&dir.path("report.json"));
    for options in [&[][..], &["--record", &again, "--force"]] {
        let common = ["replay", &file, "--json", "--report", &report];
        for (request, code) in
            [(["--faults", &script], "fault_never_fired"), (["--pid", "4711"], "selection_empty")]
        {
            let ran = pmon(&[&common, options, &request].concat()).expect(0);
            let json = match options {
                [] => serde_json::from_str(ran.err.lines().last().unwrap()).unwrap(),
                _ => ran.json(),
            };
            let written: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
            assert_eq!(json, written);
            assert_eq!(json["warnings"][0]["code"], code, "{ran:?}");
            assert!(ran.err.contains(json["warnings"][0]["message"].as_str().unwrap()));
        }
    }
    pmon(&["replay", &file, "--report", "/nonexistent/report"]).expect(7);
}
