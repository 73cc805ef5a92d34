//! Waits for signals, a deadline, the end of a child, or a wake-up by another thread.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals as SignalPipe;

use crate::startup;

const SIGNALS: Token = Token(0);
const WAKER: Token = Token(1);

/// Why [`Signals::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WakeReason {
    /// `SIGINT` arrived: the user pressed Ctrl-C.
    Interrupt,
    /// `SIGTERM` arrived, or `SIGHUP` with [`Signals::new`], unless it was ignored at the start
    /// (`nohup(1)`).
    Terminate,
    /// `SIGCHLD` arrived: a child has ended, or has been stopped or continued.
    Child,
    /// `SIGUSR1` arrived: a user requests the live counters.
    Report,
    /// `SIGHUP` arrived, with [`Signals::for_service`]: the configuration shall be read again.
    Reload,
    /// `SIGUSR2` arrived, with [`Signals::for_service`]: a user requests a clip.
    Snapshot,
    /// A [`WakeHandle`] was used.
    Woken,
    /// The timeout has passed.
    Timeout,
}

/// Handles the signals that control a recorder. Each signal ends one [`Signals::wait`].
///
/// Create this value before a child is started, so its end is not missed. A child of
/// [`startup::spawn`] does not inherit the handlers.
pub struct Signals {
    poll: Poll,
    events: Events,
    pipe: SignalPipe,
    waker: Arc<Waker>,
    queued: VecDeque<WakeReason>,
    /// What `SIGHUP` means.
    hangup: WakeReason,
    /// Whether a signal has arrived that ends the recorder.
    is_ending: bool,
}

impl Signals {
    /// Installs the signal handlers of a recorder that ends with its terminal.
    ///
    /// # Errors
    /// When no file descriptor is available.
    pub fn new() -> io::Result<Self> {
        Self::with(&startup::CONTROL_SIGNALS, WakeReason::Terminate)
    }

    /// Installs the signal handlers of a recorder that runs as a service: `SIGHUP` means
    /// [`WakeReason::Reload`], and `SIGUSR2` means [`WakeReason::Snapshot`].
    ///
    /// A `SIGHUP` that was ignored at the start stays ignored.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_service() -> io::Result<Self> {
        let signals = [&startup::CONTROL_SIGNALS[..], &[SIGUSR2]].concat();
        Self::with(&signals, WakeReason::Reload)
    }

    fn with(signals: &[i32], hangup: WakeReason) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut pipe = SignalPipe::new(signals)?;
        if !startup::is_ignored(SIGHUP) {
            pipe.add_signal(SIGHUP)?;
        }
        poll.registry().register(&mut pipe, SIGNALS, Interest::READABLE)?;
        // The parent may have blocked any of them. Threads that are started from here on inherit
        // the mask.
        startup::prepare()?;
        startup::unblock(signals);
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(4),
            pipe,
            waker,
            queued: VecDeque::new(),
            hangup,
            is_ending: false,
        })
    }

    /// Returns a handle that ends a wait from another thread.
    pub fn wake(&self) -> WakeHandle {
        WakeHandle { waker: self.waker.clone() }
    }

    /// Returns whether a signal has ever arrived that ends a recorder: [`WakeReason::Interrupt`] or
    /// [`WakeReason::Terminate`].
    pub fn is_ending(&mut self) -> bool {
        self.take_signals();
        self.is_ending
    }

    fn take_signals(&mut self) {
        let reasons = self.pipe.pending().filter_map(|signal| match signal {
            SIGINT => Some(WakeReason::Interrupt),
            SIGTERM => Some(WakeReason::Terminate),
            SIGHUP => Some(self.hangup),
            SIGCHLD => Some(WakeReason::Child),
            SIGUSR1 => Some(WakeReason::Report),
            SIGUSR2 => Some(WakeReason::Snapshot),
            _ => None,
        });
        for reason in reasons {
            self.is_ending |= matches!(reason, WakeReason::Interrupt | WakeReason::Terminate);
            self.queued.push_back(reason);
        }
    }

    /// Waits for a signal or a wake-up, at most for `timeout` if one is given. Several signals of
    /// the same kind may end only one wait.
    ///
    /// # Errors
    /// When `epoll_wait(2)` fails, which is a bug in this program.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<WakeReason> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(reason) = self.queued.pop_front() {
                return Ok(reason);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut self.events, left) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Err(_) => continue,
                Ok(()) => {}
            }
            if self.events.iter().any(|event| event.token() == SIGNALS) {
                self.take_signals();
            }
            if self.events.iter().any(|event| event.token() == WAKER) {
                self.queued.push_back(WakeReason::Woken);
            }
            if self.queued.is_empty() && left.is_some_and(|left| left.is_zero() || self.events.is_empty()) {
                return Ok(WakeReason::Timeout);
            }
        }
    }
}

/// A handle that ends a [`Signals::wait`] from any thread.
#[derive(Clone)]
pub struct WakeHandle {
    waker: Arc<Waker>,
}

impl WakeHandle {
    /// Ends the wait, or the next one if there is none.
    pub fn wake(&self) {
        // This fails only if the other end is closed, and then no thread waits.
        let _ = self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use super::*;

    // One test, because signals belong to the process.
    #[test]
    fn a_wait_ends_by_a_signal_a_wake_up_a_childs_end_or_its_timeout() {
        let mut signals = Signals::new().unwrap();
        assert_eq!(signals.wait(Some(Duration::from_millis(5))).unwrap(), WakeReason::Timeout);
        signal_hook::low_level::raise(SIGINT).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        let mut two = [signals.wait(None).unwrap(), signals.wait(None).unwrap()];
        two.sort_by_key(|reason| *reason == WakeReason::Terminate);
        assert_eq!(two, [WakeReason::Interrupt, WakeReason::Terminate]);
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        assert_eq!(signals.wait(None).unwrap(), WakeReason::Report);
        signal_hook::low_level::raise(signal_hook::consts::SIGXFSZ).unwrap();
        if !startup::is_ignored(SIGHUP) {
            signal_hook::low_level::raise(SIGHUP).unwrap();
            assert_eq!(signals.wait(None).unwrap(), WakeReason::Terminate);
        }
        assert!(signals.is_ending());
        let mut service = Signals::for_service().unwrap();
        signal_hook::low_level::raise(signal_hook::consts::SIGUSR2).unwrap();
        assert_eq!(service.wait(None).unwrap(), WakeReason::Snapshot);
        if !startup::is_ignored(SIGHUP) {
            signal_hook::low_level::raise(SIGHUP).unwrap();
            assert_eq!(service.wait(None).unwrap(), WakeReason::Reload);
            assert!(!service.is_ending());
            assert_eq!(signals.wait(None).unwrap(), WakeReason::Terminate);
        }
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(service.is_ending(), "without a wait");
        assert_eq!(service.wait(None).unwrap(), WakeReason::Terminate);
        drop(service);
        while signals.wait(Some(Duration::ZERO)).unwrap() != WakeReason::Timeout {}
        let wake = signals.wake();
        thread::spawn(move || wake.wake());
        while signals.wait(None).unwrap() != WakeReason::Woken {}
        let mut child = Command::new("true").spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            while signals.wait(Some(Duration::from_secs(10))).unwrap() != WakeReason::Child {}
        }
    }
}
