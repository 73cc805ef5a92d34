//! Provokes each refusal of the ring that `docs/transport.md` lists. The error names the cause, the
//! recording continues with recvmmsg, and the capture states why.

use std::fs::File;
use std::process::Command;

use pmon_core::capture::{Reader, TransportInfo};

use crate::live::*;
use crate::support::*;
use crate::sys::{
    Denied, deny, drop_capabilities, limit_address_space, limit_locked_memory, pretend_old_kernel,
};

// Commands of `bpf(2)` (`linux/bpf.h`).
const MAP_CREATE: u32 = 0;
const PROG_LOAD: u32 = 5;
const RAW_TRACEPOINT_OPEN: u32 = 17;
// A socket option (`asm-generic/socket.h`).
const SO_ATTACH_BPF: u32 = 50;
// Capabilities (`linux/capability.h`).
const CAP_SYS_ADMIN: libc::c_ulong = 21;
const CAP_SYS_RESOURCE: libc::c_ulong = 24;
const CAP_PERFMON: libc::c_ulong = 38;
const CAP_BPF: libc::c_ulong = 39;

/// Returns whether the ring is available without restrictions; skips the test otherwise.
fn has_ring() -> bool {
    let dir = Dir::new();
    let file = arg(&dir.path("probe.pmon"));
    let ran = pmon(&["record", "--transport", "ring+details", "--for", "1ms", "-o", &file]);
    if ran.code != Some(0) {
        skip(&ran.err);
    }
    ran.code == Some(0)
}

fn bpf(command: Option<u32>, errno: i32) -> Denied {
    Denied { call: libc::SYS_bpf, argument: command.map(|command| (0, command)), errno }
}

/// Returns the error of a recording that requires the ring under these conditions.
#[track_caller]
fn refusal(prepare: impl FnOnce(&mut Command)) -> String {
    let dir = Dir::new();
    let mut command = command(&["record", "--transport", "ring", "--for", "1ms", "-o"]);
    command.arg(dir.path("x.pmon"));
    prepare(&mut command);
    let ran = run(command).expect(6);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(dir.is_empty());
    ran.err
}

/// Records with the default transport under these conditions, and returns the transport stored in
/// the capture.
#[track_caller]
fn record_with_fallback(prepare: impl FnOnce(&mut Command)) -> TransportInfo {
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let mut command = command(&["record", "--json", "-o", &file]);
    prepare(&mut command);
    command.args(["--", "true"]);
    run(command).expect(0);
    // The capture also has the events that the ring would have delivered.
    pmon(&["verify", &file]).expect(0);
    let execs = pmon(&["print", &file, "--kind", "exec"]).expect(0).out;
    assert!(execs.contains("exec"), "{execs}");
    let reader = Reader::open(File::open(&file).expect("the capture")).expect("it can be read");
    reader.header().expect("a header").meta.transport.clone()
}

#[test]
fn a_denied_system_call_is_not_reported_as_a_limit_or_missing_privilege() {
    if !has_ring() {
        return;
    }
    let attach = |errno| Denied { call: libc::SYS_setsockopt, argument: Some((2, SO_ATTACH_BPF)), errno };
    let filter = "a seccomp filter";
    for (denied, words) in [
        (bpf(None, libc::EPERM), ["bpf(2) is refused", filter]),
        (bpf(None, libc::EACCES), ["bpf(2) is refused", filter]),
        (bpf(None, libc::ENOSYS), ["no bpf(2)", filter]),
        (bpf(None, libc::EINVAL), ["nvalid argument", filter]),
        (bpf(Some(MAP_CREATE), libc::EPERM), ["bpf(2) is refused", filter]),
        (bpf(Some(MAP_CREATE), libc::ENOMEM), ["no memory for a ring of 16777216 bytes", "--ring"]),
        (bpf(Some(MAP_CREATE), libc::EMFILE), ["too many open files", "ulimit -n"]),
        (bpf(Some(PROG_LOAD), libc::EPERM), ["BPF_PROG_LOAD is refused", filter]),
        (attach(libc::EPERM), ["SO_ATTACH_BPF is refused", filter]),
        (attach(libc::ENOMEM), ["cannot attach the BPF program", "net.core.optmem_max"]),
        (attach(libc::EINVAL), ["cannot attach the BPF program", filter]),
    ] {
        let message = refusal(|command| deny(command, denied));
        assert!(words.iter().all(|word| message.contains(word)), "{denied:?}: {message}");
        assert!(!message.contains("locked memory") && !message.contains("missing"), "{denied:?}: {message}");
    }
}

#[test]
fn a_recording_with_fallback_is_complete_and_states_the_reason() {
    if !has_ring() {
        return;
    }
    let named = |prepare: &dyn Fn(&mut Command)| {
        let TransportInfo { name, why } = record_with_fallback(prepare);
        assert_eq!(name, "recvmmsg");
        why
    };
    let why = named(&|command| deny(command, bpf(None, libc::EPERM)));
    assert!(why.contains("seccomp") && !why.contains("locked memory"), "{why}");
    // A refusal at the last step must leave no filter on the socket.
    let why = named(&|command| {
        let argument = Some((2, SO_ATTACH_BPF));
        deny(command, Denied { call: libc::SYS_setsockopt, argument, errno: libc::EPERM });
    });
    assert!(why.contains("SO_ATTACH_BPF"), "{why}");
}

#[test]
fn a_recording_without_the_senders_of_signals_states_the_reason() {
    if !has_ring() {
        return;
    }
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let mut command = command(&["record", "-o", &file]);
    deny(&mut command, bpf(Some(RAW_TRACEPOINT_OPEN), libc::EPERM));
    command.args(["--", "true"]);
    let ran = run(command).expect(0);
    let start = "recording by ring+details, without the senders of signals: bpf(2) is refused";
    assert!(ran.err.contains(start), "{}", ran.err);
    let info = pmon(&["info", &file]).expect(0).out;
    assert!(info.contains("signals      without their senders: bpf(2) is refused"), "{info}");
    let info = pmon(&["info", "--json", &file]).expect(0).json();
    assert_eq!(info["signal_senders"], false);
    assert!(info["signal_senders_why"].as_str().is_some_and(|why| why.contains("seccomp")), "{info}");
    // A process that is killed has an unknown sender.
    let file = arg(&dir.path("y.pmon"));
    let ran = pmon(&["record", "-q", "--transport", "recvmmsg", "-o", &file, "--", "sh", "-c", "kill -9 $$"]);
    assert_ne!(ran.code, Some(0));
    let exits = pmon(&["print", "--kind", "exit", "--format", "json", &file]).expect(0).json_lines();
    let killed = exits.iter().find(|line| line["term_signal"] == 9).expect("a killed process");
    for unknown in ["oom_killed", "signal_origin", "signal_sender_pid"] {
        assert!(killed[unknown].is_null(), "{killed}");
    }
}

#[test]
fn only_the_missing_capability_is_named() {
    if !has_ring() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("only root has capabilities to give up");
    }
    let no_perfmon = refusal(|command| drop_capabilities(command, &[CAP_SYS_ADMIN, CAP_PERFMON]));
    assert!(no_perfmon.contains("CAP_PERFMON is missing") && !no_perfmon.contains("CAP_BPF"), "{no_perfmon}");
    let no_bpf = refusal(|command| drop_capabilities(command, &[CAP_SYS_ADMIN, CAP_BPF]));
    assert!(no_bpf.contains("CAP_BPF is missing") && !no_bpf.contains("CAP_PERFMON"), "{no_bpf}");
    let neither = refusal(|command| drop_capabilities(command, &[CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON]));
    assert!(neither.contains("CAP_BPF and CAP_PERFMON are missing"), "{neither}");
}

#[test]
fn limits_of_old_kernels_are_named_only_on_old_kernels() {
    if !has_ring() {
        return;
    }
    let old = |errno| {
        refusal(|command| {
            deny(command, bpf(Some(MAP_CREATE), errno));
            pretend_old_kernel(command);
            limit_locked_memory(command, 64 << 10);
            // With this capability, the limit would be raised.
            drop_capabilities(command, &[CAP_SYS_RESOURCE]);
        })
    };
    let locked = old(libc::EPERM);
    assert!(locked.contains("locked memory") && locked.contains("ulimit -l"), "{locked}");
    let no_map = old(libc::EINVAL);
    assert!(no_map.contains("they need Linux 5.8"), "{no_map}");
}

/// Returns `pmon record` in its own mount namespace, after `script`. The exit code is 77 if the
/// script fails.
fn in_own_mounts(script: &str, dir: &Dir) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("({script}) || exit 77; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_pmon")).args(["record", "--transport", "ring", "--for", "1ms", "-o"]);
    command.arg(dir.path("x.pmon")).env("NO_COLOR", "1");
    command
}

#[test]
fn missing_btf_and_lockdown_are_named() {
    if !has_ring() {
        return;
    }
    let dir = Dir::new();
    let no_types = "mount -t tmpfs none /sys/kernel/btf";
    let locked = "mount -t tmpfs none /sys/kernel/security && echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown";
    for (script, denied, word) in [
        (no_types, None, "no /sys/kernel/btf/vmlinux"),
        (locked, Some(bpf(Some(PROG_LOAD), libc::EPERM)), "locked down"),
    ] {
        let mut command = in_own_mounts(script, &dir);
        if let Some(denied) = denied {
            deny(&mut command, denied);
        }
        let ran = run(command);
        if ran.code == Some(77) || ran.err.starts_with("unshare:") {
            return skip(&format!("nothing can be mounted here: {}", ran.err));
        }
        let ran = ran.expect(6);
        assert!(ran.err.contains(word), "{}", ran.err);
    }
}

#[test]
fn a_ring_that_cannot_be_mapped_is_refused_and_removed() {
    if !has_ring() {
        return;
    }
    // The ring is mapped twice, which exceeds this limit; everything else fits.
    let limit = |command: &mut Command| {
        limit_address_space(command, 260 << 20);
        command.args(["--ring", "128M"]);
        // glibc would reserve 64 MiB of address space for each thread that allocates.
        command.env("MALLOC_ARENA_MAX", "1");
    };
    let message = refusal(limit);
    assert!(
        message.contains("cannot map a ring of 134217728 bytes") && message.contains("ulimit -v"),
        "{message}"
    );
    let transport = record_with_fallback(limit);
    assert_eq!(transport.name, "recvmmsg");
    assert!(transport.why.contains("cannot map a ring"), "{transport:?}");
}

#[test]
fn capabilities_of_a_user_namespace_do_not_count() {
    if !has_ring() {
        return;
    }
    let dir = Dir::new();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", env!("CARGO_BIN_EXE_pmon")]);
    command.args(["record", "--transport", "ring", "--for", "1ms", "-o"]).arg(dir.path("x.pmon"));
    let ran = run(command);
    if ran.err.starts_with("unshare:") {
        return skip(&ran.err);
    }
    let ran = ran.expect(6);
    assert!(ran.err.contains("user namespace") && !ran.err.contains("seccomp"), "{}", ran.err);
}
