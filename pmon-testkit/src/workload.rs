//! Events like those of a real machine, for benches.

use pmon_core::wire::{Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task};

/// Returns the events of a build: a shell starts compilers, whose threads name themselves, on four
/// CPUs. Times are as irregular as those of a real clock.
pub fn build(number: usize) -> Vec<Event> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let (mut seqs, mut time, mut pid) = ([0_u32; 4], 1_u64 << 40, 1000_u32);
    let shell = Task::new(900, 900);
    let mut events = Vec::new();
    while events.len() < number {
        pid += 2;
        let (process, thread) = (Task::new(pid, pid), Task::new(pid + 1, pid));
        let leader = Some(shell);
        let exit = |task, signal, parent| EventBody::Exit { task, code: 0, signal, parent };
        for body in [
            EventBody::Fork { parent: shell, child: process },
            EventBody::Exec { task: process },
            EventBody::Fork { parent: shell, child: thread },
            EventBody::Comm { task: thread, comm: Comm(*b"worker-thread\0\0\0") },
            exit(thread, u32::MAX, Some(Task::default())),
            exit(process, 17, leader),
        ] {
            let cpu = next(4) as usize;
            seqs[cpu] += 1;
            time += 2_000 + next(300_000);
            events.push(Event { time: MonoNs(time), seq: Seq(seqs[cpu]), cpu: Cpu(cpu as u32), body });
        }
    }
    events.truncate(number);
    events
}
