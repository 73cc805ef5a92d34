//! What verbs emit, where it is not what one would think. `pmon-testkit/src/differential` has it from the kernel.

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

fn heard(socket: &mut Socket) -> Vec<EventBody> {
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
fn a_parent_is_the_thread_that_forked_and_after_its_end_another_one_of_the_process() {
    let (mut kernel, mut socket, shell) = listening();
    let thread = kernel.clone_thread(shell);
    let child = kernel.fork(thread);
    kernel.exit(thread, 0);
    kernel.exit(shell, 0);
    kernel.exit(child, 3);
    let heard = heard(&mut socket);
    assert_eq!(heard[1], EventBody::Fork { parent: thread, child });
    assert_eq!(heard[4], EventBody::Exit { task: child, code: 0x300, signal: 17, parent: Some(init()) });

    let (mut kernel, mut socket, shell) = listening();
    let thread = kernel.clone_thread(shell);
    let child = kernel.fork(thread);
    kernel.exit(thread, 0);
    kernel.exit(child, 0);
    let last = self::heard(&mut socket).pop();
    assert_eq!(last, Some(EventBody::Exit { task: child, code: 0, signal: 17, parent: Some(shell) }));
}

#[test]
fn exec_by_another_thread_ends_the_first_one_with_its_signal_and_parent() {
    let (mut kernel, mut socket, shell) = listening();
    let (one, two) = (kernel.clone_thread(shell), kernel.clone_thread(shell));
    heard(&mut socket);
    assert_eq!(kernel.exec(two, "/bin/true", &["true"]), shell);
    let end = |task, signal, parent| EventBody::Exit { task, code: 0, signal, parent: Some(parent) };
    let expected =
        [end(one, u32::MAX, Task::default()), end(shell, 17, init()), EventBody::Exec { task: shell }];
    assert_eq!(heard(&mut socket), expected);
}

#[test]
fn the_event_of_a_core_comes_with_its_signals_and_the_code_says_whether_one_was_written() {
    for (signal, core, cores, code) in
        [(6, false, 1, 6), (6, true, 1, 0x86), (9, false, 0, 9), (9, true, 0, 9)]
    {
        let (mut kernel, mut socket, shell) = listening();
        kernel.kill(shell.tgid, signal, core);
        let heard = heard(&mut socket);
        assert_eq!(heard.len(), cores + 1, "{heard:?}");
        assert!(matches!(heard[cores], EventBody::Exit { code: found, .. } if found == code), "{heard:?}");
    }
}

#[test]
fn each_thread_has_its_own_ids() {
    let (mut kernel, mut socket, shell) = listening();
    let thread = kernel.clone_thread(shell);
    kernel.setuid(shell, 7, 7);
    kernel.setuid(thread, 0, 0);
    kernel.setuid(thread, 7, 7);
    kernel.setuid(thread, 7, 7);
    let uid = |task| EventBody::Uid { task, real: 7, effective: 7 };
    assert_eq!(heard(&mut socket)[1..], [uid(shell), uid(thread)]);
    assert_eq!(kernel.process(shell.tgid).unwrap().uid, (7, 7));
}

#[test]
fn who_leads_a_session_cannot_begin_another() {
    let (mut kernel, mut socket, shell) = listening();
    let thread = kernel.clone_thread(shell);
    kernel.setsid(thread);
    kernel.setsid(shell);
    assert_eq!(heard(&mut socket)[1..], [EventBody::Sid { task: shell }]);
}

#[test]
fn the_first_port_of_a_process_is_its_id_and_a_port_that_is_taken_shows_but_is_not_had() {
    let (kernel, _socket, shell) = listening();
    let (mut one, mut two) = (kernel.socket_of(shell.tgid), kernel.socket_of(shell.tgid));
    one.bind(0, 1).unwrap();
    assert_eq!((one.name(), Tgid(one.name().0)), ((shell.tgid.0, 1), shell.tgid));
    assert_eq!(two.bind(shell.tgid.0, 1), Err(Errno::ADDRINUSE));
    assert_eq!(two.name(), (shell.tgid.0, 0));
    two.listen().unwrap();
    assert_eq!(two.name(), (u32::MAX - 4096, 1));
}
