//! Names and priorities of this crate's threads.

use std::io;
use std::thread::{Builder, JoinHandle};

use rustix::process::setpriority_process;

/// Starts a thread with a name, which the kernel truncates to 15 bytes.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(body)
}

/// Sets the nice value of the calling thread, if that is permitted. 0 leaves it unchanged.
pub(crate) fn set_nice(nice: i32) {
    if nice != 0 {
        let _ = setpriority_process(None, nice);
    }
}
