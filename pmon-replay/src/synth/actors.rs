//! Who lives in a synthetic host, and what each has still to do.

use pmon_core::{MonoNs, Task, Tid};

use super::programs::{Program, Service};

/// A place among the actors. It is another's once its actor has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) at: u32,
    birth: u32,
}

/// A living process.
pub(super) struct Actor {
    pub(super) task: Task,
    pub(super) started: MonoNs,
    pub(super) parent: Handle,
    /// Its service; or it is that itself.
    pub(super) service: &'static Service,
    pub(super) is_service: bool,
    /// What it runs,
    pub(super) program: &'static Program,
    /// or is to run next.
    pub(super) next: Option<&'static Program>,
    /// The number in its arguments: of what it is about.
    pub(super) number: u32,
    /// Threads besides the first, and when they began.
    pub(super) threads: Vec<(Tid, MonoNs)>,
    /// Threads and children that it has still to start.
    pub(super) threads_to_come: u32,
    pub(super) children_to_come: u32,
    /// Children that it will wait for.
    pub(super) children: u32,
    pub(super) last_child: Option<Handle>,
    /// It is not in the queue: it waits for a child.
    pub(super) waits: bool,
    /// Steps of its program's habit that it has done.
    pub(super) habit: u32,
    birth: u32,
}

/// All that live.
#[derive(Default)]
pub(super) struct Actors {
    places: Vec<Option<Actor>>,
    free: Vec<u32>,
    births: u32,
}

impl Actors {
    pub(super) fn living(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&Actor> {
        self.places[handle.at as usize].as_ref().filter(|actor| actor.birth == handle.birth)
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Actor> {
        self.places[handle.at as usize].as_mut().filter(|actor| actor.birth == handle.birth)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Actor> {
        self.places.iter().flatten()
    }

    /// A process begins; of `None`, it is the first of all, which is its own parent here.
    pub(super) fn begin(
        &mut self,
        task: Task,
        started: MonoNs,
        parent: Option<Handle>,
        service: &'static Service,
        program: &'static Program,
    ) -> Handle {
        self.births = self.births.wrapping_add(1);
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        let handle = Handle { at, birth: self.births };
        self.places[at as usize] = Some(Actor {
            task,
            started,
            parent: parent.unwrap_or(handle),
            service,
            is_service: false,
            program,
            next: None,
            number: 0,
            threads: Vec::new(),
            threads_to_come: 0,
            children_to_come: 0,
            children: 0,
            last_child: None,
            waits: false,
            habit: 0,
            birth: self.births,
        });
        handle
    }

    pub(super) fn end(&mut self, handle: Handle) -> Option<Actor> {
        self.get(handle)?;
        self.free.push(handle.at);
        self.places[handle.at as usize].take()
    }
}
