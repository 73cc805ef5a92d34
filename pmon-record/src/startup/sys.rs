//! System calls without a safe wrapper: signal dispositions and masks.

use std::io;
use std::mem::zeroed;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_char, c_int, sigset_t};

use super::StartSignals;
use super::program::Program;

/// The highest signal number of Linux.
const MAX_SIGNAL: c_int = 64;

/// Bytes of the kernel's signal set.
const SIGSET: usize = 8;
/// Number of words that hold the kernel's `struct sigaction` on any architecture.
const SIGACTION_WORDS: usize = 8;

/// Signals that were ignored and blocked when this program was started; see
/// [`super::StartSignals`].
pub(super) static IGNORED: AtomicU64 = AtomicU64::new(0);
pub(super) static BLOCKED: AtomicU64 = AtomicU64::new(0);
/// Standard files that were closed when this program was started. Bit *n* is descriptor *n*.
pub(super) static CLOSED: AtomicU64 = AtomicU64::new(0);

// SAFETY: the section holds pointers to functions of this type. The C library calls them before
// `main`, after its own initialisation and before Rust's runtime ignores SIGPIPE and opens closed
// standard files.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = read_state;

/// Reads the signals and standard files that this program was started with. It makes only system
/// calls, because Rust's runtime is not initialised yet.
extern "C" fn read_state() {
    let mut ignored = 0;
    for signal in 1..=MAX_SIGNAL {
        // The kernel's own struct, whose first word is the handler. The C library hides the signals
        // that it reserves.
        let mut action = [0_usize; SIGACTION_WORDS];
        // SAFETY: without a new action, the kernel only fills in the old one, and `action` is at
        // least as large.
        let result = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<usize>(), action.as_mut_ptr(), SIGSET)
        };
        if result == 0 && action[0] == libc::SIG_IGN {
            ignored |= 1 << (signal - 1);
        }
    }
    let mut blocked = 0_u64;
    // SAFETY: the mask outlives the call.
    unsafe { sigprocmask(ptr::null(), &raw mut blocked) };
    // SAFETY: the arguments are integers.
    let is_closed = |fd: &c_int| unsafe { libc::fcntl(*fd, libc::F_GETFD) } < 0;
    let closed = (0..3).filter(is_closed).fold(0, |closed, fd| closed | 1 << fd);
    IGNORED.store(ignored, Ordering::Relaxed);
    BLOCKED.store(blocked, Ordering::Relaxed);
    CLOSED.store(closed, Ordering::Relaxed);
}

/// Sets this thread's mask of signals to `new`, and fills in the one before, unless these are null.
/// The C library's function would ignore the signals that the library reserves.
///
/// # Safety
///
/// The pointers are null or valid.
unsafe fn sigprocmask(new: *const u64, old: *mut u64) {
    // SAFETY: by the caller; the kernel reads and writes `SIGSET` bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, SIGSET) };
}

fn set(mask: u64) -> sigset_t {
    // SAFETY: all zeros is the empty set of signals. The C library refuses the signals that it
    // reserves, so these are not in the set.
    unsafe {
        let mut set: sigset_t = zeroed();
        for signal in (1..=MAX_SIGNAL).filter(|signal| mask >> (signal - 1) & 1 == 1) {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Unblocks signals in this thread, and in those that it starts.
pub(crate) fn unblock(signals: &[i32]) {
    let set = set(signals.iter().fold(0, |mask, signal| mask | 1 << (signal - 1)));
    // SAFETY: the kernel only reads the set, which outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
}

/// Runs `body` with exactly these signals blocked in this thread.
pub(super) fn with_mask<T>(mask: u64, body: impl FnOnce() -> T) -> T {
    let set = set(mask);
    // SAFETY: the kernel only reads `set` and fills in `before`; both outlive the call.
    let before = unsafe {
        let mut before: sigset_t = zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, &raw mut before);
        before
    };
    let result = body();
    // SAFETY: the kernel only reads `before`, which outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    result
}

/// The arguments of a program, as `execve(2)` takes them.
struct Arguments {
    program: Program,
    /// The addresses of `program.arguments`, and a null.
    argv: Vec<*const c_char>,
}

// SAFETY: the pointers are those of strings that the value owns and never changes.
unsafe impl Send for Arguments {}
// SAFETY: as above.
unsafe impl Sync for Arguments {}

impl Arguments {
    fn new(program: Program) -> Self {
        let argv = program.arguments.iter().map(|argument| argument.as_ptr());
        Self { argv: argv.chain([ptr::null()]).collect(), program }
    }

    /// Executes the program with the environment of this process. Returns only with an error.
    fn exec(&self) -> io::Error {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        self.program.exec(|file| {
            // SAFETY: the strings end with a zero byte, the arrays with a null, and all outlive the
            // call. No other thread exists in a new process that could change the environment.
            unsafe { libc::execve(file.as_ptr(), self.argv.as_ptr(), environ) };
            io::Error::last_os_error()
        })
    }
}

/// Makes the new process of `command` ignore and block exactly these signals, and then execute
/// `program`, which is that of `command`.
///
/// [`Command`] itself would execute it by `execvp(3)`, which runs a file that is no program by a
/// shell.
pub(super) fn restore_in(
    command: &mut Command,
    StartSignals { ignored, blocked }: StartSignals,
    program: Program,
) {
    let arguments = Arguments::new(program);
    let restore = move || {
        for signal in 1..=MAX_SIGNAL {
            let is_ignored = ignored >> (signal - 1) & 1 == 1;
            let mut action = [0_usize; SIGACTION_WORDS];
            action[0] = if is_ignored { libc::SIG_IGN } else { libc::SIG_DFL };
            // SAFETY: the kernel only reads the action, which is at least as large as its struct.
            // No handler is set.
            unsafe {
                libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null::<usize>(), SIGSET)
            };
        }
        // All signals were blocked so far, so pending ones find the program's dispositions.
        // SAFETY: the mask outlives the call.
        unsafe { sigprocmask(&raw const blocked, ptr::null_mut()) };
        Err(arguments.exec())
    };
    // SAFETY: between `fork` and `exec`, the hook makes only system calls and allocates nothing.
    unsafe { command.pre_exec(restore) };
}
