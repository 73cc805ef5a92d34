//! Tests that a capture contains no redacted secret in any text, even while it is being written.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use pmon_core::capture::{Item, Reader, Record, RecordedDatagram};
use pmon_core::wire::Event;
use rustix::process::Signal;

use super::*;
use pmon_testkit::recorder::RecorderProcess;

/// Prefix of every secret; the pattern also matches the characters after it.
const SECRET: &[u8] = b"hunter2";
const PATTERN: &str = r"hunter2[^ /]*";

/// The kinds of text in a capture.
const TEXT_KINDS: [&str; 8] = ["args", "exe", "filename", "cwd", "comm", "renamed", "snapshot", "header"];

/// A process that starts before the recording, with a secret argument.
struct EarlierProcess(Child);

impl EarlierProcess {
    fn start() -> Self {
        Self(
            Command::new("sh")
                .args(["-c", "read -r _", "hunter2-before"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for EarlierProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Creates a script that causes a secret in each kind of text. Its last argument is not UTF-8.
fn script(dir: &Path) -> PathBuf {
    let secret = dir.join("hunter2-dir");
    fs::create_dir(&secret).unwrap();
    fs::copy("/bin/sh", secret.join("hunter2-program")).unwrap();
    let path = dir.join("script");
    let text = format!(
        "cd {} && ./hunter2-program -c 'printf hunter2-thread > /proc/$$/comm; sleep 0.2; :' hunter2-arg \"$(printf 'hunter2\\377\\376')\"\n",
        secret.display()
    );
    fs::write(&path, text).unwrap();
    path
}

fn has_secret(text: &[u8]) -> bool {
    text.windows(SECRET.len()).any(|window| window == SECRET)
}

/// Returns the kinds of text in which a reader of the capture finds the secret.
fn kinds_with_secret(path: &Path) -> Vec<&'static str> {
    let mut reader = Reader::open(fs::File::open(path).unwrap()).unwrap();
    let header = reader.header().unwrap().clone();
    let mut found = Vec::new();
    found.extend(header.meta.command.iter().any(|word| has_secret(word)).then_some("header"));
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { continue };
        for record in block.records() {
            match record {
                Record::Event(
                    RecordedDatagram::Event(Event { body: EventBody::Comm { comm, .. }, .. }),
                    _,
                ) => {
                    found.extend(has_secret(comm.as_bytes()).then_some("renamed"));
                }
                Record::Details(details) => {
                    let Details { args, exe, filename, cwd, comm, .. } = &*details;
                    let texts =
                        [("args", args), ("exe", exe), ("filename", filename), ("cwd", cwd), ("comm", comm)];
                    for (name, text) in texts {
                        let found_secret = text.as_ref().is_some_and(|text| has_secret(text));
                        let is_scan = matches!(details.subject, DetailsSubject::Snapshot { .. });
                        found.extend(found_secret.then_some(if is_scan { "snapshot" } else { name }));
                    }
                }
                record => assert!(!has_secret(format!("{record:?}").as_bytes()), "{record:?}"),
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Returns all bytes of a capture: the raw file, and each decompressed section of each block.
fn bytes(path: &Path) -> Vec<Vec<u8>> {
    const MARKER: &[u8] = b"\xb1pmb\r\n\x1a\xe5";
    let file = fs::read(path).unwrap();
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    let mut all = Vec::new();
    let blocks = file.windows(MARKER.len()).enumerate().filter(|(_, window)| *window == MARKER);
    for at in blocks.map(|(at, _)| at) {
        let payload = &file[at + 64..][..number(&file, at + 16)];
        let mut sections = &payload[if file[at + 12] == 1 { 8 } else { 20 }..];
        while !sections.is_empty() {
            let (raw, stored) = (number(sections, 4), number(sections, 8));
            let data = &sections[12..12 + stored];
            if sections[2] == 1 {
                all.push(zstd::bulk::decompress(data, raw).unwrap());
            }
            sections = &sections[12 + stored..];
        }
    }
    assert!(!all.is_empty(), "no compressed section");
    all.push(file);
    all
}

/// Records the script with `pmon record`, started by a shell, and returns the capture's path.
fn record_secrets(dir: &TempDir, name: &str, options: &str) -> PathBuf {
    let directory = dir.path().join(name);
    fs::create_dir(&directory).unwrap();
    let (script, file) = (script(&directory), directory.join("secrets.pmon"));
    let _before = EarlierProcess::start();
    let pmon = pmon_testkit::recorder::record_command(&[], &file);
    let words: Vec<_> =
        [pmon.get_program()].into_iter().chain(pmon.get_args()).map(OsStr::as_bytes).collect();
    let line = [
        &words.join(&b' ')[..],
        b" ",
        options.as_bytes(),
        b" -- sh ",
        script.as_os_str().as_bytes(),
        b" hunter2-command",
    ];
    let status = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&line.concat())).status().unwrap();
    assert!(status.success());
    file
}

#[test]
fn no_secret_is_in_any_text_of_a_capture() {
    for transport in [RING, &["--transport", "recvmmsg"]] {
        let recorded = with_transport(transport, || {
            let (dir, _guard) = live_test()?;
            let open = record_secrets(&dir, "open", "");
            let closed = record_secrets(&dir, "closed", &format!("--redact '{PATTERN}'"));
            Some((dir, open, closed))
        });
        let Some((_dir, open, closed)) = recorded else { return };
        // Without redaction, each kind of text has the secret, except that `/proc` does not provide
        // the file name.
        let mut expected: Vec<_> =
            TEXT_KINDS.into_iter().filter(|&kind| kind != "filename" || transport == RING).collect();
        expected.sort_unstable();
        assert_eq!(kinds_with_secret(&open), expected, "{transport:?}");
        assert!(bytes(&open).iter().any(|bytes| has_secret(bytes)));
        assert_eq!(kinds_with_secret(&closed), [""; 0], "{transport:?}");
        assert!(bytes(&closed).iter().all(|bytes| !has_secret(bytes)), "{transport:?}");
        let header = CaptureContents::read(&closed);
        header.check();
        assert_eq!(header.header().meta.command.last().unwrap(), b"[redacted]");
    }
}

#[test]
fn no_secret_is_in_a_capture_whose_recorder_was_killed() {
    let recorded = with_transport(RING, || {
        let (dir, _guard) = live_test()?;
        let _before = EarlierProcess::start();
        let recorder = RecorderProcess::start(&dir, &["--redact", PATTERN]);
        for _ in 0..5 {
            assert!(Command::new("/bin/true").arg("hunter2-arg").status().unwrap().success());
            thread::sleep(Duration::from_millis(60));
        }
        recorder.send(Signal::KILL);
        thread::sleep(Duration::from_millis(50));
        let partial = fs::read(recorder.partial()).unwrap();
        Some((partial, recorder.partial(), dir, recorder))
    });
    let Some((partial, path, _dir, _recorder)) = recorded else { return };
    assert!(!has_secret(&partial), "the partial capture has a secret");
    let redacted = b"[redacted]";
    assert!(
        partial.windows(redacted.len()).any(|window| window == redacted),
        "the journal is not compressed"
    );
    assert_eq!(kinds_with_secret(&path), [""; 0]);
}

#[test]
fn no_secret_is_in_the_name_of_a_cgroup_or_in_the_scope() {
    let Some(cgroup) = TestCgroup::new("hunter2") else { return };
    let path = cgroup.path().to_str().unwrap();
    let script = format!("echo $$ > {path}/cgroup.procs; /bin/true inside; exec sleep 0");
    let recorded = with_transport(RING, || {
        let (dir, _guard) = live_test()?;
        let (capture, _) =
            record_program(&dir, &["--redact", PATTERN, "--cgroup", path], &["sh", "-c", &script]);
        let file = dir.path().join("command.pmon");
        Some((capture, kinds_with_secret(&file), bytes(&file)))
    });
    let Some((capture, kinds, bytes)) = recorded else { return };
    assert!(capture.details.iter().any(|details| text(&details.cgroup).contains("[redacted]")));
    assert_eq!(kinds, [""; 0]);
    assert!(bytes.iter().all(|bytes| !has_secret(bytes)));
}
