//! A slow and obvious process table: a list of all processes that ever were, searched from its
//! start for each record. It shares no code with the process model.

mod events;
mod scans;

use pmon_core::capture::{DetailsSubject, Record, RecordedDatagram};

/// A program, which a process shares with the children that it forks.
#[derive(Clone, Debug, Default)]
pub(super) struct NaiveProgram {
    pub(super) comm: Option<Vec<u8>>,
    pub(super) cwd: Option<Vec<u8>>,
    pub(super) args: Option<Vec<u8>>,
    pub(super) is_known: bool,
}

/// A thread other than the first.
#[derive(Clone, Debug)]
struct NaiveThread {
    tid: u32,
    /// Whether its fork was recorded.
    is_forked: bool,
    comm: Option<Vec<u8>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NaiveEnd {
    Running,
    /// Time, and the raw wait status if it is known.
    Ended(u64, Option<u32>),
    /// The process is gone, and its exit was not recorded.
    Gone,
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct NaiveLife {
    pub(super) pid: u32,
    /// Whether it has not been closed. At most one process with an ID is open.
    is_open: bool,
    pub(super) forked: Option<u64>,
    pub(super) ticks: Option<u64>,
    /// Start time, if the first record that names the process states it.
    pub(super) first_ticks: Option<u64>,
    /// Time of the first record that names it.
    pub(super) first: u64,
    last_event: u64,
    last_scan: u32,
    is_only_scanned: bool,
    /// The process that forked it.
    pub(super) creator: Option<usize>,
    pub(super) ppid: Option<u32>,
    /// Whether no event has named the process that adopted this one.
    pub(super) is_assumed: bool,
    /// The process to which `ppid` refers.
    pub(super) parent: Option<usize>,
    comm: Option<Vec<u8>>,
    program: usize,
    pub(super) uid: Option<(u32, u32)>,
    pub(super) gid: Option<(u32, u32)>,
    pub(super) session: Option<u32>,
    pub(super) group: Option<u32>,
    /// What has changed since the last exec: user, group, session, parent.
    changed: [bool; 4],
    /// Times of the execs, and the programs.
    pub(super) execs: Vec<(u64, usize)>,
    threads: Vec<NaiveThread>,
    pub(super) started_threads: u32,
    pub(super) children: u32,
    /// Whether the first thread has exited, and some others may run.
    has_first_exited: bool,
    has_other_threads: bool,
    /// Number of losses before which all threads of the process are known.
    era: Option<u64>,
    is_over: bool,
    last_exit: Option<(u64, u32)>,
    pub(super) end: NaiveEnd,
    /// Whether a scan did not find the process.
    pub(super) is_swept: bool,
}

/// The table.
#[derive(Default)]
pub(super) struct NaiveTable {
    pub(super) lives: Vec<NaiveLife>,
    pub(super) programs: Vec<NaiveProgram>,
    /// Numbers of the processes that have been closed, in this order.
    pub(super) closed: Vec<usize>,
    now: u64,
    losses: u64,
    scan: u32,
    scanned: Vec<u32>,
    /// The process that ended with the last event.
    zombie: Option<usize>,
    /// Process ID, time, and whether the process is known to have ended with it.
    exits: Vec<(u32, u64, bool)>,
}

/// Clock ticks of a time, for a boot 5 s before the start of the monotonic clock.
fn ticks(ns: u64) -> u64 {
    (ns + 5_000_000_000) / 10_000_000
}

impl NaiveTable {
    pub(super) fn of(records: &[Record<'_>]) -> Self {
        let mut table = Self { scan: 1, ..Self::default() };
        records.iter().for_each(|record| table.apply(record));
        table
    }

    /// Returns the processes that have not ended, in the order of their IDs.
    pub(super) fn running(&self) -> Vec<usize> {
        let mut open: Vec<_> = (0..self.lives.len())
            .filter(|&n| self.lives[n].is_open && self.zombie != Some(n) && !self.is_future(n))
            .collect();
        open.sort_by_key(|&n| self.lives[n].pid);
        open
    }

    /// Returns all processes in the order of the rows: those that ended come first.
    pub(super) fn rows(&self) -> Vec<usize> {
        let zombie = self.zombie.filter(|&n| self.lives[n].is_open);
        self.closed.iter().copied().chain(zombie).chain(self.running()).collect()
    }

    pub(super) fn comm(&self, n: usize) -> Option<&[u8]> {
        let life = &self.lives[n];
        life.comm.as_deref().or(self.program(n).comm.as_deref())
    }

    pub(super) fn program(&self, n: usize) -> &NaiveProgram {
        &self.programs[self.lives[n].program]
    }

    /// Whether only a scan has found the process, before its fork event.
    fn is_future(&self, n: usize) -> bool {
        let life = &self.lives[n];
        life.is_only_scanned && life.ticks.is_some_and(|start| start > ticks(self.now))
    }

    fn open(&self, pid: u32) -> Option<usize> {
        self.lives.iter().position(|life| life.is_open && life.pid == pid)
    }

    /// Adds a process of which nothing is known.
    fn add(&mut self, pid: u32) -> usize {
        self.free(pid);
        self.programs.push(NaiveProgram { is_known: true, ..NaiveProgram::default() });
        self.lives.push(NaiveLife {
            pid,
            is_open: true,
            forked: None,
            ticks: None,
            first_ticks: None,
            first: self.now,
            last_event: self.now,
            last_scan: 0,
            is_only_scanned: false,
            creator: None,
            ppid: None,
            is_assumed: false,
            parent: None,
            comm: None,
            program: self.programs.len() - 1,
            uid: None,
            gid: None,
            session: None,
            group: None,
            changed: [false; 4],
            execs: Vec::new(),
            threads: Vec::new(),
            started_threads: 0,
            children: 0,
            has_first_exited: false,
            has_other_threads: false,
            era: None,
            is_over: false,
            last_exit: None,
            end: NaiveEnd::Running,
            is_swept: false,
        });
        self.lives.len() - 1
    }

    fn open_or_add(&mut self, pid: u32) -> usize {
        self.open(pid).unwrap_or_else(|| self.add(pid))
    }

    /// A process or thread gets this ID, so that the one which had it has exited.
    fn free(&mut self, id: u32) {
        if let Some(n) = self.open(id) {
            self.close(n);
        }
        for n in 0..self.lives.len() {
            let life = &mut self.lives[n];
            let before = life.threads.len();
            life.threads.retain(|thread| thread.tid != id);
            if life.is_open && life.threads.len() < before && self.has_no_thread(n) {
                self.close(n);
            }
        }
    }

    fn has_no_thread(&self, n: usize) -> bool {
        let life = &self.lives[n];
        life.has_first_exited && life.threads.is_empty() && !life.has_other_threads
    }

    /// A process is gone.
    fn close(&mut self, n: usize) {
        self.note_parent(n);
        let life = &mut self.lives[n];
        life.is_open = false;
        life.threads.clear();
        if life.end == NaiveEnd::Running {
            life.end = NaiveEnd::Gone;
        }
        self.closed.push(n);
        if self.zombie == Some(n) {
            self.zombie = None;
        }
        self.orphan_children(n);
    }

    fn orphan_children(&mut self, n: usize) {
        let pid = self.lives[n].pid;
        for child in self.lives.iter_mut().filter(|child| child.is_open && child.ppid == Some(pid)) {
            child.ppid = (pid != 1 && child.pid != 1).then_some(1);
            child.is_assumed = child.ppid.is_some();
            child.changed[3] = true;
        }
    }

    /// Notes the identity of the parent.
    fn note_parent(&mut self, n: usize) {
        if let Some(parent) = self.lives[n].ppid.and_then(|ppid| self.open(ppid)) {
            self.lives[n].parent = Some(parent);
        }
    }

    fn set_ppid(&mut self, n: usize, ppid: u32) {
        // An ID that a thread has is that of no parent.
        let is_thread = self
            .lives
            .iter()
            .any(|life| life.is_open && life.threads.iter().any(|thread| thread.tid == ppid));
        // After a loss, an old link can make a process its own ancestor. The link then stays.
        let mut ancestor = self.open(ppid);
        while let Some(at) = ancestor.filter(|&at| at != n) {
            ancestor = self.lives[at].ppid.and_then(|ppid| self.open(ppid));
        }
        if ppid != 0 && ancestor.is_none() && !is_thread {
            (self.lives[n].ppid, self.lives[n].is_assumed) = (Some(ppid), false);
        }
    }

    pub(super) fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::Event(RecordedDatagram::Event(event), usage) => self.event(event, usage.as_deref()),
            Record::Details(details) => match details.subject {
                DetailsSubject::Exec { tgid, time } => self.exec_details(tgid.0, time.0, details),
                DetailsSubject::Snapshot { tgid } => self.scanned(tgid.0, details),
            },
            Record::Snapshot(snapshot) => self.end_scan(snapshot.started.0, snapshot.processes),
            Record::Loss(_) | Record::Blind(_) | Record::Unobserved(_) => self.losses += 1,
            _ => {}
        }
    }
}
