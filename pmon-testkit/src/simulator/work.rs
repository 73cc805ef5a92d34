//! Processes that do this and that.

use oorandom::Rand32;
use pmon_core::{Cpu, Task};
use pmon_fake::Kernel;

/// No more live at a time.
const MOST: usize = 40;

/// See the module.
pub(crate) struct Work {
    random: Rand32,
    tasks: Vec<Task>,
    shell: Task,
}

impl Work {
    pub(crate) fn new(kernel: &mut Kernel, seed: u64) -> Self {
        Self { random: Rand32::new(!seed), tasks: Vec::new(), shell: kernel.add_process("sh") }
    }

    /// So many things happen.
    pub(crate) fn some(&mut self, kernel: &mut Kernel, things: u32) {
        for _ in 0..things {
            let cpu = self.random.rand_range(0..kernel.cpus());
            kernel.run_on(Cpu(cpu));
            self.one(kernel);
        }
    }

    /// Somebody renames itself, again and again.
    pub(crate) fn flood(&mut self, kernel: &mut Kernel, cpu: Cpu, events: u32) {
        kernel.run_on(cpu);
        (0..events).for_each(|n| kernel.rename(self.shell, if n % 2 == 0 { "flood" } else { "storm" }));
    }

    fn one(&mut self, kernel: &mut Kernel) {
        let at = self.random.rand_range(0..self.tasks.len().max(1) as u32) as usize;
        let Some(&task) = self.tasks.get(at) else { return self.tasks.push(kernel.fork(self.shell)) };
        let number = self.random.rand_range(0..3);
        match self.random.rand_range(0..12) {
            0..3 if self.tasks.len() < MOST => self.tasks.push(kernel.fork(task)),
            3 if self.tasks.len() < MOST => self.tasks.push(kernel.clone_thread(task)),
            4..6 => {
                let after = kernel.exec(task, "/bin/true", &["true"]);
                self.forget(task);
                self.tasks.push(after);
            }
            6 => kernel.rename(task, "work"),
            7 => kernel.setuid(task, number, number),
            8 => kernel.setsid(task),
            9 => kernel.ptrace_attach(self.shell, task),
            10 => {
                kernel.kill(task.tgid, 11, number == 0);
                self.forget(task);
            }
            _ => {
                kernel.exit_group(task.tgid, number as u8);
                self.forget(task);
            }
        }
    }

    /// The threads of a process are gone.
    fn forget(&mut self, task: Task) {
        self.tasks.retain(|other| other.tgid != task.tgid);
    }
}
