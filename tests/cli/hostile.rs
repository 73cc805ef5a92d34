//! Tests files that attack the terminal or the memory.

use std::process::Stdio;
use std::time::Duration;

use pmon_core::MonoNs;
use pmon_core::capture::{
    Details, DetailsSubject, Encoder, Header, Meta, MissReason, Record, ScopeInfo, TransportInfo,
};
use pmon_core::wire::EventBody;
use pmon_core::{Task, Tgid};
use rustix::fs::{Mode, OFlags, ftruncate, open};

use crate::guard::skip;
use pmon_testkit::{forge, peak};

use crate::support::{self, Dir, arg, comm, command, event, exec, exit, run};

/// Characters that affect some terminals: an escape, a delete, C1 controls, directional formatting
/// characters, and line separators.
const HOSTILE: &str =
    "\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{61c}\u{200e}\u{200f}\u{2028}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\r";

fn is_harmful(c: char) -> bool {
    let is_control = c.is_control() && c != '\n';
    is_control || HOSTILE.chars().any(|of| of == c && !of.is_ascii_graphic())
}

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    if let Some(at) = text.char_indices().find(|&(_, c)| is_harmful(c)).map(|(at, _)| at) {
        let near: String = text[at..].chars().take(40).collect();
        panic!("{what}: {near:?}");
    }
}

/// A capture in which every string is hostile. Different values of `n` give different captures.
fn capture(n: u32) -> Vec<u8> {
    let text = || HOSTILE.to_owned();
    let meta = Meta {
        tool: text(),
        host: text(),
        kernel: text(),
        machine: text(),
        boot_id: text(),
        command: vec![HOSTILE.into(), HOSTILE.into()],
        transport: TransportInfo { name: text(), why: text() },
        ..support::header().meta
    };
    let header = Header { meta, ..support::header() };
    let mut encoder = Encoder::new(&header).expect("a header");
    let bytes = || Some(HOSTILE.into());
    let details = |subject| {
        Record::Details(Box::new(Details {
            miss: None,
            ppid: Some(20),
            comm: bytes(),
            exe: bytes(),
            filename: bytes(),
            cwd: bytes(),
            cgroup: bytes(),
            args: Some([HOSTILE.as_bytes(), b"\0", HOSTILE.as_bytes(), b"\0"].concat()),
            ..Details::missed(subject, MissReason::Gone)
        }))
    };
    let name = comm(&HOSTILE.as_bytes()[HOSTILE.len() - 16..]);
    let time = MonoNs(support::START + 2_000);
    let records = [
        Record::Scope(ScopeInfo { text: text() }),
        details(DetailsSubject::Snapshot { tgid: Tgid(20) }),
        support::scan_end(),
        event(1, 0, 1, EventBody::Comm { task: Task::new(20, 20), comm: name }),
        exec(2, 2, 20),
        details(DetailsSubject::Exec { tgid: Tgid(20), time }),
        event(3, 0, 3, EventBody::Comm { task: Task::new(20, 20), comm: comm(&HOSTILE.as_bytes()[..8]) }),
        exit(4, 4, (20, 20), n),
    ];
    let mut out = encoder.header().to_vec();
    for record in records {
        encoder.push(&record).expect("a record");
    }
    out.extend(encoder.seal());
    out.extend(encoder.finish());
    out
}

#[test]
fn no_output_of_any_verb_can_control_the_terminal() {
    let dir = Dir::new();
    let [a, b] =
        [(1, "a"), (2, "b")].map(|(n, name)| dir.file(&format!("{name}{HOSTILE}.pmon"), &capture(n)));
    let torn = dir.file(&format!("torn{HOSTILE}.pmon"), &capture(1)[..600]);
    let other = dir.file(&format!("other{HOSTILE}.pmon"), b"something else");
    let nowhere = arg(&dir.path(&format!("nowhere{HOSTILE}.pmon")));
    let again = arg(&dir.path(&format!("again{HOSTILE}.pmon")));
    let faults = dir.file(&format!("faults{HOSTILE}"), HOSTILE.as_bytes());
    let folder = arg(&dir.path(""));
    let mut runs: Vec<Vec<&str>> = Vec::new();
    for file in [&a, &torn, &other, &nowhere, &folder] {
        for verb in ["info", "verify"] {
            runs.extend([vec![verb, file], vec![verb, "--json", file]]);
        }
        for verb in ["print", "replay"] {
            for format in ["text", "json", "csv", "classic"] {
                runs.push(vec![verb, "--format", format, file]);
            }
        }
        runs.extend([vec!["diff", file, &b], vec!["diff", "--json", &b, file]]);
        let queries: [&[&str]; 9] = [
            &["ps", file],
            &["tree", file],
            &["why", file, "."],
            &["find", file, "."],
            &["stats", file, "--by", "comm"],
            &["stats", file, "--by", "args"],
            &["stats", file, "--by", "subtree"],
            &["top", file],
            &["prove", file, "--never", "--exe", "*"],
        ];
        for query in queries {
            runs.extend([query.to_vec(), [query, &["--json"]].concat()]);
        }
        for format in ["table", "csv", "json", "line"] {
            runs.push(vec!["sql", file, "--format", format, "SELECT * FROM processes"]);
        }
        runs.extend([vec!["print", "--ancestors", file], vec!["cut", file, "--force", "-o", &again]]);
        runs.push(vec!["replay", "--force", "--record", &again, file]);
        runs.push(vec!["replay", "--force", "--json", "--record", &again, file]);
    }
    runs.push(vec!["replay", "--faults", &faults, &a]);
    runs.push(vec!["replay", "--socket", &faults, &a]);
    runs.push(vec!["print", "--since", HOSTILE, &a]);
    runs.push(vec!["print", "--kind", HOSTILE, &a]);
    runs.push(vec![HOSTILE]);
    let mut shown = 0;
    for args in runs {
        let ran = run(command(&args));
        assert_harmless(&format!("{args:?}, output"), &ran.out);
        assert_harmless(&format!("{args:?}, errors"), &ran.err);
        shown += usize::from(ran.out.contains("202e"));
        if args.contains(&"--json") {
            let mut values = serde_json::Deserializer::from_str(&ran.out).into_iter::<serde_json::Value>();
            assert!(values.all(|value| value.is_ok()), "{args:?}: {}", ran.out);
        }
    }
    // The hostile strings are shown, in escaped form.
    assert!(shown > 10, "{shown}");
}

/// Checks that a JSON parser returns the recorded strings.
#[test]
fn json_preserves_hostile_strings() {
    let dir = Dir::new();
    let file = dir.file("a.pmon", &capture(1));
    let info = run(command(&["info", "--json", &file])).expect(0).json();
    for field in ["host", "kernel", "machine", "boot_id", "tool", "transport", "transport_why", "scope"] {
        assert_eq!(info[field], HOSTILE, "{field}");
    }
    assert_eq!(info["command"][1], HOSTILE);
}

/// Runs the verbs with the highest memory use at a small scale; `cargo run -p pmon-testkit --bin
/// forge` runs all of them.
#[test]
fn forged_captures_stay_within_the_memory_limit() {
    let dir = Dir::new();
    for forged in forge::ALL {
        let file = dir.file("a.pmon", &(forged.make)(4));
        let verbs: &[&[&str]] = match forged.name {
            "census" | "chain" => &[&["replay", &file, "--", "/bin/true"], &["tree", &file]],
            "arguments" | "waiting" => &[&["stats", "--by", "args", &file], &["find", &file, "."]],
            "datagrams" | "cpus" => &[&["diff", "--by-cpu", &file, "/dev/null"], &["verify", &file]],
            "forks" | "tree" => &[&["print", "--tree", "1", &file]],
            "command" => &[&["info", "--json", &file]],
            _ => &[&["print", "--format", "json", &file]],
        };
        for verb in verbs {
            let mut command = command(verb);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let peak = peak::measure(&mut command.spawn().expect("pmon runs"), Duration::from_secs(30));
            let peak = peak.expect("pmon ends");
            // A panic ends with 101, an internal error with 1, and an abort by a signal.
            let ended = peak.status.code().is_some_and(|code| code != 1 && code < 100);
            assert!(ended, "{} {verb:?}: {peak:?}", forged.name);
            assert!(peak.bytes <= 256 << 20, "{} {verb:?}: {peak:?}", forged.name);
            assert!(peak.time < Duration::from_secs(30), "{} {verb:?}: {peak:?}", forged.name);
        }
    }
}

/// A replay without an event of the selection reads the capture again to explain that.
#[test]
fn a_second_reading_begins_after_the_first_has_released_its_memory() {
    let dir = Dir::new();
    let census = forge::ALL.iter().find(|forged| forged.name == "census").expect("a census");
    let file = dir.file("a.pmon", &(census.make)(16));
    let peak = |args: &[&str]| {
        let mut command = command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let peak = peak::measure(&mut command.spawn().expect("pmon runs"), Duration::from_secs(30));
        let peak = peak.expect("pmon ends");
        assert!(peak.status.success(), "{args:?}: {peak:?}");
        peak.bytes
    };
    let (once, twice) = (peak(&["replay", &file]), peak(&["replay", &file, "--kind", "exec"]));
    assert!(twice <= once + once / 8, "{twice} and {once} bytes");
}

/// A killed recorder leaves a hole in its file, and a forger can make a hole as large as a file can
/// be.
#[test]
fn a_file_with_a_hole_of_a_tebibyte_is_read_quickly() {
    let dir = Dir::new();
    let records = support::git_status_records();
    let parts = support::parts(&records, usize::MAX);
    let file = dir.file("a.pmon", &parts[..2].concat());
    let path = dir.path("a.pmon");
    let fd = open(&path, OFlags::WRONLY, Mode::empty()).expect("the file");
    if ftruncate(&fd, 1 << 40).is_err() {
        skip("this file system has no files of a tebibyte");
        return;
    }
    let ran = run(command(&["print", "--format", "csv", &file]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.lines().count() > 8, "{ran:?}");
}
