//! Parses the files in `/proc/<pid>`.

use pmon_core::capture::Credentials;

/// `PF_KTHREAD` in a task's flags (`include/linux/sched.h`).
const PF_KTHREAD: u64 = 0x0020_0000;

/// Fields of `/proc/<pid>/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: Vec<u8>,
    /// State of the first thread, as a letter.
    state: u8,
    pub(super) ppid: u32,
    /// Process group and session, both 0 for kernel threads; `None` for a task that is about to
    /// disappear.
    pub(super) leaders: Option<(u32, u32)>,
    flags: u64,
    threads: u32,
    pub(super) start_ticks: u64,
}

impl Stat {
    /// Parses a line `pid (comm) state ppid ...`, where `comm` may have any bytes, such as spaces,
    /// parentheses and newlines.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|&byte| byte == b'(')?;
        let close = line.iter().rposition(|&byte| byte == b')')?;
        let comm = line.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        // Fields as `proc_pid_stat(5)` numbers them; `rest` begins with the third.
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
        let leader = |number| field(number)?.parse().ok();
        Some(Self {
            comm,
            state: *field(3)?.as_bytes().first()?,
            ppid: field(4)?.parse().ok()?,
            // A task whose parent has waited has -1 there.
            leaders: leader(5).zip(leader(6)),
            flags: field(9)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
        })
    }

    /// Returns the number of threads, including an exited first thread; `None` for a task that is
    /// about to disappear.
    pub(super) fn threads(&self) -> Option<u32> {
        Some(self.threads).filter(|&threads| threads != 0)
    }

    /// Whether all threads have exited. The first thread of a process can exit before others.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// Whether the process is a kernel thread.
    pub(super) fn is_kthread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }
}

/// Returns the real and effective ids in the lines `Uid:` and `Gid:` of `/proc/<pid>/status`.
pub(super) fn credentials(status: &[u8]) -> Option<Credentials> {
    let ids = |name| {
        let mut ids = numbers(status, name)?;
        Some((ids.next()?, ids.next()?))
    };
    let ((uid, euid), (gid, egid)) = (ids("Uid:")?, ids("Gid:")?);
    Some(Credentials { uid, euid, gid, egid })
}

/// Whether a debugger is attached, by the line `TracerPid:`.
pub(super) fn is_traced(status: &[u8]) -> bool {
    line(status, "TracerPid:").is_some_and(|tracer| tracer.trim_ascii() != b"0")
}

/// Returns the process id of a task, and whether the task is a zombie, by the lines `Tgid:` and
/// `State:`.
pub(super) fn process_of(status: &[u8]) -> Option<(u32, bool)> {
    let is_zombie = line(status, "State:")?.trim_ascii_start().starts_with(b"Z");
    Some((numbers(status, "Tgid:")?.next()?, is_zombie))
}

/// Returns the process's id in its own PID namespace, and the depth of that namespace below the one
/// of `/proc`, by the line `NSpid:`. `None` if the kernel has no PID namespaces.
pub(super) fn inner_pid(status: &[u8]) -> Option<(u32, usize)> {
    numbers(status, "NSpid:")?.enumerate().last().map(|(depth, pid)| (pid, depth))
}

/// Parses the number in a file, or in brackets in a link such as `pid:[NUMBER]`.
pub(super) fn number(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let number = text.split_once('[').map_or(text, |(_, number)| number.trim_end_matches(']'));
    number.parse().ok()
}

fn line<'a>(status: &'a [u8], name: &str) -> Option<&'a [u8]> {
    status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))
}

fn numbers(status: &[u8], name: &str) -> Option<impl Iterator<Item = u32>> {
    let line = std::str::from_utf8(line(status, name)?).ok()?;
    Some(line.split_ascii_whitespace().map_while(|number| number.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_spaces_parentheses_and_newlines() {
        let line = b"42 (a) b (c\n) R 7 41 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.comm, b"a) b (c\n");
        assert_eq!((stat.ppid, stat.flags, stat.start_ticks), (7, 4_194_560, 123_456));
        assert_eq!(stat.leaders, Some((41, 40)));
        assert_eq!(Stat::parse(b"42 (a) R 7"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn a_task_about_to_disappear_still_has_a_name_and_a_start_time() {
        let line = b"42 (a) X 0 -1 -1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 0 0 123456 0 0\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.leaders, stat.start_ticks), (None, 123_456));
        assert!(stat.has_ended());
    }

    #[test]
    fn a_process_ends_with_its_last_thread() {
        let stat = |state, threads| {
            let line = format!("42 (a) {state} 7 41 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {threads} 0 99 0\n");
            Stat::parse(line.as_bytes()).unwrap()
        };
        assert!(stat("Z", 1).has_ended() && !stat("Z", 2).has_ended() && !stat("S", 1).has_ended());
    }

    #[test]
    fn credentials_are_the_real_and_the_effective_ids() {
        let status = b"Name:\tUid: x\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        let expected = Credentials { uid: 1, euid: 2, gid: 5, egid: 6 };
        assert_eq!(credentials(status), Some(expected));
        assert_eq!(credentials(b"Uid:\t1\n"), None);
        assert!(is_traced(b"Name:\tx\nTracerPid:\t42\nUid:\t1\n"));
        assert!(!is_traced(b"Name:\tx\nTracerPid:\t0\nUid:\t1\n"));
    }

    #[test]
    fn a_task_belongs_to_a_process() {
        assert_eq!(process_of(b"Name:\tx\nState:\tS (sleeping)\nTgid:\t7\n"), Some((7, false)));
        assert_eq!(process_of(b"State:\tZ (zombie)\nTgid:\t8\n"), Some((8, true)));
        assert_eq!(process_of(b"Tgid:\t8\n"), None);
    }

    #[test]
    fn the_inner_pid_is_the_last_one() {
        assert_eq!(inner_pid(b"Pid:\t7\nNSpid:\t7\nNSpgid:\t6\n"), Some((7, 0)));
        assert_eq!(inner_pid(b"NSpid:\t70\t8\t1\n"), Some((1, 2)));
        assert_eq!(inner_pid(b"Pid:\t7\n"), None);
        assert_eq!(inner_pid(b"NSpid:\n"), None);
    }

    #[test]
    fn a_number_may_be_in_brackets() {
        assert_eq!(number(b"pid:[4026531836]"), Some(4_026_531_836));
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        assert_eq!(number(b"1000\n"), Some(1000));
        assert_eq!(number(b""), None);
    }
}
