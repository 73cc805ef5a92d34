//! Tasks by their ids.

use pmon_core::{Task, Tgid, Tid};
use pmon_fake::Kernel;

#[test]
fn a_task_is_found_by_its_thread_id_while_it_runs() {
    let mut kernel = Kernel::new(1);
    let first = kernel.add_process("server");
    let second = kernel.clone_thread(first);
    assert_eq!(kernel.task(first.tid), Some(first));
    assert_eq!(kernel.task(second.tid), Some(Task { tid: second.tid, tgid: first.tgid }));
    // The process lives on without its first thread.
    kernel.exit(first, 0);
    assert_eq!((kernel.task(first.tid), kernel.task(second.tid)), (None, Some(second)));
    kernel.exit(second, 0);
    assert_eq!(kernel.task(second.tid), None);
    assert_eq!(kernel.task(Tid(0)), None);
}

#[test]
fn the_next_pid_can_be_chosen_and_a_taken_one_is_skipped() {
    let mut kernel = Kernel::new(1);
    let shell = kernel.add_process("sh");
    kernel.set_next_pid(5071);
    assert_eq!(kernel.fork(shell), Task::new(5071, 5071));
    kernel.set_next_pid(5071);
    assert_eq!(kernel.clone_thread(shell).tid, Tid(5072));
    kernel.set_next_pid((4 << 20) - 1);
    assert_eq!(kernel.fork(shell).tgid, Tgid((4 << 20) - 1));
    assert_eq!(kernel.fork(shell).tgid, Tgid(301));
}

#[test]
#[should_panic(expected = "4194304 is not a process id")]
fn a_pid_that_no_process_can_have_is_refused() {
    Kernel::new(1).set_next_pid(4 << 20);
}
