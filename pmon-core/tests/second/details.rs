//! The section "Details".

use std::collections::HashMap;

use super::bytes::{apply, apply32, int};
use super::events::Events;
use super::file::{Columns, Strings};
use super::{Process, Record};

const TICK: u64 = 10_000_000;

#[derive(Clone)]
struct Profile {
    miss: u64,
    has_args: bool,
    /// IDS, COMM, EXE, CWD, CGROUP.
    strings: Vec<Option<u64>>,
    next: Option<usize>,
}

#[derive(Default)]
pub(crate) struct Details {
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
}

impl Details {
    pub(crate) fn read(&mut self, events: &Events, columns: &mut Columns, strings: &mut Strings) -> Record {
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
        let origin = Some(events.table[tgid as usize % 4096])
            .filter(|entry| entry.task.0 == tgid && entry.forked != 0);
        let (expected_ppid, expected_start) = match origin {
            Some(entry) => (entry.parent.1, entry.forked.wrapping_add(self.shift) / TICK),
            None => (self.ppid, self.start),
        };
        let ppid = match columns.take("DETAILS_PPID") {
            0 => None,
            code => {
                self.ppid = apply32(code - 1, expected_ppid);
                Some(self.ppid)
            }
        };
        let start = match columns.take("DETAILS_START") {
            0 => None,
            code => {
                self.start = apply(code - 1, expected_start);
                Some(self.start)
            }
        };
        if let (Some(start), Some(entry)) = (start, origin)
            && start != expected_start
        {
            let more = if start > expected_start { 0 } else { TICK - 1 };
            self.shift = start.wrapping_mul(TICK).wrapping_add(more).wrapping_sub(entry.forked);
        }
        let profile = self.profile(tgid, columns, strings);
        let args = profile.has_args.then(|| self.arguments(profile.strings[2], columns, strings));
        let mut parts = profile.strings.iter().map(|part| part.map(|number| strings.at(number)));
        Record::Details(Process {
            tgid,
            exec,
            ppid,
            start,
            miss: profile.miss,
            ids: parts.next().unwrap().map(|ids| [0, 4, 8, 12].map(|at| int(&ids, at, 4) as u32)),
            texts: parts.chain([args]).collect(),
        })
    }

    fn family(&self, pid: u32) -> Option<usize> {
        self.families.get(&(pid % 4096)).filter(|(of, _)| *of == pid).map(|(_, profile)| *profile)
    }

    fn profile(&mut self, tgid: u32, columns: &mut Columns, strings: &mut Strings) -> Profile {
        let last = self.family(self.ppid);
        let number = match columns.take("DETAILS_PROFILE") {
            0 => self.profiles[last.unwrap()].next.unwrap(),
            1 => {
                let (miss, has_args) = (columns.take("DETAILS_MISS"), columns.take("DETAILS_ARGS") == 1);
                let parts = ["DETAILS_IDS", "DETAILS_COMM", "DETAILS_EXE", "DETAILS_CWD", "DETAILS_CGROUP"];
                let strings = parts.iter().map(|part| strings.number(columns.take(part))).collect();
                self.profiles.push(Profile { miss, has_args, strings, next: None });
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
                3..=31 => Some(strings.named - 1 - (code - 3)),
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
