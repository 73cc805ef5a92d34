//! Calls about processes, by their ids.

use std::fs;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::supervisor::{Answer, Supervisor};
use crate::sys::Notification;
use crate::tracee::{Memory, stat_of};
use crate::world::ProcessView;

/// `IOPRIO_WHO_PROCESS`.
const IOPRIO_PROCESS: u64 = 1;
/// 20 less a nice value of 0.
const PRIORITY: i64 = 20;

pub(crate) fn is_about_process(nr: i64) -> bool {
    matches!(
        nr,
        libc::SYS_kill
            | libc::SYS_rt_sigqueueinfo
            | libc::SYS_pidfd_open
            | libc::SYS_pidfd_send_signal
            | libc::SYS_getpgid
            | libc::SYS_getsid
            | libc::SYS_getpriority
            | libc::SYS_ioprio_get
            | libc::SYS_sched_getscheduler
            | libc::SYS_sched_getparam
            | libc::SYS_sched_getaffinity
            | libc::SYS_sched_setaffinity
            | libc::SYS_prlimit64
    )
}

impl Supervisor {
    /// Answers a call about a process of the fake kernel's; the others are made. Nothing reaches those: what has happened stays. What
    /// is not recorded of them is as for any process of which nobody has changed it.
    pub(crate) fn about_process(&mut self, procs: &dyn ProcessView, notification: &Notification) -> Answer {
        let [first, second, third, fourth, ..] = notification.data.args;
        let nr = i64::from(notification.data.nr);
        if (nr, first as i32) == (libc::SYS_kill, 0) {
            return Answer::Give(self.signal_group(notification.pid, second as i32));
        }
        if nr == libc::SYS_pidfd_send_signal
            && let Some(is_there) = self.finds_by_pidfd(notification.pid, first as u32)
        {
            return Answer::Give(if is_there { Ok(0) } else { Err(Errno::SRCH) });
        }
        let of_folder = self.id_of_folder(notification);
        let Some(tree) = &self.tree else { return Answer::Make };
        let id = match nr {
            libc::SYS_getpriority if first == u64::from(libc::PRIO_PROCESS) => second as i32,
            libc::SYS_ioprio_get if first == IOPRIO_PROCESS => second as i32,
            libc::SYS_getpriority | libc::SYS_ioprio_get => return Answer::Make,
            libc::SYS_pidfd_send_signal => of_folder.unwrap_or(0) as i32,
            _ => first as i32,
        };
        if id <= 0 || tree.is_own(id as u32) {
            return Answer::Make;
        }
        let Some(facts) = procs.task(id as u32) else { return Answer::Give(Err(Errno::SRCH)) };
        if nr == libc::SYS_pidfd_open {
            return self.open_pidfd(procs, &facts, notification);
        }
        let memory = Memory(notification.pid);
        let answer = match nr {
            libc::SYS_getpgid => Ok(facts.group.into()),
            libc::SYS_getsid => Ok(facts.session.into()),
            libc::SYS_getpriority => Ok(PRIORITY),
            libc::SYS_sched_getparam => memory.write(second, &[0; 4]).map(|()| 0),
            libc::SYS_sched_getaffinity => write_cpus(memory, third, second as usize),
            // No limit, neither soft nor hard.
            libc::SYS_prlimit64 if fourth != 0 => memory.write(fourth, &[0xFF; 16]).map(|()| 0),
            _ => Ok(0),
        };
        Answer::Give(answer)
    }
}

impl Supervisor {
    /// Sends a signal to all that are in a task's process group and are the program's.
    fn signal_group(&self, task: u32, signal: i32) -> Result<i64, Errno> {
        if signal == 0 {
            return Ok(0);
        }
        let signal = Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
        let group = group_of(task)?;
        let members =
            self.processes().into_iter().filter(|&process| group_of(process) == Ok(group)).collect();
        self.send(signal, members).map(|()| 0)
    }

    /// The process whose folder in `/proc` is open, which is as good as a file descriptor of it.
    fn id_of_folder(&mut self, notification: &Notification) -> Option<u32> {
        if i64::from(notification.data.nr) != libc::SYS_pidfd_send_signal {
            return None;
        }
        let (task, fd) = (notification.pid, notification.data.args[0] as u32);
        if self.tasks.stat(task, fd).ok()?.st_dev != self.tree.as_ref()?.device {
            return None;
        }
        let path = String::from_utf8(self.tasks.path(task, fd).ok()?).ok()?;
        path.strip_prefix("/proc/")?.parse().ok()
    }
}

/// A process's group, by its id here.
fn group_of(process: u32) -> Result<u32, Errno> {
    stat_of(process).and_then(|stat| stat.split(' ').nth(2)?.parse().ok()).ok_or(Errno::SRCH)
}

/// All CPUs, as a mask of so many bytes at the most; how many it has.
fn write_cpus(memory: Memory, at: u64, room: usize) -> Result<i64, Errno> {
    let online = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = online.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    let count = last.unwrap_or(0) + 1;
    let mut mask = vec![0_u8; count.div_ceil(64) * 8];
    (0..count).for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
    if room < mask.len() {
        return Err(Errno::INVAL);
    }
    memory.write(at, &mask)?;
    Ok(mask.len() as i64)
}
