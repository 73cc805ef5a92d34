//! Tests the JSON and the CSV of `pmon print`.

use super::*;

#[test]
fn json_has_the_documented_fields() {
    let lines = print(&git_status_records(), &["--format", "json"]).json_lines();
    let at = |us: u64| (START + us * 1_000, format!("2026-01-02T03:04:05.{:06}000Z", us));
    let common = |kind: &str, us: u64, seq: u32, pid: u32, tid: u32| {
        let (mono_ns, time) = at(us);
        json!({"kind": kind, "cpu": 0, "seq": seq, "mono_ns": mono_ns, "time": time, "pid": pid, "tid": tid})
    };
    // The process, its parent, and the rest of what is known of it.
    let ids = |lines: &[Value], at: usize| {
        ["process_id", "parent_process_id"].map(|name| lines[at][name].as_u64().unwrap_or_default())
    };
    let of_process = |[id, parent]: [u64; 2]| {
        let parent = if parent == 0 { Value::Null } else { parent.into() };
        json!({
            "process_id": id, "parent_process_id": parent, "unit": null, "container_id": null, "pod_uid": null,
            "container": null, "pod": null, "namespace": null, "image": null,
        })
    };
    let with = |mut base: Value, more: Value| {
        base.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        base
    };
    let nobody = json!({"pid": null, "tid": null, "ack": 8, "err": 0});
    assert_eq!(lines[0], with(common("ack", 0, 1, 0, 0), nobody));
    let [sh, init] = ids(&lines, 1);
    let [git, parent] = ids(&lines, 2);
    assert!(sh != git && parent == sh, "{sh} {git} {parent}");
    let fork = json!({"child_pid": 20, "child_tid": 20, "child_process_id": git, "comm": "sh", "exe": null});
    assert_eq!(lines[1], with(with(common("fork", 1, 2, 10, 10), fork), of_process([sh, init])));
    let nothing = json!({
        "comm": null, "exe": null, "filename": null, "cwd": null, "cgroup": null, "args": null, "ppid": null, "uid": null,
        "euid": null, "gid": null, "egid": null, "start_ticks": null, "parent_start_ticks": null, "args_len": null,
        "login_uid": null, "session": null, "group": null, "cgroup_id": null, "pid_ns": null, "ns_pid": null, "missed": null,
    });
    let known = json!({
        "comm": "git", "exe": "/usr/bin/git", "args": ["/usr/bin/git", "status", "it's"], "ppid": 10, "uid": 1000,
        "euid": 1000, "gid": 100, "egid": 100, "args_len": 25,
    });
    let known = with(nothing.clone(), known);
    assert_eq!(lines[2], with(with(common("exec", 2, 3, 20, 20), known), of_process([git, sh])));
    assert_eq!(lines[3]["child_tid"], 21);
    assert_eq!(
        lines[4],
        json!({
            "kind": "loss", "cpu": 1, "count": 123, "first_seq": 10, "last_seq": 132,
            "cause": "socket", "after_mono_ns": START, "before_mono_ns": START + 4_000,
        })
    );
    let how = |code: u32, signal: i32, status: &str| {
        json!({
            "exit_code": code, "exit_signal": signal, "status": status, "parent_pid": 10, "parent_tid": 10,
            "start_ticks": null, "cpu_us": null, "user_us": null, "system_us": null, "max_rss_kib": null,
            "minor_faults": null, "major_faults": null, "read_bytes": null, "write_bytes": null, "other_threads": null,
            "usage_at_least": null, "process_ended": null, "process_exit_code": null, "process_status": null,
            "process_cpu_us": null, "code": code >> 8, "term_signal": null, "duration_ns": null, "comm": "git",
            "exe": "/usr/bin/git", "args": ["/usr/bin/git", "status", "it's"],
            "oom_killed": null, "signal_origin": null, "signal_code": null, "signal_sender_process_id": null,
            "signal_sender_pid": null, "signal_sender_comm": null, "signal_sender_uid": null,
        })
    };
    let exit = |base: Value, how: Value| with(with(base, how), of_process([git, sh]));
    assert_eq!(lines[5], exit(common("exit", 4, 5, 20, 21), how(0, -1, "exit 0")));
    assert_eq!(lines[6], exit(common("exit", 5, 6, 20, 20), how(768, 17, "exit 3")));
    let unknown = with(nothing, json!({"missed": "gone"}));
    let ids = of_process([lines[7]["process_id"].as_u64().unwrap(), 0]);
    assert_eq!(lines[7], with(with(common("exec", 6, 7, 30, 30), unknown), ids));
    assert_eq!(lines[8]["status"], "killed by SIGSEGV (core dumped)");
    assert_eq!((&lines[8]["code"], &lines[8]["term_signal"]), (&json!(null), &json!(11)));
    assert_eq!(lines.len(), 9);
}

#[test]
fn json_has_the_bytes_of_unreadable_datagrams() {
    let records = [Record::Event(RecordedDatagram::Raw(b"\x01\xffno"), None), end(2, 1)];
    let lines = print(&records, &["--format", "json"]).json_lines();
    assert_eq!(lines[0]["kind"], "unknown");
    assert_eq!(lines[0]["frame"], "01ff6e6f");
    assert_eq!(lines[0]["pid"], json!(null));
}

/// Returns a datagram with sequence number 5 and a kind that no kernel sends yet.
fn unknown_kind() -> Vec<u8> {
    let Record::Event(RecordedDatagram::Event(known), _) = exec(1, 5, 7) else { unreachable!() };
    let mut frame = known.encode(pmon_core::wire::ByteOrder::Little).expect("an exec has a frame");
    frame[36] = 0x20;
    frame.to_vec()
}

#[test]
fn json_has_the_number_and_bytes_of_unknown_kinds() {
    let lines = print(
        &[Record::Event(RecordedDatagram::Raw(&unknown_kind()), None), end(2, 1)],
        &["--format", "json"],
    )
    .json_lines();
    assert_eq!(lines[0]["kind"], "unknown");
    assert_eq!(lines[0]["what"], 0x20);
    assert_eq!(lines[0]["seq"], 5);
    assert_eq!(lines[0]["frame"].as_str().map(str::len), Some(152));
}

#[test]
fn csv_and_json_have_the_same_values() {
    let mut records = git_status_records();
    let unknown = unknown_kind();
    records.insert(4, Record::Event(RecordedDatagram::Raw(&unknown), None));
    records.insert(5, Record::Event(RecordedDatagram::Raw(b"\x01\xff"), None));
    let rows = csv_rows(&print(&records, &["--format", "csv"]).out);
    let lines = print(&records, &["--format", "json"]).json_lines();
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.iter().zip(&lines) {
        let line = line.as_object().expect("an object");
        for (key, value) in line {
            let expected = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Array(_) => r"/usr/bin/git status 'it'\''s'".into(),
                other => other.to_string(),
            };
            assert_eq!(row[key], expected, "{key} of {line:?}");
        }
        let others = row.iter().filter(|(key, _)| !line.contains_key(*key));
        assert!(others.into_iter().all(|(_, value)| value.is_empty()), "{row:?}");
    }
}

#[test]
fn csv_columns_keep_their_order() {
    let out = print(&[end(0, 0)], &["--format", "csv"]).out;
    assert_eq!(
        out,
        "kind,time,mono_ns,cpu,seq,pid,tid,child_pid,child_tid,comm,exe,args,ppid,uid,exit_code,exit_signal,status,\
         parent_pid,parent_tid,ruid,euid,rgid,egid,tracer_pid,tracer_tid,count,first_seq,last_seq,cause,text,\
         after_mono_ns,before_mono_ns,ack,err,what,frame,blind_ns,filename,cwd,cgroup,gid,start_ticks,parent_start_ticks,\
         args_len,login_uid,session,group,cgroup_id,pid_ns,ns_pid,missed,cpu_us,user_us,system_us,max_rss_kib,\
         minor_faults,major_faults,read_bytes,write_bytes,other_threads,usage_at_least,process_ended,\
         process_exit_code,process_status,process_cpu_us,process_id,parent_process_id,child_process_id,unit,container_id,\
         pod_uid,code,term_signal,duration_ns,oom_killed,signal_origin,signal_code,signal_sender_process_id,\
         signal_sender_pid,signal_sender_comm,signal_sender_uid,container,pod,namespace,image\n"
    );
}

#[test]
fn csv_strings_are_escaped_as_documented() {
    let args = "plain\0two words\0a\\b\0\0it's\x1b\\\u{202e}\0".as_bytes();
    let args = [args, b"\xff\n\0"].concat();
    let records = [
        exec(1, 1, 5),
        details(1, 5, "x", &args),
        event(2, 0, 2, EventBody::Comm { task: Task::new(5, 5), comm: comm(b"a\\b\t\x7f\xfe") }),
        end(4, 2),
    ];
    let rows = csv_rows(&print(&records, &["--format", "csv"]).out);
    assert_eq!(rows[0]["args"], r"plain 'two words' 'a\b' '' $'it\'s\x1b\\\u202e' $'\xff\n'");
    assert_eq!(rows[1]["comm"], r"a\\b\t\x7f\xfe");
}
