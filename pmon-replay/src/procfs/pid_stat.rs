//! The content of `/proc/<pid>/stat` (`proc_pid_stat(5)`).

use super::task_view::{TaskKind, TaskView};

/// Flag of a task that runs a program (`include/linux/sched.h`).
const PF_RANDOMIZE: u32 = 0x0040_0000;
/// Flag of an exited task.
const PF_EXITING: u32 = 0x0000_0004;
/// Flag of a kernel thread.
const PF_KTHREAD: u32 = 0x0020_0000;
const RLIM_INFINITY: u64 = u64::MAX;
const SIGCHLD: i32 = 17;

/// Returns the 52 fields and a newline. The name is not escaped, and can contain spaces and
/// parentheses.
pub(super) fn stat(task: &TaskView<'_>) -> Vec<u8> {
    let (state, flags) = match task.kind() {
        TaskKind::User => ('S', PF_RANDOMIZE),
        TaskKind::Kernel => ('S', PF_KTHREAD),
        TaskKind::Zombie => ('Z', PF_RANDOMIZE | PF_EXITING),
    };
    let (group, session) = (task.group(), task.session());
    let mut stat = format!("{} (", task.tid).into_bytes();
    stat.extend_from_slice(task.name());
    // The terminal and the usage of the children are unknown.
    let head = format!(") {state} {} {group} {session} 0 -1 {flags}", task.ppid());
    let used = task.usage();
    let (user, system) = (task.ticks(used.user_us), task.ticks(used.system_us));
    let used = format!(" {} 0 {} 0 {user} {system} 0 0", used.minor_faults, used.major_faults);
    // Priority and nice value are the defaults; sizes and addresses are unknown.
    let middle = format!(" 20 0 {} 0 {} 0 0 {RLIM_INFINITY} 0 0 0 0 0", task.threads(), task.start_ticks());
    let exit_signal = if task.is_first() { SIGCHLD } else { -1 };
    // Signals, `wchan`, two fields that are 0 since Linux 2.4; then processor, policy, delays,
    // guest times and addresses.
    let tail = format!(" 0 0 0 0 0 0 0 {exit_signal} 0 0 0 0 0 0 0 0 0 0 0 0 0");
    let exit = if task.is_first() { task.process.exit.unwrap_or(0) } else { 0 };
    stat.extend_from_slice(format!("{head}{used}{middle}{tail} {exit}\n").as_bytes());
    stat
}
