use std::collections::{BTreeMap, BTreeSet};

use oorandom::Rand32;

use super::*;

/// A simple model of the table: each process's parent and threads, searched linearly.
#[derive(Default)]
struct ModelTable(BTreeMap<u32, (u32, BTreeSet<u32>)>);

impl ModelTable {
    fn tasks(&self) -> Vec<Task> {
        let tasks = self.0.iter();
        tasks.flat_map(|(&tgid, (_, tids))| tids.iter().map(move |&tid| Task::new(tid, tgid))).collect()
    }

    fn end_thread(&mut self, task: Task) {
        let (_, threads) = self.0.get_mut(&task.tgid.0).expect("it runs");
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
fn parents_and_threads_match_a_model() {
    let mut random = Rand32::new(11);
    let mut table = TaskTable::new();
    let mut model = ModelTable(BTreeMap::from([(1, (0, BTreeSet::from([1])))]));
    for _ in 0..5_000 {
        let tasks = model.tasks();
        let task = tasks[random.rand_range(0..tasks.len() as u32) as usize];
        match random.rand_range(0..if tasks.len() > 60 { 12 } else { 8 }) {
            0..4 => {
                let child = table.fork(task);
                model.0.insert(child.tgid.0, (task.tgid.0, BTreeSet::from([child.tid.0])));
            }
            4..6 => {
                let thread = table.clone_thread(task);
                model.0.get_mut(&task.tgid.0).expect("it runs").1.insert(thread.tid.0);
            }
            6 => {
                table.exec(task, "/bin/x", &["x", "y"]);
                model.0.get_mut(&task.tgid.0).expect("it runs").1 = BTreeSet::from([task.tgid.0]);
                assert_eq!(table.threads.iter().filter(|(_, tgid)| **tgid == task.tgid).count(), 0);
            }
            _ if task.tgid == INIT => {}
            _ => {
                table.end_thread(task);
                model.end_thread(task);
            }
        }
        let actual = table.iter().map(|(tgid, process)| {
            (tgid.0, (process.parent.0, process.threads().map(|tid| tid.0).collect::<BTreeSet<_>>()))
        });
        assert_eq!(actual.collect::<BTreeMap<_, _>>(), model.0);
    }
}

#[test]
fn ids_wrap_and_skip_those_in_use() {
    let mut table = TaskTable::new();
    let process = table.fork(Task::new(1, 1));
    let thread = table.clone_thread(process);
    assert_eq!((process.tid, thread.tid), (Tid(FIRST_ID), Tid(FIRST_ID + 1)));
    table.next_id = PID_MAX - 1;
    let ids = [(); 2].map(|()| table.add_process("x").tid);
    assert_eq!(ids, [Tid(PID_MAX - 1), Tid(FIRST_ID + 2)]);
}

#[test]
fn a_child_inherits_program_ids_and_session_of_its_parent() {
    let mut table = TaskTable::new();
    let shell = table.add_process("sh");
    table.exec(shell, "/bin/dash", &["dash", "-e"]);
    table.process_of_mut(shell).uid = (7, 8);
    let child = table.fork(shell);
    let process = table.process_of(child).clone();
    assert_eq!((&*process.exe, &*process.cmdline, process.uid), ("/bin/dash", "dash\0-e\0", (7, 8)));
    assert_eq!(process.args().collect::<Vec<_>>(), ["dash", "-e"]);
    assert_eq!(process.comm(child.tid), Some(comm("dash")));
    assert_eq!((process.real_parent(), process.session), (shell, INIT));
    table.rename(child, "other");
    assert_eq!(table.process_of(shell).comm(shell.tid), Some(comm("dash")));
}
