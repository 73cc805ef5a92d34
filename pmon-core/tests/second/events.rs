//! The section "Events".

use super::bytes::{apply, apply32};
use super::file::{Columns, Strings};

type TaskIds = (u32, u32);

#[derive(Clone, Copy, Default)]
pub(crate) struct Entry {
    pub(crate) task: TaskIds,
    pub(crate) parent: TaskIds,
    pub(crate) forked: u64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    seq: u32,
    actor: u32,
}

/// Effect of an event on the state of the details.
pub(crate) enum Effect {
    Nothing,
    /// An exec, with the tgid and the time.
    Exec(u32, u64),
    /// An exit, with the tid and the tgid.
    Exit(u32, u32),
}

pub(crate) struct Events {
    big_endian: bool,
    time: u64,
    last_child: u32,
    last_parent: TaskIds,
    threads_have_parents: bool,
    slots: Vec<Slot>,
    recent: Vec<u32>,
    pub(crate) table: Vec<Entry>,
}

impl Events {
    pub(crate) fn new(big_endian: bool) -> Self {
        Self {
            big_endian,
            time: 0,
            last_child: 0,
            last_parent: (0, 0),
            threads_have_parents: false,
            slots: vec![Slot::default(); 256],
            recent: vec![0; 16],
            table: vec![Entry::default(); 4096],
        }
    }

    fn known(&self, tid: u32) -> (TaskIds, TaskIds) {
        let entry = self.table[tid as usize % 4096];
        if entry.task.0 == tid { (entry.task, entry.parent) } else { ((tid, tid), self.last_parent) }
    }

    fn learn(&mut self, task: TaskIds, parent: TaskIds) {
        let entry = &mut self.table[task.0 as usize % 4096];
        let forked = if entry.task.0 == task.0 { entry.forked } else { 0 };
        *entry = Entry { task, parent, forked };
    }

    fn forward(&mut self, tid: u32, from: Option<usize>) {
        self.recent.remove(from.unwrap_or(15));
        self.recent.insert(0, tid);
    }

    fn task(&mut self, code: u64, expected: TaskIds, columns: &mut Columns) -> TaskIds {
        let (tid, tgid) = match code {
            0 => expected,
            1..=16 => {
                let place = code as usize - 1;
                let tid = self.recent[place];
                self.forward(tid, Some(place));
                (tid, self.known(tid).0.1)
            }
            code => {
                let tid = apply32(code - 17, expected.0);
                self.forward(tid, None);
                (tid, self.known(tid).0.1)
            }
        };
        (tid, columns.delta32("TGID", tgid))
    }

    /// Returns the acting task and its known parent.
    fn actor(&mut self, kind: u64, slot: usize, columns: &mut Columns) -> (TaskIds, TaskIds) {
        let code = columns.take(if kind == 9 { "EXITER" } else { "ACTOR" });
        let likely = if kind == 2 { self.last_child } else { self.slots[slot].actor };
        let task = self.task(code, self.known(likely).0, columns);
        self.slots[slot].actor = task.0;
        let parent = self.known(task.0).1;
        self.learn(task, parent);
        (task, parent)
    }

    fn parent(
        &mut self,
        kind: u64,
        slot: usize,
        actor: TaskIds,
        known: TaskIds,
        columns: &mut Columns,
    ) -> TaskIds {
        let is_thread_exit = kind == 9 && actor.0 != actor.1;
        let expected = if is_thread_exit && !self.threads_have_parents { (0, 0) } else { known };
        let tid = columns.delta32("PARENT", expected.0);
        let tgid = if tid == expected.0 { expected.1 } else { self.known(tid).0.1 };
        let parent = (tid, columns.delta32("PARENT_TGID", tgid));
        if kind == 9
            && let Some(place) = self.recent.iter().position(|&other| other == actor.0)
        {
            self.recent.remove(place);
            self.recent.push(0);
        }
        if is_thread_exit {
            self.threads_have_parents = parent != (0, 0);
            self.slots[slot].actor = actor.1;
        } else {
            self.learn(actor, parent);
            self.last_parent = parent;
            if kind == 9 {
                self.slots[slot].actor = parent.0;
            }
        }
        parent
    }

    fn fork(&mut self, slot: usize, columns: &mut Columns) -> (TaskIds, TaskIds) {
        let acting = self.known(self.slots[slot].actor).0;
        let tid = columns.delta32("CHILD", self.last_child.wrapping_add(1));
        let tgid = match columns.take("CHILD_TGID") {
            0 => tid,
            1 => acting.1,
            code @ 2..=17 => self.known(self.recent[code as usize - 2]).0.1,
            code => apply32(code - 18, tid),
        };
        let expected = if tid == tgid { acting } else { self.known(tgid).1 };
        let code = columns.take("FORKER");
        let parent = self.task(code, expected, columns);
        self.learn((tid, tgid), parent);
        self.table[tid as usize % 4096].forked = self.time;
        self.last_child = tid;
        self.forward(tid, None);
        self.slots[slot].actor = if tid == tgid { parent.0 } else { tgid };
        (parent, (tid, tgid))
    }

    /// Returns the datagram of the next event, and its effect.
    pub(crate) fn read(&mut self, columns: &mut Columns, strings: &mut Strings) -> (Vec<u8>, Effect) {
        let tag = columns.take("TAG");
        let (kind, cpu) = (tag % 16, (tag / 16) as u32);
        if kind >= 10 {
            let len = columns.take("RAW_LEN");
            return (columns.bytes("RAW_BYTES", len), Effect::Nothing);
        }
        self.time = apply(columns.take("TIME"), self.time);
        let slot = cpu as usize % 256;
        let seq = columns.delta32("SEQ", self.slots[slot].seq.wrapping_add(1));
        self.slots[slot].seq = seq;
        let (mut ack, mut data) = (0, Vec::new());
        let first_second =
            |columns: &mut Columns| [columns.take("FIRST") as u32, columns.take("SECOND") as u32];
        match kind {
            0 => {
                let [first, second] = first_second(columns);
                ack = first;
                data.push(second);
            }
            1 => {
                let (parent, child) = self.fork(slot, columns);
                data.extend([parent.0, parent.1, child.0, child.1]);
            }
            _ => {
                let (actor, known) = self.actor(kind, slot, columns);
                data.extend([actor.0, actor.1]);
                match kind {
                    3 | 4 | 6 => data.extend(first_second(columns)),
                    8 => {
                        let parent = self.parent(kind, slot, actor, known, columns);
                        data.extend([parent.0, parent.1]);
                    }
                    9 => {
                        let expected = if actor.0 == actor.1 { 17 } else { u32::MAX };
                        data.extend([columns.take("FIRST") as u32, columns.delta32("SECOND", expected)]);
                        let parent = self.parent(kind, slot, actor, known, columns);
                        data.extend([parent.0, parent.1]);
                    }
                    _ => {}
                }
            }
        }
        let what = [0, 1, 2, 4, 0x40, 0x80, 0x100, 0x200, 0x4000_0000, 0x8000_0000][kind as usize];
        let name = (kind == 7).then(|| {
            let number = strings.number(columns.take("COMM"));
            number.map(|number| strings.at(number)).unwrap_or_default()
        });
        let then = match kind {
            2 => Effect::Exec(data[1], self.time),
            9 => Effect::Exit(data[0], data[1]),
            _ => Effect::Nothing,
        };
        (self.datagram([what, cpu, seq, ack], &data, name.as_deref()), then)
    }

    fn datagram(&self, [what, cpu, seq, ack]: [u32; 4], data: &[u32], name: Option<&[u8]>) -> Vec<u8> {
        let mut out = vec![0; 76];
        let mut put = |at: usize, size: usize, value: u64| {
            let bytes =
                if self.big_endian { (value << (64 - 8 * size)).to_be_bytes() } else { value.to_le_bytes() };
            out[at..at + size].copy_from_slice(&bytes[..size]);
        };
        for (at, value) in [(0, 76), (8, seq), (16, 1), (20, 1), (24, seq), (28, ack), (36, what), (40, cpu)]
        {
            put(at, 4, value.into());
        }
        put(4, 2, 3);
        put(32, 2, 40);
        put(44, 8, self.time);
        for (place, &value) in data.iter().enumerate() {
            put(52 + 4 * place, 4, value.into());
        }
        if let Some(name) = name {
            out[60..60 + name.len()].copy_from_slice(name);
        }
        out
    }
}
