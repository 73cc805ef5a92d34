//! What is known of processes besides their events: details and usage.

use oorandom::Rand32;
use pmon_core::capture::{
    Credentials, Details, DetailsSubject, MissReason, ProcessContext, ProcessState, Usage,
};
use pmon_core::{MonoNs, Tgid};
use pmon_fake::FakeProcess;

use super::TICKS;
use super::actors::Actor;

/// The inode numbers of the initial PID namespace, and of the first cgroup.
const PID_NAMESPACE: u32 = 4_026_531_836;
const CGROUP: u64 = 4000;

/// Clock ticks at that time.
pub(super) fn ticks(time: MonoNs) -> u64 {
    time.0 / (1_000_000_000 / TICKS)
}

/// Fills `details` anew, in the memory that it has.
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
    // Only where the kernel itself tells of an exec is this known.
    if is_exec {
        put(&mut details.filename, process.exe.as_bytes());
    } else {
        details.filename = None;
    }
    details.context = is_exec.then(|| context(actor, process));
}

fn context(actor: &Actor, process: &FakeProcess) -> ProcessContext {
    let logged_in = process.uid.0 == super::host::USER;
    ProcessContext {
        session: process.session.0,
        group: process.session.0,
        login_uid: if logged_in { super::host::USER } else { u32::MAX },
        cgroup: CGROUP + u64::from(number(actor.service.cgroup)),
        pid_namespace: PID_NAMESPACE,
        pid: actor.task.tgid.0,
    }
}

/// A number of that text.
fn number(text: &str) -> u16 {
    text.bytes().fold(0, |sum: u16, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
}

fn put(place: &mut Option<Vec<u8>>, bytes: &[u8]) {
    let place = place.get_or_insert_default();
    place.clear();
    place.extend_from_slice(bytes);
}

/// Details of nothing, as memory for others.
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
    // Between nothing and all of the time, most often little.
    let cpu_us = u64::from(lived_us) * u64::from(noise & 0xff) / 256 * u64::from(noise >> 8 & 0xff) / 256;
    let tick_us = 1_000_000 / TICKS;
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
    }
}
