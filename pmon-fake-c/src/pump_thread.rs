//! A thread that transfers what programs request and read between the calls of the library.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;

use crate::call_error::CallError;
use crate::state::Shared;
use fake::native_socket::transport::with_blocked_signals;

/// Starts the thread, which ends when `State::stop` is set.
pub(crate) fn spawn(shared: Arc<Shared>) -> Result<JoinHandle<()>, CallError> {
    let builder = Builder::new().name("pmon-fake".into());
    let thread = with_blocked_signals(|| builder.spawn(move || run(&shared)));
    thread.map_err(|error| CallError::io("cannot start a thread", &error))
}

fn run(shared: &Shared) {
    loop {
        let polled = {
            let mut state = shared.lock();
            if state.stop {
                return;
            }
            state.pump_in_thread();
            state.polled()
        };
        let mut fds: Vec<_> =
            polled.iter().map(|(end, interest)| PollFd::from_borrowed_fd(end.as_fd(), *interest)).collect();
        fds.push(PollFd::new(shared.notifier(), PollFlags::IN));
        // Only a lack of memory makes `poll` fail.
        let _ = retry_on_intr(|| poll(&mut fds, None));
        shared.clear_notification();
    }
}
