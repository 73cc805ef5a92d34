//! The content of `/proc/<pid>/status` (`proc_pid_status(5)`).

use std::fmt::Write;

use super::task_view::{TaskKind, TaskView};

/// All capabilities of Linux 6.18.
const ALL_CAPS: u64 = 0x1ff_ffff_ffff;
/// Length of the mask of memory nodes (`MAX_NUMNODES`), in words of 32 bits.
const NODE_WORDS: usize = 32;
/// Labels of memory sizes, which are unknown.
const SIZES: &str = "VmPeak VmSize VmLck VmPin VmHWM VmRSS RssAnon RssFile RssShmem \
    VmData VmStk VmExe VmLib VmPTE VmSwap HugetlbPages";

/// Returns the lines of the file. Kernel threads and zombies have no memory lines.
pub(super) fn status(task: &TaskView<'_>) -> Vec<u8> {
    let mut status = b"Name:\t".to_vec();
    for &byte in task.name() {
        // The kernel escapes newlines and backslashes.
        match byte {
            b'\n' => status.extend_from_slice(b"\\n"),
            b'\\' => status.extend_from_slice(b"\\\\"),
            byte => status.push(byte),
        }
    }
    status.push(b'\n');
    status.extend_from_slice(text(task).as_bytes());
    status
}

fn text(task: &TaskView<'_>) -> String {
    let mut text = String::with_capacity(1536);
    let mut line = |label: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{label}:\t{value}");
    };
    let kind = task.kind();
    let (state, open_files) = match kind {
        TaskKind::Zombie => ("Z (zombie)", 0),
        _ => ("S (sleeping)", 64),
    };
    if kind != TaskKind::Zombie {
        line("Umask", &"0022");
    }
    line("State", &state);
    line("Tgid", &task.pid());
    line("Ngid", &0);
    line("Pid", &task.tid);
    line("PPid", &task.ppid());
    line("TracerPid", &task.process.tracer.map_or(0, |tracer| tracer.0));
    // Real, effective, saved and file system ID: the last two usually equal the effective ID.
    let ((uid, euid), (gid, egid)) = (task.uid(), task.gid());
    line("Uid", &format_args!("{uid}\t{euid}\t{euid}\t{euid}"));
    line("Gid", &format_args!("{gid}\t{egid}\t{egid}\t{egid}"));
    line("FDSize", &open_files);
    line("Groups", &' ');
    line("NStgid", &in_namespaces(task, task.pid()));
    line("NSpid", &in_namespaces(task, task.tid));
    line("NSpgid", &task.group());
    line("NSsid", &task.session());
    line("Kthread", &u8::from(kind == TaskKind::Kernel));
    if kind == TaskKind::User {
        for label in SIZES.split(' ') {
            line(label, &format_args!("{:>8} kB", 0));
        }
        line("CoreDumping", &0);
        line("THP_enabled", &1);
        line("untag_mask", &"0xffffffffffffffff");
    }
    line("Threads", &task.threads());
    line("SigQ", &"0/0");
    let ignored = if kind == TaskKind::Kernel { u64::MAX } else { 0 };
    let mask = |bits: u64| format!("{bits:016x}");
    for (label, bits) in [("SigPnd", 0), ("ShdPnd", 0), ("SigBlk", 0), ("SigIgn", ignored), ("SigCgt", 0)] {
        line(label, &mask(bits));
    }
    // The capabilities after an ordinary exec.
    let capable = if euid == 0 { ALL_CAPS } else { 0 };
    for (label, bits) in
        [("CapInh", 0), ("CapPrm", capable), ("CapEff", capable), ("CapBnd", ALL_CAPS), ("CapAmb", 0)]
    {
        line(label, &mask(bits));
    }
    line("NoNewPrivs", &0);
    line("Seccomp", &0);
    line("Seccomp_filters", &0);
    line("Speculation_Store_Bypass", &"unknown");
    line("SpeculationIndirectBranch", &"unknown");
    let cpus = task.meta.cpus_online.max(1);
    line("Cpus_allowed", &cpu_mask(cpus));
    match cpus {
        1 => line("Cpus_allowed_list", &0),
        cpus => line("Cpus_allowed_list", &format_args!("0-{}", cpus - 1)),
    }
    line("Mems_allowed", &format_args!("{}00000001", "00000000,".repeat(NODE_WORDS - 1)));
    line("Mems_allowed_list", &0);
    line("voluntary_ctxt_switches", &0);
    line("nonvoluntary_ctxt_switches", &0);
    text
}

/// Returns the IDs of a task in the initial and in its innermost PID namespace. The capture does
/// not record those in between.
fn in_namespaces(task: &TaskView<'_>, id: u32) -> String {
    match task.process.namespace_pid {
        Some(inner) if id == task.pid() && inner != id => format!("{id}\t{inner}"),
        _ => id.to_string(),
    }
}

/// Returns a mask of `cpus` ones, in words of 32 bits, the highest first.
fn cpu_mask(cpus: u32) -> String {
    let rest = cpus % 32;
    let words = (cpus / 32) as usize;
    let mut mask = vec!["ffffffff".to_owned(); words];
    if rest > 0 {
        let digits = rest.div_ceil(4) as usize;
        mask.insert(0, format!("{:0digits$x}", (1_u64 << rest) - 1));
    }
    mask.join(",")
}

#[cfg(test)]
mod tests {
    use super::cpu_mask;

    #[test]
    fn a_cpu_mask_has_no_leading_zeros() {
        assert_eq!(cpu_mask(1), "1");
        assert_eq!(cpu_mask(2), "3");
        assert_eq!(cpu_mask(12), "fff");
        assert_eq!(cpu_mask(32), "ffffffff");
        assert_eq!(cpu_mask(65), "1,ffffffff,ffffffff");
    }
}
