//! Tests clips and triggers of the recorder of a store.

use super::*;

#[test]
fn clips_are_written_on_request_and_by_a_signal() {
    if !can_record_to_a_store() {
        return;
    }
    for options in [&[][..], &["--flight", "5m"]] {
        let dir = Dir::new();
        let store = arg(&dir.path("store"));
        let mut recorder = StoreRecorder::start(&store, options);
        let pid = run_true();
        let snapshot = ["snapshot", "--store", &store, "--before", "1s", "--after", "0s", "--name", "crash"];
        let ran = pmon(&[&snapshot[..], &["--json"]].concat());
        let clip = ran.json();
        assert!(matches!(ran.code, Some(0 | 3)), "{ran:?}");
        let path = clip["path"].as_str().expect("a path");
        assert!(path.starts_with(&store) && path.contains("crash"), "{clip:#}");
        let out = pmon(&["print", path, "--pid", &pid.to_string(), "--format", "json"]).expect(0);
        assert_eq!(kinds_of(&out.json_lines(), pid), ["fork", "exec", "exit"]);
        let text = pmon(&snapshot).out;
        assert!(text.lines().count() == 2 && text.contains("event"), "{text}");

        send(&recorder.child, Signal::USR2);
        // The request of the signal is still pending at the end; its clip is written then.
        let reply = recorder.raw(b"{\"request\":\"status\"}\n");
        assert_eq!(reply["reply"], "status", "{reply}");
        let (code, messages) = recorder.end(Signal::INT);
        assert_eq!(code, Some(0), "{messages}");
        assert!(messages.contains("clip ") && messages.contains("snapshot"), "{messages}");
        recorder = StoreRecorder::start(&store, options);
        assert_eq!(recorder.end(Signal::INT).0, Some(0));
    }
}

#[test]
fn a_trigger_writes_a_clip_and_a_reload_replaces_it() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let trigger = |name: &str, signal: &str| {
        let text = format!(
            "[[trigger]]\nname = \"{name}\"\nkind = \"exit\"\nsignal = \"{signal}\"\ncomm = \"sh\"\nbefore = \"5s\"\nafter = \"100ms\"\n"
        );
        dir.file("pmon.toml", text.as_bytes())
    };
    let config = trigger("crash", "SIGSEGV");
    let mut recorder = StoreRecorder::start(&store, &["--config", &config]);
    let crash = |signal: &str| {
        let mut child =
            // Without the ring, the name of a program that ends at once is unknown.
            Command::new("sh").args(["-c", &format!("sleep 0.2; kill -{signal} $$")]).spawn().expect("sh runs");
        child.wait().expect("it ends");
        u64::from(child.id())
    };
    let pid = crash("SEGV");
    let fired = recorder.wait_for("trigger crash fired");
    assert!(fired.contains(&format!("process {pid} (sh)")), "{fired}");
    let clip = recorder.wait_for("clip ");
    let path = clip.split(&[' ', ':'][..]).find(|word| word.starts_with(&store)).expect("a path");
    let out = pmon(&["print", path, "--pid", &pid.to_string(), "--format", "json"]).expect(0);
    let mut kinds = kinds_of(&out.json_lines(), pid);
    // The system may write a core dump.
    kinds.retain(|kind| kind != "coredump");
    assert_eq!(kinds, ["fork", "exec", "exit"]);

    trigger("abort", "SIGABRT");
    let reply = recorder.control("reload");
    assert_eq!((&reply["triggers"], &reply["changed"]), (&json!(1), &json!([])), "{reply:#}");
    let pid = crash("ABRT");
    let fired = recorder.wait_for("trigger abort fired");
    assert!(fired.contains(&pid.to_string()), "{fired}");
    let triggers = recorder.control("status")["triggers"].clone();
    assert_eq!((&triggers[0]["name"], &triggers[0]["fired"]), (&json!("abort"), &json!(1)), "{triggers:#}");
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
}

#[test]
fn firings_within_a_clip_are_counted_and_printed_as_one() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let text =
        "[[trigger]]\nname = 'often'\nexit_code = 113\nbefore = '1s'\nafter = '400ms'\nlimit = '2/h'\n";
    let config = dir.file("pmon.toml", text.as_bytes());
    let mut recorder = StoreRecorder::start(&store, &["--config", &config]);
    let run = || assert_eq!(Command::new("sh").args(["-c", "exit 113"]).status().unwrap().code(), Some(113));
    (0..300).for_each(|_| run());
    let mut messages = Vec::new();
    let clip = loop {
        let message = recorder.messages.next().expect("a message").expect("UTF-8");
        if message.contains("clip ") {
            break message;
        }
        messages.push(message);
    };
    assert!(clip.ends_with("; 299 more firings of trigger often"), "{clip}");
    assert!(matches!(&messages[..], [fired] if fired.contains("trigger often fired")), "{messages:?}");
    let counts = |recorder: &StoreRecorder| trigger_counts(&recorder.control("status"));
    assert_eq!(counts(&recorder), [1, 299, 0, 0]);
    run();
    wait_until(|| counts(&recorder) == [2, 299, 0, 0]);
    recorder.wait_for("clip ");
    run();
    wait_until(|| counts(&recorder) == [2, 299, 1, 0]);
    let text = pmon(&["control", "status", "--store", &store]).expect(0).out;
    assert!(text.contains("often: 2 clips, 299 more within them, 1 suppressed by the limit"), "{text}");
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
    let clips = fs::read_dir(&store).expect("a store").map(|entry| arg(&entry.expect("a file").path()));
    let clips: Vec<_> = clips.filter(|path| path.ends_with("-often.clip.pmon")).collect();
    assert_eq!(clips.len(), 2, "{clips:?}");
}

/// Returns the counts of the only trigger: clips, merged, suppressed and dropped firings.
fn trigger_counts(status: &Value) -> [u64; 4] {
    ["fired", "merged", "suppressed", "dropped"]
        .map(|key| status["triggers"][0][key].as_u64().expect("a number"))
}
