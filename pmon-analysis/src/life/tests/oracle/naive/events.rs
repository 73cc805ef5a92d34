//! Applies events to the table.

use pmon_core::capture::{ProcessState, Usage};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Task};

use super::{NaiveEnd, NaiveProgram, NaiveTable, NaiveThread, ticks};

impl NaiveTable {
    pub(super) fn event(&mut self, event: &Event, usage: Option<&Usage>) {
        let MonoNs(time) = event.time;
        self.now = self.now.max(time);
        if let Some(zombie) = self.zombie {
            let pid = self.lives[zombie].pid;
            let is_same = match event.body {
                EventBody::Exec { task } => task.tgid.0 == pid,
                EventBody::Exit { task, .. } => task.tgid.0 == pid && task.is_leader(),
                _ => false,
            };
            if !is_same {
                self.close(zombie);
            }
        }
        match event.body {
            EventBody::Fork { parent, child } if child.is_leader() => self.fork(time, parent, child.tgid.0),
            EventBody::Fork { parent, child } => self.start_thread(parent, child),
            EventBody::Exec { task } => {
                let n = self.open_or_add(task.tgid.0);
                self.exec(n, time);
            }
            EventBody::Comm { task, comm } => {
                let n = self.named(task);
                let comm = Some(comm.as_bytes().to_vec());
                let life = &mut self.lives[n];
                match life.threads.iter_mut().find(|thread| thread.tid == task.tid.0) {
                    _ if task.is_leader() => life.comm = comm,
                    Some(thread) => thread.comm = comm,
                    None => {}
                }
            }
            EventBody::Uid { task, real, effective } => {
                let n = self.named(task);
                if task.is_leader() {
                    self.lives[n].uid = Some((real, effective));
                    self.lives[n].changed[0] = true;
                }
            }
            EventBody::Gid { task, real, effective } => {
                let n = self.named(task);
                if task.is_leader() {
                    self.lives[n].gid = Some((real, effective));
                    self.lives[n].changed[1] = true;
                }
            }
            EventBody::Sid { task } => {
                let n = self.named(task);
                let life = &mut self.lives[n];
                (life.session, life.group) = (Some(task.tgid.0), Some(task.tgid.0));
                life.changed[2] = true;
            }
            EventBody::Ptrace { task, .. } => _ = self.named(task),
            EventBody::Exit { task, code, parent, .. } => self.exit(time, task, code, parent, usage),
            _ => {}
        }
    }

    /// Returns the process of a task that has an event, which shows that it has not exited.
    fn named(&mut self, task: Task) -> usize {
        let mut n = self.open_or_add(task.tgid.0);
        if task.is_leader() && self.lives[n].has_first_exited {
            // A process whose fork was lost.
            n = self.add(task.tgid.0);
        }
        self.lives[n].last_event = self.now;
        self.lives[n].is_only_scanned = false;
        let tid = task.tid.0;
        if !task.is_leader() && !self.lives[n].threads.iter().any(|thread| thread.tid == tid) {
            self.free(tid);
            self.orphan_unknown(tid);
            self.lives[n].threads.push(NaiveThread { tid, is_forked: false, comm: None });
        }
        n
    }

    /// A thread has an ID that only children named as their parent.
    fn orphan_unknown(&mut self, id: u32) {
        for child in self.lives.iter_mut().filter(|child| child.is_open && child.ppid == Some(id)) {
            (child.ppid, child.is_assumed) = (Some(1), true);
            child.changed[3] = true;
        }
    }

    fn fork(&mut self, time: u64, parent: Task, pid: u32) {
        let from = self.open_or_add(parent.tgid.0);
        self.lives[from].last_event = time;
        self.lives[from].is_only_scanned = false;
        // A scan can find a process before its fork event arrives.
        let is_found = |n: &usize| {
            let life = &self.lives[*n];
            life.is_only_scanned && life.ticks.is_some_and(|start| start.abs_diff(ticks(self.now)) <= 1)
        };
        let found = self.open(pid).filter(is_found);
        let scanned = self.open(pid).map(|n| &self.lives[n]).filter(|life| life.is_only_scanned);
        let last_scan = scanned.map_or(0, |life| life.last_scan);
        let n = self.add(pid);
        self.lives[n].last_scan = last_scan;
        if found.is_some() {
            self.closed.retain(|&n| Some(n) != found);
        }
        let of = self.lives[from].clone();
        // A thread that started before the details of the program arrived has the program's name.
        let thread = of.threads.iter().find(|thread| thread.tid == parent.tid.0);
        let has_program_name = |thread: &NaiveThread| {
            thread.is_forked && thread.comm.is_none() && !self.programs[of.program].is_known
        };
        let comm = match thread {
            Some(thread) if has_program_name(thread) => None,
            Some(thread) => thread.comm.clone().or(of.comm),
            None => of.comm,
        };
        let life = &mut self.lives[n];
        (life.forked, life.first, life.last_event) = (Some(time), time, time);
        (life.creator, life.program, life.comm) = (Some(from), of.program, comm);
        (life.uid, life.gid, life.session, life.group) = (of.uid, of.gid, of.session, of.group);
        life.era = Some(self.losses);
        if self.lives[from].is_open {
            self.lives[from].children += 1;
        } else {
            // The child has the ID of the last thread of its parent that was known to run. Its name
            // stays known.
            self.lives[n].comm = self.comm(n).map(<[u8]>::to_vec);
            self.programs.push(NaiveProgram { is_known: true, ..NaiveProgram::default() });
            self.lives[n].program = self.programs.len() - 1;
            self.lives[n].creator = None;
        }
        self.set_ppid(n, parent.tgid.0);
    }

    fn start_thread(&mut self, parent: Task, child: Task) {
        let n = self.named(child);
        let comm = self.comm(n).map(<[u8]>::to_vec);
        let life = &mut self.lives[n];
        life.started_threads += 1;
        if let Some(thread) = life.threads.iter_mut().find(|thread| thread.tid == child.tid.0) {
            (thread.is_forked, thread.comm) = (true, comm);
        }
        self.lives[n].changed[3] |= parent.tgid.0 != 0;
        self.set_ppid(n, parent.tgid.0);
    }

    fn exec(&mut self, n: usize, time: u64) {
        if self.zombie == Some(n) {
            self.zombie = None;
        }
        let cwd = self.program(n).cwd.clone();
        self.programs.push(NaiveProgram { cwd, ..NaiveProgram::default() });
        let life = &mut self.lives[n];
        life.program = self.programs.len() - 1;
        life.execs.push((time, life.program));
        (life.comm, life.changed, life.end) = (None, [false; 4], NaiveEnd::Running);
        (life.has_first_exited, life.has_other_threads, life.is_over) = (false, false, false);
        (life.last_exit, life.last_event, life.is_only_scanned) = (None, time, false);
        life.threads.clear();
    }

    fn exit(&mut self, time: u64, task: Task, code: u32, parent: Option<Task>, usage: Option<&Usage>) {
        let start = usage.map(|usage| usage.start_ticks).filter(|&start| start != 0);
        let n = match task.is_leader() {
            true => self.exiting(task.tgid.0, start),
            false => match self.open(task.tgid.0) {
                Some(n) => n,
                None => return,
            },
        };
        let losses = self.losses;
        let life = &mut self.lives[n];
        life.threads.retain(|thread| thread.tid != task.tid.0);
        life.last_event = self.now;
        if task.is_leader() {
            (life.has_first_exited, life.is_only_scanned) = (true, false);
        }
        // The status that the process has if this is its last exit.
        let status = match life.last_exit {
            Some((_, before)) if code & 0x7f != 0 && before & 0x7f == code & 0x7f => code | before & 0x80,
            Some((at, before)) if code == 0 && time.saturating_sub(at) < 1_000_000 => before,
            _ => code,
        };
        life.last_exit = Some((time, status));
        let state = usage.map_or(ProcessState::Unknown, |usage| usage.process_state(task.is_leader(), code));
        let is_alone = life.has_first_exited && !life.threads.iter().any(|thread| thread.is_forked);
        let end = match state {
            _ if life.is_over => None,
            ProcessState::Alive => None,
            ProcessState::Ended { status } => Some(Some(status)),
            ProcessState::Unknown if life.era != Some(losses) => Some(None),
            ProcessState::Unknown => is_alone.then_some(Some(status)),
        };
        let had_ended = matches!(life.end, NaiveEnd::Ended(_, Some(_)));
        match end {
            Some(Some(status)) => {
                life.is_over = true;
                life.has_first_exited = true;
                life.has_other_threads = false;
                life.threads.clear();
                if !had_ended {
                    life.end = NaiveEnd::Ended(time, Some(status));
                }
            }
            // It is unknown whether other threads run.
            Some(None) if task.is_leader() && !had_ended => life.end = NaiveEnd::Ended(time, None),
            Some(None) => {}
            None => life.has_other_threads |= task.is_leader() && self.zombie != Some(n),
        }
        if let Some(parent) = parent {
            self.lives[n].changed[3] |= parent.tgid.0 != 0;
            self.set_ppid(n, parent.tgid.0);
        }
        if self.has_no_thread(n) {
            self.zombie = Some(n);
            self.exits.push((task.tgid.0, self.now, matches!(end, Some(Some(_)))));
            self.orphan_children(n);
        }
        if matches!(end, Some(Some(_))) || matches!(end, Some(None)) && task.is_leader() {
            self.note_parent(n);
        }
    }

    /// Returns the process whose first thread exits, and which has this start time.
    fn exiting(&mut self, pid: u32, start: Option<u64>) -> usize {
        let known = self.open(pid).filter(|&n| !self.is_other(n, start));
        let n = known.unwrap_or_else(|| self.add(pid));
        self.lives[n].ticks = self.lives[n].ticks.or(start);
        if known.is_none() {
            self.lives[n].first_ticks = start;
        }
        n
    }
}
