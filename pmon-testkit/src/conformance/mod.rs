//! What every source of process events has to do, and does: the kernel's socket, the ring, and those that stand in for them.
//!
//! A [`Host`] is a kernel, real or not, and a source of its events. [`checks`](checks::checks) hold for all of them. On the real kernel,
//! others cause events too: what is expected is expected of those that the test causes itself, and the account of losses of all.

mod checks;
pub mod fake;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::Cpu;
use pmon_core::source::Source;

use crate::guard;
use stage::Stage;

/// Number of events of other processes from which on a failed check is repeated.
const STORM: u64 = 2000;
/// Maximum time in which failed checks are repeated.
const LONG: Duration = Duration::from_secs(20);

/// A kernel, and a source of its events that has a listener's queue behind it.
pub trait Host {
    type Source: Source;

    /// Whether an overrun is told; otherwise, it shows in the count of drops only.
    fn tells_overruns(&self) -> bool;

    /// Whether the source knows who sent a datagram.
    fn knows_senders(&self) -> bool;

    /// Most bytes that the source knows besides a datagram.
    fn largest_annex(&self) -> usize {
        0
    }

    /// The CPUs that may lose something.
    fn cpus(&self) -> Vec<Cpu>;

    /// The thread that emits events.
    fn tid(&self) -> u32;

    /// That thread calls itself so, on that CPU: one event.
    fn emit(&mut self, cpu: Cpu, name: &str);

    /// Asks for events.
    fn listen(&mut self, ack: u32);

    /// Asks for no more.
    fn ignore(&mut self);

    /// User space sends a datagram to the group: from which port, or why it cannot.
    fn forge(&mut self, datagram: &[u8]) -> Result<u32, String>;

    /// How many datagrams somebody else may have sent to the group, from user space, since it was last squeezed.
    fn forged(&mut self) -> u64 {
        0
    }

    /// There is room for hardly anything from now on.
    fn squeeze(&mut self);

    /// There is room for much.
    fn relieve(&mut self);

    /// How many datagrams were dropped until now.
    fn lost(&mut self) -> u64;

    fn source(&mut self) -> &mut Self::Source;
}

/// Reports a test, run in a thread of that name, as skipped.
fn skip(what: &str, why: &str) {
    guard::skip_test(&format!("conformance::{what}"), why);
}

/// Reports one check of a test as skipped.
fn skip_part(what: &str, why: &str) {
    guard::skip_test(&format!("a part of conformance::{what}"), why);
}

/// Every check, on a host that is opened by `open`, which says why where there is none.
pub fn conforms<H: Host>(name: &'static str, open: impl Fn() -> Result<H, String> + Sync) {
    let perform = || {
        let began = Instant::now();
        loop {
            let mut stage = match open() {
                Ok(host) => Stage::new(name, host),
                Err(why) => return skip(name, &why),
            };
            let perform = || checks::checks::<H>().iter().for_each(|check| check(&mut stage));
            let Err(panic) = catch_unwind(AssertUnwindSafe(perform)) else { return };
            // A storm of others' events is more than a test has room and time for.
            if stage.others() < STORM {
                resume_unwind(panic);
            }
            if began.elapsed() > LONG {
                return skip(name, "others cause too many events");
            }
            thread::sleep(Duration::from_millis(200));
        }
    };
    // A thread of its own: it takes another name, and moves from CPU to CPU.
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.into()).spawn_scoped(scope, perform).unwrap();
        thread.join().unwrap_or_else(|panic| resume_unwind(panic));
    });
}
