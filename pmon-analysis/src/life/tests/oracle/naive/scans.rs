//! Applies details to the table: those of execs, and those of scans.

use pmon_core::capture::Details;

use super::{NaiveProgram, NaiveTable, ticks};

impl NaiveTable {
    /// Whether the kernel's start time shows that this is another process.
    pub(super) fn is_other(&self, n: usize, start: Option<u64>) -> bool {
        let life = &self.lives[n];
        match (start, life.ticks, life.forked) {
            (Some(start), Some(known), _) => known.abs_diff(start) > 1,
            (Some(start), None, Some(forked)) => start > ticks(forked) + 1,
            _ => false,
        }
    }

    pub(super) fn exec_details(&mut self, pid: u32, time: u64, details: &Details) {
        let found = self.lives.iter().flat_map(|life| &life.execs).rfind(|exec| exec.0 == time);
        let Some(&(_, program)) = found else { return };
        let of = self.open(pid).filter(|&n| self.lives[n].execs.last() == Some(&(time, program)));
        if let Some(n) = of.filter(|&n| self.is_other(n, details.start_ticks)) {
            // The exec was of a process whose fork was lost.
            let comm = self.lives[n].comm.clone();
            let life = &mut self.lives[n];
            life.execs.pop();
            life.comm = None;
            self.programs.push(NaiveProgram { is_known: true, ..NaiveProgram::default() });
            life.program = life.execs.last().map_or(self.programs.len() - 1, |exec| exec.1);
            let n = self.add(pid);
            let life = &mut self.lives[n];
            (life.first, life.program, life.comm) = (time, program, comm);
            life.first_ticks = details.start_ticks;
            (life.last_event, life.execs) = (time, vec![(time, program)]);
        }
        let before = self.programs[program].clone();
        self.programs[program] = NaiveProgram {
            comm: details.comm.clone(),
            cwd: details.cwd.clone().or(before.cwd),
            args: details.args.clone(),
            is_known: true,
        };
        let current = |&n: &usize| self.lives[n].execs.last().is_some_and(|exec| exec.0 == time);
        let Some(n) = self.open(pid).filter(current) else { return };
        let life = &mut self.lives[n];
        let [uid, gid, session, parent] = life.changed;
        if let Some(ids) = details.ids {
            life.uid = life.uid.filter(|_| uid).or(Some((ids.uid, ids.euid)));
            life.gid = life.gid.filter(|_| gid).or(Some((ids.gid, ids.egid)));
        }
        if let Some(context) = details.context {
            life.session = life.session.filter(|_| session).or(Some(context.session));
            life.group = life.group.filter(|_| session).or(Some(context.group));
        }
        life.ticks = life.ticks.or(details.start_ticks);
        if let Some(ppid) = details.ppid.filter(|_| !parent) {
            self.set_ppid(n, ppid);
        }
    }

    pub(super) fn scanned(&mut self, pid: u32, details: &Details) {
        self.scanned.push(pid);
        if let Some(n) = self.open(pid).filter(|&n| self.is_other(n, details.start_ticks)) {
            self.close(n);
        }
        let is_new = self.open(pid).is_none();
        // The scan can have read a process that has ended since.
        let has_ended = self.exits.iter().rfind(|exit| exit.0 == pid).is_some_and(|&(_, time, is_sure)| {
            details.start_ticks.is_some_and(|start| start * 10_000_000 <= time + 5_000_000_000)
                && (is_sure || details.threads == Some(1))
        });
        if is_new && has_ended {
            return;
        }
        let n = self.open_or_add(pid);
        let scan = self.scan;
        let losses = self.losses;
        let life = &mut self.lives[n];
        if is_new {
            (life.is_only_scanned, life.first_ticks) = (true, details.start_ticks);
        }
        life.last_scan = scan;
        let comm = self.comm(n).map(<[u8]>::to_vec);
        self.fill_program(n, details);
        let life = &mut self.lives[n];
        if life.has_first_exited {
            return;
        }
        if details.threads == Some(1) && !life.threads.iter().any(|thread| thread.is_forked) {
            life.era = Some(losses);
        }
        life.uid = life.uid.or(details.ids.map(|ids| (ids.uid, ids.euid)));
        life.gid = life.gid.or(details.ids.map(|ids| (ids.gid, ids.egid)));
        life.session = life.session.or(details.context.map(|of| of.session));
        life.group = life.group.or(details.context.map(|of| of.group));
        life.ticks = life.ticks.or(details.start_ticks);
        if comm.is_none() {
            self.lives[n].comm = details.comm.clone();
        }
        if let (None, Some(ppid)) = (self.lives[n].ppid, details.ppid) {
            self.set_ppid(n, ppid);
        }
    }

    /// Fills the program of a process. Children that share it do not get this.
    fn fill_program(&mut self, n: usize, details: &Details) {
        let known = self.program(n).clone();
        if known.is_known && known.args.is_none() {
            self.programs.push(NaiveProgram {
                comm: details.comm.clone(),
                cwd: details.cwd.clone().or(known.cwd),
                args: details.args.clone(),
                is_known: true,
            });
            self.lives[n].program = self.programs.len() - 1;
        }
    }

    pub(super) fn end_scan(&mut self, started: u64, processes: u32) {
        let scan = self.scan;
        self.scan += 1;
        let scanned = std::mem::take(&mut self.scanned);
        if scanned.len() == processes as usize {
            for n in 0..self.lives.len() {
                let life = &self.lives[n];
                let is_gone = life.is_open && life.last_scan != scan && life.last_event < started;
                if is_gone && self.zombie != Some(n) {
                    self.lives[n].is_swept = true;
                    self.close(n);
                }
            }
        }
        // The parents of the processes that are older than the recording.
        let mut links = scanned;
        while let Some(pid) = links.pop() {
            let Some(n) = self.open(pid).filter(|&n| self.lives[n].creator.is_none()) else { continue };
            let parent = self.lives[n].ppid.and_then(|ppid| self.open(ppid));
            self.lives[n].creator = parent;
            links.extend(parent.map(|parent| self.lives[parent].pid));
        }
    }
}
