//! Events as text, with names for IDs: letters in the order in which the tasks were started.

use std::collections::HashMap;

use pmon_core::Task;
use pmon_core::wire::{Event, EventBody};

/// Returns the name of a task of the tree.
pub(crate) fn letter(task: usize) -> char {
    char::from(b'a' + task as u8)
}

/// Names of IDs.
#[derive(Debug, Default)]
pub(crate) struct TaskNames {
    names: HashMap<u32, String>,
    tasks: usize,
}

impl TaskNames {
    pub(crate) fn name(&mut self, id: u32, name: &str) {
        self.names.insert(id, name.into());
    }

    fn id(&self, id: u32) -> String {
        match self.names.get(&id) {
            Some(name) => name.clone(),
            None if id == 0 => "0".into(),
            None => format!("unknown task {id}"),
        }
    }

    fn task(&self, task: Task) -> String {
        let (tid, tgid) = (self.id(task.tid.0), self.id(task.tgid.0));
        if tid == tgid { tid } else { format!("{tid} of {tgid}") }
    }

    /// Describes an event. A fork names the new task.
    pub(crate) fn event(&mut self, event: &Event) -> String {
        if let EventBody::Fork { child, .. } = event.body {
            let name = letter(self.tasks).to_string();
            self.names.insert(child.tid.0, name);
            self.tasks += 1;
        }
        let kind = event.kind();
        let parent = |parent: Option<Task>| parent.map_or("none".into(), |parent| self.task(parent));
        match event.body {
            EventBody::Fork { parent, child } => {
                format!("{kind} {} parent {}", self.task(child), self.task(parent))
            }
            EventBody::Exec { task } | EventBody::Sid { task } => format!("{kind} {}", self.task(task)),
            EventBody::Uid { task, real, effective } | EventBody::Gid { task, real, effective } => {
                format!("{kind} {} {real} {effective}", self.task(task))
            }
            EventBody::Ptrace { task, tracer } => {
                format!("{kind} {} tracer {}", self.task(task), self.task(tracer))
            }
            EventBody::Comm { task, comm } => {
                format!("{kind} {} {:?}", self.task(task), comm.0.escape_ascii().to_string())
            }
            EventBody::Coredump { task, parent: of } => {
                format!("{kind} {} parent {}", self.task(task), parent(of))
            }
            EventBody::Exit { task, code, signal, parent: of } => {
                let (task, signal) = (self.task(task), signal.cast_signed());
                format!("{kind} {task} code {code:#x} signal {signal} parent {}", parent(of))
            }
            EventBody::Ack { .. } | _ => format!("{event:?}"),
        }
    }
}
