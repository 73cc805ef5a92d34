//! What a process does next.

use pmon_core::Task;
use pmon_core::capture::Record;

use super::actors::Handle;
use super::host::{USER, World};
use super::programs::{Habit, Program};
use super::records::Recorder;

/// ProcessTable are about so many things.
const NUMBERS: u32 = 1000;
const SIGABRT: u8 = 6;
const SIGKILL: u8 = 9;
const SIGSEGV: u8 = 11;

impl World {
    /// Who runs next: one that waits for a CPU, or a service, if there is room for what it starts.
    pub(super) fn pick(&mut self) -> Handle {
        if self.queue.is_empty() || self.has_room() && self.chance(4) {
            let at = self.random.rand_range(0..self.services.len() as u32);
            return self.services[at as usize];
        }
        self.queue.pop_front().unwrap_or(self.services[0])
    }

    /// It has run for long enough: others do now.
    pub(super) fn put_back(&mut self, handle: Handle) {
        if self.actors.get(handle).is_some_and(|actor| !actor.waits && !actor.is_service) {
            self.queue.push_back(handle);
        }
    }

    /// One step of an actor; whether it goes on at once.
    pub(super) fn step<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        handle: Handle,
        recorder: &mut Recorder<F>,
    ) -> Result<bool, E> {
        let Some(actor) = self.actors.get(handle) else { return Ok(false) };
        let (task, program) = (actor.task, actor.program);
        let (next, threads) = (actor.next, actor.threads.len());
        if actor.is_service {
            if !self.has_room() {
                return self.fill(handle, recorder).map(|()| false);
            }
            let next = *self.one_of(actor.service.starts);
            return self.spawn(handle, next, recorder).map(|()| false);
        }
        // What takes more events than there may still be is not begun.
        if self.left < threads as u64 + 2 {
            return self.fill(handle, recorder).map(|()| true);
        }
        if let Some(next) = next {
            return self.begin(handle, next, recorder).map(|()| true);
        }
        if self.live_habit(handle, recorder)? {
            return Ok(true);
        }
        let has_room = self.has_room();
        let Some(actor) = self.actors.get_mut(handle) else { return Ok(false) };
        if actor.threads_to_come > 0 {
            actor.threads_to_come -= 1;
            let thread = self.kernel.clone_thread(task);
            self.hear(handle, recorder)?;
            let now = self.now;
            if let Some(actor) = self.actors.get_mut(handle) {
                actor.threads.push((thread.tid, now));
            }
            return Ok(true);
        }
        if actor.children_to_come > 0 && actor.children < program.parallel {
            if !has_room {
                actor.children_to_come = 0;
                return Ok(true);
            }
            actor.children_to_come -= 1;
            let next = *self.one_of(program.children);
            self.spawn(handle, next, recorder)?;
            return Ok(true);
        }
        if actor.children > 0 && program.habit != Habit::Leaves {
            actor.waits = true;
            return Ok(false);
        }
        if threads > 0 && self.chance(2) {
            return self.end_thread(handle, recorder).map(|()| true);
        }
        self.end(handle, recorder).map(|()| false)
    }

    fn has_room(&self) -> bool {
        self.actors.living() < self.options.processes as usize
    }

    /// An event that changes little, where there is no room for more.
    fn fill<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        handle: Handle,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        let Some(actor) = self.actors.get(handle) else { return Ok(()) };
        let name = actor.program.path.rsplit('/').next().unwrap_or_default();
        self.kernel.rename(actor.task, name);
        self.hear(handle, recorder)
    }

    /// A child, which is to run `next`, or what its parent runs.
    fn spawn<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        handle: Handle,
        next: Option<&'static Program>,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        let Some(actor) = self.actors.get(handle) else { return Ok(()) };
        let (task, service, program) = (actor.task, actor.service, actor.program);
        // A compiler and its assembler are about the same file; of `make`, each child is about another.
        let has_parts = actor.is_service || program.parallel > 1;
        let number = actor.number;
        let number = if has_parts { self.random.rand_range(0..NUMBERS) } else { number };
        let task = self.kernel.fork(task);
        self.hear(handle, recorder)?;
        let child = self.actors.begin(task, self.now, Some(handle), service, program);
        if let Some(actor) = self.actors.get_mut(child) {
            (actor.next, actor.number) = (next, number);
        }
        if let Some(actor) = self.actors.get_mut(handle) {
            actor.children += 1;
            actor.last_child = Some(child);
        }
        self.queue.push_back(child);
        Ok(())
    }

    /// A child does what it is there for.
    fn begin<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        handle: Handle,
        program: &'static Program,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        let (threads, children) = (self.between(program.threads), self.between(program.spawns));
        let Some(actor) = self.actors.get_mut(handle) else { return Ok(()) };
        (actor.program, actor.next, actor.habit) = (program, None, 0);
        (actor.threads_to_come, actor.children_to_come) = (threads, children);
        let (task, number) = (actor.task, actor.number);
        self.run_program(task, program, number);
        self.hear(handle, recorder)
    }

    /// What comes of its program's habit now; `false` if nothing does.
    fn live_habit<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        handle: Handle,
        recorder: &mut Recorder<F>,
    ) -> Result<bool, E> {
        let Some(actor) = self.actors.get_mut(handle) else { return Ok(false) };
        let (task, habit, step) = (actor.task, actor.program.habit, actor.habit);
        let thread = actor.threads.last().map(|&(tid, _)| Task { tid, tgid: task.tgid });
        let child = actor.last_child;
        let is_ready = actor.threads_to_come == 0;
        match (habit, step) {
            (Habit::LogsIn, 0) => self.kernel.setsid(task),
            (Habit::LogsIn, 1) => self.kernel.setgid(task, USER, USER),
            (Habit::LogsIn, 2) => self.kernel.setuid(task, USER, USER),
            (Habit::Renames, 0) if is_ready => self.kernel.rename(thread.unwrap_or(task), "worker"),
            (Habit::Traces, 0 | 1) => {
                let Some(child) = child.and_then(|child| self.actors.get(child)) else { return Ok(false) };
                match step {
                    0 => self.kernel.ptrace_attach(task, child.task),
                    _ => self.kernel.ptrace_detach(child.task),
                }
            }
            (Habit::Restarts, 0) if is_ready => {
                let Some(thread) = thread else { return Ok(false) };
                let (program, number) = (actor.program, actor.number);
                self.run_program(thread, program, number);
                self.hear(handle, recorder)?;
                if let Some(actor) = self.actors.get_mut(handle) {
                    actor.threads.clear();
                    actor.habit += 1;
                }
                return Ok(true);
            }
            _ => return Ok(false),
        }
        if let Some(actor) = self.actors.get_mut(handle) {
            actor.habit += 1;
        }
        self.hear(handle, recorder)?;
        Ok(true)
    }

    fn end_thread<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        handle: Handle,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        let Some(actor) = self.actors.get(handle) else { return Ok(()) };
        let (tgid, count) = (actor.task.tgid, actor.threads.len() as u32);
        let at = self.random.rand_range(0..count) as usize;
        let Some(&(tid, _)) = self.actors.get(handle).and_then(|actor| actor.threads.get(at)) else {
            return Ok(());
        };
        self.kernel.exit(Task { tid, tgid }, 0);
        self.hear(handle, recorder)?;
        if let Some(actor) = self.actors.get_mut(handle) {
            actor.threads.swap_remove(at);
        }
        Ok(())
    }

    /// A process ends, and its parent goes on if it has waited for that.
    fn end<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        handle: Handle,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        let Some(actor) = self.actors.get(handle) else { return Ok(()) };
        let (tgid, habit) = (actor.task.tgid, actor.program.habit);
        let luck = self.random.rand_range(0..32);
        match (habit, luck) {
            (Habit::Crashes, 0..4) => self.kernel.kill(tgid, SIGSEGV, true),
            (Habit::Crashes, 4) => self.kernel.kill(tgid, SIGABRT, true),
            (Habit::Crashes, 5..8) | (_, 0) => self.kernel.kill(tgid, SIGKILL, false),
            (_, 1..3) => self.kernel.exit_group(tgid, luck as u8),
            _ => self.kernel.exit_group(tgid, 0),
        }
        self.hear(handle, recorder)?;
        let Some(ended) = self.actors.end(handle) else { return Ok(()) };
        if let Some(parent) = self.actors.get_mut(ended.parent) {
            parent.children = parent.children.saturating_sub(1);
            if std::mem::replace(&mut parent.waits, false) {
                self.queue.push_back(ended.parent);
            }
        }
        Ok(())
    }
}
