//! Tests that the objects named by a scope option are checked before anything else, and refused if
//! they are unsuitable.

use std::fs;
use std::process::{Command, Stdio};

use pmon_core::wire::{ByteOrder, SubscribeOp, SubscribeRequest};
use rustix::net::netlink::CONNECTOR;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};

use crate::live::{Need, needs, skip};
use crate::support::*;

/// Returns the mount point of a file system of this type.
fn mount_of(kind: &str) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(&format!(" - {kind} ")))?;
    line.split(' ').nth(4).map(str::to_owned)
}

/// Returns the error of a recording restricted to this cgroup. The error does not depend on the
/// transport, because pmon checks the cgroup first.
#[track_caller]
fn refused(cgroup: &str) -> String {
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let message = ["auto", "ring", "recvmmsg"].map(|transport| {
        let ran =
            pmon(&["record", "--transport", transport, "--cgroup", cgroup, "--for", "1ms", "-o", &file]);
        ran.expect(6).err
    });
    assert!(message.iter().all(|one| *one == message[0]), "{message:?}");
    assert!(dir.is_empty());
    // The error blames neither the ring nor a capability, and does not suggest `print`: without the
    // cgroup, nothing would match there either.
    for word in ["ring", "print", "CAP_"] {
        assert!(!message[0].replace(cgroup, "").contains(word), "{}", message[0]);
    }
    assert!(message[0].contains(&format!("--cgroup {cgroup}: ")), "{}", message[0]);
    message[0].clone()
}

#[test]
fn a_missing_cgroup_is_reported_instead_of_the_ring() {
    for name in ["nosuch", "/nosuch/at/all", "0::/nosuch", "./nosuch", "../../../nosuch"] {
        let message = refused(name);
        assert!(message.contains("no such cgroup"), "{message}");
    }
}

#[test]
fn a_path_that_is_no_cgroup_of_version_2_is_refused() {
    let dir = Dir::new();
    let file = dir.file("cgroup.procs", b"");
    assert!(refused(&arg(&dir.path(""))).contains("on another file system"));
    assert!(refused(&file).contains("not a directory"));
    assert!(refused("/proc").contains("on another file system"));
    if let Some(mount) = mount_of("cgroup2") {
        assert!(refused(&format!("{mount}/cgroup.procs")).contains("not a directory"));
        assert!(refused(&format!("{mount}/nosuch")).contains("no such cgroup"));
    }
}

#[test]
fn a_cgroup_of_version_1_is_refused_even_with_the_inode_of_a_root() {
    let Some(mount) = mount_of("cgroup") else {
        // Some kernels can mount a version 1 hierarchy without controllers.
        let mut command = Command::new("unshare");
        let script = "mount -t cgroup -o none,name=pmon none /mnt || exit 77; exec \"$0\" record --cgroup /mnt --for 1ms";
        command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_pmon")]);
        let ran = run(command);
        if ran.code == Some(77) || ran.err.starts_with("unshare:") {
            return skip("no cgroups of version 1");
        }
        return assert!(ran.expect(6).err.contains("version 1"));
    };
    assert!(refused(&mount).contains("of version 1"));
    let below = fs::read_dir(&mount).expect("a hierarchy").flatten();
    if let Some(below) =
        below.filter(|entry| entry.path().is_dir()).find_map(|entry| entry.path().to_str().map(str::to_owned))
    {
        assert!(refused(&below).contains("of version 1"));
    }
}

#[test]
fn the_root_of_a_tree_must_be_a_running_process() {
    let refused =
        |pid: &str| pmon(&["record", "--tree", pid, "--for", "1ms", "-o", "/nosuch/x"]).expect(2).err;
    assert!(refused("4194304").contains("no process 4194304"));
    let mut zombie = Command::new("true").spawn().expect("true runs");
    let status = format!("/proc/{}/status", zombie.id());
    while !fs::read_to_string(&status).expect("it was not waited for").contains("State:\tZ") {
        std::thread::yield_now();
    }
    let message = refused(&zombie.id().to_string());
    assert!(message.contains("zombie"), "{message}");
    zombie.wait().expect("it has ended");
    // A thread also has a directory in `/proc`, but `/proc` does not list it.
    let tid = rustix::thread::gettid().as_raw_pid();
    let message = refused(&tid.to_string());
    assert!(message.contains(&format!("thread of process {}", std::process::id())), "{message}");
}

#[test]
fn user_ids_must_be_valid() {
    let record = |uid: &str| {
        pmon(&["record", &format!("--uid={uid}"), "--for", "1ms", "-o", "/nosuch/x"]).expect(2).err
    };
    assert!(record("4294967295").contains("is no user id"));
    for uid in ["nobody", "-1", "4294967296", "", "0,"] {
        assert!(record(uid).contains("--uid"), "{uid}");
    }
    let many = (0..17).map(|uid| uid.to_string()).collect::<Vec<_>>().join(",");
    assert!(record(&many).contains("16 users"));
}

#[test]
fn sizes_beyond_the_memory_are_refused_before_recording() {
    let dir = Dir::new();
    let record = |options: &[&str], limit: Option<u64>| {
        let mut command = command(&["record", "--for", "1ms", "-o", &arg(&dir.path("x.pmon"))]);
        command.args(options).stdin(Stdio::null());
        if let Some(limit) = limit {
            crate::sys::limit_address_space(&mut command, limit);
        }
        run(command)
    };
    for (size, limit) in [("8G", 2_000_000 << 10), ("1G", 1 << 30), ("63G", 16 << 30)] {
        let ran = record(&["--buffer", size], Some(limit)).expect(6);
        assert!(ran.err.contains("of --buffer") && ran.err.contains("ulimit -v"), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    // The command line refuses sizes that no machine can have.
    for option in ["--buffer", "--ring", "--socket-buffer", "--require-buffer", "--args-max"] {
        for size in
            ["64G", "18446744073709551615", "18446744073709551616", "17179869184G", "9223372036854775807"]
        {
            let ran = record(&[option, size], None).expect(2);
            assert!(ran.err.contains(option), "{}", ran.err);
        }
    }
    assert!(record(&["--ring", "3G"], None).expect(2).err.contains("2G"));
    assert!(dir.is_empty());
}

/// Execs and exits below two forks that did not exec. Process 10 forks 20, which forks 21, which
/// starts 22; process 5 starts 30.
fn execs_and_exits() -> Vec<u8> {
    use pmon_core::capture::{Record, ScopeInfo};
    let of = |record, ppid: u32| {
        let Record::Details(mut details) = record else { unreachable!("details") };
        details.ppid = Some(ppid);
        Record::Details(details)
    };
    let ended = |us, seq, pid: u32, parent: u32| {
        let task = |pid| pmon_core::Task::new(pid, pid);
        let parent = Some(task(parent));
        event(us, 0, seq, pmon_core::wire::EventBody::Exit { task: task(pid), code: 0, signal: 17, parent })
    };
    let records = [
        Record::Scope(ScopeInfo { text: "exec, exit".into() }),
        scanned(1, 0, "init"),
        scanned(5, 1, "bash"),
        scanned(10, 5, "sh"),
        scan_end(),
        exec(1, 1, 22),
        of(details(1, 22, "inner", b"inner\0"), 21),
        exec(2, 2, 30),
        of(details(2, 30, "other", b"other\0"), 5),
        ended(3, 3, 22, 21),
        ended(4, 4, 21, 20),
        ended(5, 5, 20, 10),
        ended(6, 6, 30, 5),
        end(7, 6),
    ];
    capture(&records, 100)
}

#[test]
fn a_tree_includes_processes_below_an_unrecorded_fork() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &execs_and_exits());
    let seqs = |ran: &RunOutput| -> Vec<u64> {
        ran.json_lines().iter().filter_map(|line| line["seq"].as_u64()).collect()
    };
    let print = ["print", &file, "--tree", "10", "--format", "json"];
    let ran = pmon(&print).expect(0);
    assert_eq!(
        (seqs(&ran), ran.err.as_str()),
        (vec![1, 3, 4, 5], "incomplete: recorded were only exec, exit\n")
    );
    let again = arg(&dir.path("again.pmon"));
    pmon(&["replay", &file, "--tree", "10", "--record", &again]).expect(0);
    assert_eq!(
        pmon(&["print", &again, "--format", "json", "--kind", "exec,exit"]).expect(0).json_lines().len(),
        4
    );
    // A capture that can be read only once does not show the exits in time, which the output
    // states.
    let ran =
        pmon_with_input(&["print", "-", "--tree", "10", "--format", "json"], &execs_and_exits()).expect(0);
    assert_eq!(seqs(&ran), [5]);
    assert!(ran.err.contains("the tree may lack 2 processes"), "{}", ran.err);
}

#[test]
fn a_recording_of_execs_and_exits_has_the_tree_of_its_command() {
    use crate::live::can_record;
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let script = "( ( /bin/true inner; : ); : ); /bin/true outer";
    let ran = pmon(&["record", "--only", "exec,exit", "-o", &file, "--", "sh", "-c", script]);
    if ran.code == Some(6) {
        return skip(&ran.err);
    }
    let ran = ran.expect(0);
    let proposed = ran.err.split("--tree ").nth(1).expect("a command is proposed");
    let root = proposed.split_whitespace().next().expect("a process");
    let lines = pmon(&["print", &file, "--tree", root, "--kind", "exec"]).expect(0).out;
    for word in ["inner", "outer"] {
        assert!(lines.contains(&format!("/true {word}")), "{lines}");
        assert!(ran.err.contains(&format!("/true {word}")), "{}", ran.err);
    }
    let exits = pmon(&["print", &file, "--tree", root, "--kind", "exit"]).expect(0).out;
    assert_eq!(exits.matches("  exit  ").count(), 5, "{exits}");
}

/// Subscribes to process events, and unsubscribes, this many times in all.
fn subscribe_and_unsubscribe(times: u32) {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(CONNECTOR));
    let socket = socket.expect("a netlink socket");
    for number in 0..times {
        let operation = if number % 2 == 0 { SubscribeOp::Listen } else { SubscribeOp::Ignore };
        let request = SubscribeRequest::new(operation, number).encode(0, ByteOrder::NATIVE);
        send(&socket, &request, SendFlags::empty()).expect("the kernel takes the request");
    }
}

#[test]
fn a_limited_recording_excludes_acknowledgements_of_other_listeners() {
    if !needs(&[Need::Recording(&["--tree", "1"])]) {
        return;
    }
    let dir = Dir::new();
    let (file, started) = (arg(&dir.path("x.pmon")), dir.path("started"));
    let mut recorder = command(&["record", "--tree", "-o", &file, "--", "sh", "-c"]);
    recorder.args(["touch \"$0\"; sleep 1", &arg(&started)]).stderr(Stdio::piped());
    let recorder = start(recorder);
    while !started.exists() {
        std::thread::yield_now();
    }
    subscribe_and_unsubscribe(2_000);
    RunOutput::new(recorder.wait_with_output().expect("pmon ends")).expect(0);
    let info = pmon(&["info", "--json", &file]).expect(0).json();
    assert_eq!(info["verdict"], "complete", "{info}");
    let acks = info["events"]["by_kind"]["ack"].as_u64().expect("a number");
    assert!((1..10).contains(&acks), "{acks}");
    assert!(info["left_out"].as_u64() >= Some(2_000), "{info}");
    let programs = pmon(&["print", &file, "--kind", "exec"]).expect(0).out;
    assert!(programs.contains("sleep 1"), "{programs}");
}

#[test]
fn too_few_open_files_are_refused_before_a_file_is_created() {
    let dir = Dir::new();
    let file = dir.path("a.pmon");
    let mut shell = std::process::Command::new("sh");
    let script = r#"ulimit -n 40; exec "$0" record --for 1ms -o "$1""#;
    shell.args(["-c", script, env!("CARGO_BIN_EXE_pmon")]).arg(&file);
    let ran = run(shell).expect(6);
    assert!(ran.err.contains("at most 40 open files") && ran.err.contains("ulimit -n"), "{}", ran.err);
    assert!(!file.exists() && !dir.path("a.pmon.partial").exists());
}
