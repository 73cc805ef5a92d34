//! What happens in a simulation, drawn from a seed.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use oorandom::Rand32;
use pmon_core::MonoNs;
use pmon_store::simulated::{Conditions, Operation};
use pmon_store::{Filesystem, SegmentName, StoreOptions};

use super::StoreSimulationError;
use super::crash::{CrashChecks, Expectations};
use super::oracle;
use super::recorder::{StoreRecorder, World};

/// Time between two steps of the writer thread.
const STEP: Duration = Duration::from_millis(20);
/// Time after which a store that works again has recorded what was lost.
const MEND_TIME: Duration = Duration::from_secs(4);

/// A recording into a store, in virtual time.
#[derive(Clone, Debug)]
pub struct StoreSimulation {
    seed: u64,
    cpus: u32,
    options: StoreOptions,
    conditions: Conditions,
    /// The recorder crashes before one in this many operations.
    crash_rate: u32,
    actions: Vec<Action>,
}

/// Something that happens in a simulation.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// The machine emits events in each of that many steps; one in `drop_rate` is dropped.
    Work { steps: u32, events: u32, drop_rate: u32 },
    /// A user requests a rotation.
    Rotate,
    /// The recorder is killed, and the next one starts.
    Kill { keeps_socket: bool },
    /// The recorder ends, and the next one starts after that many events.
    Stop { keeps_socket: bool, events: u32 },
    /// The machine loses power, and starts again.
    PowerLoss,
    /// The real-time clock is stepped by that many ms.
    StepClock(i32),
    /// Other writers now use this part of the disk, in percent.
    Fill(u32),
    /// An operation fails.
    Fail { operation: Operation, skip: u32, errno: i32 },
    /// The filesystem becomes read-only for that many steps.
    ReadOnly(u32),
    /// Another program removes a segment.
    Delete(u32),
}

/// What a simulation has checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreSimulationTotals {
    /// Number of events found in the store at the end.
    pub events: u64,
    /// Number of events that the store has recorded as lost.
    pub lost: u64,
    /// Number of segments at the end.
    pub segments: u64,
    /// Number of operations after which the recorder was crashed.
    pub crashes: u64,
}

impl StoreSimulation {
    /// Draws a simulation from a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Rand32::new(seed);
        let mut below = |n: u32| random.rand_range(0..n);
        let cpus = 1 + below(3);
        let options = StoreOptions {
            rotate_size: [12 << 10, 20 << 10, 1 << 20][below(3) as usize],
            rotate_every: Duration::from_secs([1, 3, 600][below(3) as usize]),
            max_use: (below(2) == 0).then(|| (600 << 10) + u64::from(below(1 << 20))),
            max_age: (below(4) == 0).then(|| Duration::from_secs(2 + u64::from(below(10)))),
            keep_free: (below(3) == 0).then(|| u64::from(below(400 << 10))),
            journal: true,
        };
        let has_limit = below(3) == 0;
        let conditions = Conditions {
            capacity: has_limit.then(|| (2 << 20) + u64::from(below(2 << 20))),
            size_limit: (below(12) == 0).then(|| (64 << 10) + u64::from(below(1 << 20))),
            sync_takes: Duration::from_millis([0, 0, 5, 60, 900][below(5) as usize]),
            works_late: below(2) == 0,
            has_no_holes: below(12) == 0,
            has_no_punch: below(6) == 0,
            has_no_directory_sync: below(12) == 0,
            drops_pages: below(2) == 0,
            ..Conditions::default()
        };
        let has_failures = below(3) == 0;
        let actions = (0..6 + below(14)).map(|_| match below(20) {
            0 | 1 => Action::Rotate,
            2 => Action::Kill { keeps_socket: below(2) == 0 },
            3 => Action::Stop { keeps_socket: below(2) == 0, events: below(60) },
            4 => Action::PowerLoss,
            5 | 6 => Action::StepClock(below(7_200_000) as i32 - 3_600_000),
            7 | 8 if has_limit => Action::Fill(below(101)),
            9 | 10 if has_failures => {
                let operation = [
                    Operation::Create,
                    Operation::Write,
                    Operation::SetLen,
                    Operation::Sync,
                    Operation::Rename,
                    Operation::Remove,
                    Operation::SyncDirectory,
                ][below(7) as usize];
                let errno = [libc::EIO, libc::EIO, libc::ENOSPC, libc::EDQUOT][below(4) as usize];
                Action::Fail { operation, skip: below(6), errno }
            }
            11 if has_failures => Action::ReadOnly(1 + below(60)),
            12 if below(2) == 0 => Action::Delete(below(100)),
            _ => Action::Work {
                steps: 1 + below(120),
                events: [1, 5, 20][below(3) as usize],
                drop_rate: [0, 0, 30, 300][below(4) as usize],
            },
        });
        let actions = actions.collect();
        let crash_rate = 40;
        Self { seed, cpus, options, conditions, crash_rate, actions }
    }

    /// Crashes the recorder before every operation.
    pub fn with_all_crashes(self) -> Self {
        Self { crash_rate: 1, ..self }
    }

    /// Lets an operation report success without effect: a mistake that the simulation must find.
    pub fn with_mistake(mut self, omits: Operation) -> Self {
        self.conditions.omits = Some(omits);
        self
    }

    /// Performs the simulation, and checks the store.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn run(&self) -> Result<StoreSimulationTotals, StoreSimulationError> {
        let mut run = Run::begin(self)?;
        for (number, &action) in self.actions.iter().enumerate() {
            run.perform(action).map_err(|source| StoreSimulationError::Action {
                action: format!("action {number}, {action:?}"),
                source: Box::new(source),
            })?;
        }
        run.end()
    }
}

/// A simulation that is being performed.
struct Run<'a> {
    simulation: &'a StoreSimulation,
    world: World,
    recorder: Option<StoreRecorder>,
    crashes: CrashChecks,
    /// The segments after the last step: name, boot and start.
    segments: Vec<(String, String, MonoNs)>,
    /// Names of the segments that had their final names after the last step.
    sealed: BTreeSet<String>,
    /// Number of failed syncs after the last step.
    failed_syncs: u64,
    /// Time at which the filesystem was mended.
    mended_at: Option<Duration>,
}

impl<'a> Run<'a> {
    fn begin(simulation: &'a StoreSimulation) -> Result<Self, StoreSimulationError> {
        let world = World::new(simulation.cpus, simulation.seed);
        world.fs.set_conditions(|conditions| *conditions = simulation.conditions.clone());
        let crashes = CrashChecks::new(world.expected.clone());
        let mut run = Self {
            simulation,
            world,
            recorder: None,
            crashes,
            segments: Vec::new(),
            sealed: BTreeSet::new(),
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
        let filesystem = Arc::new(self.world.fs.clone());
        self.recorder = Some(StoreRecorder::start(&mut self.world, filesystem, self.simulation.options)?);
        self.world.fs.take_extremes();
        self.check_step()
    }

    fn perform(&mut self, action: Action) -> Result<(), StoreSimulationError> {
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
                self.segments.clear();
                self.sealed.clear();
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
                let at = self.segments.len() * percent as usize / 100;
                if let Some((name, ..)) = self.segments.get(at).cloned()
                    && self.world.fs.names().contains(&name)
                {
                    self.world.fs.delete(&name);
                    self.segments.remove(at);
                    self.expected().history.deleted.insert(name);
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

    /// Checks that the limits were kept after each operation since the last step, and that the
    /// oldest segments were removed first.
    fn check_step(&mut self) -> Result<(), StoreSimulationError> {
        let extremes = self.world.fs.take_extremes();
        let StoreOptions { max_use, keep_free, .. } = self.simulation.options;
        if let Some(max_use) = max_use.filter(|max_use| extremes.most_used > *max_use) {
            return Err(format!("{} bytes were used, more than {max_use}", extremes.most_used).into());
        }
        if let Some(keep_free) = keep_free.filter(|keep_free| extremes.least_available < *keep_free) {
            return Err(
                format!("{} bytes were left free, fewer than {keep_free}", extremes.least_available).into()
            );
        }
        let names = self.world.fs.names();
        let is_there = |name: &String| names.contains(name) || names.contains(&format!("{name}.partial"));
        let (kept, mut removed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.segments).into_iter().partition(|(name, ..)| is_there(name));
        // A segment that had not got its final name yet was removed because it held nothing.
        removed.retain(|(name, ..)| self.sealed.contains(name));
        self.sealed = names.iter().filter(|name| SegmentName::parse(name).is_some()).cloned().collect();
        let age = |segment: &(String, String, MonoNs)| (segment.1.clone(), segment.2);
        let oldest = kept.iter().filter(|(name, ..)| self.sealed.contains(name)).map(age).min();
        if let (Some(newest), Some(oldest)) = (removed.iter().map(age).max(), oldest)
            && newest > oldest
            && !self.expected().history.has_failed
        {
            return Err(format!("{removed:?} was removed before {kept:?}").into());
        }
        self.segments = kept;
        for file in names {
            let name = file.strip_suffix(".partial").unwrap_or(&file).to_owned();
            if SegmentName::parse(&name).is_none() || self.segments.iter().any(|known| known.0 == name) {
                continue;
            }
            let input = self.world.fs.open(&file).map_err(|error| error.to_string())?;
            if let Some(header) =
                pmon_core::capture::Reader::open(input).ok().and_then(|reader| reader.header().cloned())
            {
                self.segments.push((name, header.meta.boot_id, header.meta.start.mono));
            }
        }
        Ok(())
    }

    fn stop(&mut self, keeps_socket: bool) -> Result<(), StoreSimulationError> {
        if let Some(recorder) = self.recorder.take() {
            let ended = recorder.finish(&mut self.world, keeps_socket);
            // The command reports that the end could not be written; the next recorder salvages it.
            if !matches!(ended, Err(StoreSimulationError::Sink(_))) || !self.expected().history.has_failed {
                ended?;
            }
        }
        self.check_step()?;
        Ok(self.crashes.result()?)
    }

    fn end(mut self) -> Result<StoreSimulationTotals, StoreSimulationError> {
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
        let contents = oracle::check(&self.world.fs, &expected.truth, &expected.history)?;
        self.world.check_openings()?;
        drop(expected);
        let crashes = self.crashes.number();
        let (events, lost, segments) = (contents.events, contents.lost, contents.segments);
        Ok(StoreSimulationTotals { events, lost, segments, crashes })
    }
}
