//! The details and the resource usage of simulated processes.

use oorandom::Rand32;
use pmon_core::capture::{
    Credentials, Details, DetailsSubject, FatalSignal, MissReason, ProcessContext, ProcessState, Usage,
};
use pmon_core::{MonoNs, Tgid};
use pmon_fake::FakeProcess;

use super::actors::Actor;
use super::programs::LOGIN_USER;

/// Clock ticks per second, the unit of start times.
pub(super) const TICKS_PER_SECOND: u64 = 100;
/// Inode number of the initial PID namespace.
const PID_NAMESPACE: u32 = 4_026_531_836;
/// Lowest inode number of a cgroup.
const CGROUP: u64 = 4000;

/// Converts a time to clock ticks since boot.
pub(super) fn ticks(time: MonoNs) -> u64 {
    time.0 / (1_000_000_000 / TICKS_PER_SECOND)
}

/// Overwrites `details`, and reuses its memory.
pub(super) fn describe(
    details: &mut Details,
    subject: DetailsSubject,
    (actor, process): (&Actor, &FakeProcess),
    parent_started: MonoNs,
) {
    let is_exec = matches!(subject, DetailsSubject::Exec { .. });
    details.subject = subject;
    details.miss = None;
    details.ppid = Some(process.parent.0);
    details.start_ticks = Some(ticks(actor.started));
    details.parent_start_ticks = is_exec.then_some(ticks(parent_started));
    let ((uid, euid), (gid, egid)) = (process.uid, process.gid);
    details.ids = Some(Credentials { uid, euid, gid, egid });
    let comm = process.comm(actor.task.tid).unwrap_or_default();
    put(&mut details.comm, comm.as_bytes());
    put(&mut details.exe, process.exe.as_bytes());
    put(&mut details.cwd, actor.program.cwd.as_bytes());
    put(&mut details.cgroup, actor.service.cgroup.as_bytes());
    put(&mut details.args, process.cmdline.as_bytes());
    // A scan cannot read the file name that was passed to exec.
    if is_exec {
        put(&mut details.filename, process.exe.as_bytes());
    } else {
        details.filename = None;
    }
    details.context = is_exec.then(|| context(actor, process));
}

fn context(actor: &Actor, process: &FakeProcess) -> ProcessContext {
    let logged_in = process.uid.0 == LOGIN_USER;
    ProcessContext {
        session: process.session.0,
        group: process.session.0,
        login_uid: if logged_in { LOGIN_USER } else { u32::MAX },
        cgroup: CGROUP + u64::from(number(actor.service.cgroup)),
        pid_namespace: PID_NAMESPACE,
        pid: actor.task.tgid.0,
    }
}

/// Returns a hash of a text.
fn number(text: &str) -> u16 {
    text.bytes().fold(0, |sum: u16, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
}

fn put(field: &mut Option<Vec<u8>>, bytes: &[u8]) {
    let field = field.get_or_insert_default();
    field.clear();
    field.extend_from_slice(bytes);
}

/// Creates empty details, whose memory is reused.
pub(super) fn blank() -> Box<Details> {
    Box::new(Details::missed(DetailsSubject::Snapshot { tgid: Tgid(0) }, MissReason::Gone))
}

/// Generates the usage of a task from `started` until `now`, including memory if it is a process.
/// `threads` is the number of threads still running, `process` the state of the process.
pub(super) fn usage(
    random: &mut Rand32,
    (started, now): (MonoNs, MonoNs),
    is_process: bool,
    threads: u32,
    process: ProcessState,
) -> Usage {
    let lived_us = (now.0.saturating_sub(started.0) / 1_000).min(1_000_000) as u32;
    let noise = random.rand_u32();
    // Between 0 and 100 % of the lifetime, most often little.
    let cpu_us = u64::from(lived_us) * u64::from(noise & 0xff) / 256 * u64::from(noise >> 8 & 0xff) / 256;
    let tick_us = 1_000_000 / TICKS_PER_SECOND;
    let in_ticks = cpu_us / tick_us * tick_us;
    let (rss, faults) =
        if is_process { (1_600 + (noise >> 16 & 0xfff), 90 + (noise >> 20)) } else { (0, noise >> 28) };
    Usage {
        start_ticks: ticks(started),
        cpu_us,
        user_us: in_ticks,
        system_us: 0,
        max_rss_kib: rss.into(),
        minor_faults: faults.into(),
        major_faults: u64::from(noise & 0x1f == 0),
        read_bytes: if noise & 0x1f == 0 { 4096 * u64::from(1 + (noise >> 27)) } else { 0 },
        write_bytes: if noise & 0x20f == 0 { 4096 } else { 0 },
        threads,
        at_least: false,
        process,
        process_cpu_us: if matches!(process, ProcessState::Ended { .. }) { cpu_us } else { 0 },
        fatal_signal: FatalSignal::default(),
    }
}
