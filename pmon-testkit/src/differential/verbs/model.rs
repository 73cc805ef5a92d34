//! A case, by the verbs of the fake kernel.

use pmon_core::Task;
use pmon_core::wire::{ByteOrder, Event};
use pmon_fake::{Errno, Kernel, RecvFlags, Socket};

use super::names::Names;
use super::{Case, Deed};

/// The events of the first task's start, and of each step.
pub(crate) fn play(case: &Case) -> Vec<Vec<String>> {
    let mut kernel = Kernel::new(1);
    let mut socket = kernel.socket();
    socket.listen().expect("a listener");
    socket.recv(&mut [], RecvFlags::empty()).expect("its ack");
    let own = kernel.add_process("differential");
    let mut names = Names::default();
    names.name(1, "init");
    names.name(own.tid.0, "us");
    let mut tasks = vec![kernel.fork(own)];
    let mut heard = vec![events(&mut socket, &mut names)];
    for step in case.steps {
        act(&mut kernel, &mut tasks, step.0, step.1);
        heard.push(events(&mut socket, &mut names));
    }
    heard
}

fn events(socket: &mut Socket, names: &mut Names) -> Vec<String> {
    let mut texts = Vec::new();
    let mut bytes = [0; 128];
    loop {
        match socket.recv(&mut bytes, RecvFlags::empty()) {
            Ok(datagram) => {
                let event = Event::decode(&bytes[..datagram.len], ByteOrder::NATIVE).expect("an event");
                texts.push(names.event(&event));
            }
            Err(Errno::AGAIN) => return texts,
            Err(error) => panic!("a queue with room for all: {error}"),
        }
    }
}

fn act(kernel: &mut Kernel, tasks: &mut Vec<Task>, actor: usize, deed: Deed) {
    let task = tasks[actor];
    match deed {
        Deed::Fork | Deed::Vfork => tasks.push(kernel.fork(task)),
        Deed::Thread => tasks.push(kernel.clone_thread(task)),
        Deed::Exec => {
            let task = kernel.exec(task, "/bin/true", &["true"]);
            kernel.exit(task, 0);
        }
        Deed::Exit(code) => kernel.exit(task, code),
        Deed::ExitGroup(code) => kernel.exit_group(task.tgid, code),
        Deed::Die(signal, core) => kernel.kill(task.tgid, signal, core),
        Deed::Rename(name) => kernel.rename(task, name),
        Deed::Uid(real, effective) => kernel.setuid(task, real, effective),
        Deed::Gid(real, effective) => kernel.setgid(task, real, effective),
        Deed::Session => kernel.setsid(task),
        Deed::Attach(of) => kernel.ptrace_attach(task, tasks[of]),
        Deed::Detach(of) => kernel.ptrace_detach(tasks[of]),
    }
}
