//! Runs every verb on forged hostile captures. It fails if a verb needs more than 256 MiB of
//! memory, crashes, or ends with an exit code that means a defect of pmon.
//!
//! ```sh
//! cargo build --release && cargo run --release -p pmon-testkit --bin forge -- target/release/pmon 200
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use pmon_testkit::{forge, peak};

/// Maximum memory of each verb, in bytes.
const MAX_MEMORY: u64 = 256 << 20;
/// Maximum run time of each verb.
const MAX_TIME: Duration = Duration::from_secs(120);

/// Command lines run on each file. `@` stands for the file, `%` for a copy of it.
const VERBS: [&[&str]; 36] = [
    &["info", "@"],
    &["info", "--json", "@"],
    &["verify", "@"],
    &["verify", "--json", "@"],
    &["print", "@"],
    &["print", "--format", "json", "@"],
    &["print", "--format", "csv", "@"],
    &["print", "--format", "classic", "@"],
    &["print", "--tree", "1", "@"],
    &["print", "--since", "-1s", "@"],
    &["replay", "--format", "text", "@"],
    &["replay", "--format", "json", "@"],
    &["replay", "--tree", "1", "@"],
    &["replay", "@", "--record", "-"],
    &["replay", "@", "--at-end", "eof", "--", "/bin/true"],
    // On emulated sockets, each of the millions of events costs about 30 us.
    &["replay", "@", "--at-end", "eof", "--limit", "60s", "--", "python3", "-c", LISTENER],
    &["diff", "@", "%"],
    &["diff", "--by-cpu", "@", "%"],
    &["diff", "--renumbered", "@", "%"],
    &["diff", "--json", "@", "/dev/null"],
    &["print", "--ancestors", "@"],
    &["ps", "@"],
    &["ps", "--json", "@"],
    &["tree", "@"],
    &["tree", "--json", "@"],
    &["why", "@", "1", "--all"],
    &["why", "@", ".", "--all", "--json"],
    &["find", "@", "."],
    &["find", "@", ".", "--json"],
    &["stats", "@", "--by", "args"],
    &["stats", "@", "--by", "subtree", "--json"],
    &["prove", "@", "--never", "--args", "nothing"],
    &["top", "@"],
    &["sql", "@", "SELECT * FROM processes"],
    &["sql", "@", "SELECT comm, count(*), sum(cpu_ns) FROM processes GROUP BY 1"],
    &["cut", "@", "--kind", "exec,exit", "-o", "-"],
];

/// A program that subscribes and receives all events.
const LISTENER: &str = "import socket, struct
s = socket.socket(16, 2, 11)
s.bind((0, 1))
s.send(struct.pack('=IHHIIIIIIHHI', 40, 3, 0, 0, 0, 1, 1, 0, 0, 4, 0, 1))
while s.recv(65536): pass";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let pmon = args.next().ok_or("usage: forge PMON [SCALE [KIND]]")?;
    let scale = args.next().map_or(Ok(200), |scale| scale.parse())?;
    let kind = args.next();
    let folder = std::env::temp_dir().join(format!("pmon-forge-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let failed = run(&pmon, scale, kind.as_deref(), &folder);
    fs::remove_dir_all(&folder)?;
    Ok(if failed? { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run(pmon: &str, scale: usize, kind: Option<&str>, folder: &Path) -> Result<bool, Box<dyn Error>> {
    let [file, again] = ["a.pmon", "b.pmon"].map(|name| folder.join(name));
    let mut failed = false;
    let mut out = std::io::stdout().lock();
    for forged in forge::ALL {
        if kind.is_some_and(|kind| kind != forged.name) {
            continue;
        }
        let bytes = (forged.make)(scale);
        fs::write(&file, &bytes)?;
        fs::copy(&file, &again)?;
        for verb in VERBS {
            let args = verb.iter().map(|arg| match *arg {
                "@" => file.as_os_str().to_owned(),
                "%" => again.as_os_str().to_owned(),
                arg => arg.into(),
            });
            let mut child = Command::new(pmon)
                .args(args)
                .stdin(Stdio::null())
                .stdout(File::create("/dev/null")?)
                .stderr(Stdio::null())
                .spawn()?;
            let peak = peak::measure(&mut child, MAX_TIME)?;
            let passed = peak.bytes <= MAX_MEMORY && matches!(peak.status.code(), Some(0 | 2..=8 | 10));
            failed |= !passed;
            writeln!(
                out,
                "{} {:14} {:>9} B  {:42} {:>4} MiB {:>7.2} s  {}",
                if passed { " " } else { "!" },
                forged.name,
                bytes.len(),
                verb.join(" ").lines().next().unwrap_or_default(),
                peak.bytes >> 20,
                peak.time.as_secs_f64(),
                peak.status
            )?;
        }
    }
    Ok(failed)
}
