//! Tests how `pmon print` shows the signal that killed a process.

use std::collections::HashMap;

use pmon_core::capture::{Details, FatalSignal, ProcessState, Record, SignalOrigin, SignalSender, Usage};
use serde_json::{Value, json};

use super::{csv_rows, print};
use crate::support::*;

/// Returns the records of a process that a signal killed.
fn killed(status: u32, fatal_signal: FatalSignal) -> Vec<Record<'static>> {
    let usage =
        Usage { start_ticks: 5, process: ProcessState::Ended { status }, fatal_signal, ..Usage::default() };
    let Record::Event(frame, _) = exit(9, 4, (20, 20), status) else { unreachable!() };
    let exit = Record::Event(frame, Some(Box::new(usage)));
    let Record::Details(oomd) = scanned(10, 1, "oomd") else { unreachable!() };
    let oomd = Record::Details(Box::new(Details { start_ticks: Some(300), ..*oomd }));
    vec![oomd, scan_end(), fork(1, 2, 10, (20, 20)), exit, end(10, 4)]
}

#[test]
fn the_end_of_a_killed_process_names_the_sender_in_every_format() {
    let sender = |start_ticks| SignalOrigin::Process {
        code: -6,
        sender: SignalSender { pid: 10, start_ticks, uid: 7, comm: comm(b"oomd\x1b") },
    };
    let outputs = |status, oom_victim, origin| {
        let records = killed(status, FatalSignal { oom_victim, origin });
        let of = |format| print(&records, &["--format", format, "--kind", "exit"]);
        (of("text").out, of("json").json_lines()[0].clone(), csv_rows(&of("csv").out)[0].clone())
    };
    let fields = ["oom_killed", "signal_origin", "signal_code", "signal_sender_pid", "signal_sender_uid"];
    let check =
        |(text, json, csv): (String, Value, HashMap<String, String>), words: &str, values: [Value; 5]| {
            assert!(text.contains(words), "{text}");
            for (field, value) in fields.into_iter().zip(values) {
                assert_eq!(json[field], value, "{field}");
                let text = if value.is_null() { String::new() } else { value.to_string().replace('"', "") };
                assert_eq!(csv[field], text, "{field}");
            }
        };
    let start = 300;
    let sent = outputs(9, Some(false), sender(start));
    assert_eq!(sent.1["signal_sender_comm"], "oomd\u{1b}");
    assert_eq!(sent.1["signal_sender_process_id"], sent.1["parent_process_id"]);
    assert!(sent.1["signal_sender_process_id"].is_u64());
    let process = [json!(false), json!("process"), json!(-6), json!(10), json!(7)];
    check(sent, "killed by SIGKILL from 10 oomd\\x1b, ran", process.clone());
    let other = outputs(9, Some(true), sender(start + 100));
    assert_eq!(other.1["signal_sender_process_id"], json!(null));
    check(other, "killed by SIGKILL from 10 oomd\\x1b, ran", process);
    let kernel = |code| SignalOrigin::Kernel { code };
    let none = json!(null);
    let oom = [json!(true), json!("kernel"), json!(128), none.clone(), none.clone()];
    check(outputs(9, Some(true), kernel(128)), "killed by SIGKILL from the OOM killer, ran", oom);
    let fault = [json!(false), json!("kernel"), json!(1), none.clone(), none.clone()];
    let words = "killed by SIGSEGV (core) from the kernel (SEGV_MAPERR), ran";
    check(outputs(11 | 0x80, Some(false), kernel(1)), words, fault);
    let unknown = [none.clone(), none.clone(), none.clone(), none.clone(), none.clone()];
    check(outputs(9, None, SignalOrigin::Unknown), "killed by SIGKILL, ran", unknown);
    // A capture can claim anything. A process that exits was not killed.
    let exited = [json!(false), none.clone(), none.clone(), none.clone(), none];
    check(outputs(0, Some(true), sender(start)), "exit 0, ran", exited);
}
