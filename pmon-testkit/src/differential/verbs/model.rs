//! Performs a case by the verbs of the fake kernel.

use pmon_core::Task;
use pmon_core::wire::{ByteOrder, Event};
use pmon_fake::{Errno, Kernel, RecvFlags, Socket};

use super::names::TaskNames;
use super::{TaskAction, VerbCase};

/// Returns the events of the first task's start, and of each step.
pub(crate) fn perform(case: &VerbCase) -> Vec<Vec<String>> {
    let mut kernel = Kernel::new(1);
    let mut socket = kernel.socket();
    socket.listen().expect("a listener");
    socket.recv(&mut [], RecvFlags::empty()).expect("its ack");
    let own = kernel.add_process("differential");
    let mut names = TaskNames::default();
    names.name(1, "init");
    names.name(own.tid.0, "own");
    let mut tasks = vec![kernel.fork(own)];
    let mut received = vec![events(&mut socket, &mut names)];
    for step in case.steps {
        perform_step(&mut kernel, &mut tasks, step.0, step.1);
        received.push(events(&mut socket, &mut names));
    }
    received
}

fn events(socket: &mut Socket, names: &mut TaskNames) -> Vec<String> {
    let mut texts = Vec::new();
    let mut bytes = [0; 128];
    loop {
        match socket.recv(&mut bytes, RecvFlags::empty()) {
            Ok(datagram) => {
                let event = Event::decode(&bytes[..datagram.len], ByteOrder::NATIVE).expect("an event");
                texts.push(names.event(&event));
            }
            Err(Errno::AGAIN) => return texts,
            Err(error) => panic!("a queue that is large enough: {error}"),
        }
    }
}

fn perform_step(kernel: &mut Kernel, tasks: &mut Vec<Task>, actor: usize, action: TaskAction) {
    let task = tasks[actor];
    match action {
        TaskAction::Fork | TaskAction::Vfork => tasks.push(kernel.fork(task)),
        TaskAction::Thread => tasks.push(kernel.clone_thread(task)),
        TaskAction::Exec => {
            let task = kernel.exec(task, "/bin/true", &["true"]);
            kernel.exit(task, 0);
        }
        TaskAction::Exit(code) => kernel.exit(task, code),
        TaskAction::ExitGroup(code) => kernel.exit_group(task.tgid, code),
        TaskAction::Die(signal, core) => kernel.kill(task.tgid, signal, core),
        TaskAction::Rename(name) => kernel.rename(task, name),
        TaskAction::Uid(real, effective) => kernel.setuid(task, real, effective),
        TaskAction::Gid(real, effective) => kernel.setgid(task, real, effective),
        TaskAction::Session => kernel.setsid(task),
        TaskAction::Attach(of) => kernel.ptrace_attach(task, tasks[of]),
        TaskAction::Detach(of) => kernel.ptrace_detach(tasks[of]),
    }
}
