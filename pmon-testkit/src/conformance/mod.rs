//! Checks that every source of process events must pass: the kernel's socket, the BPF ring, and the
//! sources that replace them in tests.
//!
//! A [`SourceUnderTest`] is a source with the kernel behind it, real or fake. [`conforms`] performs
//! every check on it. On the real kernel, other processes emit events too: the checks expect exact
//! results only for the events that the test emits itself, and account for the losses of all.

mod checks;
pub mod fake;
mod fixture;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use pmon_core::Cpu;
use pmon_core::source::Source;

use crate::guard;
use fixture::Fixture;

/// Number of foreign events from which on a failed check is repeated.
const STORM: u64 = 2000;

/// A source of process events with a listener's queue, and the kernel that fills it.
///
/// The thread that opens it emits the events.
pub trait SourceUnderTest {
    /// The source's type.
    type Source: Source;

    /// Returns whether the source reports an overrun when it happens. Otherwise only the count of
    /// drops shows it.
    fn reports_overruns(&self) -> bool;

    /// Returns whether the source reports which port sent a datagram.
    fn reports_senders(&self) -> bool;

    /// Returns the maximum size of a datagram's metadata, in bytes.
    fn max_metadata(&self) -> usize {
        0
    }

    /// Returns the CPUs on which events can be emitted.
    fn cpus(&self) -> Vec<Cpu>;

    /// Returns the ID of the thread that emits events.
    fn tid(&self) -> u32;

    /// Emits one event on a CPU: the thread takes that name.
    fn emit(&mut self, cpu: Cpu, name: &str);

    /// Sends the request to listen.
    fn listen(&mut self, ack: u32);

    /// Sends the request to ignore.
    fn ignore(&mut self);

    /// Sends a datagram from user space to the group. Returns the sender's port.
    ///
    /// # Errors
    /// Why this user cannot send to the group.
    fn send_to_group(&mut self, datagram: &[u8]) -> Result<u32, String>;

    /// Returns how many datagrams other processes have sent to the group since the last call of
    /// [`Self::shrink_buffer`].
    fn foreign_datagrams(&mut self) -> u64 {
        0
    }

    /// Makes the socket's buffer as small as possible.
    fn shrink_buffer(&mut self);

    /// Makes the socket's buffer large again.
    fn enlarge_buffer(&mut self);

    /// Returns the number of datagrams that the socket has dropped, not by the source.
    fn dropped(&mut self) -> u64;

    /// Returns the source.
    fn source(&mut self) -> &mut Self::Source;
}

/// Reports that one check is skipped.
fn skip_check(name: &str, why: &str) {
    guard::skip_test(&format!("a part of conformance::{name}"), why);
}

/// Performs every check on a source. `open` opens it; if it cannot, the test is skipped. While
/// other processes emit too many events, failed checks are repeated on a new source.
pub fn conforms<S: SourceUnderTest>(name: &'static str, open: impl Fn() -> Result<S, String> + Sync) {
    let test = format!("conformance::{name}");
    let attempt = || {
        let mut fixture = match open() {
            Ok(tested) => Fixture::new(name, tested),
            Err(why) => return Ok(Some(why)),
        };
        let perform = || checks::checks::<S>().iter().for_each(|check| check(&mut fixture));
        match catch_unwind(AssertUnwindSafe(perform)) {
            Ok(()) => Ok(None),
            Err(_) if fixture.foreign_events() >= STORM => {
                Err("other processes emit too many events".to_owned())
            }
            Err(panic) => resume_unwind(panic),
        }
    };
    let perform = || match guard::retry_test(&test, attempt) {
        Ok(None) => {}
        Ok(Some(why)) | Err(why) => guard::skip_test(&test, &why),
    };
    // The checks rename their thread and move it from CPU to CPU, so they get one of their own.
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.into()).spawn_scoped(scope, perform);
        thread.expect("a thread").join().unwrap_or_else(|panic| resume_unwind(panic));
    });
}
