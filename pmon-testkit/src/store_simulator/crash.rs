//! Crashes a recorder before an operation, and checks what the next one finds.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use oorandom::Rand32;
use pmon_core::capture::Header;
use pmon_store::simulated::{Moment, Operation, SimulatedClips, SimulatedFilesystem};
use pmon_store::{LockedStore, SegmentName};

use super::clips::{CLIP, check_clips};
use super::machine::HOST;
use super::oracle::{self, ExpectedStore, StoreHistory};
use super::segments::{PARTIAL, SegmentCache};
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

    /// Excuses the loss of the events that could not be written before a recorder ended.
    pub(super) fn excuse_failed_end(&mut self) {
        let since = self.excused_since(false);
        self.truth.excuse(since);
    }

    /// Excuses the loss of the events that a crash now may cost.
    pub(super) fn excuse(&mut self, is_power_loss: bool) {
        self.truth.excuse(self.excused_since(is_power_loss));
        self.history.has_lost_power |= is_power_loss;
    }

    /// Returns the time since which a crash now may cost the received events.
    fn excused_since(&self, is_power_loss: bool) -> Duration {
        let cost = if is_power_loss { self.power_loss_cost() } else { KILL_COST };
        let since = self.clock.saturating_sub(cost);
        // A sync that has failed may have lost what a power loss before it would have cost.
        let failing = self.failing_since.map(|failing| failing.saturating_sub(self.power_loss_cost()));
        failing.map_or(since, |failing| failing.min(since))
    }

    /// Returns what a store must hold if the recorder crashes now.
    fn after_crash(&self, is_power_loss: bool) -> ExpectedStore<'_> {
        let mut history = self.history.clone();
        history.has_lost_power |= is_power_loss;
        let excused_since = Some(self.excused_since(is_power_loss));
        ExpectedStore { truth: &self.truth, excused_since, history }
    }

    /// Returns what a store must hold if the recorder has ended.
    pub(super) fn store(&self) -> ExpectedStore<'_> {
        ExpectedStore { truth: &self.truth, excused_since: None, history: self.history.clone() }
    }
}

/// Number of operations of each recovery before which it is interrupted.
const INTERRUPTIONS: usize = 2;

/// Crashes at some operations, and the first contradiction.
pub(super) struct CrashChecks {
    expected: Arc<Mutex<Expectations>>,
    failure: Arc<Mutex<Option<String>>>,
    number: Arc<Mutex<u64>>,
    /// The segments that were read.
    pub(super) cache: Arc<SegmentCache>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl CrashChecks {
    pub(super) fn new(expected: Arc<Mutex<Expectations>>) -> Self {
        Self { expected, failure: Arc::default(), number: Arc::default(), cache: Arc::default() }
    }

    /// Crashes the recorder before each operation, or before one in `rate` of them.
    pub(super) fn watch(&self, fs: &SimulatedFilesystem, rate: u32, seed: u64) {
        let (expected, failure, number) = (self.expected.clone(), self.failure.clone(), self.number.clone());
        let (mut random, cache) = (Rand32::new(seed ^ 0x6372_6173), self.cache.clone());
        fs.watch(move |moment| {
            let partial = moment.name.strip_suffix(PARTIAL);
            let is_finished = partial.is_none();
            let mut expected = lock(&expected);
            // A segment that could not be finished can be removed like a finished one.
            if moment.operation == Operation::Remove
                && SegmentName::parse(partial.unwrap_or(moment.name)).is_some()
                && (is_finished || expected.history.has_failed)
                && let Ok(Some(segment)) = cache.contents(&moment.filesystem(), moment.name)
            {
                let Expectations { truth, history, .. } = &mut *expected;
                history.removed.add(&segment, truth);
            }
            if random.rand_range(0..rate) > 0 || lock(&failure).is_some() {
                return;
            }
            *lock(&number) += 1;
            if let Err(why) = check_moment(moment, &expected, &cache, &mut random) {
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

fn check_moment(
    moment: &Moment<'_>,
    expected: &Expectations,
    cache: &SegmentCache,
    random: &mut Rand32,
) -> Result<(), String> {
    let now = moment.now();
    let killed = moment.after_kill(random);
    check_recovery(&killed, expected, cache, false, random)
        .map_err(|why| format!("kill at {now:?}: {why}"))?;
    let lost = moment.after_power_loss(random);
    // A file gets its final name only after a sync that has written all of it.
    check_durable(&moment.filesystem(), &lost).map_err(|why| format!("power loss at {now:?}: {why}"))?;
    check_recovery(&lost, expected, cache, true, random)
        .map_err(|why| format!("power loss at {now:?}: {why}"))
}

/// Checks that each file with a final name has all of its bytes after a power loss.
fn check_durable(fs: &SimulatedFilesystem, lost: &SimulatedFilesystem) -> Result<(), String> {
    let uuid = |bytes: &[u8]| Header::read(&mut &*bytes).ok().flatten().map(|header| header.uuid);
    let is_final = |name: &String| SegmentName::parse(name).is_some() || name.ends_with(CLIP);
    for name in lost.names().into_iter().filter(is_final) {
        if fs.version(&name) != lost.version(&name)
            && let (Some(before), Some(after)) = (fs.contents(&name), lost.contents(&name))
            && before != after
            // After the removal of a segment, another one can get its name.
            && uuid(&after).is_none_or(|after| Some(after) == uuid(&before))
        {
            return Err(format!("{name} has its final name and was not durable"));
        }
    }
    Ok(())
}

/// Lets the next recorder recover the store, and checks it. Another crash during the recovery, a
/// kill or a power loss, costs nothing more.
fn check_recovery(
    fs: &SimulatedFilesystem,
    expected: &Expectations,
    cache: &SegmentCache,
    is_power_loss: bool,
    random: &mut Rand32,
) -> Result<(), String> {
    let recovered = fs.after_kill();
    let interrupted: Arc<Mutex<Vec<(SimulatedFilesystem, bool)>>> = Arc::default();
    recovered.watch({
        let interrupted = interrupted.clone();
        let mut random = Rand32::new(random.rand_u32().into());
        move |moment| {
            let is_power_loss = random.rand_range(0..2) == 0;
            let crashed = match is_power_loss {
                true => moment.after_power_loss(&mut random),
                false => moment.after_kill(&mut random),
            };
            lock(&interrupted).push((crashed, is_power_loss));
        }
    });
    recover(&recovered)?;
    recovered.unwatch();
    let has_failed = expected.history.has_failed;
    oracle::check(cache.read(&recovered, has_failed)?, &expected.after_crash(is_power_loss))?;
    check_clips(&recovered, cache, &expected.truth)?;
    let interrupted = std::mem::take(&mut *lock(&interrupted));
    for _ in 0..INTERRUPTIONS.min(interrupted.len()) {
        let number = random.rand_range(0..interrupted.len() as u32) as usize;
        let (again, is_power_loss_again) = &interrupted[number];
        let again = again.after_kill();
        let expected = expected.after_crash(is_power_loss || *is_power_loss_again);
        recover(&again)
            .and_then(|()| cache.read(&again, has_failed))
            .and_then(|segments| oracle::check(segments, &expected))
            .and_then(|_| check_clips(&again, cache, expected.truth))
            .map_err(|why| format!("crash before operation {number} of the recovery: {why}"))?;
    }
    Ok(())
}

fn recover(fs: &SimulatedFilesystem) -> Result<(), String> {
    let store = LockedStore::open(Arc::new(fs.clone()), HOST);
    let store = store.map_err(|error| format!("the store does not open: {error}"))?;
    SimulatedClips::remove_unfinished(fs);
    drop(store);
    Ok(())
}
