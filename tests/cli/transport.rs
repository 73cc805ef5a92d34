//! Tests the choice of the transport, and its name in the capture.

use std::fs::File;

use pmon_core::capture::{Reader, TransportInfo};

use crate::live::*;
use crate::support::*;

/// Returns the transport that a capture names.
fn of_capture(file: &str) -> TransportInfo {
    let reader = Reader::open(File::open(file).expect("the capture")).expect("it can be read");
    reader.header().expect("a header").meta.transport.clone()
}

#[test]
fn the_capture_names_the_forced_transport() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    for transport in ["recvmmsg", "ring", "ring+details"] {
        let file = arg(&dir.path(transport));
        let ran = pmon(&["record", "--transport", transport, "-o", &file, "--", "sleep", "0.2"]);
        if ran.code == Some(6) && transport.starts_with("ring") {
            return skip_part(&ran.err);
        }
        ran.expect(0);
        assert_eq!(of_capture(&file), TransportInfo { name: transport.into(), why: "asked for".into() });
        pmon(&["verify", &file]).expect(0);
        let execs = pmon(&["print", &file, "--kind", "exec"]).expect(0).out;
        assert!(execs.contains("/sleep 0.2"), "{execs}");
    }
    // Without a choice, the ring is used if it is available.
    let file = arg(&dir.path("auto"));
    pmon(&["record", "--for", "1ms", "-o", &file]).expect(0);
    assert_eq!(of_capture(&file), TransportInfo { name: "ring+details".into(), why: String::new() });
}

#[test]
fn without_privilege_the_capture_states_why_there_is_no_ring() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let record =
        |transport, file| as_nobody(&dir, &["record", "--transport", transport, "-o", file, "--", "true"]);
    let Some(ran) = record("auto", "x.pmon") else { return };
    if ran.code == Some(6) {
        return skip(&ran.err);
    }
    ran.expect(0);
    let transport = of_capture(&arg(&dir.path("x.pmon")));
    assert_eq!(transport.name, "recvmmsg");
    assert!(transport.why.contains("CAP_BPF"), "{transport:?}");
    for transport in ["ring", "ring+details"] {
        let ran = record(transport, "y.pmon").expect("as before").expect(6);
        assert!(ran.err.contains("CAP_BPF") && ran.err.contains("--transport"), "{}", ran.err);
    }
    let ran = as_nobody(&dir, &["record", "--only", "exec", "-o", "y.pmon", "--", "true"])
        .expect("as before")
        .expect(6);
    assert!(ran.err.contains("CAP_BPF") && ran.err.contains("pmon print --kind"), "{}", ran.err);
    assert!(!dir.path("y.pmon").exists());
}
