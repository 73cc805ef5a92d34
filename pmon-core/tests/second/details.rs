//! The sections "Details" and "Usage".

use std::collections::HashMap;

use super::bytes::{apply, apply32, int};
use super::events::{Entry, Events};
use super::file::{Columns, Strings};
use super::{Context, ReadProcess, ReadRecord, ReadSignal, ReadUsage};

const TICK: u64 = 10_000_000;

#[derive(Clone)]
struct Profile {
    miss: u64,
    has_args: bool,
    /// String numbers of IDS, COMM, EXE, CWD, CGROUP.
    strings: Vec<Option<u64>>,
    /// Name numbers of FILENAME, CONTEXT.
    names: [Option<u64>; 2],
    container: Option<Vec<u8>>,
    next: Option<usize>,
}

#[derive(Default)]
pub(crate) struct DetailsSections {
    pub(crate) execs: Vec<(u32, u64)>,
    next_exec: u64,
    tgid: u32,
    time: u64,
    ppid: u32,
    start: u64,
    shift: u64,
    profiles: Vec<Profile>,
    families: HashMap<u32, (u32, usize)>,
    /// The words so far; `None` is an END.
    words: Vec<Option<u64>>,
    runs: HashMap<Option<u64>, usize>,
    last: HashMap<u64, usize>,
    /// Process ids and start times, by process id mod 4096.
    starts: HashMap<u32, (u32, u64)>,
    parent_start: u64,
    fork_offset: u64,
    group: u32,
    offset: u32,
}

/// Returns the table entry of a task's fork, if it is known.
fn origin(tid: u32, events: &Events) -> Option<Entry> {
    Some(events.table[tid as usize % 4096]).filter(|entry| entry.task.0 == tid && entry.forked != 0)
}

impl DetailsSections {
    pub(crate) fn read(
        &mut self,
        events: &Events,
        columns: &mut Columns,
        strings: &mut Strings,
        names: &mut Strings,
    ) -> ReadRecord {
        let (tgid, exec) = match columns.take("DETAILS_SUBJECT") {
            code @ (0 | 1) => {
                self.tgid = columns.delta32("DETAILS_TGID", self.tgid);
                if code == 0 {
                    self.time = columns.delta("DETAILS_TIME", self.time);
                }
                (self.tgid, (code == 0).then_some(self.time))
            }
            code => {
                let number = apply(code - 2, self.next_exec);
                self.next_exec = number + 1;
                let (tgid, time) = self.execs[number as usize];
                (tgid, Some(time))
            }
        };
        let origin = origin(tgid, events);
        let expected_ppid = origin.map_or(self.ppid, |entry| entry.parent.1);
        let ppid = match columns.take("DETAILS_PPID") {
            0 => None,
            code => {
                self.ppid = apply32(code - 1, expected_ppid);
                Some(self.ppid)
            }
        };
        let start = self.start(columns.take("DETAILS_START"), origin);
        let profile = self.profile(tgid, columns, strings, names);
        let args = profile.has_args.then(|| self.arguments(profile.strings[2], columns, strings));
        let args_len = Some(columns.take("DETAILS_ARGS_LEN")).filter(|&len| len != 0);
        let threads = Some(columns.take("DETAILS_THREADS")).filter(|&threads| threads != 0);
        let forked = columns.take("DETAILS_FORK").checked_sub(1).map(|code| {
            let forked = apply(code, self.start.wrapping_mul(TICK).wrapping_add(self.fork_offset));
            self.fork_offset = forked.wrapping_sub(self.start.wrapping_mul(TICK));
            forked
        });
        let parent_start = self.parent_start(columns.take("DETAILS_PARENT_START"));
        if let Some(start) = start {
            self.starts.insert(tgid % 4096, (tgid, start));
        }
        let [filename, context] = profile.names.map(|name| name.map(|number| names.at(number)));
        let context = context.map(|bytes| self.context(tgid, &bytes, columns));
        let mut parts = profile.strings.iter().map(|part| part.map(|number| strings.at(number)));
        ReadRecord::Details(ReadProcess {
            tgid,
            exec,
            ppid,
            start,
            miss: profile.miss,
            ids: parts.next().unwrap().map(|ids| [0, 4, 8, 12].map(|at| int(&ids, at, 4) as u32)),
            texts: parts.chain([args, filename, profile.container]).collect(),
            args_len,
            threads,
            forked,
            parent_start,
            context,
        })
    }

    /// Returns the usage of the thread whose exit was just read.
    pub(crate) fn usage(
        &mut self,
        (tid, tgid): (u32, u32),
        events: &Events,
        columns: &mut Columns,
    ) -> Option<ReadUsage> {
        let start = self.start(columns.take("USAGE_START"), origin(tid, events))?;
        let mut take = |name: &str| columns.take(name);
        let numbers = ["CPU", "USER", "SYSTEM", "RSS", "MINOR", "MAJOR", "READ", "WRITE"]
            .map(|name| take(&format!("USAGE_{name}")));
        let threads = take("USAGE_THREADS");
        let (state, cpu) = (take("USAGE_PROCESS"), take("USAGE_PROCESS_CPU"));
        let process = [state, if state < 2 { cpu } else { apply(cpu, numbers[0]) }];
        let at_least = threads % 2 == 1;
        let signal = signal(tgid, start, columns);
        Some(ReadUsage { start, numbers, threads: threads / 2, at_least, process, signal })
    }

    /// Returns the start time of a task with this origin.
    fn start(&mut self, code: u64, origin: Option<Entry>) -> Option<u64> {
        let expected = origin.map_or(self.start, |entry| entry.forked.wrapping_add(self.shift) / TICK);
        self.start = apply(code.checked_sub(1)?, expected);
        if let Some(entry) = origin
            && self.start != expected
        {
            let more = if self.start > expected { 0 } else { TICK - 1 };
            self.shift = self.start.wrapping_mul(TICK).wrapping_add(more).wrapping_sub(entry.forked);
        }
        Some(self.start)
    }

    fn parent_start(&mut self, code: u64) -> Option<u64> {
        let place = self.ppid % 4096;
        let (pid, start) = self.starts.get(&place).copied().unwrap_or_default();
        let expected = if pid == self.ppid { start } else { self.parent_start };
        self.parent_start = apply(code.checked_sub(1)?, expected);
        self.starts.insert(place, (self.ppid, self.parent_start));
        Some(self.parent_start)
    }

    fn context(&mut self, tgid: u32, bytes: &[u8], columns: &mut Columns) -> Context {
        assert_eq!(bytes.len(), 20);
        self.group = columns.delta32("DETAILS_GROUP", self.group);
        let ns_pid = columns.delta32("DETAILS_NS_PID", tgid.wrapping_sub(self.offset));
        self.offset = tgid.wrapping_sub(ns_pid);
        Context {
            login_uid: int(bytes, 0, 4),
            session: int(bytes, 4, 4),
            cgroup: int(bytes, 8, 8),
            pid_namespace: int(bytes, 16, 4),
            group: self.group.into(),
            ns_pid: ns_pid.into(),
        }
    }

    fn family(&self, pid: u32) -> Option<usize> {
        self.families.get(&(pid % 4096)).filter(|(of, _)| *of == pid).map(|(_, profile)| *profile)
    }

    fn profile(
        &mut self,
        tgid: u32,
        columns: &mut Columns,
        strings: &mut Strings,
        names: &mut Strings,
    ) -> Profile {
        let last = self.family(self.ppid);
        let number = match columns.take("DETAILS_PROFILE") {
            0 => self.profiles[last.unwrap()].next.unwrap(),
            1 => {
                let (miss, has_args) = (columns.take("DETAILS_MISS"), columns.take("DETAILS_ARGS") == 1);
                let parts = ["DETAILS_IDS", "DETAILS_COMM", "DETAILS_EXE", "DETAILS_CWD", "DETAILS_CGROUP"];
                let strings = parts.iter().map(|part| strings.number(columns.take(part))).collect();
                let names =
                    ["DETAILS_FILENAME", "DETAILS_CONTEXT"].map(|part| names.number(columns.take(part)));
                let container = columns.take("DETAILS_CONTAINER").checked_sub(1);
                let container =
                    container.map(|len| (0..len).map(|_| columns.take("CONTAINER_BYTE") as u8).collect());
                self.profiles.push(Profile { miss, has_args, strings, names, container, next: None });
                self.profiles.len() - 1
            }
            code => code as usize - 2,
        };
        if let Some(last) = last {
            self.profiles[last].next = Some(number);
        }
        for pid in [self.ppid, tgid] {
            self.families.insert(pid % 4096, (pid, number));
        }
        self.profiles[number].clone()
    }

    fn arguments(&mut self, exe: Option<u64>, columns: &mut Columns, strings: &mut Strings) -> Vec<u8> {
        let mut at = self.runs.insert(exe, self.words.len());
        let mut words = Vec::new();
        loop {
            let code = columns.take("WORD");
            let word = match code {
                0 => at.and_then(|at| self.words.get(at).copied()).flatten(),
                1 => strings.number(1),
                2 => None,
                3..=31 => Some(strings.used - 1 - (code - 3)),
                code => Some(code - 32),
            };
            let place = self.words.len();
            self.words.push(word);
            let Some(word) = word else { return words.join(&0) };
            at = at.map(|at| at + 1);
            if let (Some(last), 32..) = (self.last.insert(word, place), code) {
                at = Some(last + 1);
            }
            words.push(strings.at(word));
        }
    }
}

/// Returns the origin of the signal that killed a process.
fn signal(tgid: u32, start: u64, columns: &mut Columns) -> ReadSignal {
    let (victim, origin) = {
        let value = columns.take("SIGNAL_ORIGIN");
        (value % 3, value / 3)
    };
    let code = (origin > 0).then(|| apply32(columns.take("SIGNAL_CODE"), 0) as i32);
    let sender = (origin == 2).then(|| {
        let pid = apply32(columns.take("SENDER_PID"), tgid);
        let start = apply(columns.take("SENDER_START"), start);
        let uid = columns.take("SENDER_UID");
        let comm = [columns.take("SENDER_COMM_LOW"), columns.take("SENDER_COMM_HIGH")];
        (pid, start, uid, comm.map(u64::to_le_bytes).concat())
    });
    ReadSignal { victim, code, sender }
}
