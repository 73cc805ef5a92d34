use std::collections::{BTreeMap, BTreeSet};

use oorandom::Rand32;

use super::*;

/// Parents and threads, looked for one by one.
#[derive(Default)]
struct Model(BTreeMap<u32, (u32, BTreeSet<u32>)>);

impl Model {
    fn tasks(&self) -> Vec<Task> {
        let tasks = self.0.iter();
        tasks.flat_map(|(&tgid, (_, tids))| tids.iter().map(move |&tid| Task::new(tid, tgid))).collect()
    }

    fn end(&mut self, task: Task) {
        let (_, threads) = self.0.get_mut(&task.tgid.0).expect("it lives");
        threads.remove(&task.tid.0);
        if threads.is_empty() {
            self.0.remove(&task.tgid.0);
            for (parent, _) in self.0.values_mut().filter(|(parent, _)| *parent == task.tgid.0) {
                *parent = 1;
            }
        }
    }
}

#[test]
fn children_and_threads_are_as_a_model_has_them() {
    let mut random = Rand32::new(11);
    let mut real = TaskTable::new();
    let mut model = Model(BTreeMap::from([(1, (0, BTreeSet::from([1])))]));
    for _ in 0..5_000 {
        let tasks = model.tasks();
        let task = tasks[random.rand_range(0..tasks.len() as u32) as usize];
        match random.rand_range(0..if tasks.len() > 60 { 12 } else { 8 }) {
            0..4 => {
                let child = real.fork(task);
                model.0.insert(child.tgid.0, (task.tgid.0, BTreeSet::from([child.tid.0])));
            }
            4..6 => {
                let thread = real.thread(task);
                model.0.get_mut(&task.tgid.0).expect("it lives").1.insert(thread.tid.0);
            }
            6 => {
                real.exec(task, "/bin/x", &["x", "y"]);
                model.0.get_mut(&task.tgid.0).expect("it lives").1 = BTreeSet::from([task.tgid.0]);
                assert_eq!(real.threads.iter().filter(|(_, tgid)| **tgid == task.tgid).count(), 0);
            }
            _ if task.tgid == INIT => {}
            _ => {
                real.end(task);
                model.end(task);
            }
        }
        let seen = real.iter().map(|(tgid, process)| {
            (tgid.0, (process.parent.0, process.threads().map(|tid| tid.0).collect::<BTreeSet<_>>()))
        });
        assert_eq!(seen.collect::<BTreeMap<_, _>>(), model.0);
    }
}

#[test]
fn ids_go_round_and_leave_out_those_that_are_taken() {
    let mut processes = TaskTable::new();
    let kept = processes.fork(Task::new(1, 1));
    let thread = processes.thread(kept);
    assert_eq!((kept.tid, thread.tid), (Tid(FIRST), Tid(FIRST + 1)));
    processes.next = PID_MAX - 1;
    let ids = [(); 2].map(|()| processes.boot("x").tid);
    assert_eq!(ids, [Tid(PID_MAX - 1), Tid(FIRST + 2)]);
}

#[test]
fn a_child_inherits_what_its_parent_is() {
    let mut processes = TaskTable::new();
    let shell = processes.boot("sh");
    processes.exec(shell, "/bin/dash", &["dash", "-e"]);
    processes.of_mut(shell).uid = (7, 8);
    let child = processes.fork(shell);
    let process = processes.of(child).clone();
    assert_eq!((&*process.exe, &*process.cmdline, process.uid), ("/bin/dash", "dash\0-e\0", (7, 8)));
    assert_eq!(process.args().collect::<Vec<_>>(), ["dash", "-e"]);
    assert_eq!(process.comm(child.tid), Some(comm("dash")));
    assert_eq!((process.real_parent(), process.session), (shell, INIT));
    processes.rename(child, "other");
    assert_eq!(processes.of(shell).comm(shell.tid), Some(comm("dash")));
}
