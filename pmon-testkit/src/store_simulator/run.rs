//! A simulation that is being performed.

use std::sync::MutexGuard;
use std::time::Duration;

use super::StoreSimulationError;
use super::clips::check_answer;
use super::crash::{CrashChecks, Expectations};
use super::mistake::Mistake;
use super::mistaken::mistaken;
use super::oracle;
use super::recorder::StoreRecorder;
use super::retention::RetentionCheck;
use super::scenario::{Action, StoreSimulation, StoreSimulationTotals};
use super::world::World;

/// Time between two steps of the writer thread.
const STEP: Duration = Duration::from_millis(20);
/// Time after which a store that works again has recorded what was lost.
const MEND_TIME: Duration = Duration::from_secs(4);

/// A simulation that is being performed.
pub(super) struct Run<'a> {
    simulation: &'a StoreSimulation,
    world: World,
    recorder: Option<StoreRecorder>,
    crashes: CrashChecks,
    retention: RetentionCheck,
    /// Number of clips that were made.
    clips: u64,
    /// Number of failed syncs after the last step.
    failed_syncs: u64,
    /// Time at which the filesystem was mended.
    mended_at: Option<Duration>,
}

impl<'a> Run<'a> {
    pub(super) fn begin(simulation: &'a StoreSimulation) -> Result<Self, StoreSimulationError> {
        let mut world = World::new(simulation.cpus, simulation.seed);
        (world.mistake, world.has_clips) = (simulation.mistake, simulation.has_clips);
        world.fs.set_conditions(|conditions| *conditions = simulation.conditions.clone());
        let crashes = CrashChecks::new(world.expected.clone());
        let mut run = Self {
            simulation,
            world,
            recorder: None,
            crashes,
            retention: RetentionCheck::default(),
            clips: 0,
            failed_syncs: 0,
            mended_at: None,
        };
        run.expected().sync_takes = simulation.conditions.sync_takes;
        run.start()?;
        Ok(run)
    }

    fn expected(&self) -> MutexGuard<'_, Expectations> {
        self.world.expected()
    }

    /// Starts the next recorder.
    fn start(&mut self) -> Result<(), StoreSimulationError> {
        self.crashes.watch(&self.world.fs, self.simulation.crash_rate, self.simulation.seed);
        let filesystem = mistaken(&self.world.fs, self.simulation.mistake);
        let mut options = self.simulation.options;
        if self.simulation.mistake == Some(Mistake::ExceedsLimit) {
            options.limits.max_use = options.limits.max_use.map(|limit| limit + 8192);
        }
        self.recorder = Some(StoreRecorder::start(&mut self.world, filesystem, options)?);
        self.world.fs.take_extremes();
        self.check_step()
    }

    pub(super) fn perform(&mut self, action: Action) -> Result<(), StoreSimulationError> {
        match action {
            Action::Work { steps, events, drop_rate } => {
                for _ in 0..steps {
                    self.world.emit(events, drop_rate);
                    self.step()?;
                }
            }
            Action::Rotate => {
                if let Some(recorder) = &self.recorder {
                    recorder.handle.request_rotation();
                }
            }
            Action::Kill { keeps_socket } => {
                self.expected().excuse(false);
                if let Some(recorder) = self.recorder.take() {
                    recorder.kill(&mut self.world);
                }
                if !keeps_socket {
                    self.world.close_socket();
                }
                self.world.emit(20, 0);
                self.start()?;
            }
            Action::Stop { keeps_socket, events } => {
                self.stop(keeps_socket)?;
                self.world.emit(events, 50);
                self.start()?;
            }
            Action::PowerLoss => {
                self.expected().excuse(true);
                let fs = self.world.fs.after_power_loss(&mut self.world.random);
                self.recorder = None;
                self.world.fs = fs;
                self.retention = RetentionCheck::default();
                self.world.reboot();
                self.start()?;
            }
            Action::StepClock(ms) => {
                self.world.machine.step_clock(i64::from(ms) * 1_000_000);
                if let Some(recorder) = &mut self.recorder {
                    recorder.record_clock(&self.world)?;
                }
            }
            Action::Fill(percent) => {
                self.world.fs.set_conditions(|conditions| {
                    let capacity = conditions.capacity.unwrap_or_default();
                    conditions.used_by_others = capacity * u64::from(percent) / 100;
                });
                self.fail();
                if percent < 50 {
                    self.mended_at = Some(self.world.clock());
                }
            }
            Action::Fail { operation, skip, errno } => {
                self.world.fs.fail(operation, skip, errno);
                self.fail();
                self.mended_at = Some(self.world.clock());
            }
            Action::ReadOnly(steps) => {
                self.fail();
                self.world.fs.set_conditions(|conditions| conditions.is_read_only = true);
                for _ in 0..steps {
                    self.world.emit(3, 0);
                    self.step()?;
                }
                self.world.fs.set_conditions(|conditions| conditions.is_read_only = false);
                self.mended_at = Some(self.world.clock());
            }
            Action::Delete(percent) => {
                if let Some(name) = self.retention.take(percent, &self.world.fs) {
                    let contents = self.crashes.cache.contents(&self.world.fs, &name)?;
                    self.world.fs.delete(&name);
                    let mut expected = self.expected();
                    let Expectations { truth, history, .. } = &mut *expected;
                    if let Some(contents) = contents {
                        history.removed.add(&contents, truth);
                    }
                }
            }
        }
        Ok(self.crashes.result()?)
    }

    /// The filesystem begins to fail.
    fn fail(&mut self) {
        let mut expected = self.expected();
        expected.history.has_failed = true;
        let now = expected.clock;
        expected.failing_since.get_or_insert(now);
        drop(expected);
        self.mended_at = None;
    }

    fn step(&mut self) -> Result<(), StoreSimulationError> {
        self.world.advance(STEP);
        if let Some(recorder) = &mut self.recorder {
            recorder.step(&mut self.world)?;
        }
        let failed_syncs = self.world.fs.failed_syncs();
        if std::mem::replace(&mut self.failed_syncs, failed_syncs) != failed_syncs {
            self.expected().excuse_failed_sync();
        }
        if self.mended_at.is_some_and(|at| self.world.clock() > at + MEND_TIME) {
            self.mended_at = None;
            self.expected().failing_since = None;
        }
        self.check_step()?;
        Ok(self.crashes.result()?)
    }

    /// Checks that the limits were kept after each operation since the last step, that the oldest
    /// segments were removed first, and that the clips made since then agree with the truth.
    fn check_step(&mut self) -> Result<(), StoreSimulationError> {
        // After a failure, the oldest segment may be one that cannot be removed.
        let is_ordered = !self.expected().history.has_failed;
        self.retention.check(&self.world.fs, &self.simulation.options.limits, is_ordered)?;
        for answered in std::mem::take(&mut self.world.answered) {
            let (fs, expected) = (&self.world.fs, self.world.expected());
            let may_fail = expected.history.has_failed;
            let is_made = check_answer(&answered, fs, &self.crashes.cache, &expected.truth, may_fail)?;
            self.clips += u64::from(is_made);
        }
        Ok(())
    }

    fn stop(&mut self, keeps_socket: bool) -> Result<(), StoreSimulationError> {
        if let Some(recorder) = self.recorder.take() {
            let ended = recorder.finish(&mut self.world, keeps_socket);
            // The command reports that the end could not be written; the next recorder salvages it.
            // Losses that were counted in memory are gone.
            match ended {
                Err(StoreSimulationError::Sink(_)) if self.expected().history.has_failed => {
                    self.expected().excuse_failed_end();
                }
                ended => ended?,
            }
        }
        self.check_step()?;
        Ok(self.crashes.result()?)
    }

    pub(super) fn end(mut self) -> Result<StoreSimulationTotals, StoreSimulationError> {
        // A failing filesystem is mended, so that the store can record what was lost.
        self.world.fs.cancel_failures();
        self.world.fs.set_conditions(|conditions| conditions.used_by_others = 0);
        self.mended_at = Some(self.world.clock());
        if self.expected().failing_since.is_some() {
            for _ in 0..MEND_TIME.as_millis() / STEP.as_millis() + 2 {
                self.step()?;
            }
        }
        self.stop(false)?;
        if self.world.fs.open_files() > 0 {
            return Err(format!("{} files are still open", self.world.fs.open_files()).into());
        }
        let expected = self.expected();
        let segments = self.crashes.cache.read(&self.world.fs, expected.history.has_failed)?;
        self.world.openings.check(&segments)?;
        let contents = oracle::check(segments, &expected.store())?;
        drop(expected);
        let crashes = self.crashes.number();
        let (events, lost, segments) = (contents.events, contents.lost, contents.segments);
        let digest = self.world.fs.names().iter().fold(0, |digest, name| {
            let bytes = self.world.fs.contents(name).unwrap_or_default();
            crc32c::crc32c_append(crc32c::crc32c_append(digest, name.as_bytes()), &bytes)
        });
        let clips = self.clips;
        Ok(StoreSimulationTotals { events, lost, segments, clips, crashes, digest })
    }
}
