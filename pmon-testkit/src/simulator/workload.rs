//! Processes that perform random actions.

use oorandom::Rand32;
use pmon_core::{Cpu, Task};
use pmon_fake::Kernel;

/// Maximum number of tasks that live at a time.
const MAX_TASKS: usize = 40;

/// A shell and its descendants.
pub(super) struct Workload {
    random: Rand32,
    tasks: Vec<Task>,
    shell: Task,
}

impl Workload {
    pub(super) fn new(kernel: &mut Kernel, seed: u64) -> Self {
        Self { random: Rand32::new(!seed), tasks: Vec::new(), shell: kernel.add_process("sh") }
    }

    /// Performs `actions` random actions, each on a random CPU.
    pub(super) fn perform(&mut self, kernel: &mut Kernel, actions: u32) {
        for _ in 0..actions {
            let cpu = self.random.rand_range(0..kernel.cpus());
            kernel.run_on(Cpu(cpu));
            self.perform_one(kernel);
        }
    }

    /// Renames the shell `events` times on one CPU.
    pub(super) fn flood(&mut self, kernel: &mut Kernel, cpu: Cpu, events: u32) {
        kernel.run_on(cpu);
        (0..events).for_each(|n| kernel.rename(self.shell, if n % 2 == 0 { "flood" } else { "storm" }));
    }

    fn perform_one(&mut self, kernel: &mut Kernel) {
        let at = self.random.rand_range(0..self.tasks.len().max(1) as u32) as usize;
        let Some(&task) = self.tasks.get(at) else { return self.tasks.push(kernel.fork(self.shell)) };
        let number = self.random.rand_range(0..3);
        match self.random.rand_range(0..12) {
            0..3 if self.tasks.len() < MAX_TASKS => self.tasks.push(kernel.fork(task)),
            3 if self.tasks.len() < MAX_TASKS => self.tasks.push(kernel.clone_thread(task)),
            4..6 => {
                let leader = kernel.exec(task, "/bin/true", &["true"]);
                self.remove_process(task);
                self.tasks.push(leader);
            }
            6 => kernel.rename(task, "work"),
            7 => kernel.setuid(task, number, number),
            8 => kernel.setsid(task),
            9 => kernel.ptrace_attach(self.shell, task),
            10 => {
                kernel.kill(task.tgid, 11, number == 0);
                self.remove_process(task);
            }
            _ => {
                kernel.exit_group(task.tgid, number as u8);
                self.remove_process(task);
            }
        }
    }

    /// Removes all threads of a process.
    fn remove_process(&mut self, task: Task) {
        self.tasks.retain(|other| other.tgid != task.tgid);
    }
}
