//! Writes the events of a simulated machine into a store in a real directory, so that tests of real
//! filesystems and real kills know each event.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pmon_store::{Directory, LockedStore, StoreHandle, StoreOptions};

use super::StoreSimulationError;
use super::crash::KILL_COST;
use super::machine::HOST;
use super::oracle::{self, StoreContents};
use super::recorder::StoreRecorder;
use super::segments::read_segments;
use super::world::World;

/// Number of CPUs of the machine.
const CPUS: u32 = 2;

/// A recording of generated events. The same seed and steps give the same events.
pub struct GeneratedRecording {
    world: World,
    recorder: StoreRecorder,
    steps: u64,
}

/// The load of a [`GeneratedRecording`].
#[derive(Clone, Copy, Debug)]
pub struct GeneratedLoad {
    /// Seed of the events.
    pub seed: u64,
    /// Number of events per step.
    pub events: u32,
    /// Time that passes in each step.
    pub step: Duration,
    /// Number of steps between two requests to rotate; `None` if the options alone decide.
    pub rotate_steps: Option<u64>,
}

impl GeneratedRecording {
    /// Starts to record into a directory.
    ///
    /// # Errors
    /// If the store does not open.
    pub fn start(
        directory: &Path,
        load: GeneratedLoad,
        options: StoreOptions,
    ) -> Result<Self, StoreSimulationError> {
        let mut world = World::new(CPUS, load.seed);
        let recorder = StoreRecorder::start(&mut world, Arc::new(Directory::new(directory)), options)?;
        Ok(Self { world, recorder, steps: 0 })
    }

    /// Emits and records the events of one step.
    ///
    /// # Errors
    /// If the store ends the recording.
    pub fn step(&mut self, load: GeneratedLoad) -> Result<(), StoreSimulationError> {
        self.world.advance(load.step);
        self.world.emit(load.events, 0);
        self.steps += 1;
        if load.rotate_steps.is_some_and(|steps| self.steps.is_multiple_of(steps)) {
            self.recorder.handle.request_rotation();
        }
        self.recorder.step(&mut self.world)
    }

    /// Keeps no event for a check at the end, so that the memory of the recording shows.
    pub fn discard_truth(&mut self) {
        let mut expected = self.world.expected();
        expected.truth.boots.clear();
        expected.truth.is_discarded = true;
    }

    /// Returns access to the store.
    pub fn handle(&self) -> &StoreHandle {
        &self.recorder.handle
    }

    /// Returns the time that has passed for the recording.
    pub fn elapsed(&self) -> Duration {
        self.world.fs.now()
    }

    /// Ends the recording without a check.
    ///
    /// # Errors
    /// If the store ends the recording.
    pub fn end(mut self) -> Result<(), StoreSimulationError> {
        self.recorder.finish(&mut self.world, false)
    }

    /// Ends the recording, and checks that the store holds each event, or has recorded its loss.
    /// Segments may have been removed because of limits, and `has_failed` states whether the
    /// filesystem may have refused operations.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(
        mut self,
        directory: &Path,
        has_failed: bool,
    ) -> Result<StoreContents, StoreSimulationError> {
        self.recorder.finish(&mut self.world, false)?;
        let mut expected = self.world.expected();
        expected.history.has_failed = has_failed;
        expected.history.has_pruned = true;
        let segments = read_segments(&Directory::new(directory), has_failed)?;
        Ok(oracle::check(segments, &expected.store())?)
    }
}

/// Recovers the store of a recording that was killed during step `last` or later, and checks that
/// it lacks at most the last 100 ms of the events until then.
///
/// # Errors
/// The first contradiction.
pub fn check_killed(
    directory: &Path,
    load: GeneratedLoad,
    options: StoreOptions,
    steps: u64,
    last: u64,
) -> Result<StoreContents, StoreSimulationError> {
    // The same recording in virtual time emits the same events.
    let mut world = World::new(CPUS, load.seed);
    let filesystem = Arc::new(world.fs.clone());
    let recorder = StoreRecorder::start(&mut world, filesystem, options)?;
    let mut recording = GeneratedRecording { world, recorder, steps: 0 };
    for _ in 0..steps {
        recording.step(load)?;
    }
    let GeneratedRecording { recorder, mut world, .. } = recording;
    recorder.finish(&mut world, false)?;
    let killed_at = load.step * u32::try_from(last).unwrap_or(u32::MAX);
    let mut expected = world.expected();
    expected.truth.excuse(killed_at.saturating_sub(KILL_COST));
    drop(LockedStore::open(Arc::new(Directory::new(directory)), HOST)?);
    let segments = read_segments(&Directory::new(directory), false)?;
    Ok(oracle::check(segments, &expected.store())?)
}
