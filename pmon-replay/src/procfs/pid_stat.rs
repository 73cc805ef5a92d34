//! `/proc/<pid>/stat` (`proc_pid_stat(5)`).

use super::task_view::{Kind, Shown};

/// Flags of tasks (`include/linux/sched.h`): of one that runs a program; of one that has ended; of a kernel thread that runs for ever.
const PF_RANDOMIZE: u32 = 0x0040_0000;
const PF_EXITING: u32 = 0x0000_0004;
const PF_KTHREAD: u32 = 0x0020_0000;
/// `RLIM_INFINITY`.
const INFINITE: u64 = u64::MAX;
const SIGCHLD: i32 = 17;

/// Its 52 fields and the newline. The name stands there as it is, with spaces and parentheses.
pub(super) fn stat(task: &Shown<'_>) -> Vec<u8> {
    let (state, flags) = match task.kind() {
        Kind::User => ('S', PF_RANDOMIZE),
        Kind::Kernel => ('S', PF_KTHREAD),
        Kind::Zombie => ('Z', PF_RANDOMIZE | PF_EXITING),
    };
    let (group, session) = (task.group(), task.session());
    let mut stat = format!("{} (", task.tid).into_bytes();
    stat.extend_from_slice(task.name());
    // No terminal is known, nor what children have used.
    let head = format!(") {state} {} {group} {session} 0 -1 {flags}", task.ppid());
    let used = task.usage();
    let (user, system) = (task.ticks(used.user_us), task.ticks(used.system_us));
    let used = format!(" {} 0 {} 0 {user} {system} 0 0", used.minor_faults, used.major_faults);
    // Priority and nice value are the usual ones; neither size nor addresses are known.
    let middle = format!(" 20 0 {} 0 {} 0 0 {INFINITE} 0 0 0 0 0", task.threads(), task.start_ticks());
    let exit_signal = if task.is_first() { SIGCHLD } else { -1 };
    // Signals, `wchan`, two that are 0 since Linux 2.4; processor, policy, delays, guest times, addresses.
    let tail = format!(" 0 0 0 0 0 0 0 {exit_signal} 0 0 0 0 0 0 0 0 0 0 0 0 0");
    let exit = if task.is_first() { task.life.exit.unwrap_or(0) } else { 0 };
    stat.extend_from_slice(format!("{head}{used}{middle}{tail} {exit}\n").as_bytes());
    stat
}
