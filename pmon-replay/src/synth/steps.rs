//! The steps of the simulated processes.

use pmon_core::Task;
use pmon_core::capture::Record;

use super::actors::ActorHandle;
use super::machine::SynthMachine;
use super::programs::{Behavior, LOGIN_USER, Program};
use super::simulation::SynthSimulation;

/// Number of different values that replace `#` in arguments.
const NUMBERS: u32 = 1000;
const SIGABRT: u8 = 6;
const SIGKILL: u8 = 9;
const SIGSEGV: u8 = 11;

impl SynthMachine {
    /// Returns the actor that runs next: the first in the run queue, or a service if it may start
    /// more processes.
    pub(super) fn next_actor(&mut self) -> ActorHandle {
        if self.queue.is_empty() || self.has_room() && self.chance(4) {
            let at = self.random.rand_range(0..self.services.len() as u32);
            return self.services[at as usize];
        }
        self.queue.pop_front().unwrap_or(self.services[0])
    }

    /// Appends an actor to the run queue again.
    pub(super) fn requeue(&mut self, handle: ActorHandle) {
        if self.actors.get(handle).is_some_and(|actor| !actor.waits && !actor.is_service) {
            self.queue.push_back(handle);
        }
    }

    fn has_room(&self) -> bool {
        self.actors.len() < self.options.processes as usize
    }
}

impl<E, F: FnMut(&Record<'static>) -> Result<(), E>> SynthSimulation<F> {
    /// Executes one step of an actor. Returns whether the actor may run its next step at once.
    pub(super) fn step(&mut self, handle: ActorHandle) -> Result<bool, E> {
        let Some(actor) = self.machine.actors.get(handle) else { return Ok(false) };
        let (task, program) = (actor.task, actor.program);
        let (next, threads) = (actor.next, actor.threads.len());
        if actor.is_service {
            if !self.machine.has_room() {
                return self.emit_filler(handle).map(|()| false);
            }
            let next = *self.machine.one_of(actor.service.starts);
            return self.spawn(handle, next).map(|()| false);
        }
        // Start nothing that causes more than the remaining events.
        if self.machine.left < threads as u64 + 2 {
            return self.emit_filler(handle).map(|()| true);
        }
        if let Some(next) = next {
            return self.start_program(handle, next).map(|()| true);
        }
        if self.step_behavior(handle)? {
            return Ok(true);
        }
        let has_room = self.machine.has_room();
        let Some(actor) = self.machine.actors.get_mut(handle) else { return Ok(false) };
        if actor.threads_to_start > 0 {
            actor.threads_to_start -= 1;
            let thread = self.machine.kernel.clone_thread(task);
            self.receive(handle)?;
            let now = self.machine.now;
            if let Some(actor) = self.machine.actors.get_mut(handle) {
                actor.threads.push((thread.tid, now));
            }
            return Ok(true);
        }
        if actor.children_to_start > 0 && actor.children < program.parallel {
            if !has_room {
                actor.children_to_start = 0;
                return Ok(true);
            }
            actor.children_to_start -= 1;
            let next = *self.machine.one_of(program.children);
            self.spawn(handle, next)?;
            return Ok(true);
        }
        if actor.children > 0 && program.behavior != Behavior::Leaves {
            actor.waits = true;
            return Ok(false);
        }
        if threads > 0 && self.machine.chance(2) {
            return self.exit_thread(handle).map(|()| true);
        }
        self.exit(handle).map(|()| false)
    }

    /// Renames the process, which emits an event and has no further effect.
    fn emit_filler(&mut self, handle: ActorHandle) -> Result<(), E> {
        let Some(actor) = self.machine.actors.get(handle) else { return Ok(()) };
        let name = actor.program.path.rsplit('/').next().unwrap_or_default();
        self.machine.kernel.rename(actor.task, name);
        self.receive(handle)
    }

    /// Starts a child, which then executes `next`, or continues to run the program of its parent.
    fn spawn(&mut self, handle: ActorHandle, next: Option<&'static Program>) -> Result<(), E> {
        let Some(actor) = self.machine.actors.get(handle) else { return Ok(()) };
        let (task, service, program) = (actor.task, actor.service, actor.program);
        // A compiler and its assembler process the same file; each child of `make` processes
        // another one.
        let has_parts = actor.is_service || program.parallel > 1;
        let number = actor.number;
        let number = if has_parts { self.machine.random.rand_range(0..NUMBERS) } else { number };
        let task = self.machine.kernel.fork(task);
        self.receive(handle)?;
        let child = self.machine.actors.add(task, self.machine.now, Some(handle), service, program);
        if let Some(actor) = self.machine.actors.get_mut(child) {
            (actor.next, actor.number) = (next, number);
        }
        if let Some(actor) = self.machine.actors.get_mut(handle) {
            actor.children += 1;
            actor.last_child = Some(child);
        }
        self.machine.queue.push_back(child);
        Ok(())
    }

    /// Lets a child execute its own program.
    fn start_program(&mut self, handle: ActorHandle, program: &'static Program) -> Result<(), E> {
        let (threads, children) =
            (self.machine.between(program.threads), self.machine.between(program.spawns));
        let Some(actor) = self.machine.actors.get_mut(handle) else { return Ok(()) };
        (actor.program, actor.next, actor.behavior_step) = (program, None, 0);
        (actor.threads_to_start, actor.children_to_start) = (threads, children);
        let (task, number) = (actor.task, actor.number);
        self.machine.exec(task, program, number);
        self.receive(handle)
    }

    /// Executes the next step of the program's behavior. Returns `false` if there is none.
    fn step_behavior(&mut self, handle: ActorHandle) -> Result<bool, E> {
        let Some(actor) = self.machine.actors.get_mut(handle) else { return Ok(false) };
        let (task, behavior, step) = (actor.task, actor.program.behavior, actor.behavior_step);
        let thread = actor.threads.last().map(|&(tid, _)| Task { tid, tgid: task.tgid });
        let child = actor.last_child;
        let is_ready = actor.threads_to_start == 0;
        match (behavior, step) {
            (Behavior::LogsIn, 0) => self.machine.kernel.setsid(task),
            (Behavior::LogsIn, 1) => self.machine.kernel.setgid(task, LOGIN_USER, LOGIN_USER),
            (Behavior::LogsIn, 2) => self.machine.kernel.setuid(task, LOGIN_USER, LOGIN_USER),
            (Behavior::Renames, 0) if is_ready => {
                self.machine.kernel.rename(thread.unwrap_or(task), "worker")
            }
            (Behavior::Traces, 0 | 1) => {
                let Some(child) = child.and_then(|child| self.machine.actors.get(child)) else {
                    return Ok(false);
                };
                match step {
                    0 => self.machine.kernel.ptrace_attach(task, child.task),
                    _ => self.machine.kernel.ptrace_detach(child.task),
                }
            }
            (Behavior::Restarts, 0) if is_ready => {
                let Some(thread) = thread else { return Ok(false) };
                let (program, number) = (actor.program, actor.number);
                self.machine.exec(thread, program, number);
                self.receive(handle)?;
                if let Some(actor) = self.machine.actors.get_mut(handle) {
                    actor.threads.clear();
                    actor.behavior_step += 1;
                }
                return Ok(true);
            }
            _ => return Ok(false),
        }
        if let Some(actor) = self.machine.actors.get_mut(handle) {
            actor.behavior_step += 1;
        }
        self.receive(handle)?;
        Ok(true)
    }

    fn exit_thread(&mut self, handle: ActorHandle) -> Result<(), E> {
        let Some(actor) = self.machine.actors.get(handle) else { return Ok(()) };
        let (tgid, count) = (actor.task.tgid, actor.threads.len() as u32);
        let at = self.machine.random.rand_range(0..count) as usize;
        let Some(&(tid, _)) = self.machine.actors.get(handle).and_then(|actor| actor.threads.get(at)) else {
            return Ok(());
        };
        self.machine.kernel.exit(Task { tid, tgid }, 0);
        self.receive(handle)?;
        if let Some(actor) = self.machine.actors.get_mut(handle) {
            actor.threads.swap_remove(at);
        }
        Ok(())
    }

    /// Ends a process, and resumes its parent if the parent waits for it.
    fn exit(&mut self, handle: ActorHandle) -> Result<(), E> {
        let Some(actor) = self.machine.actors.get(handle) else { return Ok(()) };
        let (tgid, behavior) = (actor.task.tgid, actor.program.behavior);
        let dice = self.machine.random.rand_range(0..32);
        match (behavior, dice) {
            (Behavior::Crashes, 0..4) => self.machine.kernel.kill(tgid, SIGSEGV, true),
            (Behavior::Crashes, 4) => self.machine.kernel.kill(tgid, SIGABRT, true),
            (Behavior::Crashes, 5..8) | (_, 0) => self.machine.kernel.kill(tgid, SIGKILL, false),
            (_, 1..3) => self.machine.kernel.exit_group(tgid, dice as u8),
            _ => self.machine.kernel.exit_group(tgid, 0),
        }
        self.receive(handle)?;
        let Some(ended) = self.machine.actors.remove(handle) else { return Ok(()) };
        if let Some(parent) = self.machine.actors.get_mut(ended.parent) {
            parent.children = parent.children.saturating_sub(1);
            if std::mem::replace(&mut parent.waits, false) {
                self.machine.queue.push_back(ended.parent);
            }
        }
        Ok(())
    }
}
