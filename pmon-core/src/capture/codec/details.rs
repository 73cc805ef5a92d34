//! Details to columns, and back.

use super::args::WordStream;
use super::column::{Column, ColumnValues, ColumnWriter};
use super::delta::{delta32, delta64, undelta32, undelta64};
use super::predict::Predictor;
use super::profile::{DetailsProfiles, EXE};
use super::strings::{Interner, StringReader};
use super::usage;
use crate::capture::format::{FILE_ORDER, limit};
use crate::capture::records::{
    Credentials, Details, DetailsSubject, MissReason, ProcessContext, RecordPool, Usage,
};
use crate::ids::{MonoNs, Task, Tgid};

/// Subject code of an exec that is stated by process id and time.
const NAMED_EXEC: u64 = 0;
/// Subject code of a process that a snapshot found, which is stated by process id.
const SNAPSHOT: u64 = 1;
/// Subject code of the predicted exec of this block; a difference of indexes is added.
const BLOCK_EXEC: u64 = 2;
/// Number of last execs among which a writer searches the subject.
const SEARCHED_EXECS: usize = 1024;

/// Length of a clock tick in ns on nearly every kernel (`USER_HZ` is 100).
const TICK: u64 = 10_000_000;

/// Reasons in the order of their codes, which start at 1.
const MISSES: [MissReason; 6] = [
    MissReason::Gone,
    MissReason::Denied,
    MissReason::Busy,
    MissReason::Superseded,
    MissReason::Unreadable,
    MissReason::TooLong,
];

/// Number of processes whose start time is remembered, by process id modulo this number.
const STARTS: usize = 4096;

/// State relative to which details and usages are coded. Writer and reader keep the same state and
/// reset it for each block.
#[derive(Default)]
pub(crate) struct DetailsState {
    /// The execs of the block so far, as process ids and times.
    execs: Vec<(Tgid, MonoNs)>,
    /// Index of the predicted exec.
    next_exec: usize,
    tgid: u32,
    time: u64,
    ppid: u32,
    start: u64,
    /// Difference in ns between a process's start time and the time of its fork event.
    shift: u64,
    /// Process ids and start times of the last details.
    starts: Vec<(u32, u64)>,
    parent_start: u64,
    group: u32,
    /// Difference between the process ids in the initial and in the process's own PID namespace.
    pid_offset: u32,
    profiles: DetailsProfiles,
    words: WordStream,
    /// Time of the last fork minus the last start time, in ns.
    fork_offset: u64,
    /// Total length in bytes of the strings in the decoded records; many records can refer to one
    /// string.
    details_bytes: usize,
    /// Maximum of `details_bytes` for this block.
    max_details_bytes: usize,
}

/// Predicted parent and start time of a task.
struct ExpectedTask {
    ppid: u32,
    start: u64,
    /// Time of the task's fork in ns, if its event is in this block.
    forked: Option<u64>,
}

impl DetailsState {
    /// Limits the strings to those that a block of `len` bytes can hold.
    pub(crate) fn limit_to_block(&mut self, len: usize) {
        self.max_details_bytes = limit::details_bytes(len);
    }

    pub(crate) fn reset(&mut self) {
        let mut kept = std::mem::take(self);
        kept.execs.clear();
        kept.profiles.reset();
        kept.words.reset();
        kept.starts.clear();
        let Self { execs, profiles, words, starts, .. } = kept;
        *self = Self { execs, profiles, words, starts, ..Self::default() };
    }

    #[inline]
    pub(crate) fn add_exec(&mut self, tgid: Tgid, time: MonoNs) {
        self.execs.push((tgid, time));
    }

    pub(crate) fn encode(
        &mut self,
        details: &Details,
        events: &Predictor,
        out: &mut ColumnWriter,
        (strings, names): (&mut Interner, &mut Interner),
    ) {
        match details.subject {
            DetailsSubject::Snapshot { tgid } => {
                out.put(Column::DetailsSubject, SNAPSHOT);
                self.encode_tgid(tgid, out);
            }
            DetailsSubject::Exec { tgid, time } => {
                let recent = self.execs.len().saturating_sub(SEARCHED_EXECS);
                let index = self.execs[recent..].iter().rposition(|&exec| exec == (tgid, time));
                if let Some(index) = index.map(|index| index + recent) {
                    let code = delta64(index as u64, self.next_exec as u64);
                    out.put(Column::DetailsSubject, BLOCK_EXEC + code);
                    self.next_exec = index + 1;
                } else {
                    out.put(Column::DetailsSubject, NAMED_EXEC);
                    self.encode_tgid(tgid, out);
                    out.put(Column::DetailsTime, delta64(time.0, self.time));
                    self.time = time.0;
                }
            }
        }
        let tgid = details.subject.tgid();
        let expected = self.expect(events.origin(tgid.0));
        out.put(Column::DetailsPpid, details.ppid.map_or(0, |ppid| 1 + delta32(ppid, expected.ppid)));
        let start = details.start_ticks.map(|start| (start, delta64(start, expected.start)));
        // No kernel has a start time whose code does not fit.
        let start = start.filter(|&(_, code)| code < u64::MAX);
        out.put(Column::DetailsStart, start.map_or(0, |(_, code)| 1 + code));
        self.learn(&expected, details.ppid, start.map(|(start, _)| start));

        let miss = details.miss.and_then(|miss| MISSES.iter().position(|&m| m == miss));
        let miss = miss.map_or(0, |code| code as u64 + 1);
        let ids = details.ids.map(|ids| [ids.uid, ids.euid, ids.gid, ids.egid].map(u32::to_le_bytes));
        let parts = [
            ids.as_ref().map(|ids| ids.as_flattened()),
            details.comm.as_deref(),
            details.exe.as_deref(),
            details.cwd.as_deref(),
            details.cgroup.as_deref(),
        ];
        let family = (tgid.0, self.ppid);
        let context = details.context.as_ref().map(context_string);
        let context = context.as_ref().map(|context| context.as_flattened());
        let parts = (parts, [details.filename.as_deref(), context]);
        let has_args = details.args.is_some();
        let profile = self.profiles.encode(
            family,
            (miss, has_args, details.container.as_deref()),
            parts,
            out,
            (strings, names),
        );
        if let Some(args) = &details.args {
            self.words.encode(args, profile.strings[EXE], out, strings);
        }
        out.put(Column::DetailsArgsLen, details.args_len.unwrap_or(0));
        out.put(Column::DetailsThreads, details.threads.unwrap_or(0).into());
        let expected = self.fork();
        let forked = details.forked.map(|forked| (forked, delta64(forked.0, expected)));
        // No kernel has a time whose code does not fit.
        let forked = forked.filter(|&(_, code)| code < u64::MAX);
        out.put(Column::DetailsFork, forked.map_or(0, |(_, code)| 1 + code));
        self.learn_fork(forked.map(|(forked, _)| forked));
        let expected = self.parent_start();
        let parent_start = details.parent_start_ticks.map(|start| (start, delta64(start, expected)));
        let parent_start = parent_start.filter(|&(_, code)| code < u64::MAX);
        out.put(Column::DetailsParentStart, parent_start.map_or(0, |(_, code)| 1 + code));
        self.learn_starts(tgid, start.map(|(start, _)| start), parent_start.map(|(start, _)| start));
        if let Some(context) = &details.context {
            out.put(Column::DetailsGroup, delta32(context.group, self.group));
            out.put(Column::DetailsNsPid, delta32(context.pid, tgid.0.wrapping_sub(self.pid_offset)));
            self.learn_context(tgid, context);
        }
    }

    /// Writes the usage of a task whose exit was just encoded.
    pub(crate) fn encode_usage(
        &mut self,
        task: Task,
        usage: &Usage,
        events: &Predictor,
        out: &mut ColumnWriter,
    ) {
        let expected = self.expect(events.origin(task.tid.0));
        if usage::encode(usage, task.tgid, expected.start, out) {
            self.learn(&expected, None, Some(usage.start_ticks));
        }
    }

    /// Reads the usage of a task whose exit was just decoded; `None` if it has none.
    #[inline]
    pub(crate) fn decode_usage(
        &mut self,
        task: Task,
        events: &Predictor,
        from: &mut ColumnValues<'_>,
        pool: Option<&RecordPool>,
    ) -> Option<Box<Usage>> {
        let start = from.take(Column::UsageStart).checked_sub(1)?;
        let expected = self.expect(events.origin(task.tid.0));
        let usage = usage::decode(start, task.tgid, expected.start, from);
        self.learn(&expected, None, Some(usage.start_ticks));
        Some(match pool {
            Some(pool) => pool.usage(usage),
            None => Box::new(usage),
        })
    }

    /// Predicts the time of a fork from the last start time, and how much later the previous fork
    /// was than its start time.
    fn fork(&self) -> u64 {
        self.start.wrapping_mul(TICK).wrapping_add(self.fork_offset)
    }

    fn learn_fork(&mut self, forked: Option<MonoNs>) {
        if let Some(forked) = forked {
            self.fork_offset = forked.0.wrapping_sub(self.start.wrapping_mul(TICK));
        }
    }

    /// Predicts the start time of the parent: from its last details, or the previous parent's.
    fn parent_start(&self) -> u64 {
        let known = self.starts.get(self.ppid as usize % STARTS).filter(|&&(pid, _)| pid == self.ppid);
        known.map_or(self.parent_start, |&(_, start)| start)
    }

    fn learn_starts(&mut self, tgid: Tgid, start: Option<u64>, parent_start: Option<u64>) {
        self.starts.resize(STARTS, (0, 0));
        for (pid, start) in [(self.ppid, parent_start), (tgid.0, start)] {
            if let Some(start) = start {
                self.starts[pid as usize % STARTS] = (pid, start);
            }
        }
        self.parent_start = parent_start.unwrap_or(self.parent_start);
    }

    fn learn_context(&mut self, tgid: Tgid, context: &ProcessContext) {
        self.group = context.group;
        self.pid_offset = tgid.0.wrapping_sub(context.pid);
    }

    fn encode_tgid(&mut self, tgid: Tgid, out: &mut ColumnWriter) {
        out.put(Column::DetailsTgid, delta32(tgid.0, self.tgid));
        self.tgid = tgid.0;
    }

    /// Predicts the parent and the start time of a process from its fork event. If the block does
    /// not contain the fork, predicts the values of the previous process.
    fn expect(&self, origin: Option<(Tgid, MonoNs)>) -> ExpectedTask {
        let Some((parent, forked)) = origin else {
            return ExpectedTask { ppid: self.ppid, start: self.start, forked: None };
        };
        let start = forked.0.wrapping_add(self.shift) / TICK;
        ExpectedTask { ppid: parent.0, start, forked: Some(forked.0) }
    }

    /// Updates the predictions. Changes the shift by the smallest amount that would have made the
    /// prediction correct.
    fn learn(&mut self, expected: &ExpectedTask, ppid: Option<u32>, start: Option<u64>) {
        self.ppid = ppid.unwrap_or(self.ppid);
        let Some(start) = start else { return };
        self.start = start;
        if let Some(forked) = expected.forked
            && start != expected.start
        {
            let first = start.wrapping_mul(TICK);
            let nearest = if start > expected.start { first } else { first.wrapping_add(TICK - 1) };
            self.shift = nearest.wrapping_sub(forked);
        }
    }

    pub(crate) fn decode(
        &mut self,
        events: &Predictor,
        from: &mut ColumnValues<'_>,
        (strings, names): (&mut StringReader<'_>, &mut StringReader<'_>),
        pool: Option<&RecordPool>,
    ) -> Box<Details> {
        let subject = match from.take(Column::DetailsSubject) {
            SNAPSHOT => DetailsSubject::Snapshot { tgid: self.decode_tgid(from) },
            NAMED_EXEC => {
                let tgid = self.decode_tgid(from);
                self.time = undelta64(from.take(Column::DetailsTime), self.time);
                DetailsSubject::Exec { tgid, time: MonoNs(self.time) }
            }
            code => {
                let index = undelta64(code - BLOCK_EXEC, self.next_exec as u64) as usize;
                self.next_exec = index.wrapping_add(1);
                // Only a forged file refers to an exec that does not exist.
                let (tgid, time) = self.execs.get(index).copied().unwrap_or_default();
                DetailsSubject::Exec { tgid, time }
            }
        };
        let expected = self.expect(events.origin(subject.tgid().0));
        let ppid = from.take(Column::DetailsPpid).checked_sub(1).map(|code| undelta32(code, expected.ppid));
        let start_ticks =
            from.take(Column::DetailsStart).checked_sub(1).map(|code| undelta64(code, expected.start));
        self.learn(&expected, ppid, start_ticks);

        if self.details_bytes > self.max_details_bytes {
            // A writer never exceeds this limit.
            return Box::new(Details { ppid, start_ticks, ..Details::missed(subject, MissReason::Gone) });
        }
        let family = (subject.tgid().0, self.ppid);
        let profile = self.profiles.decode(family, from, (strings, names));
        let exe = profile.strings[EXE];
        if profile.has_args {
            self.words.decode(exe, from, strings);
        }
        let miss = profile.miss.checked_sub(1).map(|code| MISSES.get(code as usize).copied());
        let [ids, comm, exe, cwd, cgroup] = profile.strings.map(|number| number.map(|n| strings.at(n)));
        let ids = ids.and_then(|bytes| {
            let mut ids = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Some(Credentials { uid: ids.next()?, euid: ids.next()?, gid: ids.next()?, egid: ids.next()? })
        });
        let [filename, context] = profile.names.map(|number| number.map(|n| names.at(n)));
        let tgid = subject.tgid();
        let args_len = Some(from.take(Column::DetailsArgsLen)).filter(|&len| len != 0);
        let threads = Some(from.take(Column::DetailsThreads) as u32).filter(|&threads| threads != 0);
        let expected = self.fork();
        let forked = from.take(Column::DetailsFork).checked_sub(1);
        let forked = forked.map(|code| MonoNs(undelta64(code, expected)));
        self.learn_fork(forked);
        let expected = self.parent_start();
        let parent_start_ticks =
            from.take(Column::DetailsParentStart).checked_sub(1).map(|code| undelta64(code, expected));
        self.learn_starts(tgid, start_ticks, parent_start_ticks);
        let context = context.map(|context| {
            let group = undelta32(from.take(Column::DetailsGroup), self.group);
            let pid = undelta32(from.take(Column::DetailsNsPid), tgid.0.wrapping_sub(self.pid_offset));
            let context = ProcessContext { group, pid, ..parse_context(context) };
            self.learn_context(tgid, &context);
            context
        });
        let container = self.profiles.container(&profile);
        let args = profile.has_args.then(|| self.words.line());
        let strings = [comm, exe, filename, cwd, cgroup, container, args];
        self.details_bytes += strings.into_iter().flatten().map(<[u8]>::len).sum::<usize>();
        let used = pool.and_then(RecordPool::take_details);
        let mut details = used.unwrap_or_else(|| Box::new(Details::missed(subject, MissReason::Gone)));
        let kept = &mut *details;
        *kept = Details {
            subject,
            // Fields can be missing for a reason of a later version.
            miss: miss.map(|miss| miss.unwrap_or(MissReason::Gone)),
            ppid,
            start_ticks,
            parent_start_ticks,
            ids,
            comm: text(kept.comm.take(), comm),
            exe: text(kept.exe.take(), exe),
            filename: text(kept.filename.take(), filename),
            cwd: text(kept.cwd.take(), cwd),
            cgroup: text(kept.cgroup.take(), cgroup),
            container: text(kept.container.take(), container),
            args: text(kept.args.take(), args),
            args_len,
            threads,
            forked,
            context,
        };
        details
    }

    fn decode_tgid(&mut self, from: &mut ColumnValues<'_>) -> Tgid {
        self.tgid = undelta32(from.take(Column::DetailsTgid), self.tgid);
        Tgid(self.tgid)
    }
}

/// Returns a text, in the memory of another one.
fn text(kept: Option<Vec<u8>>, new: Option<&[u8]>) -> Option<Vec<u8>> {
    let new = new?;
    Some(match kept {
        Some(mut kept) => {
            kept.clear();
            kept.extend_from_slice(new);
            kept
        }
        None => new.to_vec(),
    })
}

/// Encodes the part of a context that the processes of a session share.
fn context_string(context: &ProcessContext) -> [[u8; 4]; 5] {
    let ProcessContext { login_uid, session, cgroup, pid_namespace, .. } = *context;
    [login_uid, session, cgroup as u32, (cgroup >> 32) as u32, pid_namespace].map(u32::to_le_bytes)
}

/// Reverses [`context_string`]; missing bytes, which only a forged file has, are zeros.
fn parse_context(bytes: &[u8]) -> ProcessContext {
    let [login_uid, session, low, high, pid_namespace] =
        [0, 4, 8, 12, 16].map(|at| FILE_ORDER.u32_at(bytes, at));
    let cgroup = u64::from(high) << 32 | u64::from(low);
    ProcessContext { login_uid, session, cgroup, pid_namespace, ..ProcessContext::default() }
}
