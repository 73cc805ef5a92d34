//! Starts this crate's threads.

use std::io;
use std::thread::{Builder, JoinHandle};

use rustix::process::setpriority_process;

/// Starts a thread with a name, which the kernel truncates to 15 bytes, and with a nice value if
/// that is permitted. 0 leaves the nice value unchanged.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    nice: i32,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(move || {
        if nice != 0 {
            let _ = setpriority_process(None, nice);
        }
        body()
    })
}
