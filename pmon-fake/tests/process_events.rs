//! The less obvious events of system calls. The `differential` tool of `pmon-testkit` compares them
//! with the kernel's.

use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{Task, Tgid};
use pmon_fake::{Errno, Kernel, RecvFlags, Socket};

fn listening() -> (Kernel, Socket, Task) {
    let mut kernel = Kernel::new(1);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    socket.recv(&mut [], RecvFlags::empty()).unwrap();
    let shell = kernel.add_process("sh");
    (kernel, socket, shell)
}

fn received(socket: &mut Socket) -> Vec<EventBody> {
    let mut bodies = Vec::new();
    let mut bytes = [0; 128];
    while let Ok(datagram) = socket.recv(&mut bytes, RecvFlags::empty()) {
        bodies.push(Event::decode(&bytes[..datagram.len], ByteOrder::NATIVE).unwrap().body);
    }
    bodies
}

fn init() -> Task {
    Task::new(1, 1)
}

#[test]
fn the_parent_is_the_forking_thread_and_after_its_end_another_thread_of_the_process() {
    let (mut kernel, mut socket, shell) = listening();
    let thread = kernel.clone_thread(shell);
    let child = kernel.fork(thread);
    kernel.exit(thread, 0);
    kernel.exit(shell, 0);
    kernel.exit(child, 3);
    let bodies = received(&mut socket);
    assert_eq!(bodies[1], EventBody::Fork { parent: thread, child });
    assert_eq!(bodies[4], EventBody::Exit { task: child, code: 0x300, signal: 17, parent: Some(init()) });

    let (mut kernel, mut socket, shell) = listening();
    let thread = kernel.clone_thread(shell);
    let child = kernel.fork(thread);
    kernel.exit(thread, 0);
    kernel.exit(child, 0);
    let last = received(&mut socket).pop();
    assert_eq!(last, Some(EventBody::Exit { task: child, code: 0, signal: 17, parent: Some(shell) }));
}

#[test]
fn exec_by_another_thread_ends_the_first_thread_with_signal_and_parent() {
    let (mut kernel, mut socket, shell) = listening();
    let (one, two) = (kernel.clone_thread(shell), kernel.clone_thread(shell));
    received(&mut socket);
    assert_eq!(kernel.exec(two, "/bin/true", &["true"]), shell);
    let exit = |task, signal, parent| EventBody::Exit { task, code: 0, signal, parent: Some(parent) };
    let expected =
        [exit(one, u32::MAX, Task::default()), exit(shell, 17, init()), EventBody::Exec { task: shell }];
    assert_eq!(received(&mut socket), expected);
}

#[test]
fn core_signals_emit_a_core_dump_event_and_the_exit_code_reports_a_written_core() {
    for (signal, core, cores, code) in
        [(6, false, 1, 6), (6, true, 1, 0x86), (9, false, 0, 9), (9, true, 0, 9)]
    {
        let (mut kernel, mut socket, shell) = listening();
        kernel.kill(shell.tgid, signal, core);
        let bodies = received(&mut socket);
        assert_eq!(bodies.len(), cores + 1, "{bodies:?}");
        assert!(
            matches!(bodies[cores], EventBody::Exit { code: actual, .. } if actual == code),
            "{bodies:?}"
        );
    }
}

#[test]
fn each_thread_has_its_own_user_ids() {
    let (mut kernel, mut socket, shell) = listening();
    let thread = kernel.clone_thread(shell);
    kernel.setuid(shell, 7, 7);
    kernel.setuid(thread, 0, 0);
    kernel.setuid(thread, 7, 7);
    kernel.setuid(thread, 7, 7);
    let uid = |task| EventBody::Uid { task, real: 7, effective: 7 };
    assert_eq!(received(&mut socket)[1..], [uid(shell), uid(thread)]);
    assert_eq!(kernel.process(shell.tgid).unwrap().uid, (7, 7));
}

#[test]
fn a_session_leader_cannot_start_another_session() {
    let (mut kernel, mut socket, shell) = listening();
    let thread = kernel.clone_thread(shell);
    kernel.setsid(thread);
    kernel.setsid(shell);
    assert_eq!(received(&mut socket)[1..], [EventBody::Sid { task: shell }]);
}

#[test]
fn the_first_port_of_a_process_is_its_id_and_a_failed_bind_still_shows_in_the_name() {
    let (kernel, _socket, shell) = listening();
    let (mut one, mut two) = (kernel.socket_of(shell.tgid), kernel.socket_of(shell.tgid));
    one.bind(0, 1).unwrap();
    assert_eq!((one.name(), Tgid(one.name().0)), ((shell.tgid.0, 1), shell.tgid));
    assert_eq!(two.bind(shell.tgid.0, 1), Err(Errno::ADDRINUSE));
    assert_eq!(two.name(), (shell.tgid.0, 0));
    two.listen().unwrap();
    assert_eq!(two.name(), (u32::MAX - 4096, 1));
}
