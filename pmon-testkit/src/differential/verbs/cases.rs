//! The cases of the verbs.

use super::TaskAction::{
    Attach, Detach, Die, Exec, Exit, ExitGroup, Fork, Gid, Rename, Session, Thread, Uid, Vfork,
};
use super::{TaskStep as Step, VerbCase};

const ABRT: u8 = libc::SIGABRT as u8;
const KILL: u8 = libc::SIGKILL as u8;
const SEGV: u8 = libc::SIGSEGV as u8;
const TERM: u8 = libc::SIGTERM as u8;

const fn case(name: &'static str, steps: &'static [Step]) -> VerbCase {
    VerbCase { name, steps, varies: None }
}

/// Returns a case in which several threads exit at once.
const fn together(name: &'static str, steps: &'static [Step]) -> VerbCase {
    VerbCase { name, steps, varies: Some("the scheduler decides which thread ends first") }
}

/// Returns a case in which a thread takes the first thread's ID. The first thread may emit its exit
/// event after it has lost the ID.
const fn replaced(name: &'static str, steps: &'static [Step]) -> VerbCase {
    VerbCase {
        name,
        steps,
        varies: Some("exec continues as soon as the first thread is a zombie, perhaps before its exit event"),
    }
}

/// All cases.
pub const CASES: &[VerbCase] = &[
    case("fork", &[Step(0, Fork), Step(1, Exit(3)), Step(0, Exit(0))]),
    case("vfork, exec", &[Step(0, Vfork), Step(1, Exec), Step(0, Exit(0))]),
    case("vfork, exit", &[Step(0, Vfork), Step(1, Exit(1)), Step(0, Exit(0))]),
    case(
        "a thread",
        &[Step(0, Thread), Step(1, Thread), Step(1, Exit(7)), Step(2, Exit(0)), Step(0, Exit(0))],
    ),
    case(
        "a thread that forks",
        &[Step(0, Thread), Step(1, Fork), Step(2, Thread), Step(3, Exit(0)), Step(2, Exit(0))],
    ),
    together(
        "a thread that forks and ends",
        &[Step(0, Thread), Step(1, Fork), Step(1, Exit(0)), Step(2, Thread), Step(2, Die(ABRT, false))],
    ),
    case("exec", &[Step(0, Exec)]),
    together("exec by the first of two threads", &[Step(0, Thread), Step(0, Exec)]),
    replaced("exec by the second of two threads", &[Step(0, Thread), Step(1, Exec)]),
    replaced(
        "exec by one of four threads",
        &[Step(0, Thread), Step(0, Thread), Step(0, Thread), Step(2, Exec)],
    ),
    replaced(
        "exec by a thread that has forked",
        &[Step(0, Thread), Step(1, Fork), Step(0, Fork), Step(1, Exec), Step(2, Exit(0))],
    ),
    case(
        "the first thread ends first",
        &[Step(0, Thread), Step(0, Exit(1)), Step(1, Thread), Step(2, Exit(3)), Step(1, Exit(2))],
    ),
    together(
        "the first thread ends, another ends the process",
        &[Step(0, Thread), Step(0, Thread), Step(0, Exit(1)), Step(1, ExitGroup(2))],
    ),
    case(
        "the first thread ends, another is killed",
        &[Step(0, Thread), Step(0, Exit(1)), Step(1, Die(ABRT, false))],
    ),
    case("the first thread ends, another execs", &[Step(0, Thread), Step(0, Exit(1)), Step(1, Exec)]),
    case(
        "the first thread forks and ends",
        &[
            Step(0, Fork),
            Step(0, Thread),
            Step(0, Thread),
            Step(0, Exit(0)),
            Step(1, Thread),
            Step(1, Exit(0)),
        ],
    ),
    case("exit_group", &[Step(0, ExitGroup(4))]),
    together(
        "exit_group by the first of three threads",
        &[Step(0, Thread), Step(0, Thread), Step(0, ExitGroup(4))],
    ),
    together(
        "exit_group by the second of three threads",
        &[Step(0, Thread), Step(0, Thread), Step(1, ExitGroup(4))],
    ),
    case("killed", &[Step(0, Die(KILL, false))]),
    together("killed with three threads", &[Step(0, Thread), Step(0, Thread), Step(0, Die(TERM, false))]),
    case("aborted, no core", &[Step(0, Die(ABRT, false))]),
    case("a core", &[Step(0, Die(SEGV, true))]),
    together("a core of three threads", &[Step(0, Thread), Step(0, Thread), Step(0, Die(SEGV, true))]),
    case(
        "user ids",
        &[
            Step(0, Uid(0, 7)),
            Step(0, Uid(0, 7)),
            Step(0, Uid(7, 0)),
            Step(0, Uid(7, 7)),
            Step(0, Uid(7, 7)),
            Step(0, Fork),
            Step(1, Uid(7, 7)),
        ],
    ),
    case(
        "user ids of threads",
        &[
            Step(0, Thread),
            Step(0, Uid(7, 7)),
            Step(1, Uid(7, 7)),
            Step(1, Uid(7, 7)),
            Step(1, Thread),
            Step(2, Uid(7, 7)),
        ],
    ),
    case("group ids", &[Step(0, Gid(0, 0)), Step(0, Gid(0, 7)), Step(0, Gid(7, 7)), Step(0, Gid(7, 7))]),
    case("setsid", &[Step(0, Session), Step(0, Session), Step(0, Fork), Step(1, Session)]),
    case("setsid by a thread", &[Step(0, Thread), Step(1, Session)]),
    case("ptrace", &[Step(0, Fork), Step(0, Attach(1)), Step(0, Detach(1)), Step(1, Exit(0))]),
    case(
        "ptrace by a thread, of a thread",
        &[Step(0, Fork), Step(1, Thread), Step(0, Thread), Step(3, Attach(2)), Step(3, Detach(2))],
    ),
    case("a tracer that ends", &[Step(0, Fork), Step(0, Attach(1)), Step(0, Exit(0)), Step(1, Exit(0))]),
    case(
        "names",
        &[
            Step(0, Rename("")),
            Step(0, Rename("a")),
            Step(0, Rename("fifteen bytes ..")),
            Step(0, Rename("more than fifteen bytes")),
            Step(0, Rename("a")),
        ],
    ),
    case("the name of a thread", &[Step(0, Thread), Step(1, Rename("thread")), Step(0, Rename("first"))]),
    case(
        "a child whose parent has died",
        &[
            Step(0, Fork),
            Step(1, Fork),
            Step(1, Exit(0)),
            Step(2, Thread),
            Step(2, Fork),
            Step(3, Exit(0)),
            Step(2, Die(ABRT, false)),
        ],
    ),
];
