//! Tasks that do what they are told, by system calls only: they share memory with a process of many threads, or are a copy of one, so
//! that neither locks nor allocations nor thread-locals are theirs to use.

use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use super::{Deed, Step};

/// The most tasks of a tree.
pub(crate) const TASKS: usize = 8;
const STACK: usize = 64 << 10;

/// What the tasks of a tree share; processes have it mapped.
#[repr(C)]
pub(crate) struct Stage {
    steps: &'static [Step],
    /// Where each task reads which step is its next, and which task that would make.
    commands: [[libc::c_int; 2]; TASKS],
    /// Where a task says that it is done.
    done: [libc::c_int; 2],
    /// Their ids.
    tids: [AtomicI32; TASKS],
    /// A stack for each task but the first. It is not shared between processes: one that forks goes on, on its own.
    stacks: *mut u8,
}

/// A tree of tasks.
pub(crate) struct Tree {
    stage: *mut Stage,
    root: libc::pid_t,
}

/// A task's place, and the stage it is on.
#[repr(C)]
struct Place {
    stage: *mut Stage,
    task: usize,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// New memory, zeros.
fn map(len: usize, sharing: libc::c_int) -> io::Result<*mut libc::c_void> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, sharing | libc::MAP_ANONYMOUS);
    // SAFETY: nothing that is there is touched.
    let memory = unsafe { libc::mmap(null_mut(), len, access, flags, -1, 0) };
    if memory == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(memory) }
}

impl Tree {
    /// Makes the first task, in that folder: a process.
    pub(crate) fn new(steps: &'static [Step], dir: &std::ffi::CStr) -> io::Result<Self> {
        // SAFETY: new memory, zeros, of the size of a Stage; zeros are a valid one but for its slice, which is written at once, and no stacks. What was
        // mapped is unmapped when the Tree is dropped, also after an error. The child makes only system calls.
        unsafe {
            let stage = map(size_of::<Stage>(), libc::MAP_SHARED)?;
            let stage = stage.cast::<Stage>();
            (&raw mut (*stage).steps).write(steps);
            let mut this = Self { stage, root: 0 };
            (*stage).stacks = map(TASKS * STACK, libc::MAP_PRIVATE)?.cast();
            for pipe in (*stage).commands.iter_mut().chain([&mut (*stage).done]) {
                check(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC))?;
            }
            this.root = check(libc::fork())?;
            if this.root == 0 {
                libc::chdir(dir.as_ptr());
                act_as(stage, 0);
            }
            Ok(this)
        }
    }

    /// Tells a task to make a step. `makes` is the task that comes of it, if one does.
    pub(crate) fn tell(&self, task: usize, step: usize, makes: usize) -> io::Result<()> {
        let command = [step as u8, makes as u8];
        // SAFETY: the stage is mapped while the Tree is; the kernel reads the two bytes of `command`.
        let sent = unsafe { libc::write((*self.stage).commands[task][1], command.as_ptr().cast(), 2) };
        if sent == 2 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The step that a task says it has made, within so many ms.
    pub(crate) fn done(&self, ms: i32) -> Option<usize> {
        // SAFETY: the stage is mapped while the Tree is; the kernel writes to `poll` and `step`, which outlive the calls.
        unsafe {
            let fd = (*self.stage).done[0];
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut step = 0_u8;
            let is_ready = libc::poll(&raw mut poll, 1, ms) == 1;
            (is_ready && libc::read(fd, (&raw mut step).cast(), 1) == 1).then_some(step.into())
        }
    }

    /// Ends what is left of the tree: these processes, and the first.
    pub(crate) fn end(&self, processes: impl Iterator<Item = u32>) {
        for process in processes {
            // SAFETY: a system call that takes numbers. The process is of this tree and has not ended.
            unsafe { libc::kill(process as libc::pid_t, libc::SIGKILL) };
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // SAFETY: the pipes are ours, those not made are 0 and skipped; nothing refers to the stage any longer, for the first process has been
        // waited for, and the others have their own mappings. A child that was not waited for is killed, it is ours and not reaped yet.
        unsafe {
            if self.root > 0 {
                libc::kill(self.root, libc::SIGKILL);
                libc::waitpid(self.root, null_mut(), libc::__WALL);
            }
            let stage = &*self.stage;
            for &fd in stage.commands.iter().flatten().chain(&stage.done).filter(|&&fd| fd > 0) {
                libc::close(fd);
            }
            if !stage.stacks.is_null() {
                libc::munmap(stage.stacks.cast(), TASKS * STACK);
            }
            libc::munmap(self.stage.cast(), size_of::<Stage>());
        }
    }
}

/// Does what it is told, and never returns.
///
/// # Safety
/// The stage is mapped for as long as the task lives.
unsafe fn act_as(stage: *mut Stage, task: usize) -> ! {
    // SAFETY: the stage is mapped, and what is not atomic in it is not written to after the first process was made; commands are two
    // bytes. Nothing here but system calls.
    unsafe {
        (*stage).tids[task].store(libc::syscall(libc::SYS_gettid) as i32, SeqCst);
        loop {
            let mut command = [0_u8; 2];
            if libc::read((*stage).commands[task][0], command.as_mut_ptr().cast(), 2) != 2 {
                libc::syscall(libc::SYS_exit_group, 1);
            }
            let steps = (*stage).steps;
            let Some(step) = steps.get(usize::from(command[0])) else { continue };
            act(stage, step.1, command[1].into());
            libc::write((*stage).done[1], command.as_ptr().cast(), 1);
        }
    }
}

/// # Safety
/// As [`act_as`].
unsafe fn act(stage: *mut Stage, deed: Deed, makes: usize) {
    let same = -1 as libc::c_long;
    // SAFETY: system calls that take numbers, texts that end with a zero, and pointers to what outlives them.
    unsafe {
        match deed {
            Deed::Fork => {
                let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
                if child == 0 {
                    act_as(stage, makes);
                }
                // Whoever is to trace it need not wait until it has said so itself.
                (*stage).tids[makes].store(child as i32, SeqCst);
            }
            Deed::Vfork => start(stage, makes, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD),
            Deed::Thread => {
                let thread = libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_SYSVSEM;
                start(stage, makes, thread | libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES);
            }
            Deed::Exec => {
                let arguments = [c"true".as_ptr(), std::ptr::null()];
                let none: [*const libc::c_char; 1] = [std::ptr::null()];
                libc::syscall(libc::SYS_execve, c"/bin/true".as_ptr(), arguments.as_ptr(), none.as_ptr());
            }
            Deed::Exit(code) => {
                libc::syscall(libc::SYS_exit, libc::c_long::from(code));
            }
            Deed::ExitGroup(code) => {
                libc::syscall(libc::SYS_exit_group, libc::c_long::from(code));
            }
            Deed::Die(signal, core) => die(signal.into(), core),
            Deed::Rename(name) => {
                let mut text = [0_u8; 64];
                text[..name.len()].copy_from_slice(name.as_bytes());
                libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, text.as_ptr());
            }
            Deed::Uid(real, effective) => {
                libc::syscall(
                    libc::SYS_setresuid,
                    libc::c_long::from(real),
                    libc::c_long::from(effective),
                    same,
                );
            }
            Deed::Gid(real, effective) => {
                libc::syscall(
                    libc::SYS_setresgid,
                    libc::c_long::from(real),
                    libc::c_long::from(effective),
                    same,
                );
            }
            Deed::Session => {
                libc::syscall(libc::SYS_setsid);
            }
            Deed::Attach(of) => {
                let of = (*stage).tids[of].load(SeqCst);
                libc::syscall(libc::SYS_ptrace, libc::c_long::from(libc::PTRACE_ATTACH), of, 0, 0);
                libc::syscall(libc::SYS_wait4, of, 0, libc::__WALL, 0);
            }
            Deed::Detach(of) => {
                let of = (*stage).tids[of].load(SeqCst);
                libc::syscall(libc::SYS_ptrace, libc::c_long::from(libc::PTRACE_DETACH), of, 0, 0);
            }
        }
    }
}

/// Ends the process by a signal.
///
/// # Safety
/// None but that the process is one to end.
unsafe fn die(signal: libc::c_int, core: bool) {
    // SAFETY: system calls that take numbers, and what outlives them.
    unsafe {
        if core {
            let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const all);
        } else {
            libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 0);
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), signal);
    }
}

/// Makes a task that shares this one's memory.
///
/// # Safety
/// As [`act_as`].
unsafe fn start(stage: *mut Stage, task: usize, flags: libc::c_int) {
    // SAFETY: each task has a stack of its own, with the task's place at its upper end, where the stack itself begins below; it is mapped
    // for as long as the stage is.
    unsafe {
        let end = (*stage).stacks.add((task + 1) * STACK);
        let place = end.sub(64).cast::<Place>();
        place.write(Place { stage, task });
        let child = libc::clone(run, place.cast(), flags, place.cast());
        (*stage).tids[task].store(child, SeqCst);
    }
}

extern "C" fn run(place: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` wrote it.
    unsafe {
        let Place { stage, task } = place.cast::<Place>().read();
        act_as(stage, task)
    }
}
