//! Crashes a recorder before an operation, and checks what the next one finds.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use oorandom::Rand32;
use pmon_store::simulated::{Moment, Operation, SimulatedFilesystem};
use pmon_store::{LockedStore, SegmentName};

use super::machine::HOST;
use super::oracle::{self, StoreHistory};
use super::truth::Truth;

/// Maximum age of events that a kill may cost.
pub(super) const KILL_COST: Duration = Duration::from_millis(100);
/// Maximum age of events that a power loss may cost, in addition to the time that syncs take.
pub(super) const POWER_LOSS_COST: Duration = Duration::from_secs(1);

/// What a crash costs at most, and what the store must hold then.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectations {
    pub(super) truth: Truth,
    pub(super) history: StoreHistory,
    /// Duration of a sync.
    pub(super) sync_takes: Duration,
    /// Time without that in which the writer waited for the disk. It has no chance to keep its
    /// promises meanwhile.
    pub(super) clock: Duration,
    /// Time at which the filesystem began to fail. Until the store has recorded what was lost
    /// meanwhile, a crash may cost it.
    pub(super) failing_since: Option<Duration>,
}

impl Expectations {
    /// Returns the maximum age of events that a power loss may cost.
    fn power_loss_cost(&self) -> Duration {
        POWER_LOSS_COST + 2 * self.sync_takes
    }

    /// Excuses the loss of the events that a failed sync may have cost.
    pub(super) fn excuse_failed_sync(&mut self) {
        self.truth.excuse(self.clock.saturating_sub(self.power_loss_cost()));
    }

    /// Excuses the loss of the events that a crash now may cost.
    pub(super) fn excuse(&mut self, is_power_loss: bool) {
        let cost = if is_power_loss { self.power_loss_cost() } else { KILL_COST };
        let since = self.clock.saturating_sub(cost);
        // A sync that has failed may have lost what a power loss before it would have cost.
        let failing = self.failing_since.map(|failing| failing.saturating_sub(self.power_loss_cost()));
        self.truth.excuse(failing.map_or(since, |failing| failing.min(since)));
        self.history.has_lost_power |= is_power_loss;
    }
}

/// Crashes at some operations, and the first contradiction.
pub(super) struct CrashChecks {
    expected: Arc<Mutex<Expectations>>,
    failure: Arc<Mutex<Option<String>>>,
    number: Arc<Mutex<u64>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl CrashChecks {
    pub(super) fn new(expected: Arc<Mutex<Expectations>>) -> Self {
        Self { expected, failure: Arc::default(), number: Arc::default() }
    }

    /// Crashes the recorder before each operation, or before one in `rate` of them.
    pub(super) fn watch(&self, fs: &SimulatedFilesystem, rate: u32, seed: u64) {
        let (expected, failure, number) = (self.expected.clone(), self.failure.clone(), self.number.clone());
        let mut random = Rand32::new(seed ^ 0x6372_6173);
        fs.watch(move |moment| {
            if moment.operation == Operation::Remove && SegmentName::parse(moment.name).is_some() {
                lock(&expected).history.has_pruned = true;
            }
            if random.rand_range(0..rate) > 0 || lock(&failure).is_some() {
                return;
            }
            *lock(&number) += 1;
            if let Err(why) = check_moment(moment, &lock(&expected), &mut random) {
                let operation = moment.operation;
                *lock(&failure) = Some(format!(
                    "crash before operation {} ({operation:?} {}): {why}",
                    moment.number, moment.name
                ));
            }
        });
    }

    /// Returns the number of operations before which the recorder was crashed.
    pub(super) fn number(&self) -> u64 {
        *lock(&self.number)
    }

    /// Returns the first contradiction, if there is one.
    pub(super) fn result(&self) -> Result<(), String> {
        lock(&self.failure).clone().map_or(Ok(()), Err)
    }
}

fn check_moment(moment: &Moment<'_>, expected: &Expectations, random: &mut Rand32) -> Result<(), String> {
    let now = moment.now();
    let mut after_kill = expected.clone();
    after_kill.excuse(false);
    let mut after_loss = expected.clone();
    after_loss.excuse(true);
    let killed = moment.after_kill(random);
    check_recovery(&killed, &after_kill, false).map_err(|why| format!("kill at {now:?}: {why}"))?;
    let lost = moment.after_power_loss(random);
    check_recovery(&lost, &after_loss, true).map_err(|why| format!("power loss at {now:?}: {why}"))
}

/// Lets the next recorder recover the store, and checks it. Another crash during the recovery
/// changes nothing: a power loss, or a kill.
fn check_recovery(
    fs: &SimulatedFilesystem,
    expected: &Expectations,
    is_power_loss: bool,
) -> Result<(), String> {
    let recovered = fs.after_kill();
    let interrupted: Arc<Mutex<Vec<SimulatedFilesystem>>> = Arc::default();
    recovered.watch({
        let interrupted = interrupted.clone();
        let mut random = Rand32::new(fs.operations());
        move |moment| {
            lock(&interrupted).push(match is_power_loss {
                true => moment.after_power_loss(&mut random),
                false => moment.after_kill(&mut random),
            });
        }
    });
    recover(&recovered)?;
    recovered.unwatch();
    oracle::check(&recovered, &expected.truth, &expected.history)?;
    for (number, again) in std::mem::take(&mut *lock(&interrupted)).into_iter().enumerate() {
        recover(&again)?;
        oracle::check(&again, &expected.truth, &expected.history)
            .map_err(|why| format!("crash before operation {number} of the recovery: {why}"))?;
    }
    Ok(())
}

fn recover(fs: &SimulatedFilesystem) -> Result<(), String> {
    LockedStore::open(Arc::new(fs.clone()), HOST)
        .map(drop)
        .map_err(|error| format!("the store does not open: {error}"))
}
