//! Tasks that perform steps by system calls only. They share memory with a process of many threads,
//! or are a copy of one, so they must not use locks, allocations or thread-locals.

use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use super::{TaskAction, TaskStep};

/// Maximum number of tasks of a tree.
pub(crate) const TASKS: usize = 8;
const STACK: usize = 64 << 10;

/// Memory that the tasks of a tree share. Processes have it mapped.
#[repr(C)]
pub(crate) struct SharedState {
    steps: &'static [TaskStep],
    /// Pipes from which each task reads its next step, and the number of the task that the step
    /// starts.
    commands: [[libc::c_int; 2]; TASKS],
    /// Pipe to which a task writes the step that it has finished.
    done: [libc::c_int; 2],
    /// IDs of the tasks.
    tids: [AtomicI32; TASKS],
    /// A stack for each task but the first. Stacks are private mappings: after a fork, each process
    /// continues on its own copy.
    stacks: *mut u8,
}

/// A tree of tasks.
pub(crate) struct TaskTree {
    state: *mut SharedState,
    root: libc::pid_t,
}

/// The start argument of a task.
#[repr(C)]
struct TaskStart {
    state: *mut SharedState,
    task: usize,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Maps new memory, filled with zeros.
fn map(len: usize, sharing: libc::c_int) -> io::Result<*mut libc::c_void> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, sharing | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping changes no existing memory.
    let memory = unsafe { libc::mmap(null_mut(), len, access, flags, -1, 0) };
    if memory == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(memory) }
}

impl TaskTree {
    /// Starts the first task, a process, in that directory.
    pub(crate) fn new(steps: &'static [TaskStep], dir: &std::ffi::CStr) -> io::Result<Self> {
        // SAFETY: the new memory has the size of a `SharedState`. Zeros are valid for all its
        // fields but the slice, which is written at once. The mappings are unmapped when the tree
        // is dropped, also after an error. The child makes only system calls.
        unsafe {
            let state = map(size_of::<SharedState>(), libc::MAP_SHARED)?;
            let state = state.cast::<SharedState>();
            (&raw mut (*state).steps).write(steps);
            let mut this = Self { state, root: 0 };
            (*state).stacks = map(TASKS * STACK, libc::MAP_PRIVATE)?.cast();
            for pipe in (*state).commands.iter_mut().chain([&mut (*state).done]) {
                check(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC))?;
            }
            this.root = check(libc::fork())?;
            if this.root == 0 {
                libc::chdir(dir.as_ptr());
                act_as(state, 0);
            }
            Ok(this)
        }
    }

    /// Makes a task perform a step. `makes` is the number of the task that the step starts, if it
    /// does.
    pub(crate) fn command(&self, task: usize, step: usize, makes: usize) -> io::Result<()> {
        let command = [step as u8, makes as u8];
        // SAFETY: the state is mapped as long as the tree exists; the kernel reads the two bytes of
        // `command`.
        let sent = unsafe { libc::write((*self.state).commands[task][1], command.as_ptr().cast(), 2) };
        if sent == 2 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits at most `ms` ms for a task to finish a step. Returns the step.
    pub(crate) fn done(&self, ms: i32) -> Option<usize> {
        // SAFETY: the state is mapped as long as the tree exists; the kernel writes to `poll` and
        // `step`, which outlive the calls.
        unsafe {
            let fd = (*self.state).done[0];
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut step = 0_u8;
            let is_ready = libc::poll(&raw mut poll, 1, ms) == 1;
            (is_ready && libc::read(fd, (&raw mut step).cast(), 1) == 1).then_some(step.into())
        }
    }

    /// Kills the processes of the tree that are still alive.
    pub(crate) fn end(&self, processes: impl Iterator<Item = u32>) {
        for process in processes {
            // SAFETY: a system call that takes only numbers. The process is of this tree and has
            // not ended.
            unsafe { libc::kill(process as libc::pid_t, libc::SIGKILL) };
        }
    }
}

impl Drop for TaskTree {
    fn drop(&mut self) {
        // SAFETY: the pipes belong to the tree; those that were not created are 0 and skipped.
        // Nothing refers to the state any longer: the first process has been waited for, and the
        // others have their own mappings. A child that was not waited for is killed, and its ID is
        // still in use.
        unsafe {
            if self.root > 0 {
                libc::kill(self.root, libc::SIGKILL);
                libc::waitpid(self.root, null_mut(), libc::__WALL);
            }
            let state = &*self.state;
            for &fd in state.commands.iter().flatten().chain(&state.done).filter(|&&fd| fd > 0) {
                libc::close(fd);
            }
            if !state.stacks.is_null() {
                libc::munmap(state.stacks.cast(), TASKS * STACK);
            }
            libc::munmap(self.state.cast(), size_of::<SharedState>());
        }
    }
}

/// Performs the steps of a task. Never returns.
///
/// # Safety
/// The state must be mapped as long as the task exists.
unsafe fn act_as(state: *mut SharedState, task: usize) -> ! {
    // SAFETY: the state is mapped, and its non-atomic fields are not written after the first
    // process was started; commands are two bytes. Only system calls are made here.
    unsafe {
        (*state).tids[task].store(libc::syscall(libc::SYS_gettid) as i32, SeqCst);
        loop {
            let mut command = [0_u8; 2];
            if libc::read((*state).commands[task][0], command.as_mut_ptr().cast(), 2) != 2 {
                libc::syscall(libc::SYS_exit_group, 1);
            }
            let steps = (*state).steps;
            let Some(step) = steps.get(usize::from(command[0])) else { continue };
            act(state, step.1, command[1].into());
            libc::write((*state).done[1], command.as_ptr().cast(), 1);
        }
    }
}

/// # Safety
/// As [`act_as`].
unsafe fn act(state: *mut SharedState, action: TaskAction, makes: usize) {
    let same = -1 as libc::c_long;
    // SAFETY: system calls that take numbers, strings that end with a zero, and pointers to values
    // that outlive the calls.
    unsafe {
        match action {
            TaskAction::Fork => {
                let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
                if child == 0 {
                    act_as(state, makes);
                }
                // The tracer can then attach before the child has announced itself.
                (*state).tids[makes].store(child as i32, SeqCst);
            }
            TaskAction::Vfork => start(state, makes, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD),
            TaskAction::Thread => {
                let thread = libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_SYSVSEM;
                start(state, makes, thread | libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES);
            }
            TaskAction::Exec => {
                let arguments = [c"true".as_ptr(), std::ptr::null()];
                let none: [*const libc::c_char; 1] = [std::ptr::null()];
                libc::syscall(libc::SYS_execve, c"/bin/true".as_ptr(), arguments.as_ptr(), none.as_ptr());
            }
            TaskAction::Exit(code) => {
                libc::syscall(libc::SYS_exit, libc::c_long::from(code));
            }
            TaskAction::ExitGroup(code) => {
                libc::syscall(libc::SYS_exit_group, libc::c_long::from(code));
            }
            TaskAction::Die(signal, core) => end_by_signal(signal.into(), core),
            TaskAction::Rename(name) => {
                let mut text = [0_u8; 64];
                text[..name.len()].copy_from_slice(name.as_bytes());
                libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, text.as_ptr());
            }
            TaskAction::Uid(real, effective) => {
                libc::syscall(
                    libc::SYS_setresuid,
                    libc::c_long::from(real),
                    libc::c_long::from(effective),
                    same,
                );
            }
            TaskAction::Gid(real, effective) => {
                libc::syscall(
                    libc::SYS_setresgid,
                    libc::c_long::from(real),
                    libc::c_long::from(effective),
                    same,
                );
            }
            TaskAction::Session => {
                libc::syscall(libc::SYS_setsid);
            }
            TaskAction::Attach(of) => {
                let of = (*state).tids[of].load(SeqCst);
                libc::syscall(libc::SYS_ptrace, libc::c_long::from(libc::PTRACE_ATTACH), of, 0, 0);
                libc::syscall(libc::SYS_wait4, of, 0, libc::__WALL, 0);
            }
            TaskAction::Detach(of) => {
                let of = (*state).tids[of].load(SeqCst);
                libc::syscall(libc::SYS_ptrace, libc::c_long::from(libc::PTRACE_DETACH), of, 0, 0);
            }
        }
    }
}

/// Ends the process by a signal.
///
/// # Safety
/// The process must be one of the tree.
unsafe fn end_by_signal(signal: libc::c_int, core: bool) {
    // SAFETY: system calls that take numbers, and pointers to values that outlive the calls.
    unsafe {
        if core {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit);
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        } else {
            libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 0);
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), signal);
    }
}

/// Starts a task that shares the memory of this one.
///
/// # Safety
/// As [`act_as`].
unsafe fn start(state: *mut SharedState, task: usize, flags: libc::c_int) {
    // SAFETY: each task has its own stack. The start argument is at its upper end, and the stack
    // itself begins below. The stack is mapped as long as the state is.
    unsafe {
        let end = (*state).stacks.add((task + 1) * STACK);
        let start_argument = end.sub(64).cast::<TaskStart>();
        start_argument.write(TaskStart { state, task });
        let child = libc::clone(run, start_argument.cast(), flags, start_argument.cast());
        (*state).tids[task].store(child, SeqCst);
    }
}

extern "C" fn run(start_argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` wrote it.
    unsafe {
        let TaskStart { state, task } = start_argument.cast::<TaskStart>().read();
        act_as(state, task)
    }
}
