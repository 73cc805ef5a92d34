//! The simulated processes, and what each of them has still to do.

use pmon_core::{MonoNs, Task, Tid};

use super::programs::{Program, Service};

/// Reference to an actor, which becomes invalid when the actor ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ActorHandle {
    pub(super) slot: u32,
    generation: u32,
}

/// The simulated behavior of a running process.
pub(super) struct Actor {
    pub(super) task: Task,
    pub(super) started: MonoNs,
    pub(super) parent: ActorHandle,
    /// Service that started the process, or that the process is.
    pub(super) service: &'static Service,
    pub(super) is_service: bool,
    /// Current program.
    pub(super) program: &'static Program,
    /// Program of the next exec.
    pub(super) next: Option<&'static Program>,
    /// Number that replaces `#` in the arguments.
    pub(super) number: u32,
    /// Threads other than the first, and their start times.
    pub(super) threads: Vec<(Tid, MonoNs)>,
    /// Number of threads that the process has still to start.
    pub(super) threads_to_start: u32,
    /// Number of children that the process has still to start.
    pub(super) children_to_start: u32,
    /// Number of running children.
    pub(super) children: u32,
    pub(super) last_child: Option<ActorHandle>,
    /// Whether the process waits for a child, and is not in the run queue.
    pub(super) waits: bool,
    /// Number of completed steps of the program's behavior.
    pub(super) behavior_step: u32,
    generation: u32,
}

/// All running actors.
#[derive(Default)]
pub(super) struct ActorTable {
    slots: Vec<Option<Actor>>,
    free: Vec<u32>,
    last_generation: u32,
}

impl ActorTable {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&self, handle: ActorHandle) -> Option<&Actor> {
        self.slots[handle.slot as usize].as_ref().filter(|actor| actor.generation == handle.generation)
    }

    pub(super) fn get_mut(&mut self, handle: ActorHandle) -> Option<&mut Actor> {
        self.slots[handle.slot as usize].as_mut().filter(|actor| actor.generation == handle.generation)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Actor> {
        self.slots.iter().flatten()
    }

    /// Adds an actor. Without a parent, the actor is init, which is its own parent here.
    pub(super) fn add(
        &mut self,
        task: Task,
        started: MonoNs,
        parent: Option<ActorHandle>,
        service: &'static Service,
        program: &'static Program,
    ) -> ActorHandle {
        self.last_generation = self.last_generation.wrapping_add(1);
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let handle = ActorHandle { slot: at, generation: self.last_generation };
        self.slots[at as usize] = Some(Actor {
            task,
            started,
            parent: parent.unwrap_or(handle),
            service,
            is_service: false,
            program,
            next: None,
            number: 0,
            threads: Vec::new(),
            threads_to_start: 0,
            children_to_start: 0,
            children: 0,
            last_child: None,
            waits: false,
            behavior_step: 0,
            generation: self.last_generation,
        });
        handle
    }

    pub(super) fn remove(&mut self, handle: ActorHandle) -> Option<Actor> {
        self.get(handle)?;
        self.free.push(handle.slot);
        self.slots[handle.slot as usize].take()
    }
}
